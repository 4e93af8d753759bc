"""Every number of one detector on one test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from salus_ros.data.episode import Outcome
from salus_ros.evaluation.detectors import (
    Answer,
    Compared,
    Contender,
    ProtocolSettings,
    Scored,
    Take,
    cells,
    events,
    events_of_type,
    traces,
)
from salus_ros.evaluation.episode_metrics import (
    FALSE_ALARM_RATES,
    AlarmMetrics,
    ScoreTrace,
    alarm_metrics,
    auroc_over_time,
    common_length_s,
    conformal_threshold,
    coverage,
    per_hour,
    resampled_time_weighted_accuracy,
    running_maximum,
)
from salus_ros.evaluation.events import EventCounts, mean_f1, resampled_f1, total
from salus_ros.evaluation.metrics import StepMetrics, mean_over_cells, step_metrics
from salus_ros.evaluation.records import Record
from salus_ros.evaluation.statistics import (
    UNDEFINED,
    Estimate,
    clopper_pearson,
    interval,
    whole_and_resamples,
)
from salus_ros.evaluation.timeouts import TimeoutMetrics, timeout_metrics
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import FailureType, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """One detector's numbers on a test set."""

    name: str
    kind: str
    trials: int
    """Variants tried on the tune episodes."""
    choices: Mapping[Compared, str]
    """The variant and aggregation that were kept for each number that is compared."""
    mean_auroc: Estimate
    steps: Mapping[tuple[FailureType, float], StepMetrics]
    events: EventCounts
    """Alarms at the deployed threshold against onsets of any type."""
    events_by_type: Mapping[FailureType, EventCounts]
    """Empty for a detector whose alarm names no type."""
    mean_f1: Estimate
    """Event F1, mean over the types that occur; undefined where the alarm names no type."""
    false_alarms: Estimate
    """Share of successes alarmed in at the deployed threshold."""
    alarms_per_hour: float
    """Edges of the alarm as deployed, right and false ones, per hour in which the episodes were in order."""
    false_alarms_per_hour: float
    auroc_over_time: Mapping[float, Estimate]
    alarms: tuple[AlarmMetrics, ...]
    """At each preset false-alarm rate."""
    coverage: tuple[tuple[float, float], ...]
    """Share of successes alarmed and share of failures alarmed, over all thresholds."""
    timeouts: TimeoutMetrics | None
    """``None`` for a detector that says nothing about them."""
    resampled: Mapping[Compared, Floats] = field(repr=False)
    """(1 + draws,) each, for paired differences."""

    def less(self, other: Figures) -> Mapping[Compared, Estimate]:
        """These numbers minus those of another on the same episodes."""
        return {
            number: interval(values - other.resampled[number]) for number, values in self.resampled.items()
        }


def figures(
    contender: Contender, answer: Answer, name: str, test: Sequence[Record], settings: ProtocolSettings
) -> Figures:
    """All numbers of a detector on the test set ``name``, each from the variant that is compared in it."""
    weights = whole_and_resamples(len(test), settings.draws, settings.seed)
    ranking, alarming = answer.takes[Compared.AUROC], answer.takes[Compared.EVENT_F1]
    verdict = answer.takes[Compared.TIME_WEIGHTED]
    by_step, resampled_auroc = _by_step(test, ranking.tests[name], weights)
    each = events(test, alarming.tests[name], alarming.threshold)
    by_type = _by_type(test, alarming, name)
    observed_s = sum(_in_order_s(r) for r in test)
    counts = total(each)
    quiet = [t for t in traces(test, alarming.tests[name]) if not t.failed]
    heard = traces(test, verdict.tests[name])
    length_s = common_length_s(heard)
    maxima = [running_maximum(t, length_s) for t in verdict.usual]
    alarms = tuple(
        alarm_metrics(heard, conformal_threshold(maxima, rate), rate) for rate in FALSE_ALARM_RATES
    )
    return Figures(
        name=contender.name,
        kind=contender.kind,
        trials=answer.trials,
        choices={number: take.choice for number, take in answer.takes.items()},
        mean_auroc=interval(resampled_auroc),
        steps=by_step,
        events=counts,
        events_by_type={failure: total(found) for failure, found in by_type.items()},
        mean_f1=mean_f1(list(by_type.values()), weights) if by_type else UNDEFINED,
        false_alarms=clopper_pearson(
            sum(running_maximum(t, np.inf) > alarming.threshold for t in quiet), len(quiet)
        ),
        alarms_per_hour=per_hour(counts.true_positives + counts.false_positives, observed_s),
        false_alarms_per_hour=per_hour(counts.false_positives, observed_s),
        auroc_over_time=auroc_over_time(heard, weights),
        alarms=alarms,
        coverage=coverage(heard, length_s),
        timeouts=_timeouts(test, alarming.tests[name], length_s, weights),
        resampled={
            Compared.AUROC: resampled_auroc,
            Compared.EVENT_F1: resampled_f1(each, weights),
            Compared.TIME_WEIGHTED: resampled_time_weighted_accuracy(heard, alarms[0].threshold, weights),
        },
    )


def _by_step(
    test: Sequence[Record], scored: Scored, weights: Floats
) -> tuple[dict[tuple[FailureType, float], StepMetrics], Floats]:
    found = {cell: step_metrics(steps, weights) for cell, steps in cells(test, scored).items()}
    resampled = mean_over_cells(np.stack([values for _, values in found.values()]))
    return {cell: metrics for cell, (metrics, _) in found.items()}, resampled


def _by_type(test: Sequence[Record], take: Take, name: str) -> dict[FailureType, list[EventCounts]]:
    """By episode, at the thresholds of each type, as deployed; empty where the alarm names no type."""
    if take.by_type is None:
        return {}
    return {f: events_of_type(test, take.tests[name], f, float(take.by_type[f])) for f in FailureType}


def _timeouts(
    test: Sequence[Record], scored: Scored, length_s: float, weights: Floats
) -> TimeoutMetrics | None:
    said = [
        ScoreTrace(r.time_s[s], timeout[s], r.sample.outcome is Outcome.TIMEOUT)
        for r, timeout in zip(test, scored.timeout, strict=False)
        for s in [r.sample.judged_at_all]
    ]
    known = bool(said) and all(np.isfinite(trace.score).all() for trace in said)
    return timeout_metrics(said, length_s, weights, GateSettings()) if known else None


def _in_order_s(record: Record) -> float:
    judged = record.sample.judged
    return ScoreTrace(record.time_s[judged], record.time_s[judged], record.failed).observed_s
