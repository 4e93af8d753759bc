"""One verdict per episode: does the running maximum of a score tell failures from successes, and when.

Successes end earlier than failures, so a longer look alone would tell them apart. Everything
here is judged on a common length, the one that nearly all successes reach; it is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.evaluation.events import rising_edges
from salus_ros.evaluation.metrics import Steps, auroc
from salus_ros.evaluation.statistics import Estimate, clopper_pearson, interval
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

    @property
    def observed_s(self) -> float:
        """How long something was said: steps times the time between two of them."""
        return float(len(self.time_s) * np.median(np.diff(self.time_s))) if len(self.time_s) > 1 else 0.0

    def until(self, end_s: float) -> ScoreTrace:
        """What had been seen by a time."""
        kept = self.time_s <= end_s
        return ScoreTrace(self.time_s[kept], self.score[kept], self.failed)


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
    """Rising edges of the alarm per hour observed, right ones and false ones."""
    false_alarms_per_hour: float
    """The same in successes alone."""


def common_length_s(traces: Sequence[ScoreTrace]) -> float:
    """The longest time that 95 % of the successes reach; nan without successes."""
    lengths = [trace.time_s[-1] for trace in traces if not trace.failed and trace.time_s.size]
    return float(np.quantile(lengths, 1.0 - REACHED_BY, method="lower")) if lengths else float("nan")


def running_maximum(trace: ScoreTrace, until_s: float) -> float:
    """Highest score up to a time; minus infinity when there is none yet."""
    seen = trace.score[trace.time_s <= until_s]
    return float(seen.max()) if seen.size else float("-inf")


def auroc_over_time(
    traces: Sequence[ScoreTrace], weights: Floats, fractions: Sequence[float] = FRACTIONS
) -> dict[float, Estimate]:
    """AUROC of the running maximum after each fraction of the common length.

    Args:
        traces: of E episodes.
        weights: (1 + draws, E), see ``metrics``.
        fractions: of the common length.
    """
    length_s = common_length_s(traces)
    label = np.array([trace.failed for trace in traces], dtype=bool)
    episode = np.arange(len(traces))
    result = {}
    for fraction in fractions:
        maxima = np.array([running_maximum(trace, fraction * length_s) for trace in traces])
        finite = np.where(np.isfinite(maxima), maxima, np.finfo(np.float64).min)
        result[fraction] = interval(auroc(Steps(finite, label, episode), weights))
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
    alarmed, count, edges = ({True: 0, False: 0} for _ in range(3))
    observed_s = {True: 0.0, False: 0.0}
    earliness: list[float] = []
    detection_times_s: list[float] = []
    for trace in (whole.until(length_s) for whole in traces):
        raised = trace.score > threshold
        first = np.flatnonzero(raised)
        count[trace.failed] += 1
        alarmed[trace.failed] += bool(first.size)
        edges[trace.failed] += len(rising_edges(trace.time_s, raised))
        observed_s[trace.failed] += trace.observed_s
        if trace.failed:
            end_s = float(trace.time_s[-1]) if trace.time_s.size else 0.0
            detection_times_s.append(float(trace.time_s[first[0]]) if first.size else end_s)
            earliness.append(_gain(trace, threshold))
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
        alarms_per_hour=per_hour(sum(edges.values()), sum(observed_s.values())),
        false_alarms_per_hour=per_hour(edges[False], observed_s[False]),
    )


def per_hour(count: int, observed_s: float) -> float:
    """nan when nothing was observed."""
    return 3600.0 * count / observed_s if observed_s > 0.0 else float("nan")


def begun_within(traces: Sequence[ScoreTrace], length_s: float, first_onsets_s: Sequence[float]) -> int:
    """How many failures had begun by then: of no other can an alarm by then have been early.

    Args:
        traces: of E episodes.
        length_s: the common length.
        first_onsets_s: (E,) of each; infinite without one.
    """
    return sum(
        trace.failed and onset_s <= length_s for trace, onset_s in zip(traces, first_onsets_s, strict=True)
    )


def resampled_time_weighted_accuracy(
    traces: Sequence[ScoreTrace], threshold: float, weights: Floats
) -> Floats:
    """(1 + draws,), ``time_weighted_accuracy`` at the common length under each weighting of the E episodes.

    Args:
        traces: of E episodes.
        threshold: above which the alarm is up.
        weights: (1 + draws, E), see ``metrics``.
    """
    length_s = common_length_s(traces)
    failed = np.array([trace.failed for trace in traces], float)
    gain = np.array([_gain(trace.until(length_s), threshold) for trace in traces])
    with np.errstate(all="ignore"):  # resamples without a failure, or without a success, are undefined
        result: Floats = 0.5 * (
            (weights @ (gain * failed)) / (weights @ failed)
            + (weights @ (gain * (1.0 - failed))) / (weights @ (1.0 - failed))
        )
    return result


def _gain(trace: ScoreTrace, threshold: float) -> float:
    """How early a failure was alarmed in; for a success, 1 without an alarm."""
    raised = np.flatnonzero(trace.score > threshold)
    if not trace.failed:
        return float(raised.size == 0)
    early = raised.size and trace.time_s[-1] > 0.0
    return 1.0 - float(trace.time_s[raised[0]] / trace.time_s[-1]) if early else 0.0


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
