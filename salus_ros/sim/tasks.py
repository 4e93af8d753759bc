"""Tasks: how a scene is drawn, what the instruction says, what counts as done, what may be touched.

A new task is a class registered in ``TASKS``; its expert is registered in ``expert.EXPERTS``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Final, Protocol

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.sim.layout import HAND_CLEARANCE_M, Layout, TaskSettings, plain_layout, post_on_the_way
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import BIN_HEIGHT_M, BIN_INNER_HALF_M, CUBES, MARK_RADIUS_M
from salus_ros.types import Floats

STILL_M_S: Final = 0.05
"""Slower than this, a cube lies still."""
ON_TOP_M: Final = 0.018
"""A cube whose centre is so near, sideways, to that of the one below stands on it; from 2 cm on it tips."""
SETTLED_M: Final = 0.006
"""Heights are compared to this: a cube that leans on another, or on a finger, is higher by more."""
RELEASE_HEIGHT_M: Final = 0.015
"""A cube let go higher than this over the other falls on it instead of being put there."""


class Task(Protocol):
    """What the simulator asks a task."""

    name: ClassVar[str]
    grasps: ClassVar[bool]
    """Whether the hand closes on the named cube to move it. If not, a closed hand moves it by its touch, and
    closing on nothing is no miss."""
    joins: ClassVar[bool]
    """Whether the named cube is to touch the second one."""

    def draw(self, rng: np.random.Generator, settings: TaskSettings) -> Layout:
        """Draw a scene."""

    def goal_m(self, truth: Truth) -> Floats:
        """(3,), where the centre of the named cube is to end: in the bin, on the other cube, on the mark."""

    def succeeded(self, truth: Truth) -> bool:
        """Whether the goal is reached at this moment; it must stay so for a while to count."""

    def release_allowed(self, truth: Truth) -> bool:
        """Whether opening the hand here puts the held object where the task wants it."""

    def is_goal_surface(self, body: str) -> bool:
        """Whether the moved object may touch this fixed body (``table``, ``bin``, ``obstacle``)."""


class BinTask:
    """Put the cube of the named colour into the bin."""

    name: ClassVar[str] = "bin"
    grasps: ClassVar[bool] = True
    joins: ClassVar[bool] = False

    def draw(self, rng: np.random.Generator, settings: TaskSettings) -> Layout:
        """Cubes apart from each other and from the bin, sometimes with a post between them."""
        layout = plain_layout(rng, settings)
        height = float(rng.uniform(*settings.obstacle_height_m))
        wanted = rng.random() < settings.obstacle_share
        post = _post(rng, layout) if wanted else layout.obstacle_position_m
        return replace(
            layout,
            instruction=f"put the {layout.colours[layout.target]} cube in the bin",
            obstacle_position_m=post,
            obstacle_height_m=height,
        )

    def goal_m(self, truth: Truth) -> Floats:
        """On the bin's floor."""
        return truth.bin_position_m + _up(truth.cube_size_m[truth.target] / 2)

    def succeeded(self, truth: Truth) -> bool:
        """The cube lies still in the bin and no finger touches it."""
        low = truth.cube_position_m[truth.target, 2] < BIN_HEIGHT_M
        return self._inside(truth) and bool(low) and _left_alone(truth)

    def release_allowed(self, truth: Truth) -> bool:
        """The cube's centre is over the bin."""
        return self._inside(truth)

    def is_goal_surface(self, body: str) -> bool:
        """The held cube starts on the table; it may touch nothing else."""
        return body == "table"

    @staticmethod
    def _inside(truth: Truth) -> bool:
        offset = truth.cube_position_m[truth.target, :2] - truth.bin_position_m[:2]
        return bool((np.abs(offset) < BIN_INNER_HALF_M).all())


class PastObstacleTask(BinTask):
    """The same with a post always in the way, so high that the cube must be carried over it or round it."""

    name: ClassVar[str] = "bin_past_obstacle"

    def draw(self, rng: np.random.Generator, settings: TaskSettings) -> Layout:
        """Drawn until the cube is far enough from the bin for a post between them."""
        while True:
            layout = plain_layout(rng, settings)
            height = float(rng.uniform(*settings.obstacle_in_way_height_m))
            post = post_on_the_way(layout, rng.uniform(0.4, 0.6), rng.uniform(-0.02, 0.02))
            if post is not None:
                return replace(
                    layout,
                    instruction=f"put the {layout.colours[layout.target]} cube in the bin past the obstacle",
                    obstacle_position_m=post,
                    obstacle_height_m=height,
                )


class StackTask:
    """Put the cube of one named colour on the cube of another."""

    name: ClassVar[str] = "stack"
    grasps: ClassVar[bool] = True
    joins: ClassVar[bool] = True

    def draw(self, rng: np.random.Generator, settings: TaskSettings) -> Layout:
        """Cubes apart from each other and from the bin, which is of no use here."""
        layout = plain_layout(rng, settings)
        second = (layout.target + 1 + int(rng.integers(CUBES - 1))) % CUBES
        upper, lower = layout.colours[layout.target], layout.colours[second]
        return replace(layout, second=second, instruction=f"stack the {upper} cube on the {lower} cube")

    def goal_m(self, truth: Truth) -> Floats:
        """On top of the second cube, wherever that is now."""
        height = (truth.cube_size_m[truth.target] + truth.cube_size_m[truth.second]) / 2
        below: Floats = truth.cube_position_m[truth.second]
        return below + _up(height)

    def succeeded(self, truth: Truth) -> bool:
        """The cube stands still on the other, and no finger touches it."""
        offset = truth.cube_position_m[truth.target] - self.goal_m(truth)
        on_top = float(np.linalg.norm(offset[:2])) < ON_TOP_M and abs(float(offset[2])) < SETTLED_M
        return on_top and _left_alone(truth)

    def release_allowed(self, truth: Truth) -> bool:
        """The cube is over the other, nearly touching it."""
        offset = truth.cube_position_m[truth.target] - self.goal_m(truth)
        return float(np.linalg.norm(offset[:2])) < ON_TOP_M and float(offset[2]) < RELEASE_HEIGHT_M

    def is_goal_surface(self, body: str) -> bool:
        """The held cube starts on the table; of the other things it may touch the second cube alone."""
        return body == "table"


class PushTask:
    """Push the cube of the named colour along the table to the marked place, with the hand closed."""

    name: ClassVar[str] = "push"
    grasps: ClassVar[bool] = False
    joins: ClassVar[bool] = False

    def draw(self, rng: np.random.Generator, settings: TaskSettings) -> Layout:
        """Drawn until the way of cube and hand to the marked place, away from the robot, is free."""
        while True:
            layout = plain_layout(rng, settings)
            cube = layout.cube_position_m[layout.target, :2]
            angle = rng.uniform(-settings.push_angle_rad, settings.push_angle_rad)
            way = rng.uniform(*settings.push_distance_m) * np.array([np.cos(angle), np.sin(angle)])
            mark = cube + way
            free = settings.push_x_m[0] < cube[0] < settings.push_x_m[1]
            free &= settings.cube_y_m[0] < mark[1] < settings.cube_y_m[1]
            others = np.delete(layout.cube_position_m[:, :2], layout.target, axis=0)
            # The hand starts 7 cm behind the cube, and the cube may end beyond the mark.
            ends = cube - 0.07 * way / np.linalg.norm(way), mark + 0.03 * way / np.linalg.norm(way)
            if free and min(_distance_to_segment(other, *ends) for other in others) > 0.08:
                return replace(
                    layout,
                    mark_position_m=np.array([*mark, 0.0]),
                    instruction=f"push the {layout.colours[layout.target]} cube to the marked place",
                )

    def goal_m(self, truth: Truth) -> Floats:
        """On the mark."""
        return truth.mark_position_m + _up(truth.cube_size_m[truth.target] / 2)

    def succeeded(self, truth: Truth) -> bool:
        """The cube lies still with its centre on the marked disc; a finger may still touch it."""
        offset = truth.cube_position_m[truth.target] - self.goal_m(truth)
        near = float(np.linalg.norm(offset[:2])) < MARK_RADIUS_M and abs(float(offset[2])) < SETTLED_M
        return near and _still(truth)

    def release_allowed(self, truth: Truth) -> bool:
        """A hand that took the cube although it was to push it may put it down on the mark."""
        offset = truth.cube_position_m[truth.target] - self.goal_m(truth)
        return float(np.linalg.norm(offset[:2])) < MARK_RADIUS_M and float(offset[2]) < RELEASE_HEIGHT_M

    def is_goal_surface(self, body: str) -> bool:
        """The cube is pushed along the table, into nothing else."""
        return body == "table"


TASKS: Final[dict[str, Task]] = {
    task.name: task for task in (BinTask(), PastObstacleTask(), StackTask(), PushTask())
}


def task_named(name: str) -> Task:
    """The task of this name.

    Raises:
        SalusError: there is none.
    """
    if name not in TASKS:
        raise SalusError(f"There is no task {name!r}; choose one of {', '.join(sorted(TASKS))}.")
    return TASKS[name]


def _up(height_m: float) -> Floats:
    return np.array([0.0, 0.0, height_m])


def _still(truth: Truth) -> bool:
    return float(np.linalg.norm(truth.cube_velocity_m_s[truth.target])) < STILL_M_S


def _left_alone(truth: Truth) -> bool:
    return _still(truth) and not truth.touched[truth.target]


def _post(rng: np.random.Generator, layout: Layout) -> Floats:
    """(3,) foot of a post beside or on the way from the cube to the bin; none where no room is left."""
    cubes, bin_xy = layout.cube_position_m[:, :2], layout.bin_position_m[:2]
    cube = cubes[layout.target]
    for _ in range(20):
        along = rng.uniform(0.3, 0.7)
        foot = cube + along * (bin_xy - cube) + rng.uniform(-0.12, 0.12) * np.array([1.0, 0.0])
        free_of_cubes = np.linalg.norm(cubes - foot, axis=1).min() > HAND_CLEARANCE_M
        free_of_bin = float(np.linalg.norm(foot - bin_xy)) > HAND_CLEARANCE_M
        if free_of_cubes and free_of_bin:
            return np.array([*foot, 0.0])
    return layout.obstacle_position_m


def _distance_to_segment(point: Floats, start: Floats, end: Floats) -> float:
    way = end - start
    along = np.clip((point - start) @ way / (way @ way), 0.0, 1.0)
    return float(np.linalg.norm(point - start - along * way))
