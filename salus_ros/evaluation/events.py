"""Alarms against onsets: what was foreseen, how early, and how often the alarm cried wolf.

What counts, in one episode and for one failure type (or for all of them as one):

- **Alarms** are rising edges of the alarm's whole course. One that rises in a step that left the data (from
  an onset of any type on, for ``RECOVERY_S``) is no alarm, and neither is one that rose there and is still up
  when the episode is back in order: whoever stays on foresees nothing more.
- **Onsets** are those that somebody could be asked to foresee (``foreseeable``): at some moment 0.2 to 1.0 s
  before them the episode was in order. So one that begins less than 1.2 s after another, of whatever type, is
  left out: nearly all of what could have announced it is what went wrong before. An alarm of its type 0.2 to
  1.0 s before it is neither right nor wrong.
- **True positives** are pairs of an alarm and an onset 0.2 to 1.0 s after it. An alarm is in one pair at
  most, and so is an onset, which takes the earliest alarm that is left. Every other alarm is a false
  positive, also a second one before the same onset; every other onset is a miss. So alarms (save those
  before onsets that were left out) are true plus false positives, and onsets true positives plus misses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus_ros.data.labels import RECOVERY_S
from salus_ros.errors import SalusError
from salus_ros.evaluation.statistics import UNDEFINED, Estimate, interval
from salus_ros.types import FailureType, Floats

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
    """One for each true positive: onset minus the rising edge that it is paired with."""

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


def foreseeable(onsets_s: ArrayLike) -> NDArray[np.bool_]:
    """(M,), which onsets somebody could be asked to foresee: the episode was in order in time before them.

    Args:
        onsets_s: (M,) all onsets of an episode, of whatever type, in any order. Two at the same moment do not
            hide one another.
    """
    onsets = np.asarray(onsets_s, dtype=np.float64)
    after = onsets[:, None] - onsets[None, :]
    hidden = (after > _EPSILON_S) & (after < RECOVERY_S + LATEST_S - _EPSILON_S)
    result: NDArray[np.bool_] = np.logical_not(np.asarray(hidden.any(axis=1), dtype=bool))
    return result


def match_alarms(
    edges_s: ArrayLike,
    onsets_s: ArrayLike,
    earliest_s: float = EARLIEST_S,
    latest_s: float = LATEST_S,
    *,
    excused_s: ArrayLike = (),
) -> EventCounts:
    """Counts for one episode and one type.

    Args:
        edges_s: times at which the alarm rose; those in steps that left the data (after an
            onset, until the episode is back in order) must not be among them.
        onsets_s: times at which a failure of this type began.
        earliest_s: before an onset; an alarm that comes earlier is none about it.
        latest_s: before an onset; one that comes later is too late.
        excused_s: onsets of this type that are not asked for; an alarm in time for one of them is dropped,
            unless it foresees another.
    """
    edges = np.unique(np.asarray(edges_s, dtype=np.float64))
    left = list(edges)
    lead_times: list[float] = []
    onsets = np.sort(np.asarray(onsets_s, dtype=np.float64))
    # Windows are all of one length, so the earliest alarm that is left, onset by onset, makes the most pairs.
    for onset in onsets:
        in_time = [edge for edge in left if _in_time(onset - edge, earliest_s, latest_s)]
        if in_time:
            left.remove(in_time[0])
            lead_times.append(float(onset - in_time[0]))
    excused = np.asarray(excused_s, dtype=np.float64)
    wrong = [edge for edge in left if not any(_in_time(o - edge, earliest_s, latest_s) for o in excused)]
    return EventCounts(len(lead_times), len(wrong), len(onsets) - len(lead_times), tuple(lead_times))


def _in_time(lead_s: float, earliest_s: float, latest_s: float) -> bool:
    return latest_s - _EPSILON_S <= lead_s <= earliest_s + _EPSILON_S


def episode_events(
    edges_s: ArrayLike,
    onsets: Sequence[tuple[float, FailureType]],
    failure: FailureType | None,
) -> EventCounts:
    """Counts for one episode, as the module's docstring says.

    Args:
        edges_s: times at which the alarm rose.
        onsets: time and type of every onset of the episode.
        failure: the type that the alarm is about; ``None`` for an alarm that names none, before which onsets
            of all types at one moment are one.
    """
    edges = np.asarray(edges_s, dtype=np.float64)
    times = np.array([time_s for time_s, _ in onsets])
    own = np.array([failure is None or kind is failure for _, kind in onsets], dtype=bool)
    since = edges[:, None] - times[None, :]
    out_of_order = ((since >= -_EPSILON_S) & (since < RECOVERY_S - _EPSILON_S)).any(axis=1)
    asked = foreseeable(times)
    return match_alarms(edges[~out_of_order], np.unique(times[own & asked]), excused_s=times[own & ~asked])


def total(counts: Iterable[EventCounts]) -> EventCounts:
    """The sum over episodes."""
    return sum(counts, NO_EVENTS)


def resampled_f1(counts: Sequence[EventCounts], weights: Floats) -> Floats:
    """(1 + draws,) F1 of the E episodes' sums under weights (1 + draws, E); nan without alarm and onset."""
    table = np.array([(c.true_positives, c.false_positives + c.misses) for c in counts], float)
    hit, wrong = (weights @ table).T
    known = 2.0 * hit + wrong > 0.0
    return np.where(known, 2.0 * hit / np.where(known, 2.0 * hit + wrong, 1.0), np.nan)


def mean_f1(groups: Sequence[Sequence[EventCounts]], weights: Floats) -> Estimate:
    """F1, mean over groups (failure types) that hold an onset; each group has one entry an episode."""
    kept = [group for group in groups if sum(c.true_positives + c.misses for c in group)]
    if not kept:
        return UNDEFINED
    return interval(np.mean([np.nan_to_num(resampled_f1(group, weights)) for group in kept], axis=0))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
