"""The limits of the arm: what part of a plan is admissible, and the last look at every command."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from salus_ros.intervention.path import JointPath
from salus_ros.intervention.report import LimitReport
from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats, JointTrajectory

_GRID_S: Final = 0.02
_GRID_MAX: Final = 400
_ROUNDING: Final = 1e-6


class Limits:
    """Joint positions, velocities and accelerations, and a box for the tool."""

    def __init__(
        self, arm: ArmModel, margin_rad: float, lower_m: tuple[float, ...], upper_m: tuple[float, ...]
    ) -> None:
        self._arm = arm
        self._margin_rad = margin_rad
        self._lower_m = np.array(lower_m)
        self._upper_m = np.array(upper_m)

    def inside(self, position: Floats) -> Floats:
        """(J,) the nearest position inside the joints' limits."""
        return np.clip(position, self._arm.position_lower_rad, self._arm.position_upper_rad)

    def admissible_end_s(self, path: JointPath, margin: bool = True) -> float:
        """Path time up to which a path stays inside joint positions and box; below its start if nowhere.

        Args:
            path: looked at every 20 ms of path time.
            margin: keep the margin to the joints' limits.
        """
        count = min(max(round((path.end_s - path.start_s) / _GRID_S), 1), _GRID_MAX) + 1
        grid = np.asarray(np.linspace(path.start_s, path.end_s, count), dtype=np.float64)
        position, _, _ = path.at(grid)
        reserve = self._margin_rad if margin else -_ROUNDING
        above = (self._arm.position_lower_rad + reserve <= position).all(axis=1)
        below = (position <= self._arm.position_upper_rad - reserve).all(axis=1)
        good = np.logical_and.reduce([above, below, self.in_box(position)])
        bad = np.flatnonzero(~good)
        if len(bad) == 0:
            return path.end_s
        # One cell of reserve, since the path is only looked at on the grid.
        return float(grid[bad[0]]) - 2.0 * (float(grid[1]) - float(grid[0]))

    def objection(self, position: Floats, velocity: Floats, command: JointTrajectory) -> str:
        """Why a command must not be sent; empty if it may.

        Args:
            position, velocity: (J,) where the command before has brought the controller.
        """
        arm = self._arm
        q = np.concatenate([position[None], command.position_rad])
        v = np.concatenate([velocity[None], command.velocity_rad_s])
        t = np.concatenate([[0.0], command.time_from_start_s])
        if not (np.isfinite(q).all() and np.isfinite(v).all() and np.isfinite(t).all()):
            return "it holds values that are not finite"
        span = np.diff(t)[:, None]
        if not (span > 0.0).all():
            return "its times do not increase"
        if command.velocity_rad_s[-1].any():
            return "it does not end in rest"
        gap, first, last = np.diff(q, axis=0), v[:-1], v[1:]
        slope = gap / span
        middle = 0.5 * (q[:-1] + q[1:]) + 0.125 * span * (first - last)
        places = np.concatenate([command.position_rad, middle])
        if not (
            (arm.position_lower_rad - _ROUNDING <= places) & (places <= arm.position_upper_rad + _ROUNDING)
        ).all():
            return "it leaves the joint position limits"
        speed = np.maximum(np.abs(command.velocity_rad_s), np.abs(1.5 * slope - 0.25 * (first + last)))
        if not (speed <= arm.velocity_limit_rad_s + _ROUNDING).all():
            return "it exceeds a joint velocity limit"
        begin = (6.0 * slope - 4.0 * first - 2.0 * last) / span
        end = (2.0 * first + 4.0 * last - 6.0 * slope) / span
        bound = arm.acceleration_limit_rad_s2 + _ROUNDING
        if not ((np.abs(begin) <= bound) & (np.abs(end) <= bound)).all():
            return "it exceeds a joint acceleration limit"
        # The box is for motion: an arm that already stands outside it may stand there.
        if gap.any() and not self.in_box(command.position_rad).all():
            return "it leaves the workspace box"
        return ""

    def use(self, position: Floats, velocity: Floats) -> tuple[LimitReport, ...]:
        """How much of each limit is used at a place and velocity: (J,) each."""
        arm = self._arm
        middle = 0.5 * (arm.position_lower_rad + arm.position_upper_rad)
        of_range = np.abs(position - middle) / (arm.position_upper_rad - middle)
        of_speed = np.abs(velocity) / arm.velocity_limit_rad_s
        place = arm.forward(position)[:3, 3]
        center = 0.5 * (self._lower_m + self._upper_m)
        of_box = np.abs(place - center) / (self._upper_m - center)
        joint, fast, axis = int(of_range.argmax()), int(of_speed.argmax()), int(of_box.argmax())
        return (
            LimitReport(
                "joint positions", float(of_range[joint]), f"joint {joint + 1} at {position[joint]:.3f} rad"
            ),
            LimitReport(
                "joint velocities", float(of_speed[fast]), f"joint {fast + 1} at {velocity[fast]:.3f} rad/s"
            ),
            LimitReport("workspace box", float(of_box[axis]), f"{'xyz'[axis]} = {place[axis]:.3f} m"),
        )

    def room_above_m(self, position: Floats) -> float:
        """How far the tool can go up from a position (J,) before it leaves the workspace box."""
        return float(self._upper_m[2] - self._arm.forward(position)[2, 3])

    def in_box(self, position: Floats) -> NDArray[np.bool_]:
        """(..., J) to (...): whether the tool is in the workspace box."""
        place = self._arm.forward(position)[..., :3, 3]
        return np.asarray(((self._lower_m <= place) & (place <= self._upper_m)).all(axis=-1))
