"""The last second of signals, at a fixed rate."""

from __future__ import annotations

import numpy as np

from salus_ros.types import Floats


class Window:
    """Frames of F signals, ``period_s`` apart, the newest last.

    Before the first frame that frame stands: a window that showed how many are missing would tell the
    time. Frames that were skipped are nan.
    """

    def __init__(self, steps: int, signals: int, period_s: float) -> None:
        self._period_s = period_s
        self._frames: Floats = np.full((steps, signals), np.nan)
        self._newest_s = float("nan")

    def clear(self) -> None:
        """Forgets all frames."""
        self._newest_s = float("nan")

    def push(self, now_s: float, frame: Floats) -> Floats:
        """Takes the signals (F,) of ``now_s`` and returns the window (steps, F).

        A second frame within half a period replaces the newest one. A time before the newest starts anew.
        """
        elapsed = round((now_s - self._newest_s) / self._period_s) if np.isfinite(self._newest_s) else -1
        if elapsed < 0:
            self._frames = np.broadcast_to(frame, self._frames.shape).copy()
        elif elapsed == 0:
            self._frames = self._frames.copy()
            self._frames[-1] = frame
            return self._frames
        else:
            shift = min(elapsed, len(self._frames))
            frames = np.full_like(self._frames, np.nan)
            frames[:-shift] = self._frames[shift:]
            frames[-1] = frame
            self._frames = frames
        self._newest_s = now_s
        return self._frames
