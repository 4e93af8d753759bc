"""The monitor, its rivals and the sanity checks on the same held-out episodes, scored the same way.

Detectors learn from train, choose their variant and how to aggregate on tune, and set their thresholds on
calibrate; the test episodes are looked at once, at the end. The monitors were fitted on the same splits by
their own training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.evaluation.baselines import Detector
from salus_ros.evaluation.baselines.base import AGGREGATIONS, filled
from salus_ros.evaluation.episode_metrics import (
    FALSE_ALARM_RATES,
    AlarmMetrics,
    ScoreTrace,
    alarm_metrics,
    auroc_over_time,
    common_length_s,
    conformal_threshold,
    coverage,
    running_maximum,
    time_weighted_difference,
)
from salus_ros.evaluation.events import EventCounts, f1_difference, match_alarms, mean_f1, rising_edges, total
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
from salus_ros.evaluation.statistics import Estimate, clopper_pearson
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.scoring import judgements
from salus_ros.monitor.splits import Split
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType, Floats

OURS = "SALUS"
SEEN, UNSEEN = "test-seen", "test-unseen"
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


@dataclass(frozen=True, slots=True)
class Watch:
    """A monitor under test."""

    name: str
    kind: str
    """``ours``, ``another seed``, or ``another setting``."""
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Rival:
    """A detector to be compared with, in the variants that are tried on the tune episodes."""

    name: str
    kind: str
    """``rival`` or ``sanity check``."""
    candidates: tuple[Detector, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What one detector says of a list of episodes."""

    by_horizon: tuple[Floats, ...]
    """(N, types, horizons) an episode."""
    verdict: tuple[Floats, ...]
    """(N,) an episode: one score for all failures together, what its alarm is about."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """One detector's numbers on a test set."""

    name: str
    kind: str
    trials: int
    """Variants tried on the tune episodes."""
    choice: str
    """The variant and aggregation that were kept."""
    mean_auroc: Estimate
    behind_ours: Estimate
    """Mean AUROC of ours minus this one's, on the same episodes."""
    f1_behind_ours: Estimate
    """Event F1 of ours minus this one's."""
    time_weighted_behind_ours: Estimate
    """Time-weighted accuracy of ours minus this one's, at the lowest preset false-alarm rate."""
    steps: Mapping[tuple[FailureType, float], StepMetrics]
    events: EventCounts
    """Alarms at the deployed threshold against onsets of any type."""
    events_by_type: Mapping[FailureType, EventCounts]
    """Empty for a detector whose alarm names no type."""
    mean_f1: Estimate
    """Event F1, mean over the types that occur; undefined where the alarm names no type."""
    false_alarms: Estimate
    """Share of successes alarmed in at the deployed threshold."""
    auroc_over_time: Mapping[float, Estimate]
    alarms: tuple[AlarmMetrics, ...]
    """At each preset false-alarm rate."""
    coverage: tuple[tuple[float, float], ...]
    """Share of successes alarmed and share of failures alarmed, over all thresholds."""
    each: tuple[EventCounts, ...] = field(repr=False)
    """Events by episode, for paired differences."""
    traces: tuple[ScoreTrace, ...] = field(repr=False)
    """The verdict over each episode, likewise."""


@dataclass(frozen=True, slots=True, eq=False)
class TestSet:
    """Everything that one look at some test episodes gave."""

    __test__ = False  # the name is the field's, not a test's

    records: tuple[Record, ...]
    figures: tuple[Figures, ...]
    """Ours first."""
    cells: Mapping[str, Mapping[tuple[FailureType, float], Steps]]
    """Scores and labels by detector, for curves."""
    reliability: Mapping[FailureType, Reliability]
    """Of ours at the longest horizon; types without a step that counts are left out."""
    predictions: Mapping[int, list[FailurePrediction]]
    """What ours said, by seed."""
    onsets: Mapping[FailureType, int]
    common_length_s: float
    outside: tuple[int, int]
    """Episodes said to lie outside the training data at some moment, of how many."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All test sets of one run."""

    tests: Mapping[str, TestSet]
    unavailable: Mapping[str, str]
    """Detectors that this data gives nothing to work with, and why."""
    episodes: Mapping[str, int]
    """Episodes in each split."""

    @property
    def seen(self) -> TestSet:
        """The episodes drawn as the training ones were."""
        return self.tests[SEEN]


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A detector that is fitted, with its aggregation chosen."""

    name: str
    kind: str
    trials: int
    choice: str
    score: Callable[[Sequence[Record]], Scored]
    calibrate: Scored
    threshold: float
    """Of the verdict, at which its alarm is deployed."""
    checkpoint: Checkpoint | None = None


def evaluate(
    records: Sequence[Record],
    watches: Sequence[Watch],
    rivals: Sequence[Rival],
    settings: ProtocolSettings,
    progress: Callable[[str], None] = lambda name: None,
    *,
    unseen: Sequence[Record] = (),
) -> Findings:
    """Fits and tunes everything, then scores it on the test episodes.

    Args:
        records: episodes of all splits; the split is by seed.
        watches: the monitors, ours first.
        rivals: not yet fitted.
        settings: of the numbers.
        progress: is told the name of each detector before its turn.
        unseen: episodes of other disturbances or tasks; nothing is fitted or tuned on them.

    Raises:
        SalusError: a split without episodes.
    """
    by_split = {split: [r for r in records if r.sample.split is split] for split in Split}
    for split, members in by_split.items():
        if not members:
            raise SalusError(
                f"None of the {len(records)} episodes belongs to the split {split.value}; collect more."
            )
    ready, unavailable = [], {}
    for watch in watches:
        progress(watch.name)
        ready.append(_watching(watch, by_split[Split.CALIBRATE]))
    for rival in rivals:
        progress(rival.name)
        try:
            ready.append(_fitted(rival, by_split, settings))
        except SalusError as error:
            unavailable[rival.name] = str(error)
    sets = {SEEN: by_split[Split.TEST]} | ({UNSEEN: list(unseen)} if unseen else {})
    tests = {}
    for name, test in sets.items():
        progress(f"{name}: {len(test)} episodes")
        tests[name] = _test_set(test, ready, by_split[Split.CALIBRATE], settings)
    counts = {split.value: len(members) for split, members in by_split.items()}
    return Findings(tests, unavailable, counts | {name: len(test) for name, test in sets.items()})


def _watching(watch: Watch, calibrate: Sequence[Record]) -> _Ready:
    def score(records: Sequence[Record]) -> Scored:
        return _scored_by_monitor([judgements(watch.checkpoint, r.sample) for r in records])

    return _Ready(
        watch.name, watch.kind, 1, "as deployed", score, score(calibrate), AT_THRESHOLD, watch.checkpoint
    )


def _fitted(rival: Rival, by_split: Mapping[Split, Sequence[Record]], settings: ProtocolSettings) -> _Ready:
    """Fit each variant on train, choose variant and aggregation on tune, threshold on calibrate."""
    tune = by_split[Split.TUNE]
    best: tuple[float, Detector, str, float] | None = None
    aggregations = list(AGGREGATIONS) if rival.kind == "rival" else ["single"]
    for detector in rival.candidates:
        detector.fit(by_split[Split.TRAIN])
        raw = [detector.score(r) for r in tune]
        known = np.concatenate([s.ravel() for s in raw])
        known = known[np.isfinite(known)]
        if not known.size:
            continue
        unknown = float(np.median(known))
        for aggregation in aggregations:
            cells = _cells(tune, _scored([AGGREGATIONS[aggregation](filled(s, unknown)) for s in raw]))
            quality = float(np.nan_to_num(mean_auroc(list(cells.values()), draws=0).value, nan=0.0))
            if best is None or quality > best[0]:
                best = quality, detector, aggregation, unknown
    if best is None:
        raise SalusError("the episodes hold nothing that it could be computed from.")
    _, chosen, aggregation, unknown = best

    def score(records: Sequence[Record]) -> Scored:
        return _scored([AGGREGATIONS[aggregation](filled(chosen.score(r), unknown)) for r in records])

    calibrate = score(by_split[Split.CALIBRATE])
    whole = [
        running_maximum(t, np.inf) for t in _traces(by_split[Split.CALIBRATE], calibrate) if not t.failed
    ]
    variant = f"{chosen.name}, " if len(rival.candidates) > 1 else ""
    return _Ready(
        rival.name,
        rival.kind,
        len(rival.candidates) * len(aggregations),
        f"{variant}{aggregation}",
        score,
        calibrate,
        conformal_threshold(whole, settings.alpha),
    )


def _test_set(
    test: Sequence[Record], ready: Sequence[_Ready], calibrate: Sequence[Record], settings: ProtocolSettings
) -> TestSet:
    ours = ready[0]
    assert ours.checkpoint is not None
    said = [judgements(ours.checkpoint, r.sample) for r in test]
    our_cells = _cells(test, _scored_by_monitor(said))
    figures: list[Figures] = []
    cells: dict[str, Mapping[tuple[FailureType, float], Steps]] = {}
    for detector in ready:
        scores = detector.score(test)
        cells[detector.name] = _cells(test, scores)
        first = figures[0] if figures else None
        figures.append(
            _figures(detector, test, scores, cells[detector.name], our_cells, first, calibrate, settings)
        )
    longest = {f: our_cells[f, HORIZONS_S[-1]] for f in FailureType}
    outside = sum(
        any(p.out_of_distribution for p, judged in zip(row, r.sample.judged, strict=True) if judged)
        for r, row in zip(test, said, strict=True)
    )
    return TestSet(
        records=tuple(test),
        figures=tuple(figures),
        cells=cells,
        reliability={f: reliability(steps) for f, steps in longest.items() if steps.score.size},
        predictions={r.sample.seed: p for r, p in zip(test, said, strict=True)},
        onsets={f: sum(len(r.onsets_s(f)) for r in test) for f in FailureType},
        common_length_s=common_length_s(_traces(test, _scored_by_monitor(said))),
        outside=(outside, len(test)),
    )


def _figures(
    detector: _Ready,
    test: Sequence[Record],
    scores: Scored,
    cells: Mapping[tuple[FailureType, float], Steps],
    our_cells: Mapping[tuple[FailureType, float], Steps],
    ours: Figures | None,
    calibrate: Sequence[Record],
    settings: ProtocolSettings,
) -> Figures:
    traces = _traces(test, scores)
    length_s = common_length_s(traces)
    usual = [t for t in _traces(calibrate, detector.calibrate) if not t.failed]
    maxima = [running_maximum(t, length_s) for t in usual]
    each = tuple(
        _events(r, score, detector.threshold, None) for r, score in zip(test, scores.verdict, strict=True)
    )
    alarms = tuple(
        alarm_metrics(traces, conformal_threshold(maxima, rate), rate) for rate in FALSE_ALARM_RATES
    )
    by_type = _events_by_type(test, scores, detector)
    return Figures(
        name=detector.name,
        kind=detector.kind,
        trials=detector.trials,
        choice=detector.choice,
        mean_auroc=mean_auroc(list(cells.values()), settings.draws, settings.seed),
        behind_ours=mean_auroc_difference(
            list(our_cells.values()), list(cells.values()), settings.draws, settings.seed
        ),
        f1_behind_ours=f1_difference(ours.each if ours else each, each, settings.draws, settings.seed),
        time_weighted_behind_ours=time_weighted_difference(
            ours.traces if ours else traces,
            ours.alarms[0].threshold if ours else alarms[0].threshold,
            traces,
            alarms[0].threshold,
            settings.draws,
            settings.seed,
        ),
        steps={cell: step_metrics(s, settings.draws, settings.seed) for cell, s in cells.items()},
        events=total(each),
        events_by_type={failure: total(counts) for failure, counts in by_type.items()},
        mean_f1=mean_f1(list(by_type.values()), settings.draws, settings.seed),
        false_alarms=_false_alarms(traces, detector.threshold),
        auroc_over_time=auroc_over_time(traces, draws=settings.draws),
        alarms=alarms,
        coverage=coverage(traces, length_s),
        each=each,
        traces=tuple(traces),
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


def _events_by_type(
    test: Sequence[Record], scores: Scored, detector: _Ready
) -> dict[FailureType, list[EventCounts]]:
    """By episode, at the thresholds of each type, as deployed; empty where the alarm names no type."""
    if detector.checkpoint is None:
        return {}
    threshold = detector.checkpoint.threshold
    return {
        failure: [
            _events(r, p[:, failure, -1] / threshold[failure], AT_THRESHOLD, failure)
            for r, p in zip(test, scores.by_horizon, strict=True)
        ]
        for failure in FailureType
    }


def _false_alarms(traces: Sequence[ScoreTrace], threshold: float) -> Estimate:
    successes = [t for t in traces if not t.failed]
    return clopper_pearson(sum(running_maximum(t, np.inf) > threshold for t in successes), len(successes))
