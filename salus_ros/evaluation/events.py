"""Alarms against onsets: what was foreseen, how early, and how often the alarm cried wolf.

A true positive is a rising edge of the alarm 0.2 to 1.0 s before an onset of its type. Any
other rising edge is a false positive, an onset without one is a miss. An onset gives one
true positive at most: an alarm that flickers before it earns nothing more, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus_ros.errors import SalusError
from salus_ros.evaluation.statistics import UNDEFINED, Estimate, bootstrap
from salus_ros.types import Floats

EARLIEST_S = 1.0
"""An alarm earlier than this before an onset is no statement about that onset."""
LATEST_S = 0.2
"""An alarm later than this leaves the arm no time to stop."""
LEAD_TIMES_S = (0.2, 0.3, 0.5)
"""Shares of onsets foreseen at least this long before are reported."""

_EPSILON_S = 1e-6
"""Stamps are sums of control periods; a lead time of exactly 0.2 s counts."""


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Alarms and onsets of one type, over one episode or many."""

    true_positives: int
    false_positives: int
    misses: int
    lead_time_s: tuple[float, ...]
    """One for each true positive: onset minus the earliest rising edge in the window."""

    def __add__(self, other: EventCounts) -> EventCounts:
        return EventCounts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.misses + other.misses,
            self.lead_time_s + other.lead_time_s,
        )

    @property
    def precision(self) -> float:
        """Share of alarms that were right; nan without alarms."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of onsets foreseen; nan without onsets."""
        return _ratio(self.true_positives, self.true_positives + self.misses)

    @property
    def f1(self) -> float:
        """Harmonic mean of both; nan when there was neither alarm nor onset."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.misses)

    @property
    def median_lead_time_s(self) -> float:
        """Over the foreseen onsets; nan without any."""
        return float(np.median(self.lead_time_s)) if self.lead_time_s else float("nan")

    def lead_time_percentile_s(self, percent: float) -> float:
        """Over the foreseen onsets; nan without any."""
        return float(np.percentile(self.lead_time_s, percent)) if self.lead_time_s else float("nan")

    def share_foreseen_at(self, lead_s: float) -> float:
        """Share of *all* onsets foreseen at least so long before; nan without onsets."""
        early = sum(lead >= lead_s - _EPSILON_S for lead in self.lead_time_s)
        return _ratio(early, self.true_positives + self.misses)


NO_EVENTS = EventCounts(0, 0, 0, ())


def rising_edges(stamp_s: ArrayLike, alarm: ArrayLike) -> Floats:
    """Times at which an alarm goes up; one that is up from the first step rises there.

    Args:
        stamp_s: (N,) increasing.
        alarm: (N,) bool.
    """
    stamps = np.asarray(stamp_s, dtype=np.float64)
    raised: NDArray[np.bool_] = np.asarray(alarm, dtype=bool)
    if stamps.shape != raised.shape:
        raise SalusError(
            f"{stamps.size} stamps were given for {raised.size} alarm values; give one alarm a stamp."
        )
    return stamps[raised & ~np.concatenate([[False], raised[:-1]])] if stamps.size else stamps


def match_alarms(
    edges_s: ArrayLike,
    onsets_s: ArrayLike,
    earliest_s: float = EARLIEST_S,
    latest_s: float = LATEST_S,
) -> EventCounts:
    """Counts for one episode and one type.

    Args:
        edges_s: times at which the alarm rose; those in steps that left the data (after an
            onset, until the episode is back in order) must not be among them.
        onsets_s: times at which a failure of this type began.
    """
    edges = np.sort(np.asarray(edges_s, dtype=np.float64))
    onsets = np.sort(np.asarray(onsets_s, dtype=np.float64))
    lead = onsets[:, None] - edges[None, :]
    in_window = (lead >= latest_s - _EPSILON_S) & (lead <= earliest_s + _EPSILON_S)
    lead_times = tuple(
        float(lead[row][in_window[row]].max()) for row in range(len(onsets)) if in_window[row].any()
    )
    false_positives = int((~in_window.any(axis=0)).sum()) if len(onsets) else len(edges)
    return EventCounts(len(lead_times), false_positives, len(onsets) - len(lead_times), lead_times)


def total(counts: Iterable[EventCounts]) -> EventCounts:
    """The sum over episodes."""
    return sum(counts, NO_EVENTS)


def f1_difference(
    ours: Sequence[EventCounts], theirs: Sequence[EventCounts], draws: int = 2000, seed: int = 0
) -> Estimate:
    """F1 of ``ours`` minus that of ``theirs`` on the same episodes, resampled by episode."""
    return bootstrap(lambda w: _f1(w, ours) - _f1(w, theirs), len(ours), draws, seed=seed)


def mean_f1(groups: Sequence[Sequence[EventCounts]], draws: int = 2000, seed: int = 0) -> Estimate:
    """F1, mean over groups (failure types) that hold an onset; each group has one entry an episode."""
    kept = [group for group in groups if sum(c.true_positives + c.misses for c in group)]
    if not kept:
        return UNDEFINED
    return bootstrap(
        lambda w: np.nanmean([np.nan_to_num(_f1(w, group)) for group in kept], axis=0),
        len(kept[0]),
        draws,
        seed=seed,
    )


def _f1(weights: Floats, counts: Sequence[EventCounts]) -> Floats:
    """(draws,) F1 of the episodes' sums under weights (draws, E); nan without alarm and onset."""
    table = np.array([(c.true_positives, c.false_positives + c.misses) for c in counts], float)
    hit, wrong = (weights @ table).T
    known = 2.0 * hit + wrong > 0.0
    return np.where(known, 2.0 * hit / np.where(known, 2.0 * hit + wrong, 1.0), np.nan)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
