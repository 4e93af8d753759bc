"""What every detector offers, and how a score becomes an early warning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.signal import lfilter

from salus_ros.types import Floats

if TYPE_CHECKING:
    from salus_ros.evaluation.records import Record


class Detector(Protocol):
    """Scores the ticks of an episode; higher = a failure is nearer."""

    name: str

    def fit(self, records: Sequence[Record]) -> None:
        """Learns from training episodes; one that needs none does nothing."""

    def score(self, record: Record) -> Floats:
        """(N,) one score for all failure types, or (N, types); nan where it has nothing to say."""


def single(score: Floats) -> Floats:
    """The newest score alone."""
    return score


def exponential(score: Floats) -> Floats:
    """Exponential mean with a time constant of 10 ticks, 0.5 s."""
    smoothed: Floats = lfilter([0.1], [1.0, -0.9], score, axis=0, zi=0.9 * score[:1])[0]
    return smoothed


def sliding_sum(ticks: int) -> Callable[[Floats], Floats]:
    """Sum over the last ``ticks`` scores."""

    def total(score: Floats) -> Floats:
        running = np.cumsum(score, axis=0)
        before: Floats = np.concatenate([np.zeros_like(running[:ticks]), running[:-ticks]])[: len(running)]
        difference: Floats = running - before
        return difference

    return total


def cumulative(score: Floats) -> Floats:
    """Sum since the episode began; it follows the clock, and so does what it finds."""
    return np.cumsum(score, axis=0)


AGGREGATIONS: dict[str, Callable[[Floats], Floats]] = {
    "single": single,
    "exponential": exponential,
    "sliding 1 s": sliding_sum(20),
    "sliding 5 s": sliding_sum(100),
    "cumulative": cumulative,
}
"""Tried on the tune episodes; the best by AUROC is kept."""


def filled(score: Floats, unknown: float) -> Floats:
    """Ticks without a score repeat the last one; before the first it is ``unknown``.

    Args:
        score: (N,) or (N, types).
    """
    columns = score.reshape(len(score), -1)
    known = np.isfinite(columns)
    last = np.maximum.accumulate(np.where(known, np.arange(len(columns))[:, None], -1), axis=0)
    values = np.where(last >= 0, np.take_along_axis(columns, np.maximum(last, 0), axis=0), unknown)
    return values.reshape(score.shape)
