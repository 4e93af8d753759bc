"""What the fingers have met so far, from the measured opening alone."""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

import numpy as np

from salus_ros.monitor.view import SAME_INSTANT_S, Grips

SPAN_S: Final = 0.1
"""The fingers' speed is taken over this time."""
MOVING_M_S: Final = 0.04
"""Fingers that close or open at this speed or more are under way; grippers take 50 to 100 mm/s."""
STOPPED_M: Final = 0.0015
"""Fingers that stayed within this over ``SPAN_S`` are stopped; those that turn back are not."""
SHUT_M: Final = 0.005
"""Fingers stopped at less than this have met each other."""


NARROWED_M: Final = 0.02
"""Fingers that closed by less before they opened again did not try to grip."""


class _State(enum.Enum):
    OPEN = enum.auto()
    CLOSING = enum.auto()
    HOLDING = enum.auto()
    DONE = enum.auto()
    """Closed without anything between them, and counted."""


class GripWatch:
    """Tells a grip from fingers that met nothing: closing fingers that stop are stopped by something."""

    def __init__(self) -> None:
        self.count = Grips()
        self._recent: deque[tuple[float, float]] = deque()
        self._state = _State.OPEN
        self._from_m = 0.0

    def update(self, stamp_s: float, opening_m: float) -> None:
        """Takes a measured opening; nan is passed over."""
        if not np.isfinite(opening_m):
            return
        recent = self._recent
        recent.append((stamp_s, opening_m))
        while len(recent) > 2 and stamp_s - recent[1][0] >= SPAN_S - SAME_INSTANT_S:
            recent.popleft()
        elapsed = stamp_s - recent[0][0]
        if elapsed < 0.5 * SPAN_S:
            return
        speed = (opening_m - recent[0][1]) / elapsed
        if speed < -MOVING_M_S:
            self._closes(recent[0][1])
        elif speed > MOVING_M_S:
            if self._state is _State.CLOSING and self._from_m - opening_m > NARROWED_M:
                self._met_nothing()
            self._state = _State.OPEN
        elif self._state is _State.CLOSING and np.ptp([m for _, m in recent]) < STOPPED_M:
            if opening_m < SHUT_M:
                self._met_nothing()
            else:
                self._state = _State.HOLDING

    def _closes(self, opening_m: float) -> None:
        if self._state is _State.OPEN:
            self._state, self._from_m = _State.CLOSING, opening_m
        elif self._state is _State.HOLDING:
            self._state = _State.DONE
            self.count = Grips(self.count.empty, self.count.lost + 1)

    def _met_nothing(self) -> None:
        self._state = _State.DONE
        self.count = Grips(self.count.empty + 1, self.count.lost)
