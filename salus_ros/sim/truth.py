"""The simulator's privileged state, which no policy, monitor or gate ever sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus_ros.types import Floats


@dataclass(frozen=True, slots=True)
class Truth:
    """Everything about a moment, in the base frame. N cubes."""

    time_s: float
    colours: tuple[str, ...]
    target: int
    """The cube that the instruction names, the one to be moved."""
    second: int
    """The cube that it names besides, -1 for none."""
    cube_position_m: Floats
    """(N, 3)"""
    cube_rotation: Floats
    """(N, 3, 3)"""
    cube_velocity_m_s: Floats
    """(N, 3)"""
    cube_size_m: Floats
    """(N,), length of the edges."""
    gripped: int
    """The cube that both fingers touch, -1 for none."""
    held: int
    """The cube that is gripped and was lifted by 2 cm since, -1 for none."""
    touched: NDArray[np.bool_]
    """(N,), which cubes a finger touches."""
    bin_position_m: Floats
    """(3,), centre of its underside."""
    mark_position_m: Floats
    """(3,), centre of the marked place on the table; far below it when there is none."""
    obstacle_position_m: Floats
    """(3,), foot of the post; far below the table when there is none."""
    obstacle_height_m: float
    tool_pose: Floats
    """(4, 4)"""
    tool_velocity: Floats
    """(6,), linear in m/s and angular in rad/s."""
    gripper_opening_m: float
    gripper_command_m: float
    contact_force_n: float
    """Largest force that arm, hand or held object exert on something fixed that the task does not ask
    them to touch."""
    cube_contact_force_n: float
    """The same for cubes that the instruction does not name."""
    press_force_n: float
    """Largest force of a named cube on the table: its weight, and what presses it down."""

    @property
    def named(self) -> tuple[int, ...]:
        """The cubes that the instruction names."""
        return (self.target,) if self.second < 0 else (self.target, self.second)

    @property
    def has_mark(self) -> bool:
        """Whether a place on the table is marked."""
        return bool(self.mark_position_m[2] > -1.0)

    @property
    def has_obstacle(self) -> bool:
        """Whether the post stands on the table."""
        return bool(self.obstacle_position_m[2] > -1.0)
