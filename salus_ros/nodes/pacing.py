"""How simulated time follows the wall clock."""

from __future__ import annotations

import math
from typing import Final

SLIP_S: Final = 0.2
"""A backlog beyond this is given up: simulated time then lags behind the wall clock for good, and it is
counted, instead of a burst of steps that no controller could follow."""
CATCH_UP: Final = 2.0
"""A backlog is caught up at so many times the pace, one step at a time: the gate, which works by the wall
clock, must command the arm in between, or it would brake as on any silence and be pulled on afterwards."""


class Pacer:
    """Says how many steps are due. Times are steady wall times in s."""

    def __init__(self, step_s: float, factor: float, now_s: float) -> None:
        """``factor`` is simulated time per wall time; 0 runs as fast as possible."""
        self._step_s = step_s
        self._factor = factor
        self._origin_s = now_s
        self._steps = 0
        self._next_s = -math.inf
        """Wall time before which no step is taken."""
        self.slips = 0
        """How often a backlog was given up."""
        self.lost_s = 0.0
        """Simulated time that was given up so."""

    @property
    def wait_s(self) -> float:
        """Wall time between two questions whether a step is due."""
        return self._step_s / (self._factor * CATCH_UP) if self._factor else 0.0

    def due(self, now_s: float) -> bool:
        """Whether to take a step now."""
        if self._factor == 0.0:
            return True
        elapsed_s = (now_s - self._origin_s) * self._factor
        backlog = int(elapsed_s / self._step_s + 1e-6) - self._steps
        if backlog * self._step_s > SLIP_S:
            given_up = backlog - 1
            self.slips += 1
            self.lost_s += given_up * self._step_s
            self._origin_s += given_up * self._step_s / self._factor
            backlog = 1
        if backlog < 1 or now_s < self._next_s:
            return False
        self._steps += 1
        self._next_s = now_s + 0.8 * self.wait_s
        return True
