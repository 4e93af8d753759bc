"""How experts move: waypoints followed by a hand and a cube without physics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.sim.start import TOOL_DOWN
from salus_ros.sim.truth import Truth
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
    stack_carry_m: float = Field(0.13, gt=0, description="Height at which a cube is carried to another one.")
    push_m: float = Field(0.022, gt=0, description="Height of the closed hand when it pushes.")
    push_speed_m_s: float = Field(0.12, gt=0, description="Largest speed while it pushes or puts down.")
    behind_m: float = Field(
        0.065, gt=0, description="Distance from the cube's centre at which the hand goes down to push it."
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


class Waypoint(NamedTuple):
    """Where to go next."""

    position_m: Floats
    """(3,)"""
    yaw_rad: float
    opening_m: float
    """Opening to command now."""
    speed_m_s: float = float("inf")
    """Go no faster than this, nor than the settings allow."""


@dataclass(slots=True)
class Motion:
    """A hand and a cube that move without physics: no contacts, no gravity, no lag."""

    position: Floats
    velocity: Floats
    yaw: float
    opening: float
    command: float
    cube: Floats
    cube_yaw: float
    cube_size: float
    gripped: bool

    def advance(self, goal: Waypoint, settings: ExpertSettings) -> None:
        """Move towards a waypoint for one step, within speed and acceleration, and let the hand follow."""
        offset = goal.position_m - self.position
        distance = float(np.sqrt(offset @ offset))
        braking = float(np.sqrt(2.0 * settings.acceleration_m_s2 * distance))
        speed = min(settings.speed_m_s, goal.speed_m_s, braking, distance / STEP_S)
        wanted = offset * (speed / distance) if distance > 1e-9 else np.zeros(3)
        change = wanted - self.velocity
        size = float(np.sqrt(change @ change))
        most = settings.acceleration_m_s2 * STEP_S
        self.velocity = self.velocity + change * min(1.0, most / size if size > 1e-9 else 1.0)
        moved = self.velocity * STEP_S
        self.position = self.position + moved
        turn = settings.turn_rad_s * STEP_S
        self.yaw += min(max(goal.yaw_rad - self.yaw, -turn), turn)
        self.command = command = goal.opening_m
        travel = settings.gripper_speed_m_s * STEP_S
        self.opening += min(max(command - self.opening, -travel), travel)
        size = self.cube_size
        between = float(np.abs(self.cube - self.position).max()) < size / 2
        if command < size and (self.gripped or between) and self.opening <= size:
            self.gripped, self.opening = True, size
        elif command >= size and self.opening > size + 0.002:
            self.gripped = False
        if self.gripped:
            self.cube = self.cube + moved


def start(truth: Truth) -> Motion:
    """Where hand and named cube are now."""
    rotation, cube = truth.tool_pose[:3, :3], truth.cube_rotation[truth.target]
    gripped = truth.gripped == truth.target and truth.gripper_opening_m < 0.06
    # Along which of its own axes a tumbled cube lies flat does not matter: any level edge will do.
    level = cube[:, int(np.argmin(np.abs(cube[2])))]
    return Motion(
        position=truth.tool_pose[:3, 3].copy(),
        velocity=truth.tool_velocity[:3].copy(),
        yaw=float(np.arctan2(rotation[1, 0], rotation[0, 0])),
        opening=truth.gripper_opening_m,
        command=truth.gripper_command_m,
        cube=truth.cube_position_m[truth.target].copy(),
        cube_yaw=float(np.arctan2(level[1], level[0])),
        cube_size=float(truth.cube_size_m[truth.target]),
        gripped=gripped,
    )


def grasp_yaw(cube_yaw: float) -> float:
    """The cube's four equal sides allow four angles; take the one that is nearest to straight ahead,
    which keeps the wrist far from its limits."""
    quarter = np.pi / 2
    return float(cube_yaw - quarter * np.round(cube_yaw / quarter))


def pose_at(position: Floats, yaw: float) -> Floats:
    """(4, 4) pose of a tool that points down."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]) @ TOOL_DOWN
    pose[:3, 3] = position
    return pose
