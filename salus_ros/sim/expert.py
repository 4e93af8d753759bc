"""Scripted experts: from the privileged state to the motion that a good operator would make.

An expert has no memory. What it does follows from where things are now, so that it recovers from
whatever state it is put into: an empty closed hand opens, a dropped cube is approached again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.sim.start import TOOL_DOWN
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import BIN_INNER_HALF_M, CUBE_SIZE_M
from salus_ros.types import Floats

CHUNK_STEPS: Final = 16
STEP_S: Final = 0.05
OPEN_M: Final = 0.08
CLOSED_M: Final = 0.0


class ExpertSettings(BaseModel):
    """How the expert moves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speed_m_s: float = Field(0.30, gt=0, description="Largest speed of the tool.")
    acceleration_m_s2: float = Field(1.2, gt=0, description="Largest acceleration of the tool.")
    turn_rad_s: float = Field(1.2, gt=0, description="Largest turning speed of the tool about its axis.")
    gripper_speed_m_s: float = Field(0.1, gt=0, description="Speed of the hand's opening.")
    hover_m: float = Field(0.10, gt=0, description="Height from which a cube is approached straight down.")
    grasp_m: float = Field(0.018, gt=0, description="Height of the tool when it closes.")
    carry_m: float = Field(0.17, gt=0, description="Height at which a cube is carried.")
    release_m: float = Field(0.14, gt=0, description="Height at which a cube is let go over the bin.")
    aligned_m: float = Field(
        0.010, gt=0, description="Sideways error at which the fingers go down and close."
    )
    post_margin_m: float = Field(0.055, gt=0, description="Height of the tool over an obstacle's top.")


@dataclass(frozen=True, slots=True)
class Plan:
    """The expert's next motion; T steps of ``STEP_S``."""

    poses: Floats
    """(T, 4, 4) tool poses in the base frame, at ``STEP_S``, 2 ``STEP_S``, ... from now."""
    opening_m: Floats
    """(T,), commanded gripper opening, ``OPEN_M`` or ``CLOSED_M``."""


class Expert(Protocol):
    """One per task."""

    def plan(self, truth: Truth, steps: int = CHUNK_STEPS, velocity_m_s: Floats | None = None) -> Plan:
        """What to do from this moment on, starting at a velocity (3,); default: the measured one."""


@dataclass(slots=True)
class _Motion:
    """A hand and a cube that move without physics: no contacts, no gravity, no lag."""

    position: Floats
    velocity: Floats
    yaw: float
    opening: float
    command: float
    cube: Floats
    cube_yaw: float
    gripped: bool

    def advance(self, goal: Floats, goal_yaw: float, command: float, settings: ExpertSettings) -> None:
        """Move towards a goal for one step, within speed and acceleration, and let the hand follow."""
        offset = goal - self.position
        distance = float(np.sqrt(offset @ offset))
        speed = min(
            settings.speed_m_s, float(np.sqrt(2.0 * settings.acceleration_m_s2 * distance)), distance / STEP_S
        )
        wanted = offset * (speed / distance) if distance > 1e-9 else np.zeros(3)
        change = wanted - self.velocity
        size = float(np.sqrt(change @ change))
        most = settings.acceleration_m_s2 * STEP_S
        self.velocity = self.velocity + change * min(1.0, most / size if size > 1e-9 else 1.0)
        moved = self.velocity * STEP_S
        self.position = self.position + moved
        turn = settings.turn_rad_s * STEP_S
        self.yaw += min(max(goal_yaw - self.yaw, -turn), turn)
        self.command = command
        travel = settings.gripper_speed_m_s * STEP_S
        self.opening += min(max(command - self.opening, -travel), travel)
        between = float(np.abs(self.cube - self.position).max()) < CUBE_SIZE_M / 2
        if command < CUBE_SIZE_M and (self.gripped or between) and self.opening <= CUBE_SIZE_M:
            self.gripped, self.opening = True, CUBE_SIZE_M
        elif command >= CUBE_SIZE_M and self.opening > CUBE_SIZE_M + 0.002:
            self.gripped = False
        if self.gripped:
            self.cube = self.cube + moved


class BinExpert:
    """Grasps the named cube from above, lifts, carries over posts and walls, and lets go over the bin."""

    def __init__(self, settings: ExpertSettings | None = None) -> None:
        self._settings = settings or ExpertSettings()

    def plan(self, truth: Truth, steps: int = CHUNK_STEPS, velocity_m_s: Floats | None = None) -> Plan:
        """The next steps of ``STEP_S``.

        The rule that picks the next waypoint is applied to a copy of the state that starts at the
        *measured* pose, velocity and opening and then moves kinematically for one step at a time, a
        gripped cube moving along. So the chunk holds no noise, and says what the expert would do
        from where the robot really is. The tool points straight down in all of it.
        """
        settings = self._settings
        motion = _start(truth)
        if velocity_m_s is not None:
            motion.velocity = velocity_m_s
        poses = np.zeros((steps, 4, 4))
        opening = np.empty(steps)
        for i in range(steps):
            goal, goal_yaw, command = self._waypoint(motion, truth)
            motion.advance(goal, goal_yaw, command, settings)
            poses[i] = _pose(motion.position, motion.yaw)
            opening[i] = command
        return Plan(poses, opening)

    def _waypoint(self, motion: _Motion, truth: Truth) -> tuple[Floats, float, float]:
        """Where to go (3,), the tool's angle there, and the opening to command now."""
        over_bin = np.abs(motion.cube[:2] - truth.bin_position_m[:2]).max() < BIN_INNER_HALF_M
        if motion.gripped:
            return self._carry(motion, truth)
        if over_bin:
            # The cube is in the bin or falls into it.
            return np.array([*motion.position[:2], self._settings.carry_m + 0.08]), motion.yaw, OPEN_M
        return self._grasp(motion, truth)

    def _grasp(self, motion: _Motion, truth: Truth) -> tuple[Floats, float, float]:
        settings = self._settings
        offset = motion.cube[:2] - motion.position[:2]
        sideways = float(np.sqrt(offset @ offset))
        yaw = _grasp_yaw(motion.cube_yaw)
        turned = abs(yaw - motion.yaw) < 0.15
        height = max(settings.grasp_m, motion.cube[2] - 0.002)
        down = motion.position[2] < height + 0.012
        closing = motion.command < CUBE_SIZE_M and motion.opening > CUBE_SIZE_M - 0.006
        gate = settings.aligned_m * (1.8 if closing else 1.0)
        if down and sideways < gate and (closing or motion.opening > OPEN_M - 0.012):
            return np.array([*motion.cube[:2], height]), yaw, CLOSED_M
        ready = motion.opening > OPEN_M - 0.015
        if ready and sideways < gate and turned:
            return np.array([*motion.cube[:2], height]), yaw, OPEN_M
        if ready and down and sideways < 0.02 and turned:
            # Beside the cube, but around it already: slide.
            return np.array([*motion.cube[:2], height]), yaw, OPEN_M
        hover = motion.cube[2] + settings.hover_m - CUBE_SIZE_M / 2
        return self._travel(motion, truth, motion.cube[:2], hover, carrying=False), yaw, OPEN_M

    def _carry(self, motion: _Motion, truth: Truth) -> tuple[Floats, float, float]:
        settings = self._settings
        goal = truth.bin_position_m[:2]
        offset = np.abs(motion.position[:2] - goal).max()
        slow = float(np.sqrt(motion.velocity @ motion.velocity)) < 0.12
        if offset < 0.035 and motion.position[2] < settings.release_m + 0.03 and slow:
            return np.array([*goal, settings.release_m]), motion.yaw, OPEN_M
        if offset < 0.035:
            return np.array([*goal, settings.release_m]), motion.yaw, CLOSED_M
        return self._travel(motion, truth, goal, settings.carry_m, carrying=True), motion.yaw, CLOSED_M

    def _travel(self, motion: _Motion, truth: Truth, goal: Floats, height: float, carrying: bool) -> Floats:
        """Next waypoint on the way to a point (2,) at a height: first up where something is in the way."""
        position = motion.position
        needed = self._height_over_post(position, goal, truth)
        travel = max(height, needed)
        offset = goal - position[:2]
        far = float(np.sqrt(offset @ offset)) > 0.03
        # What lies on the table is 4 cm high, the bin's wall 8 cm.
        lowest = max(height - 0.04 if carrying else min(height, 0.07), needed - 0.01)
        if far and position[2] < lowest:
            # Past the lowest height it turns without stopping.
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


EXPERTS: Final[dict[str, type[BinExpert]]] = {"bin": BinExpert}


def _start(truth: Truth) -> _Motion:
    rotation, cube = truth.tool_pose[:3, :3], truth.cube_rotation[truth.target]
    gripped = truth.gripped == truth.target and truth.gripper_opening_m < 0.06
    # Along which of its own axes a tumbled cube lies flat does not matter: any level edge will do.
    level = cube[:, int(np.argmin(np.abs(cube[2])))]
    return _Motion(
        position=truth.tool_pose[:3, 3].copy(),
        velocity=truth.tool_velocity[:3].copy(),
        yaw=float(np.arctan2(rotation[1, 0], rotation[0, 0])),
        opening=truth.gripper_opening_m,
        command=truth.gripper_command_m,
        cube=truth.cube_position_m[truth.target].copy(),
        cube_yaw=float(np.arctan2(level[1], level[0])),
        gripped=gripped,
    )


def _grasp_yaw(cube_yaw: float) -> float:
    """The cube's four equal sides allow four angles; take the one that is nearest to straight ahead,
    which keeps the wrist far from its limits."""
    quarter = np.pi / 2
    return float(cube_yaw - quarter * np.round(cube_yaw / quarter))


def _pose(position: Floats, yaw: float) -> Floats:
    cosine, sine = np.cos(yaw), np.sin(yaw)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]) @ TOOL_DOWN
    pose[:3, 3] = position
    return pose
