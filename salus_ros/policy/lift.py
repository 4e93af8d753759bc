"""The tool goes straight up before a policy plans anew: over what it would have run into, and to where the
policy sees the scene from elsewhere.

A policy that is asked again where it was stopped sees nearly the same, and plans nearly the same way.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from salus_ros.types import Floats

SPEED_M_S: Final = 0.25
"""A careful speed, also the one at which ISO 10218-1 lets an arm move with a person near."""
REACHED_M: Final = 0.01
PATIENCE_S: Final = 5.0
"""An arm that is not up by then stands at some limit. Most of it may pass before the arm is let go."""

Moment = tuple[float, float, float]


class Lift:
    """A lift that is asked for begins at the next observation, and ends at its height."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is to be lifted."""
        self._asked_m, self._target_m, self._until_s = 0.0, float("nan"), float("nan")

    def ask(self, height_m: float) -> None:
        """Go so far up from where the tool is at the next observation."""
        self.forget()
        self._asked_m = height_m

    def poses(self, stamp_s: float, tool: Floats, times_s: Floats) -> Floats | None:
        """Tool poses (T, 4, 4) on the way up, at times (T,) from the observation; ``None`` with none to go.

        Args:
            stamp_s: of the observation.
            tool: (4, 4), measured pose in the base frame, whose z points up.
            times_s: rising, from 0 on.
        """
        if self._asked_m <= 0.0:
            return None
        if np.isnan(self._target_m):
            self._target_m = float(tool[2, 3]) + self._asked_m
            self._until_s = stamp_s + PATIENCE_S
        left_m = self._target_m - float(tool[2, 3])
        if left_m < REACHED_M or stamp_s > self._until_s:
            self.forget()
            return None
        poses = np.tile(tool, (len(times_s), 1, 1))
        poses[:, 2, 3] += np.minimum(SPEED_M_S * times_s, left_m)
        return poses

    def save(self) -> Moment:
        """The moment, for ``restore``."""
        return self._asked_m, self._target_m, self._until_s

    def restore(self, moment: Moment) -> None:
        """Go back to a saved moment."""
        self._asked_m, self._target_m, self._until_s = moment
