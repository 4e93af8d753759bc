"""How simulated time follows the wall clock."""

from __future__ import annotations

from typing import Final

SLIP_S: Final = 0.2
"""A backlog beyond this is given up: simulated time then lags behind the wall clock for good, and it is
counted, instead of a burst of steps that no controller could follow."""
BURST: Final = 5
"""Steps in one go at most, so that commands are read in between."""


class Pacer:
    """Says how many steps are due. Times are steady wall times in s."""

    def __init__(self, step_s: float, factor: float, now_s: float) -> None:
        """``factor`` is simulated time per wall time; 0 runs as fast as possible."""
        self._step_s = step_s
        self._factor = factor
        self._origin_s = now_s
        self._steps = 0
        self.slips = 0
        """How often a backlog was given up."""
        self.lost_s = 0.0
        """Simulated time that was given up so."""

    def due(self, now_s: float) -> int:
        """Steps to take now, at most ``BURST``."""
        if self._factor == 0.0:
            return 1
        elapsed_s = (now_s - self._origin_s) * self._factor
        backlog = int(elapsed_s / self._step_s + 1e-6) - self._steps
        if backlog * self._step_s > SLIP_S:
            given_up = backlog - 1
            self.slips += 1
            self.lost_s += given_up * self._step_s
            self._origin_s += given_up * self._step_s / self._factor
            backlog = 1
        steps = max(0, min(backlog, BURST))
        self._steps += steps
        return steps
