"""The path that the arm has just driven, to be driven back."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from salus_ros.intervention.path import JointPath, PathError, spline
from salus_ros.types import Floats

_SPACING_S: Final = 0.02
_ROUNDING_S: Final = 1e-9
_LENGTH_MAX_S: Final = 1.2


class DrivenPath:
    """Commanded positions over the path time driven, as far as they were driven without contact."""

    def __init__(self) -> None:
        self._at_s = 0.0
        self._samples: deque[tuple[float, Floats]] = deque(maxlen=round(_LENGTH_MAX_S / _SPACING_S) + 2)
        """The newest is where the command is."""

    def clear(self) -> None:
        """Forget it: after a contact, or when the arm was moved otherwise."""
        self._samples.clear()

    def note(self, advanced_s: float, position: Floats) -> None:
        """The command has come to this place in so much path time."""
        self._at_s += advanced_s
        if len(self._samples) > 1 and self._samples[-1][0] - self._samples[-2][0] < _SPACING_S - _ROUNDING_S:
            self._samples.pop()
        self._samples.append((self._at_s, position))

    def back(
        self, position: Floats, length_s: float, tolerance_rad: float, near_rad: float
    ) -> JointPath | None:
        """The last ``length_s`` of it in reverse, from where the arm rests; ``None`` if there is none.

        It begins at the driven place nearest to there, and lies beside what was driven by as much as the two
        lie apart, so that no part of it leads ahead. All of it is forgotten: nothing is driven back twice,
        and what an arm does not drive back to its end leaves a hole.

        Args:
            position: (J,) where the arm rests.
            length_s: path time driven back at most.
            tolerance_rad: of the path from the places driven.
            near_rad: an arm that rests farther than this from all of them has not driven them.
        """
        recent = [one for one in reversed(self._samples) if self._at_s - one[0] <= length_s]
        self._samples.clear()
        if not recent:
            return None
        places = np.array([place for _, place in recent])
        gaps = np.abs(places - position).max(axis=1)
        nearest = int(np.argmin(gaps))
        times = recent[nearest][0] - np.array([at_s for at_s, _ in recent[nearest:]])
        apart = (times == 0.0) | (times >= 0.5 * _SPACING_S - _ROUNDING_S)
        if gaps[nearest] > near_rad or np.count_nonzero(apart) < 3:
            return None
        beside = places[nearest:] + (position - places[nearest])
        try:
            return spline(times[apart], beside[apart], tolerance_rad)
        except PathError:
            return None
