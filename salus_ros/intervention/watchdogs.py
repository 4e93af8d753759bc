"""Silence is a fault: one deadline per input, and the ROS clock's own soundness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

_ROUNDING_S: Final = 1e-9
"""ROS stamps count nanoseconds."""


class Watchdogs:
    """When each input was last heard, on steady time. Armed ones count from the arming at the earliest, so
    an input that never came is late."""

    def __init__(self, deadlines_s: Mapping[str, float]) -> None:
        self._deadlines_s = dict(deadlines_s)
        self._heard_s: dict[str, float] = {}
        self._armed_s: float | None = None

    def hear(self, name: str, now_s: float) -> None:
        """A valid message of this input has come."""
        self._heard_s[name] = now_s

    def arm(self, now_s: float) -> None:
        """Count from now at the earliest; also what re-arms after a reset."""
        self._armed_s = now_s

    def disarm(self) -> None:
        """Nothing is late until armed again."""
        self._armed_s = None

    def silence_s(self, name: str, now_s: float) -> float:
        """Time since the input was heard; infinite if never."""
        return now_s - self._heard_s.get(name, -math.inf)

    def deadline_s(self, name: str) -> float:
        """After which silence an input is late."""
        return self._deadlines_s[name]

    def fresh(self, name: str, now_s: float) -> bool:
        """Whether the input was heard within its deadline, armed or not."""
        return self.silence_s(name, now_s) <= self._deadlines_s[name] + _ROUNDING_S

    def late(self, name: str, now_s: float, deadline_s: float | None = None) -> bool:
        """Whether an armed input has been silent past its deadline, or past the one given."""
        if self._armed_s is None:
            return False
        deadline = self._deadlines_s[name] if deadline_s is None else deadline_s
        silence = min(self.silence_s(name, now_s), now_s - self._armed_s)
        return not silence <= deadline + _ROUNDING_S


class RosTime:
    """The ROS clock as the path may use it: its steps, never negative nor huge, and whether it is sound."""

    def __init__(self, period_s: float, stall_s: float, jump_s: float) -> None:
        self._period_s = period_s
        self._stall_s = stall_s
        self._jump_s = jump_s
        self._steady_s = math.nan
        self._ros_s = math.nan
        """The last that there was."""
        self._gone = True
        self._moved_s = math.nan
        self.step_s = 0.0
        """Path time that this tick is worth at full speed."""
        self.jumped = False
        """The clock went backwards or leapt at this tick."""
        self.stands = True
        """There is no clock, or it has not moved for too long: where the controller is by now is unknown."""
        self.sound = False

    def update(self, now_s: float, ros_s: float) -> None:
        """Take the clocks of this tick."""
        steady_step = now_s - self._steady_s
        ros_step = ros_s - self._ros_s
        self.step_s, self.jumped = 0.0, False
        if not math.isfinite(ros_s):
            self.stands, self.sound = True, False
            self._steady_s, self._gone = now_s, True
            return
        if self._gone:
            # How far it has come meanwhile says nothing; that it began again does.
            self.jumped = ros_step < -_ROUNDING_S
            self._moved_s = now_s
        elif ros_step < -_ROUNDING_S or not ros_step <= 2.0 * max(steady_step, 0.0) + self._jump_s:
            # The arm's controller went on by its own time, whatever this clock says.
            self.step_s = min(max(steady_step, 0.0), self._period_s)
            self.jumped = True
            self._moved_s = now_s
        elif ros_step > _ROUNDING_S:
            self.step_s = min(ros_step, 2.0 * max(steady_step, 0.0) + self._period_s)
            self._moved_s = now_s
        self._steady_s, self._ros_s, self._gone = now_s, ros_s, False
        self.stands = now_s - self._moved_s > self._stall_s
        self.sound = not (self.jumped or self.stands)
