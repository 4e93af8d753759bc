"""The path that the arm has just driven, to be driven back."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from salus_ros.intervention.path import JointPath, PathError, spline
from salus_ros.types import Floats

_SPACING_S: Final = 0.02
_LENGTH_MAX_S: Final = 1.2


class DrivenPath:
    """Commanded positions over the path time followed, as far as they were driven without contact."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Floats]] = deque(maxlen=round(_LENGTH_MAX_S / _SPACING_S) + 2)

    def clear(self) -> None:
        """Forget it: after a contact, or when the arm was moved otherwise."""
        self._samples.clear()

    def note(self, progress_s: float, position: Floats) -> None:
        """The command is at this place after this much path time in all."""
        if not self._samples or progress_s - self._samples[-1][0] >= _SPACING_S:
            self._samples.append((progress_s, position))

    def back(
        self, progress_s: float, position: Floats, length_s: float, tolerance_rad: float
    ) -> JointPath | None:
        """The last ``length_s`` of it in reverse, from where the command rests; ``None`` if there is none.

        The part handed out is forgotten, so that it is never driven back twice.
        """
        times, places = [0.0], [position]
        while self._samples:
            at_s, place = self._samples.pop()
            back_s = progress_s - at_s
            if back_s > length_s:
                break
            if back_s >= 0.5 * _SPACING_S:
                times.append(back_s)
                places.append(place)
        if len(times) < 3:
            return None
        try:
            return spline(np.array(times), np.array(places), tolerance_rad)
        except PathError:
            return None
