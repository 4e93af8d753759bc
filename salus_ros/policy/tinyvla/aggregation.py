"""Temporal aggregation: what several chunks foretold for one moment, averaged as the released code does."""

from __future__ import annotations

from collections import deque

import numpy as np

from salus_ros.types import Floats

DECAY = 0.01
"""Weight exp(-DECAY * i) of the i-th prediction, i = 0 the oldest; fixed in the released code."""


class TemporalAggregation:
    """Averages each step of a chunk with what earlier chunks said about it. T steps, D dimensions."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._chunks: deque[tuple[int, Floats]] = deque()

    def reset(self) -> None:
        """Forget the earlier chunks."""
        self._chunks.clear()

    def add(self, stamp_s: float, chunk: Floats) -> Floats:
        """Chunk (T, D) of actions whose first belongs to ``stamp_s``: the averaged one, (T, D).

        Stamps are taken to the nearest whole period. A stamp that does not come after the one before
        begins anew.
        """
        first = round(stamp_s / self._period_s)
        if self._chunks and first <= self._chunks[-1][0]:
            self.reset()
        self._chunks.append((first, chunk))
        while self._chunks[0][0] + len(self._chunks[0][1]) <= first:
            self._chunks.popleft()
        averaged = np.empty_like(chunk)
        for step in range(len(chunk)):
            said = np.stack(
                [old[first + step - begun] for begun, old in self._chunks if first + step - begun < len(old)]
            )
            weights = np.exp(-DECAY * np.arange(len(said)))
            averaged[step] = (said * (weights / weights.sum())[:, None]).sum(axis=0)
        return averaged
