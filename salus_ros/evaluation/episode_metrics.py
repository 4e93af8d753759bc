"""One verdict per episode: does the running maximum of a score tell failures from successes, and when.

Successes end earlier than failures, so a longer look alone would tell them apart. Everything
here is judged on a common length, the one that nearly all successes reach; it is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.evaluation.metrics import Steps, auroc
from salus_ros.evaluation.statistics import Estimate, bootstrap, clopper_pearson
from salus_ros.monitor.calibration import conformal_quantile
from salus_ros.types import Floats

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
FALSE_ALARM_RATES = (0.05, 0.10, 0.15)
REACHED_BY = 0.95
"""Share of the successes that last at least the common length."""


@dataclass(frozen=True, slots=True)
class ScoreTrace:
    """A detector's score over one episode."""

    time_s: Floats
    """(N,), counted from the episode's start; ends at the first onset."""
    score: Floats
    """(N,)"""
    failed: bool
    """The episode had an onset, or did not succeed."""


@dataclass(frozen=True, slots=True)
class AlarmMetrics:
    """One threshold on the running maximum."""

    threshold: float
    preset_false_alarm_rate: float
    false_alarm_rate: Estimate
    true_positive_rate: Estimate
    balanced_accuracy: float
    time_weighted_accuracy: float
    detection_time_s: float
    """Mean over *all* failures; a failure without an alarm counts as detected at its end."""
    alarms_per_hour: float
    """Episodes alarmed per hour of successful operation."""


def common_length_s(traces: Sequence[ScoreTrace]) -> float:
    """The longest time that 95 % of the successes reach; nan without successes."""
    lengths = [trace.time_s[-1] for trace in traces if not trace.failed and trace.time_s.size]
    return float(np.quantile(lengths, 1.0 - REACHED_BY, method="lower")) if lengths else float("nan")


def running_maximum(trace: ScoreTrace, until_s: float) -> float:
    """Highest score up to a time; minus infinity when there is none yet."""
    seen = trace.score[trace.time_s <= until_s]
    return float(seen.max()) if seen.size else float("-inf")


def auroc_over_time(
    traces: Sequence[ScoreTrace], fractions: Sequence[float] = FRACTIONS, draws: int = 2000
) -> dict[float, Estimate]:
    """AUROC of the running maximum after each fraction of the common length."""
    length_s = common_length_s(traces)
    label = np.array([trace.failed for trace in traces], dtype=bool)
    episode = np.arange(len(traces))
    result = {}
    for fraction in fractions:
        maxima = np.array([running_maximum(trace, fraction * length_s) for trace in traces])
        finite = np.where(np.isfinite(maxima), maxima, np.finfo(np.float64).min)
        result[fraction] = auroc(Steps(finite, label, episode), draws)
    return result


def conformal_threshold(maxima: Sequence[float], alpha: float) -> float:
    """Threshold that a further success exceeds with probability ``alpha`` at most; infinite for too few."""
    if not 0.0 < alpha < 1.0:
        raise SalusError(f"A false-alarm rate of {alpha} was asked for; give one between 0 and 1.")
    return conformal_quantile(np.asarray(maxima, dtype=np.float64), alpha)


def alarm_metrics(
    traces: Sequence[ScoreTrace], threshold: float, preset_false_alarm_rate: float
) -> AlarmMetrics:
    """Alarms wherever the score exceeds the threshold, within the common length."""
    length_s = common_length_s(traces)
    if not np.isfinite(length_s):
        length_s = max((float(t.time_s[-1]) for t in traces if t.time_s.size), default=0.0)
    alarmed = {True: 0, False: 0}
    count = {True: 0, False: 0}
    earliness: list[float] = []
    detection_times_s: list[float] = []
    success_time_s = 0.0
    for trace in traces:
        kept = trace.time_s <= length_s
        time_s = trace.time_s[kept]
        end_s = float(time_s[-1]) if time_s.size else 0.0
        raised = np.flatnonzero(trace.score[kept] > threshold)
        count[trace.failed] += 1
        alarmed[trace.failed] += bool(raised.size)
        if trace.failed:
            detected_s = float(time_s[raised[0]]) if raised.size else end_s
            detection_times_s.append(detected_s)
            earliness.append(1.0 - detected_s / end_s if raised.size and end_s > 0.0 else 0.0)
        else:
            success_time_s += end_s
    false_alarms = clopper_pearson(alarmed[False], count[False])
    true_positives = clopper_pearson(alarmed[True], count[True])
    return AlarmMetrics(
        threshold=threshold,
        preset_false_alarm_rate=preset_false_alarm_rate,
        false_alarm_rate=false_alarms,
        true_positive_rate=true_positives,
        balanced_accuracy=0.5 * (true_positives.value + 1.0 - false_alarms.value),
        time_weighted_accuracy=time_weighted_accuracy(earliness, 1.0 - false_alarms.value),
        detection_time_s=float(np.mean(detection_times_s)) if detection_times_s else float("nan"),
        alarms_per_hour=3600.0 * alarmed[False] / success_time_s if success_time_s > 0.0 else float("nan"),
    )


def time_weighted_difference(
    ours: Sequence[ScoreTrace],
    our_threshold: float,
    theirs: Sequence[ScoreTrace],
    their_threshold: float,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Time-weighted accuracy of ``ours`` minus that of ``theirs``, paired and resampled by episode."""
    length_s = common_length_s(ours)
    failed = np.array([trace.failed for trace in ours], float)
    gains = [
        np.array([_gain(trace, threshold, length_s) for trace in traces])
        for traces, threshold in ((ours, our_threshold), (theirs, their_threshold))
    ]

    def accuracy(weights: Floats, gain: Floats) -> Floats:
        result: Floats = 0.5 * (
            (weights @ (gain * failed)) / (weights @ failed)
            + (weights @ (gain * (1.0 - failed))) / (weights @ (1.0 - failed))
        )
        return result

    def difference(weights: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return accuracy(weights, gains[0]) - accuracy(weights, gains[1])

    return bootstrap(difference, len(ours), draws, seed=seed)


def _gain(trace: ScoreTrace, threshold: float, length_s: float) -> float:
    """How early a failure was alarmed in; for a success, 1 without an alarm."""
    kept = trace.time_s <= length_s
    raised = np.flatnonzero(trace.score[kept] > threshold)
    if not trace.failed:
        return float(raised.size == 0)
    time_s = trace.time_s[kept]
    return 1.0 - float(time_s[raised[0]] / time_s[-1]) if raised.size and time_s[-1] > 0.0 else 0.0


def coverage(traces: Sequence[ScoreTrace], until_s: float) -> tuple[tuple[float, float], ...]:
    """Shares of successes and of failures alarmed in by a time, as the threshold falls."""
    maxima = {
        failed: np.array([running_maximum(t, until_s) for t in traces if t.failed is failed])
        for failed in (False, True)
    }
    if not all(m.size for m in maxima.values()):
        return ()
    thresholds = np.unique(np.concatenate(list(maxima.values())))[::-1]
    shares = [[float((m >= x).mean()) for x in thresholds] for m in maxima.values()]
    return ((0.0, 0.0), *zip(*shares, strict=True))


def time_weighted_accuracy(earliness: Sequence[float], true_negative_rate: float) -> float:
    """Balanced accuracy in which a detected failure counts by how early it was detected.

    Args:
        earliness: for each failure, 1 - detection time / length; 0 when it was not detected.
    """
    return 0.5 * (float(np.mean(earliness)) + true_negative_rate) if len(earliness) else float("nan")
