"""The last second of signals, at a fixed rate."""

from __future__ import annotations

import numpy as np

from salus_ros.types import Floats

DRIFT = 0.1
"""How quickly the grid of ticks follows the times that they really come at."""


class Window:
    """Frames of F signals, ``period_s`` apart, the newest last.

    Before the first frame that frame stands: a window that showed how many are missing would tell the
    time. Frames that were skipped are nan.
    """

    def __init__(self, steps: int, signals: int, period_s: float) -> None:
        self._period_s = period_s
        self._frames: Floats = np.full((steps, signals), np.nan)
        self._due_s = float("nan")

    def clear(self) -> None:
        """Forgets all frames."""
        self._due_s = float("nan")

    def push(self, now_s: float, frame: Floats) -> Floats:
        """Takes the signals (F,) of ``now_s`` and returns the window (steps, F).

        A second frame within half a period replaces the newest one. A time before the newest starts anew.
        """
        elapsed = -1
        if np.isfinite(self._due_s):
            elapsed = round((now_s - self._due_s) / self._period_s)
            # Ticks come late by what the machine does, not by what passed: follow their mean.
            self._due_s += elapsed * self._period_s
            self._due_s += DRIFT * (now_s - self._due_s)
        if elapsed < 0:
            self._frames = np.broadcast_to(frame, self._frames.shape).astype(float)
            self._due_s = now_s
        elif elapsed == 0:
            self._frames = self._frames.copy()
            self._frames[-1] = frame
        else:
            shift = min(elapsed, len(self._frames))
            frames = np.full_like(self._frames, np.nan)
            frames[:-shift] = self._frames[shift:]
            frames[-1] = frame
            self._frames = frames
        return self._frames
