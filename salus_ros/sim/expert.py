"""Scripted experts: from the privileged state to the motion that a good operator would make.

An expert has no memory. What it does follows from where things are now, so that it recovers from
whatever state it is put into: an empty closed hand opens, a dropped cube is approached again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import numpy as np

from salus_ros.sim.motion import (
    CHUNK_STEPS,
    CLOSED_M,
    OPEN_M,
    ExpertSettings,
    Motion,
    Plan,
    Waypoint,
    grasp_yaw,
    pose_at,
    start,
)
from salus_ros.sim.tasks import ON_TOP_M, SETTLED_M, StackTask
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import BIN_INNER_HALF_M
from salus_ros.types import Floats

_HIGHEST_ON_TABLE_M: Final = 0.07
"""Tool height over everything that lies on the table, which is 4 cm high."""


class _Planner(ABC):
    """Applies a rule for the next waypoint again and again."""

    def __init__(self, settings: ExpertSettings | None = None) -> None:
        self._settings = settings or ExpertSettings()

    def plan(self, truth: Truth, steps: int = CHUNK_STEPS, velocity_m_s: Floats | None = None) -> Plan:
        """The next steps of ``STEP_S``.

        The rule that picks the next waypoint is applied to a copy of the state that starts at the
        *measured* pose, velocity and opening and then moves kinematically for one step at a time, a
        gripped cube moving along. So the chunk holds no noise, and says what the expert would do
        from where the robot really is. The tool points straight down in all of it.
        """
        motion = start(truth)
        if velocity_m_s is not None:
            motion.velocity = velocity_m_s
        poses = np.zeros((steps, 4, 4))
        opening = np.empty(steps)
        for i in range(steps):
            waypoint = self._waypoint(motion, truth)
            self._advance(motion, waypoint, truth)
            poses[i] = pose_at(motion.position, motion.yaw)
            opening[i] = waypoint.opening_m
        return Plan(poses, opening)

    @abstractmethod
    def _waypoint(self, motion: Motion, truth: Truth) -> Waypoint:
        """Where to go now."""

    def _advance(self, motion: Motion, waypoint: Waypoint, truth: Truth) -> None:
        motion.advance(waypoint, self._settings)

    def _travel(self, motion: Motion, truth: Truth, goal: Floats, height: float, lowest: float) -> Floats:
        """Next waypoint on the way to a point (2,) at a height: first up where something is in the way.

        Past the lowest height it turns without stopping.
        """
        position = motion.position
        needed = self._height_over_post(position, goal, truth)
        travel = max(height, needed)
        offset = goal - position[:2]
        far = float(np.sqrt(offset @ offset)) > 0.03
        if far and position[2] < max(lowest, needed - 0.01):
            return np.array([*position[:2], travel + 0.02])
        return np.array([*goal, travel])

    def _height_over_post(self, position: Floats, goal: Floats, truth: Truth) -> float:
        """Height that the tool needs on the straight way to a point; 0 without a post near it."""
        if not truth.has_obstacle:
            return 0.0
        way = goal - position[:2]
        to_post = truth.obstacle_position_m[:2] - position[:2]
        along = min(max(float(to_post @ way) / max(float(way @ way), 1e-9), 0.0), 1.0)
        aside = to_post - along * way
        distance = float(np.sqrt(aside @ aside))
        if distance < 0.085:
            return truth.obstacle_height_m + self._settings.post_margin_m
        # The hand is wider than the fingers, but 7 cm higher.
        return truth.obstacle_height_m - 0.015 if distance < 0.15 else 0.0


class _GraspingPlanner(_Planner):
    """Fetches the named cube from above."""

    def _grasp(self, motion: Motion, truth: Truth) -> Waypoint:
        settings, size = self._settings, motion.cube_size
        offset = motion.cube[:2] - motion.position[:2]
        sideways = float(np.sqrt(offset @ offset))
        yaw = grasp_yaw(motion.cube_yaw)
        turned = abs(yaw - motion.yaw) < 0.15
        height = max(settings.grasp_m, motion.cube[2] - 0.002)
        down = motion.position[2] < height + 0.012
        closing = motion.command < size and motion.opening > size - 0.006
        gate = settings.aligned_m * (1.8 if closing else 1.0)
        at_cube = np.array([*motion.cube[:2], height])
        if down and sideways < gate and (closing or motion.opening > OPEN_M - 0.012):
            return Waypoint(at_cube, yaw, CLOSED_M)
        ready = motion.opening > OPEN_M - 0.015
        if ready and sideways < gate and turned:
            return Waypoint(at_cube, yaw, OPEN_M)
        if ready and down and sideways < 0.02 and turned:
            # Beside the cube, but around it already: slide.
            return Waypoint(at_cube, yaw, OPEN_M)
        hover = motion.cube[2] + settings.hover_m - size / 2
        lowest = min(hover, _HIGHEST_ON_TABLE_M)
        return Waypoint(self._travel(motion, truth, motion.cube[:2], hover, lowest), yaw, OPEN_M)


class BinExpert(_GraspingPlanner):
    """Grasps the named cube from above, lifts, carries over posts and walls, and lets go over the bin."""

    def _waypoint(self, motion: Motion, truth: Truth) -> Waypoint:
        if motion.gripped:
            return self._carry(motion, truth)
        over_bin = np.abs(motion.cube[:2] - truth.bin_position_m[:2]).max() < BIN_INNER_HALF_M
        if over_bin:
            # The cube is in the bin or falls into it.
            up = np.array([*motion.position[:2], self._settings.carry_m + 0.08])
            return Waypoint(up, motion.yaw, OPEN_M)
        return self._grasp(motion, truth)

    def _carry(self, motion: Motion, truth: Truth) -> Waypoint:
        settings = self._settings
        goal = truth.bin_position_m[:2]
        offset = np.abs(motion.position[:2] - goal).max()
        slow = float(np.sqrt(motion.velocity @ motion.velocity)) < 0.12
        release = np.array([*goal, settings.release_m])
        if offset < 0.035 and motion.position[2] < settings.release_m + 0.03 and slow:
            return Waypoint(release, motion.yaw, OPEN_M)
        if offset < 0.035:
            return Waypoint(release, motion.yaw, CLOSED_M)
        # The bin's wall is 8 cm high.
        lowest = settings.carry_m - 0.04
        return Waypoint(self._travel(motion, truth, goal, settings.carry_m, lowest), motion.yaw, CLOSED_M)


class StackExpert(_GraspingPlanner):
    """Grasps the named cube, carries it over the other, sets it down, and rises."""

    def _waypoint(self, motion: Motion, truth: Truth) -> Waypoint:
        to_goal = StackTask().goal_m(truth) - motion.cube
        sideways = float(np.sqrt(to_goal[:2] @ to_goal[:2]))
        if motion.gripped:
            return self._set_down(motion, truth, to_goal, sideways)
        if sideways < ON_TOP_M and abs(to_goal[2]) < SETTLED_M:
            up = np.array([*motion.position[:2], self._settings.stack_carry_m + 0.08])
            return Waypoint(up, motion.yaw, OPEN_M)
        return self._grasp(motion, truth)

    def _set_down(self, motion: Motion, truth: Truth, to_goal: Floats, sideways: float) -> Waypoint:
        settings = self._settings
        there = motion.position + to_goal
        slow = float(np.sqrt(motion.velocity @ motion.velocity)) < 0.06
        touching = -to_goal[2] < 0.004
        if touching and sideways < 0.012 and (slow or motion.command == OPEN_M):
            return Waypoint(there, motion.yaw, OPEN_M)
        if sideways < 0.010:
            return Waypoint(there, motion.yaw, CLOSED_M, settings.push_speed_m_s)
        lowest = settings.stack_carry_m - 0.04
        above = self._travel(motion, truth, there[:2], settings.stack_carry_m, lowest)
        return Waypoint(above, motion.yaw, CLOSED_M)


class PushExpert(_Planner):
    """Closes the hand, goes down behind the named cube, and pushes it straight to the marked place."""

    def _waypoint(self, motion: Motion, truth: Truth) -> Waypoint:
        settings = self._settings
        way = truth.mark_position_m[:2] - motion.cube[:2]
        distance = float(np.sqrt(way @ way))
        ahead = way / max(distance, 1e-9)
        yaw = _push_yaw(ahead)
        # Slow before the mark: what imitates this acts a third of a second late.
        speed = min(settings.push_speed_m_s, 0.02 + 1.2 * distance)
        if distance < 0.015:
            # Where it is to be: away from it, backwards and up.
            away = motion.position + np.array([*(-0.03 * ahead), 0.05])
            return Waypoint(away, motion.yaw, CLOSED_M, settings.push_speed_m_s)
        offset = motion.cube[:2] - motion.position[:2]
        behind = float(offset @ ahead)
        aside = offset - behind * ahead
        low = motion.position[2] < settings.push_m + 0.02
        if low and behind > 0.015 and float(np.sqrt(aside @ aside)) < 0.014:
            # As far as the cube has to go, and until the two touch, to the line on which it has to.
            correction = aside if behind > 0.045 else 0.0 * aside
            there = np.array([*(motion.position[:2] + way + correction), settings.push_m])
            return Waypoint(there, yaw, CLOSED_M, speed)
        place = motion.cube[:2] - settings.behind_m * ahead
        to_place = place - motion.position[:2]
        near = float(np.sqrt(to_place @ to_place)) < 0.012
        if near and motion.opening < 0.02 and abs(yaw - motion.yaw) < 0.2:
            return Waypoint(np.array([*place, settings.push_m]), yaw, CLOSED_M)
        above = self._travel(motion, truth, place, settings.hover_m, _HIGHEST_ON_TABLE_M)
        return Waypoint(above, yaw, CLOSED_M)

    def _advance(self, motion: Motion, waypoint: Waypoint, truth: Truth) -> None:
        """Let the hand shove the cube before it."""
        motion.advance(waypoint, self._settings)
        if motion.position[2] > motion.cube_size:
            return
        offset = motion.cube[:2] - motion.position[:2]
        distance = float(np.sqrt(offset @ offset))
        touch = motion.cube_size / 2 + 0.009
        if distance < touch:
            way = truth.mark_position_m[:2] - motion.cube[:2]
            ahead = way / max(float(np.sqrt(way @ way)), 1e-9)
            motion.cube = motion.cube + np.array([*((touch - distance) * ahead), 0.0])


def _push_yaw(ahead: Floats) -> float:
    """The hand's broad side faces the cube where its wrist allows; forwards and backwards are alike."""
    angle = float(np.arctan2(ahead[1], ahead[0]))
    half = np.pi
    folded = angle - half * np.round(angle / half)
    return float(np.clip(folded, -0.8, 0.8))


EXPERTS: Final[dict[str, type[_Planner]]] = {
    "bin": BinExpert,
    "bin_past_obstacle": BinExpert,
    "stack": StackExpert,
    "push": PushExpert,
}
"""The expert of each task."""


def task_of(truth: Truth) -> str:
    """A task whose expert knows what to do: told by what there is to be reached."""
    if truth.second >= 0:
        return "stack"
    return "push" if truth.has_mark else "bin"
