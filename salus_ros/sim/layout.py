"""Scenes: what a drawn one holds, and the ranges that tasks draw from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.sim.world import COLOURS, CUBE_SIZE_M, CUBES, PARKED_M
from salus_ros.types import Floats

HAND_CLEARANCE_M: Final = 0.15
"""Distance of a post from where the hand goes down: half its width, the post's radius and 3 cm."""
# Short of 45 degrees, where either way of turning the hand would be as good.
_LARGEST_YAW_RAD: Final = 0.6


class TaskSettings(BaseModel):
    """From where scenes are drawn; metres in the base frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    colours: tuple[str, ...] = Field(("red", "green", "blue"), description="Colours that cubes may have.")
    cube_x_m: tuple[float, float] = Field((0.40, 0.60), description="Range of the cubes' centres.")
    cube_y_m: tuple[float, float] = Field((-0.26, 0.08), description="Range of the cubes' centres.")
    cube_distance_m: float = Field(
        0.10, gt=0.06, description="Smallest distance of cubes, so that the open fingers fit between them."
    )
    bin_x_m: tuple[float, float] = Field((0.44, 0.56), description="Range of the bin's centre.")
    bin_y_m: tuple[float, float] = Field((0.27, 0.33), description="Range of the bin's centre.")
    obstacle_share: float = Field(
        0.5, ge=0, le=1, description="Share of the bin task's scenes with an obstacle post."
    )
    obstacle_height_m: tuple[float, float] = Field((0.10, 0.20), description="Range of the post's height.")
    obstacle_in_way_height_m: tuple[float, float] = Field(
        (0.14, 0.24), description="The same where the task is to pass it."
    )
    push_distance_m: tuple[float, float] = Field(
        (0.10, 0.18), description="Range of how far the marked place is from the cube to be pushed there."
    )
    push_angle_rad: float = Field(
        0.5, ge=0, le=0.8, description="Largest angle between the way to the marked place and straight ahead."
    )
    push_x_m: tuple[float, float] = Field(
        (0.40, 0.50), description="Range of the centre of a cube that is to be pushed away from the robot."
    )
    start_m: tuple[float, float, float] = Field(
        (0.46, 0.0, 0.30), description="Mean tool position at the start."
    )
    start_range_m: float = Field(0.03, ge=0, description="Half the range of the start along each axis.")


@dataclass(frozen=True, slots=True)
class Layout:
    """One drawn scene. N cubes."""

    instruction: str
    colours: tuple[str, ...]
    """(N,)"""
    target: int
    """The cube that the instruction names, the one to be moved."""
    second: int
    """The cube that it names besides, -1 for none."""
    cube_position_m: Floats
    """(N, 3)"""
    cube_yaw_rad: Floats
    """(N,)"""
    cube_size_m: Floats
    """(N,), length of the edges."""
    bin_position_m: Floats
    """(3,), centre of the bin's underside."""
    mark_position_m: Floats
    """(3,), centre of the marked place on the table; far below it when there is none."""
    obstacle_position_m: Floats
    """(3,), foot of the post; far below the table when there is none."""
    obstacle_height_m: float
    tool_position_m: Floats
    """(3,), where the tool starts, pointing down."""

    def goal_m(self) -> Floats:
        """(2,), above which place the named cube is to end."""
        if self.second >= 0:
            return self.cube_position_m[self.second, :2]
        if self.mark_position_m[2] > PARKED_M[2] / 2:
            return self.mark_position_m[:2]
        return self.bin_position_m[:2]


def plain_layout(rng: np.random.Generator, settings: TaskSettings) -> Layout:
    """Cubes apart from each other and from the bin; no second cube, no mark, no post, no instruction."""
    colours = tuple(str(c) for c in rng.permutation(list(settings.colours))[:CUBES])
    target = int(rng.integers(CUBES))
    bin_xy = np.array([rng.uniform(*settings.bin_x_m), rng.uniform(*settings.bin_y_m)])
    cubes = apart(rng, settings)
    start = np.array(settings.start_m) + rng.uniform(-1, 1, 3) * settings.start_range_m
    yaw = rng.uniform(-_LARGEST_YAW_RAD, _LARGEST_YAW_RAD, CUBES)
    return Layout(
        instruction="",
        colours=colours,
        target=target,
        second=-1,
        cube_position_m=np.column_stack([cubes, np.full(CUBES, CUBE_SIZE_M / 2)]),
        cube_yaw_rad=yaw,
        cube_size_m=np.full(CUBES, CUBE_SIZE_M),
        bin_position_m=np.array([*bin_xy, 0.0]),
        mark_position_m=np.array(PARKED_M),
        obstacle_position_m=np.array(PARKED_M),
        obstacle_height_m=0.0,
        tool_position_m=start,
    )


def apart(rng: np.random.Generator, settings: TaskSettings) -> Floats:
    """(CUBES, 2) positions on the table, drawn one after the other until they lie apart."""
    low = (settings.cube_x_m[0], settings.cube_y_m[0])
    high = (settings.cube_x_m[1], settings.cube_y_m[1])
    while True:
        cubes = rng.uniform(low, high, (CUBES, 2))
        distance = np.linalg.norm(cubes[:, None] - cubes[None], axis=-1) + np.eye(CUBES)
        if distance.min() > settings.cube_distance_m:
            return cubes


def post_on_the_way(layout: Layout, along: float, aside_m: float) -> Floats | None:
    """(3,) foot of a post between the named cube and its goal.

    Args:
        layout: where the cubes and the goal are.
        along: wanted place on the way, 0 at the cube and 1 at the goal.
        aside_m: wanted distance from the way, to its left.

    Returns:
        The place nearest to the wanted one that leaves room for the hand over the cube and the goal, and for
        the other cubes; None where there is no room on the way.
    """
    cube, goal = layout.cube_position_m[layout.target, :2], layout.goal_m()
    way = goal - cube
    side = np.array([-way[1], way[0]]) / np.linalg.norm(way)
    shares, asides = (
        grid.ravel() for grid in np.meshgrid(np.linspace(0.2, 0.8, 25), np.linspace(-0.06, 0.06, 13))
    )
    feet = cube + shares[:, None] * way + asides[:, None] * side
    others = np.delete(layout.cube_position_m[:, :2], layout.target, axis=0)
    room = np.linalg.norm(feet - cube, axis=1) > HAND_CLEARANCE_M
    room &= np.linalg.norm(feet - goal, axis=1) > HAND_CLEARANCE_M
    room &= np.linalg.norm(feet[:, None] - others, axis=2).min(axis=1) > 0.06
    if not room.any():
        return None
    off = np.hypot((shares - along) * np.linalg.norm(way), asides - aside_m)
    return np.array([*feet[int(np.argmin(np.where(room, off, np.inf)))], 0.0])


def check_settings(settings: TaskSettings) -> None:
    """Raise SalusError for colours that do not exist or are too few."""
    unknown = sorted(set(settings.colours) - set(COLOURS))
    if unknown or len(set(settings.colours)) < CUBES:
        raise SalusError(
            f"colours is {', '.join(settings.colours)}, but expected {CUBES} or more different ones "
            f"of {', '.join(COLOURS)}."
        )
