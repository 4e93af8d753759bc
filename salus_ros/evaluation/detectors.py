"""What is compared: monitors and rivals, and what each says about the same episodes.

Detectors learn from train, choose on tune and set their thresholds on calibrate; the test episodes are only
scored. A rival is compared with ours in three numbers, and brings to each the variant and aggregation that
does best in it on tune: one chosen to rank steps would be a straw man as an alarm. Ours is the same in all.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.evaluation.baselines import Detector
from salus_ros.evaluation.baselines.base import AGGREGATIONS, filled
from salus_ros.evaluation.episode_metrics import (
    FALSE_ALARM_RATES,
    ScoreTrace,
    alarm_metrics,
    common_length_s,
    conformal_threshold,
    running_maximum,
)
from salus_ros.evaluation.events import EventCounts, episode_events, rising_edges, total
from salus_ros.evaluation.kept import Kept
from salus_ros.evaluation.metrics import Steps, mean_auroc
from salus_ros.evaluation.records import Record
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.scoring import series
from salus_ros.monitor.splits import Split
from salus_ros.types import HORIZONS_S, FailureType, Floats

OURS = "SALUS"
AT_THRESHOLD = float(np.nextafter(1.0, 0.0))
"""The monitor's alarm is up from its threshold on, where its relative score is 1."""
SHAPE = (len(FailureType), len(HORIZONS_S))


class ProtocolSettings(BaseModel):
    """How the numbers are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(
        0.05, gt=0, lt=1, description="False alarms per success at which rivals' alarms are set."
    )
    draws: int = Field(1000, ge=10, description="Bootstrap resamples of whole episodes.")
    seed: int = Field(0, ge=0, description="Of rivals' weights and of the bootstrap.")


class Compared(enum.Enum):
    """A number in which detectors are compared."""

    AUROC = "mean_auroc"
    """Over types and horizons, and with it all other numbers by step."""
    EVENT_F1 = "event_f1"
    """Of the alarm as deployed, against onsets of any type; and with it all other numbers by event."""
    TIME_WEIGHTED = "time_weighted_accuracy"
    """At the lowest preset false-alarm rate, and with it all other numbers by episode."""


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The episodes that detectors are given."""

    train: Sequence[Record]
    tune: Sequence[Record]
    calibrate: Sequence[Record]
    tests: Mapping[str, Sequence[Record]]
    """By name of the test set."""

    @classmethod
    def split(cls, records: Sequence[Record], tests: Mapping[str, Sequence[Record]]) -> Data:
        """The splits by seed.

        Raises:
            SalusError: one of them is empty.
        """
        parts = {split: [r for r in records if r.sample.split is split] for split in Split}
        for split, members in parts.items():
            if not members:
                raise SalusError(
                    f"None of the {len(records)} episodes belongs to the split {split.value}; collect more."
                )
        return cls(parts[Split.TRAIN], parts[Split.TUNE], parts[Split.CALIBRATE], tests)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What one detector says of a list of episodes; one entry an episode of N steps each."""

    by_horizon: tuple[Floats, ...]
    """(N, types, horizons); either may be 1 where all are alike."""
    verdict: tuple[Floats, ...]
    """(N,), one score for all failures together, what its alarm is about."""
    timeout: tuple[Floats, ...] = ()
    """(N,), probability of a time-out; empty for a detector that says nothing about it."""
    outside: tuple[NDArray[np.bool_], ...] = ()
    """(N,), whether the input was said to lie outside the training data; likewise."""

    @classmethod
    def of_scores(cls, scores: Sequence[Floats]) -> Scored:
        """From one score for all types and horizons (N,), or one for each type (N, types)."""
        columns = [s.reshape(len(s), -1, 1) for s in scores]
        return cls(tuple(columns), tuple(c.max(axis=(1, 2)) for c in columns))


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """One variant of a detector, fitted and tuned, and what it says."""

    choice: str
    """The variant and aggregation."""
    threshold: float
    """Of the verdict, above which its alarm is deployed."""
    usual: tuple[ScoreTrace, ...]
    """Its verdict over the successes of the calibrate split."""
    tests: Mapping[str, Scored]
    by_type: Floats | None = None
    """(types,), thresholds at the longest horizon; ``None`` if its alarm names no type."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a detector brings to the comparison."""

    trials: int
    """Variants tried on the tune episodes."""
    takes: Mapping[Compared, Take]


class Contender(Protocol):
    """A detector under test."""

    @property
    def name(self) -> str:
        """In tables."""

    @property
    def kind(self) -> str:
        """``ours``, ``another seed``, ``another setting``, ``rival`` or ``sanity check``."""

    def answer(self, data: Data, settings: ProtocolSettings, kept: Kept) -> Answer:
        """Learns, chooses, and scores the test episodes.

        Raises:
            SalusError: the episodes hold nothing that it could work with.
        """


@dataclass(frozen=True, slots=True)
class Watch:
    """A monitor as it is deployed."""

    name: str
    kind: str
    checkpoint: Checkpoint
    about: str = OURS
    """What tells its checkpoint from any other."""

    def answer(self, data: Data, settings: ProtocolSettings, kept: Kept) -> Answer:
        """Nothing to choose: its own training did, on the same splits."""
        take = kept.scores(self.about, lambda: self._take(data))
        return Answer(1, dict.fromkeys(Compared, take))

    def _take(self, data: Data) -> Take:
        return Take(
            "as deployed",
            AT_THRESHOLD,
            usual(data.calibrate, self._scored(data.calibrate)),
            {name: self._scored(test) for name, test in data.tests.items()},
            self.checkpoint.threshold,
        )

    def _scored(self, records: Sequence[Record]) -> Scored:
        said = series(self.checkpoint, [r.sample for r in records])
        return Scored(
            tuple(s.probability for s in said),
            tuple((s.probability[:, :, -1] / self.checkpoint.threshold).max(axis=1) for s in said),
            tuple(s.timeout for s in said),
            tuple(s.out_of_distribution for s in said),
        )


@dataclass(frozen=True, slots=True)
class Rival:
    """A detector to be compared with, in the variants that are tried on the tune episodes."""

    name: str
    kind: str
    candidates: tuple[Detector, ...]

    def answer(self, data: Data, settings: ProtocolSettings, kept: Kept) -> Answer:
        """Fits each variant on train, and chooses one with an aggregation for each number."""
        about = f"{self.name} {[d.name for d in self.candidates]} {settings.seed} {settings.alpha}"
        return kept.scores(about, lambda: self._answer(data, settings))

    def _answer(self, data: Data, settings: ProtocolSettings) -> Answer:
        tried = [
            variant
            for detector in self.candidates
            for variant in self._variants(detector, data, settings.alpha)
        ]
        if not tried:
            raise SalusError("the episodes hold nothing that it could be computed from.")
        best = {number: max(tried, key=lambda v: v.quality[number]) for number in Compared}
        takes = {id(v): v.take(data.tests, len(self.candidates) > 1) for v in best.values()}
        return Answer(
            len(self.candidates) * len(self._aggregations), {n: takes[id(v)] for n, v in best.items()}
        )

    @property
    def _aggregations(self) -> list[str]:
        return list(AGGREGATIONS) if self.kind == "rival" else ["single"]

    def _variants(self, detector: Detector, data: Data, alpha: float) -> Iterator[_Variant]:
        """The fitted detector under each aggregation; none where it has nothing to say."""
        detector.fit(data.train)
        tune, calibrate = ([detector.score(r) for r in part] for part in (data.tune, data.calibrate))
        known = np.concatenate([s.ravel() for s in tune])
        known = known[np.isfinite(known)]
        if not known.size:
            return
        unknown = float(np.median(known))
        for aggregation in self._aggregations:
            aggregated = _aggregated(aggregation, unknown)
            quiet = usual(data.calibrate, Scored.of_scores([aggregated(s) for s in calibrate]))
            threshold = conformal_threshold([running_maximum(t, np.inf) for t in quiet], alpha)
            scored = Scored.of_scores([aggregated(s) for s in tune])
            yield _Variant(
                detector,
                aggregation,
                unknown,
                quiet,
                threshold,
                _quality(data.tune, scored, quiet, threshold),
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Variant:
    """A fitted detector with an aggregation, and how it does on tune."""

    detector: Detector
    aggregation: str
    unknown: float
    """Score of what it has nothing to say about."""
    quiet: tuple[ScoreTrace, ...]
    threshold: float
    quality: Mapping[Compared, float]

    def take(self, tests: Mapping[str, Sequence[Record]], named: bool) -> Take:
        """What it says of the test episodes; ``named`` where there is more than one variant."""
        aggregated = _aggregated(self.aggregation, self.unknown)
        return Take(
            f"{self.detector.name}, {self.aggregation}" if named else self.aggregation,
            self.threshold,
            self.quiet,
            {
                name: Scored.of_scores([aggregated(self.detector.score(r)) for r in test])
                for name, test in tests.items()
            },
        )


def _aggregated(aggregation: str, unknown: float) -> Callable[[Floats], Floats]:
    return lambda score: AGGREGATIONS[aggregation](filled(score, unknown))


def _quality(
    tune: Sequence[Record], scored: Scored, quiet: Sequence[ScoreTrace], threshold: float
) -> dict[Compared, float]:
    """Each number as it is compared, on the tune episodes; lowest where there is none."""
    heard = traces(tune, scored)
    length_s = common_length_s(heard)
    preset = conformal_threshold([running_maximum(t, length_s) for t in quiet], FALSE_ALARM_RATES[0])
    found = {
        Compared.AUROC: mean_auroc(list(cells(tune, scored).values())),
        Compared.EVENT_F1: total(events(tune, scored, threshold)).f1,
        Compared.TIME_WEIGHTED: alarm_metrics(heard, preset, FALSE_ALARM_RATES[0]).time_weighted_accuracy,
    }
    return {number: value if np.isfinite(value) else -1.0 for number, value in found.items()}


def cells(records: Sequence[Record], scored: Scored) -> dict[tuple[FailureType, float], Steps]:
    """Steps of each type and horizon, where the label is known; episodes count as the records do."""
    episode = np.concatenate([np.full(len(r.time_s), i) for i, r in enumerate(records)])
    score = np.concatenate(scored.by_horizon)
    target = np.concatenate([r.sample.target for r in records])
    valid = np.concatenate([r.sample.valid for r in records])
    score = np.broadcast_to(score, (len(score), *SHAPE))
    found = {}
    for failure in FailureType:
        for h, horizon_s in enumerate(HORIZONS_S):
            kept = valid[:, failure, h]
            found[failure, horizon_s] = Steps(
                score[kept, failure, h].astype(np.float64), target[kept, failure, h], episode[kept]
            )
    return found


def traces(records: Sequence[Record], scored: Scored) -> list[ScoreTrace]:
    """The verdict over each episode, up to its first onset."""
    return [
        ScoreTrace(r.time_s[r.judged_before_onset], score[r.judged_before_onset], r.failed)
        for r, score in zip(records, scored.verdict, strict=True)
    ]


def usual(records: Sequence[Record], scored: Scored) -> tuple[ScoreTrace, ...]:
    """The verdict over the successes."""
    return tuple(trace for trace in traces(records, scored) if not trace.failed)


def events(records: Sequence[Record], scored: Scored, threshold: float) -> list[EventCounts]:
    """The alarm's edges against onsets of any type, by episode."""
    return [
        _edges_against_onsets(r, score > threshold, None)
        for r, score in zip(records, scored.verdict, strict=True)
    ]


def events_of_type(
    records: Sequence[Record], scored: Scored, failure: FailureType, threshold: float
) -> list[EventCounts]:
    """Edges of the probability at the longest horizon against onsets of that type, by episode."""
    return [
        _edges_against_onsets(r, probability[:, failure, -1] / threshold > AT_THRESHOLD, failure)
        for r, probability in zip(records, scored.by_horizon, strict=True)
    ]


def _edges_against_onsets(
    record: Record, alarm: NDArray[np.bool_], failure: FailureType | None
) -> EventCounts:
    """Edges at which the monitor says something; see ``events`` for which of them count."""
    edges_s = rising_edges(record.time_s, alarm)
    judged_s = record.time_s[record.sample.judged]
    return episode_events(edges_s[np.isin(edges_s, judged_s)], record.sample.onsets, failure)
