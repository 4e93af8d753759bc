"""Whether the arm does what it is told: possible joint states, following, progress."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats, RobotState


class PlausibilityCheck:
    """Joint states where no arm can be, or that none can reach in the time between them."""

    def __init__(self, arm: ArmModel, margin_rad: float) -> None:
        self._arm = arm
        self._margin_rad = margin_rad
        self._last: RobotState | None = None

    def reset(self) -> None:
        """Take the next joint state without the one before."""
        self._last = None

    def objection(self, state: RobotState) -> str:
        """Why this joint state is impossible; empty if it is not."""
        last, self._last = self._last, state
        position = state.joint_position_rad
        outside = np.maximum(self._arm.position_lower_rad - position, position - self._arm.position_upper_rad)
        worst = int(np.argmax(outside))
        if outside[worst] > self._margin_rad:
            return f"joint {worst + 1} at {position[worst]:.3f} rad lies outside its limits"
        if last is None:
            return ""
        step_s = max(state.stamp_s - last.stamp_s, 0.0)
        moved = position - last.joint_position_rad
        excess = np.abs(moved) - self._arm.velocity_limit_rad_s * step_s
        worst = int(np.argmax(excess))
        if excess[worst] > self._margin_rad:
            return f"joint {worst + 1} moved {moved[worst]:.3f} rad in {step_s:.3f} s"
        return ""


class TrackingCheck:
    """How far the arm is from where it was commanded to be a moment ago.

    An arm lags its command, so it is compared with the commands of the last moments, not with the newest.
    """

    def __init__(self, window_s: float, period_s: float) -> None:
        self._size = max(round(window_s / period_s), 1)
        self.largest_rad = 0.0
        """The largest error since the count was last begun anew."""
        self.reset()

    def reset(self) -> None:
        """Forget the commands."""
        self._commands: deque[Floats] = deque(maxlen=self._size)
        self._off_since_s: dict[float, float] = {}
        self.error_rad = 0.0
        """Distance of the farthest joint from the nearest recent command."""

    def command(self, position: Floats) -> None:
        """Note where the arm is commanded to be at this period."""
        self._commands.append(position)

    def measure(self, position: Floats) -> None:
        """Take a valid joint position."""
        if self._commands:
            self.error_rad = self.distance_rad(position)
            self.largest_rad = max(self.largest_rad, self.error_rad)

    def distance_rad(self, position: Floats) -> float:
        """How far the farthest joint is, at a position (J,), from the nearest recent command; inf without."""
        if not self._commands:
            return math.inf
        return float(np.abs(np.array(self._commands) - position).max(axis=1).min())

    def off(self, limit_rad: float, persistence_s: float, now_s: float) -> bool:
        """Whether the error has been above a limit for long enough."""
        if self.error_rad <= limit_rad:
            self._off_since_s.pop(limit_rad, None)
            return False
        return now_s - self._off_since_s.setdefault(limit_rad, now_s) >= persistence_s


class StallCheck:
    """Whether following brings the arm forward at all: in a window of time, and from one hold to the next."""

    def __init__(self, window_s: float, progress: float, holds: int, renew_s: float) -> None:
        """``progress``: path time per time below which the arm stalls. ``holds``: how often it may be held
        for not following its commands, until it has followed ``renew_s`` of path time without."""
        self._window_s = window_s
        self._progress = progress
        self._holds_allowed = holds
        self._renew_s = renew_s
        self.renew()

    def renew(self) -> None:
        """Begin a new window, and forget the holds."""
        self._holds = 0
        self._followed_s = 0.0
        self.reset()

    def reset(self) -> None:
        """Begin a new window."""
        self._start_s = math.nan
        self._path_s = 0.0

    def hold(self) -> None:
        """The arm is held now because it did not follow its commands."""
        self._holds += 1
        self._followed_s = 0.0

    def blocked(self) -> bool:
        """Whether it was held more often than allowed; told once."""
        if self._holds <= self._holds_allowed:
            return False
        self._holds = 0
        return True

    def stalled(self, now_s: float, progress_s: float) -> bool:
        """Take the path time followed at this tick; true at the end of a window without progress."""
        self._followed_s += progress_s
        if self._followed_s >= self._renew_s:
            self._holds = 0
        if math.isnan(self._start_s):
            self._start_s = now_s
        self._path_s += progress_s
        if now_s - self._start_s < self._window_s:
            return False
        stalled = self._path_s < self._progress * self._window_s
        self._start_s, self._path_s = now_s, 0.0
        return stalled
