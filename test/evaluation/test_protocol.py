"""The whole protocol on synthetic episodes, with a monitor that is told the truth or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from salus_ros.data.episode import Outcome
from salus_ros.errors import SalusError
from salus_ros.evaluation import detectors, protocol
from salus_ros.evaluation.baselines import sanity_checks
from salus_ros.evaluation.baselines.chunks import ChunkScore
from salus_ros.evaluation.baselines.distances import Mahalanobis
from salus_ros.evaluation.baselines.sanity import Clock
from salus_ros.evaluation.detectors import Compared
from salus_ros.evaluation.evaluation_json import as_json
from salus_ros.evaluation.evaluation_report import caveats, timeouts_said
from salus_ros.evaluation.protocol import Findings, ProtocolSettings, Rival, Watch, evaluate
from salus_ros.evaluation.records import Record
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.scoring import Series
from salus_ros.monitor.splits import Split
from salus_ros.types import FailureType

SETTINGS = ProtocolSettings(draws=20)


@pytest.fixture(name="records", scope="module")
def fixture_records(small_records: list[Record]) -> list[Record]:
    return small_records


Judge = Callable[[Checkpoint, Sequence[Sample]], list[Series]]


def _series(probability: np.ndarray, timeout: float = 0.0) -> Series:
    steps = len(probability)
    return Series(probability, np.full(steps, timeout), np.zeros(steps, bool))


def _prophet(_: object, samples: Sequence[Sample]) -> list[Series]:
    """0.9 where the label says that an onset lies within the horizon, else 0.1; and the same of time-outs."""
    return [_series(0.1 + 0.8 * s.target, 0.1 + 0.85 * (s.outcome is Outcome.TIMEOUT)) for s in samples]


def _mute(_: object, samples: Sequence[Sample]) -> list[Series]:
    return [_series(np.full(s.target.shape, 0.1), np.nan) for s in samples]


CHECKPOINT: Any = SimpleNamespace(threshold=np.full(len(FailureType), 0.5))
OURS = Watch(protocol.OURS, "ours", CHECKPOINT)


def _evaluate(records: list[Record], judge: Judge, monkeypatch: pytest.MonkeyPatch) -> Findings:
    monkeypatch.setattr(detectors, "series", judge)
    others = [
        Rival("Mahalanobis", "rival", (Mahalanobis(),)),
        *(Rival(name, "sanity check", check) for name, check in sanity_checks(0).items()),
    ]
    return evaluate(records, OURS, others, SETTINGS)


def test_a_prophet_has_every_figure_at_its_best(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = _evaluate(records, _prophet, monkeypatch).seen
    ours = findings.figures[0]
    onsets = sum(findings.onsets.values())
    assert ours.mean_auroc.value == 1.0
    assert (ours.events.true_positives, ours.events.false_positives, ours.events.misses) == (onsets, 0, 0)
    assert ours.events.median_lead_time_s == pytest.approx(0.5, abs=0.06)
    assert sum(c.true_positives for c in ours.events_by_type.values()) == onsets
    assert ours.mean_f1.value == 1.0
    assert ours.false_alarms.value == 0.0
    assert ours.alarms[0].balanced_accuracy == pytest.approx(1.0)
    assert {estimate.value for estimate in findings.behind[protocol.OURS].values()} == {0.0}
    for other in findings.figures[1:]:
        behind = findings.behind[other.name]
        if np.isfinite(other.mean_auroc.value):
            assert behind[Compared.AUROC].value == pytest.approx(1.0 - other.mean_auroc.value), other.name
            assert behind[Compared.EVENT_F1].value == pytest.approx(1.0 - np.nan_to_num(other.events.f1)), (
                other.name
            )


def test_a_prophet_of_time_outs_foresees_them_all_and_a_monitor_that_says_nothing_has_no_figures_of_them(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = _evaluate(records, _prophet, monkeypatch).seen
    told, rival = findings.figures[0].timeouts, findings.figures[1].timeouts
    assert told is not None and rival is None
    assert told.timed_out == sum(r.sample.outcome is Outcome.TIMEOUT for r in findings.records) > 0
    assert [look.auroc.value for look in told.looks.values()] == [1.0] * 4
    # 2.4 s of episode, of which the gate does not act on a time-out in the first 2.5 s
    assert told.whole.recall.value == 0.0
    assert timeouts_said("test-seen", findings).startswith("test-seen: 3 of 6 episodes ran out of time.")
    silent = _evaluate(records, _mute, monkeypatch).seen
    assert silent.figures[0].timeouts is None
    assert timeouts_said("test-seen", silent) == ""


def test_a_rival_brings_to_each_number_the_variant_that_did_best_in_it_on_tune(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variant ranks all steps rightly but never alarms in time; the other alarms, and ranks badly."""

    class Ranks(Clock):
        name = "ranks"

        def score(self, record: Record) -> np.ndarray:
            soon = record.sample.target[:, :, -1].any(axis=1)
            # Highest in the first step of every episode, so that the threshold is out of reach.
            return np.where(np.arange(len(soon)) == 0, 2.0, 1.0 * soon)

    class Alarms(Clock):
        name = "alarms"

        def score(self, record: Record) -> np.ndarray:
            soon = record.sample.target[:, :, -1].any(axis=1)
            first = soon & (np.cumsum(soon) == 1)
            return np.where(first, 1.0, -record.time_s / 1e3)

    monkeypatch.setattr(detectors, "series", _mute)
    monkeypatch.setattr("salus_ros.evaluation.detectors.AGGREGATIONS", {"single": lambda score: score})
    rival = Rival("two sided", "rival", (Ranks(), Alarms()))
    found = evaluate(records, OURS, [rival], SETTINGS).seen.figures[1]
    assert found.choices[Compared.AUROC] == "ranks, single"
    assert found.choices[Compared.EVENT_F1] == "alarms, single"
    assert found.trials == 2
    assert found.mean_auroc.value > 0.9
    assert found.events.f1 == 1.0


def test_a_monitor_that_says_nothing_is_at_chance_and_foresees_nothing(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = _evaluate(records, _mute, monkeypatch).seen.figures[0]
    assert ours.mean_auroc.value == 0.5
    assert ours.events.recall == 0.0
    assert ours.events.f1 == 0.0


def test_rivals_are_fitted_without_the_test_episodes(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Split] = []

    class Spy(Mahalanobis):
        def fit(self, records: Any) -> None:
            seen.extend(r.sample.split for r in records)
            super().fit(records)

    monkeypatch.setattr(detectors, "series", _mute)
    evaluate(records, OURS, [Rival("spy", "rival", (Spy(),))], SETTINGS)
    assert set(seen) == {Split.TRAIN}


def test_a_rival_without_its_input_is_left_out_and_said_rather_than_scored_as_zero(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "series", _mute)
    blind = [replace(r, chunk_scores={"ensemble variance": np.full(len(r.time_s), np.nan)}) for r in records]
    rival = Rival("ensemble variance", "rival", (ChunkScore("ensemble variance"),))
    findings = evaluate(blind, OURS, [rival], SETTINGS)
    assert [f.name for f in findings.seen.figures] == [protocol.OURS]
    assert "ensemble variance was left out" in " ".join(caveats(findings))


def test_a_missing_split_is_named(records: list[Record]) -> None:
    some = [r for r in records if r.sample.split is not Split.CALIBRATE]
    with pytest.raises(SalusError, match="split calibrate"):
        evaluate(some, OURS, [], SETTINGS)


def test_unseen_episodes_are_all_tested_and_fitted_on_by_nobody(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "series", _prophet)
    unseen = [replace(r, index=-1) for r in records[:7]]
    fitted: list[int] = []

    class Spy(Mahalanobis):
        def fit(self, records: Any) -> None:
            fitted.extend(r.index for r in records)
            super().fit(records)

    findings = evaluate(records, OURS, [Rival("spy", "rival", (Spy(),))], SETTINGS, unseen=unseen)
    assert len(findings.tests[protocol.UNSEEN].records) == 7
    assert -1 not in fitted
    assert findings.episodes[protocol.UNSEEN] == 7


def test_the_figures_are_plain_json(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    written = json.dumps(as_json(_evaluate(records, _mute, monkeypatch)), allow_nan=False)
    read = json.loads(written)
    test = read["tests"]["test-seen"]
    assert [d["kind"] for d in test["detectors"]].count("sanity check") == 6
    assert test["detectors"][1]["trials_on_tune"] == 5
    assert test["detectors"][1]["choice"].keys() == test["detectors"][1]["ours_minus_this"].keys()
    assert test["failures_begun_within_common_length"] == test["failures"] == 3
    assert test["onsets_asked_for"] == test["onsets"]
