"""Time-outs: one probability an episode, of running out of time. Nothing begins, so nothing is 0.5 s away.

An episode timed out when it ended at its time limit, whatever went wrong before; one that ended otherwise, in
success or by a stop, did not. Every step at which the monitor says something counts: the gate hears all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus_ros.evaluation.episode_metrics import FRACTIONS, ScoreTrace, running_maximum
from salus_ros.evaluation.metrics import Steps, auroc
from salus_ros.evaluation.statistics import Estimate, clopper_pearson, interval
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Floats


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of time-outs some way into the episodes."""

    auroc: Estimate
    """Of the running maximum, which is what an alarm goes by."""
    auroc_now: Estimate
    """Of the newest probability: one that was high at first, and fell, counts as what it fell to."""
    brier: Estimate
    """Mean squared error of the newest probability."""
    brier_of_rate: float
    """The same of one number for all episodes, the share that timed out."""


@dataclass(frozen=True, slots=True)
class Warnings:
    """Episodes in which a time-out was foreseen, at the deployed threshold."""

    precision: Estimate
    """Share of them that timed out."""
    recall: Estimate
    """Share of the time-outs that were foreseen."""
    false_alarm_rate: Estimate
    """Share of the other episodes in which one was foreseen."""
    lead_time_s: float
    """From the warning to the end of a foreseen time-out, in the median; nan without any."""


@dataclass(frozen=True, slots=True)
class TimeoutMetrics:
    """How well a monitor tells which episodes will run out of time."""

    episodes: int
    timed_out: int
    looks: Mapping[float, Look]
    """By fraction of the common length, which hides that a time-out lasts longer."""
    threshold: float
    whole: Warnings
    """Over whole episodes: what the gate would have been told."""
    within_common_length: Warnings
    """The same up to the common length, where a long look is no help."""


def timeout_metrics(
    traces: Sequence[ScoreTrace], length_s: float, weights: Floats, gate: GateSettings
) -> TimeoutMetrics:
    """All numbers about time-outs.

    Args:
        traces: of E episodes, probability of a time-out as the score; ``failed`` where one came.
        length_s: the common length.
        weights: (1 + draws, E), see ``metrics``.
        gate: says from which probability on a time-out counts as foreseen, after how many predictions in a
            row, and how long after the start.
    """
    label = np.array([trace.failed for trace in traces], dtype=bool)
    alarms_s = np.array([warned_at_s(trace, gate) for trace in traces])
    ends_s = np.array([trace.time_s[-1] if trace.time_s.size else np.nan for trace in traces])
    return TimeoutMetrics(
        episodes=len(traces),
        timed_out=int(label.sum()),
        looks={share: _look(traces, label, share * length_s, weights) for share in FRACTIONS},
        threshold=gate.timeout_risk,
        whole=_warnings(label, np.isfinite(alarms_s), ends_s - alarms_s),
        within_common_length=_warnings(label, alarms_s <= length_s, ends_s - alarms_s),
    )


def warned_at_s(trace: ScoreTrace, gate: GateSettings) -> float:
    """When the gate first acts on a foreseen time-out, had it done nothing before; infinite when never."""
    high = trace.score >= gate.timeout_risk
    steps = np.arange(1, len(high) + 1)
    in_a_row = steps - np.maximum.accumulate(np.where(high, 0, steps))
    start_s = trace.time_s[0] if trace.time_s.size else 0.0
    acts = (in_a_row >= gate.timeout_persistence) & (trace.time_s >= start_s + gate.timeout_grace_s)
    return float(trace.time_s[np.argmax(acts)]) if acts.any() else float("inf")


def _look(traces: Sequence[ScoreTrace], label: NDArray[np.bool_], until_s: float, weights: Floats) -> Look:
    """An episode that has ended by then is known by what was said last."""
    seen = [trace.until(until_s).score for trace in traces]
    rate = float(label.mean()) if len(label) else float("nan")
    newest = np.array([score[-1] if score.size else rate for score in seen])
    highest = np.array([max(running_maximum(trace, until_s), 0.0) for trace in traces])
    episode = np.arange(len(traces))
    squared = (newest - label) ** 2
    return Look(
        auroc=interval(auroc(Steps(highest, label, episode), weights)),
        auroc_now=interval(auroc(Steps(newest, label, episode), weights)),
        brier=interval(weights @ squared / np.maximum(weights.sum(axis=1), 1.0)),
        brier_of_rate=rate * (1.0 - rate),
    )


def _warnings(label: NDArray[np.bool_], warned: NDArray[np.bool_], lead_s: Floats) -> Warnings:
    right = label & warned
    return Warnings(
        precision=clopper_pearson(int(right.sum()), int(warned.sum())),
        recall=clopper_pearson(int(right.sum()), int(label.sum())),
        false_alarm_rate=clopper_pearson(int((warned & ~label).sum()), int((~label).sum())),
        lead_time_s=float(np.median(lead_s[right])) if right.any() else float("nan"),
    )
