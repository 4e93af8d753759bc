"""The monitor, its rivals and the sanity checks on the same held-out episodes, scored the same way.

Detectors learn from train, choose how to aggregate on tune, and set their thresholds on calibrate; the
test episodes are looked at once, at the end. The monitor was fitted on the same split by its own training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.evaluation.baselines import Detector
from salus_ros.evaluation.baselines.base import AGGREGATIONS, filled
from salus_ros.evaluation.episode_metrics import (
    FALSE_ALARM_RATES,
    ScoreTrace,
    alarm_metrics,
    auroc_over_time,
    common_length_s,
    conformal_threshold,
    running_maximum,
)
from salus_ros.evaluation.events import LEAD_TIMES_S, EventCounts, match_alarms, rising_edges, total
from salus_ros.evaluation.metrics import (
    Reliability,
    StepMetrics,
    Steps,
    mean_auroc,
    mean_auroc_difference,
    reliability,
    step_metrics,
)
from salus_ros.evaluation.records import Record
from salus_ros.evaluation.statistics import Estimate
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.examination import judgements
from salus_ros.monitor.splits import Split
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType, Floats

OURS = "SALUS"
AT_THRESHOLD = float(np.nextafter(1.0, 0.0))
"""The monitor's alarm is up from its threshold on, where its relative score is 1."""
MIN_ONSETS = 100
"""Onsets of each type that a test set should hold; fewer are said."""


class ProtocolSettings(BaseModel):
    """How the numbers are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(
        0.05, gt=0, lt=1, description="False alarms per success at which rivals' alarms are set."
    )
    draws: int = Field(1000, ge=10, description="Bootstrap resamples of whole episodes.")
    seed: int = Field(0, ge=0, description="Of rivals' weights and of the bootstrap.")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What one detector says of a list of episodes."""

    by_horizon: tuple[Floats, ...]
    """(N, types, horizons) an episode."""
    verdict: tuple[Floats, ...]
    """(N,) an episode: one score for all failures together, what its alarm is about."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """One detector's numbers on the test episodes."""

    name: str
    kind: str
    """``ours``, ``rival`` or ``sanity check``."""
    trials: int
    """Variants tried on the tune episodes."""
    aggregation: str
    mean_auroc: Estimate
    behind_ours: Estimate
    """Mean AUROC of ours minus this one's, on the same episodes."""
    steps: Mapping[tuple[FailureType, float], StepMetrics]
    events: EventCounts
    """Alarms at the deployed threshold against onsets of any type."""
    events_by_type: Mapping[FailureType, EventCounts]
    """Empty for a detector whose alarm names no type."""
    auroc_over_time: Mapping[float, Estimate]
    alarms: tuple[Any, ...]
    """``AlarmMetrics`` at each preset false-alarm rate."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything that one look at the test episodes gave."""

    figures: tuple[Figures, ...]
    """Ours first."""
    reliability: Mapping[FailureType, Reliability]
    """Of ours at the longest horizon; types without a step that counts are left out."""
    predictions: Mapping[int, list[FailurePrediction]]
    """What ours said, by seed."""
    test: tuple[Record, ...]
    onsets: Mapping[FailureType, int]
    unavailable: Mapping[str, str]
    """Detectors that this data gives nothing to work with, and why."""
    common_length_s: float


def evaluate(
    records: Sequence[Record],
    checkpoint: Checkpoint,
    detectors: Sequence[tuple[str, Detector]],
    settings: ProtocolSettings,
    progress: Callable[[str], None] = lambda name: None,
) -> Findings:
    """Scores everything on the test split.

    Args:
        records: episodes of all splits; the split is by seed.
        detectors: (kind, detector), not yet fitted.
        progress: is told the name of each detector before its turn.

    Raises:
        SalusError: a split without episodes.
    """
    by_split = {split: [r for r in records if r.sample.split is split] for split in Split}
    for split, members in by_split.items():
        if not members:
            raise SalusError(
                f"None of the {len(records)} episodes belongs to the split {split.value}; collect more."
            )
    test = by_split[Split.TEST]
    progress(OURS)
    said = [judgements(checkpoint, r.sample) for r in test]
    calibrate = [judgements(checkpoint, r.sample) for r in by_split[Split.CALIBRATE]]
    ours = _figures(
        OURS,
        "ours",
        _scored_by_monitor(said),
        _scored_by_monitor(calibrate),
        by_split,
        settings,
        by_type=_monitor_events(test, said),
        deployed=AT_THRESHOLD,
    )
    our_cells = _cells(test, _scored_by_monitor(said))
    figures = [ours]
    unavailable: dict[str, str] = {}
    for kind, detector in detectors:
        progress(detector.name)
        try:
            figures.append(_rival(kind, detector, by_split, our_cells, settings))
        except SalusError as error:
            unavailable[detector.name] = str(error)
    longest = {f: our_cells[f, HORIZONS_S[-1]] for f in FailureType}
    return Findings(
        figures=tuple(figures),
        reliability={f: reliability(steps) for f, steps in longest.items() if steps.score.size},
        predictions={r.sample.seed: p for r, p in zip(test, said, strict=True)},
        test=tuple(test),
        unavailable=unavailable,
        onsets={f: sum(len(r.onsets_s(f)) for r in test) for f in FailureType},
        common_length_s=common_length_s(_traces(test, _scored_by_monitor(said))),
    )


def _rival(
    kind: str,
    detector: Detector,
    by_split: Mapping[Split, Sequence[Record]],
    our_cells: Mapping[tuple[FailureType, float], Steps],
    settings: ProtocolSettings,
) -> Figures:
    """Fit on train, aggregate as tune likes best, threshold on calibrate, score test."""
    detector.fit(by_split[Split.TRAIN])
    scored_splits: tuple[Split, ...] = (Split.TUNE, Split.CALIBRATE, Split.TEST)
    raw = {split: [detector.score(r) for r in by_split[split]] for split in scored_splits}
    known = np.concatenate([s.ravel() for s in raw[Split.TUNE]])
    known = known[np.isfinite(known)]
    if not known.size:
        raise SalusError("the episodes hold nothing that it could be computed from.")
    unknown = float(np.median(known))
    complete = {split: [filled(s, unknown) for s in scores] for split, scores in raw.items()}
    tried = AGGREGATIONS if kind == "rival" else {"single": AGGREGATIONS["single"]}

    def scored(split: Split, aggregation: str) -> Scored:
        return _scored([AGGREGATIONS[aggregation](s) for s in complete[split]])

    def quality(aggregation: str) -> float:
        cells = _cells(by_split[Split.TUNE], scored(Split.TUNE, aggregation))
        return float(np.nan_to_num(mean_auroc(list(cells.values()), draws=0).value, nan=0.0))

    best = max(tried, key=quality)
    return _figures(
        detector.name,
        kind,
        scored(Split.TEST, best),
        scored(Split.CALIBRATE, best),
        by_split,
        settings,
        our_cells=our_cells,
        aggregation=best,
        trials=len(tried),
    )


def _figures(
    name: str,
    kind: str,
    test_scores: Scored,
    calibrate_scores: Scored,
    by_split: Mapping[Split, Sequence[Record]],
    settings: ProtocolSettings,
    *,
    our_cells: Mapping[tuple[FailureType, float], Steps] | None = None,
    by_type: Mapping[FailureType, EventCounts] | None = None,
    deployed: float | None = None,
    aggregation: str = "single",
    trials: int = 1,
) -> Figures:
    test = by_split[Split.TEST]
    cells = _cells(test, test_scores)
    traces = _traces(test, test_scores)
    usual = _traces(by_split[Split.CALIBRATE], calibrate_scores)
    length_s = common_length_s(traces)
    maxima = [running_maximum(t, length_s) for t in usual if not t.failed]
    whole = [running_maximum(t, np.inf) for t in usual if not t.failed]
    threshold = conformal_threshold(whole, settings.alpha) if deployed is None else deployed
    return Figures(
        name=name,
        kind=kind,
        trials=trials,
        aggregation=aggregation,
        mean_auroc=mean_auroc(list(cells.values()), settings.draws, settings.seed),
        behind_ours=mean_auroc_difference(
            list((our_cells or cells).values()), list(cells.values()), settings.draws, settings.seed
        ),
        steps={cell: step_metrics(s, settings.draws, settings.seed) for cell, s in cells.items()},
        events=total(
            _events(r, score, threshold, None) for r, score in zip(test, test_scores.verdict, strict=True)
        ),
        events_by_type=by_type or {},
        auroc_over_time=auroc_over_time(traces, draws=settings.draws),
        alarms=tuple(
            alarm_metrics(traces, conformal_threshold(maxima, rate), rate) for rate in FALSE_ALARM_RATES
        ),
    )


def _scored_by_monitor(said: Sequence[Sequence[FailurePrediction]]) -> Scored:
    return Scored(
        tuple(np.array([p.probability for p in row]) for row in said),
        tuple(np.array([float((p.probability[:, -1] / p.threshold).max()) for p in row]) for row in said),
    )


def _scored(scores: Sequence[Floats]) -> Scored:
    """One score for all types and horizons, or one for each type."""
    shape = (len(FailureType), len(HORIZONS_S))
    columns = [s if s.ndim == 2 else np.repeat(s[:, None], shape[0], axis=1) for s in scores]
    return Scored(
        tuple(np.repeat(c[:, :, None], shape[1], axis=2) for c in columns),
        tuple(c.max(axis=1) for c in columns),
    )


def _cells(records: Sequence[Record], scored: Scored) -> dict[tuple[FailureType, float], Steps]:
    """Steps of each type and horizon, where the label is known."""
    episode = np.concatenate([np.full(len(r.time_s), i) for i, r in enumerate(records)])
    score = np.concatenate(scored.by_horizon)
    target = np.concatenate([r.sample.target for r in records])
    valid = np.concatenate([r.sample.valid for r in records])
    cells = {}
    for failure in FailureType:
        for h, horizon_s in enumerate(HORIZONS_S):
            kept = valid[:, failure, h]
            cells[failure, horizon_s] = Steps(
                score[kept, failure, h].astype(np.float64), target[kept, failure, h], episode[kept]
            )
    return cells


def _traces(records: Sequence[Record], scored: Scored) -> list[ScoreTrace]:
    return [
        ScoreTrace(r.time_s[r.judged_before_onset], score[r.judged_before_onset], r.failed)
        for r, score in zip(records, scored.verdict, strict=True)
    ]


def _events(record: Record, score: Floats, threshold: float, failure: FailureType | None) -> EventCounts:
    """Rising edges while the episode is in order, against onsets of one type or of any."""
    edges_s = rising_edges(record.time_s, score > threshold)
    in_order = record.time_s[record.sample.judged]
    onsets_s = [time_s for time_s, kind in record.sample.onsets if failure is None or kind is failure]
    return match_alarms(edges_s[np.isin(edges_s, in_order)], onsets_s)


def _monitor_events(
    test: Sequence[Record], said: Sequence[Sequence[FailurePrediction]]
) -> dict[FailureType, EventCounts]:
    """At the thresholds of each type, as deployed."""
    return {
        failure: total(
            _events(
                r,
                np.array([p.probability[failure, -1] / p.threshold[failure] for p in row]),
                AT_THRESHOLD,
                failure,
            )
            for r, row in zip(test, said, strict=True)
        )
        for failure in FailureType
    }


def as_json(findings: Findings) -> dict[str, Any]:
    """All numbers, with None for what could not be computed."""
    return {
        "test_episodes": len(findings.test),
        "test_failures": sum(r.failed for r in findings.test),
        "unavailable": dict(findings.unavailable),
        "onsets": {f.name.lower(): n for f, n in findings.onsets.items()},
        "common_length_s": number(findings.common_length_s),
        "detectors": [_figures_json(figures) for figures in findings.figures],
    }


def number(value: float) -> float | None:
    """A JSON number, None where there is none."""
    return float(value) if np.isfinite(value) else None


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": number(estimate.value), "low": number(estimate.low), "high": number(estimate.high)}


def _figures_json(figures: Figures) -> dict[str, Any]:
    return {
        "name": figures.name,
        "kind": figures.kind,
        "trials_on_tune": figures.trials,
        "aggregation": figures.aggregation,
        "mean_auroc": _estimate(figures.mean_auroc),
        "ours_minus_this": _estimate(figures.behind_ours),
        "steps": [
            {
                "type": failure.name.lower(),
                "horizon_s": horizon_s,
                "auroc": _estimate(m.auroc),
                "auprc": _estimate(m.auprc),
                "prevalence": number(m.prevalence),
                "brier": number(m.brier),
                "calibration_error": number(m.calibration_error),
                "positives": m.positives,
                "steps": m.steps,
            }
            for (failure, horizon_s), m in figures.steps.items()
        ],
        "events": _events_json(figures.events),
        "events_by_type": {f.name.lower(): _events_json(c) for f, c in figures.events_by_type.items()},
        "episode_auroc": {f"{share:g}": _estimate(e) for share, e in figures.auroc_over_time.items()},
        "episode_alarms": [
            {
                "preset_false_alarm_rate": a.preset_false_alarm_rate,
                "threshold": number(a.threshold),
                "false_alarm_rate": _estimate(a.false_alarm_rate),
                "true_positive_rate": _estimate(a.true_positive_rate),
                "balanced_accuracy": number(a.balanced_accuracy),
                "time_weighted_accuracy": number(a.time_weighted_accuracy),
                "detection_time_s": number(a.detection_time_s),
                "alarms_per_hour": number(a.alarms_per_hour),
            }
            for a in figures.alarms
        ],
    }


def _events_json(counts: EventCounts) -> dict[str, Any]:
    return {
        "true_positives": counts.true_positives,
        "false_positives": counts.false_positives,
        "misses": counts.misses,
        "precision": number(counts.precision),
        "recall": number(counts.recall),
        "f1": number(counts.f1),
        "lead_time_median_s": number(counts.median_lead_time_s),
        "lead_time_p10_s": number(counts.lead_time_percentile_s(10.0)),
        "foreseen_at": {f"{lead:g}": number(counts.share_foreseen_at(lead)) for lead in LEAD_TIMES_S},
    }
