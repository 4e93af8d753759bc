"""The whole protocol on synthetic episodes, with a monitor that is told the truth or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from salus_ros.cli.main import main
from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.evaluation import protocol
from salus_ros.evaluation.baselines import sanity_checks
from salus_ros.evaluation.baselines.chunks import ChunkScore
from salus_ros.evaluation.baselines.distances import Mahalanobis
from salus_ros.evaluation.evaluation_json import as_json
from salus_ros.evaluation.evaluation_report import caveats
from salus_ros.evaluation.protocol import Findings, ProtocolSettings, Rival, Watch, evaluate
from salus_ros.evaluation.records import Record, load_records
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.splits import Split, split_of
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType

SETTINGS = ProtocolSettings(draws=20)
COUNTS = {Split.TRAIN: 4, Split.TUNE: 4, Split.CALIBRATE: 20, Split.TEST: 6}


def _seeds() -> list[int]:
    found: dict[Split, list[int]] = {split: [] for split in Split}
    seed = 0
    while any(len(found[split]) < n for split, n in COUNTS.items()):
        found[split_of(seed)].append(seed)
        seed += 1
    return [seed for split, n in COUNTS.items() for seed in found[split][:n]]


@pytest.fixture(name="store", scope="module")
def fixture_store(make_episode: Callable[..., Episode], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("store") / "episodes"
    with Store.create(path) as store:
        for i, seed in enumerate(_seeds()):
            fails = i % 2 == 0 and split_of(seed) is not Split.CALIBRATE
            store.append(
                make_episode(
                    seed,
                    duration_s=2.4,
                    outcome=Outcome.TIMEOUT if fails else Outcome.SUCCESS,
                    onsets=((1.4 + 0.1 * (i % 5), FailureType(i // 2 % 3)),) if fails else (),
                    monitored=False,
                    latent_shift=3.0 if fails else 0.0,
                    image_size=16 if split_of(seed) is Split.TEST else 0,
                )
            )
    return path


@pytest.fixture(name="records", scope="module")
def fixture_records(store: Path) -> list[Record]:
    return load_records([store], MonitorSettings(), jobs=1, progress=False)


def _prophet(_: object, sample: Sample) -> list[FailurePrediction]:
    """0.9 where the label says that an onset lies within the horizon, else 0.1."""
    return [_prediction(t, 0.1 + 0.8 * sample.target[i]) for i, t in enumerate(sample.time_s)]


def _mute(_: object, sample: Sample) -> list[FailurePrediction]:
    return [_prediction(t, np.full((len(FailureType), len(HORIZONS_S)), 0.1)) for t in sample.time_s]


def _prediction(time_s: float, probability: np.ndarray) -> FailurePrediction:
    return FailurePrediction(
        stamp_s=float(time_s),
        sequence=0,
        horizons_s=HORIZONS_S,
        probability=probability,
        timeout_probability=0.0,
        risk=float(probability.max()),
        risk_type=FailureType(int(probability[:, -1].argmax())),
        risk_horizon_s=HORIZONS_S[-1],
        alarm=bool((probability[:, -1] >= 0.5).any()),
        threshold=np.full(len(FailureType), 0.5),
        out_of_distribution=False,
    )


OURS = Watch(protocol.OURS, "ours", SimpleNamespace(threshold=np.full(len(FailureType), 0.5)))  # type: ignore[arg-type]


def _evaluate(records: list[Record], judge: Any, monkeypatch: pytest.MonkeyPatch) -> Findings:
    monkeypatch.setattr(protocol, "judgements", judge)
    detectors = [
        Rival("Mahalanobis", "rival", (Mahalanobis(),)),
        *(Rival(name, "sanity check", check) for name, check in sanity_checks(0).items()),
    ]
    return evaluate(records, [OURS], detectors, SETTINGS)


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
    assert ours.f1_behind_ours.value == ours.behind_ours.value == ours.time_weighted_behind_ours.value == 0.0
    for other in findings.figures[1:]:
        if np.isfinite(other.mean_auroc.value):
            assert other.behind_ours.value == pytest.approx(1.0 - other.mean_auroc.value), other.name
            assert other.f1_behind_ours.value == pytest.approx(1.0 - np.nan_to_num(other.events.f1)), (
                other.name
            )


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

    monkeypatch.setattr(protocol, "judgements", _mute)
    evaluate(records, [OURS], [Rival("spy", "rival", (Spy(),))], SETTINGS)
    assert set(seen) == {Split.TRAIN}


def test_a_rival_without_its_input_is_left_out_and_said_rather_than_scored_as_zero(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "judgements", _mute)
    blind = [replace(r, chunk_scores={"ensemble variance": np.full(len(r.time_s), np.nan)}) for r in records]
    rival = Rival("ensemble variance", "rival", (ChunkScore("ensemble variance"),))
    findings = evaluate(blind, [OURS], [rival], SETTINGS)
    assert [f.name for f in findings.seen.figures] == [protocol.OURS]
    assert "ensemble variance was left out" in " ".join(caveats(findings))


def test_a_missing_split_is_named(records: list[Record]) -> None:
    some = [r for r in records if r.sample.split is not Split.CALIBRATE]
    with pytest.raises(SalusError, match="split calibrate"):
        evaluate(some, [OURS], [], SETTINGS)


def test_unseen_episodes_are_all_tested_and_fitted_on_by_nobody(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "judgements", _prophet)
    unseen = [replace(r, index=-1) for r in records[:7]]
    fitted: list[int] = []

    class Spy(Mahalanobis):
        def fit(self, records: Any) -> None:
            fitted.extend(r.index for r in records)
            super().fit(records)

    findings = evaluate(records, [OURS], [Rival("spy", "rival", (Spy(),))], SETTINGS, unseen=unseen)
    assert len(findings.tests[protocol.UNSEEN].records) == 7
    assert -1 not in fitted
    assert findings.episodes[protocol.UNSEEN] == 7


def test_the_figures_are_plain_json(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    written = json.dumps(as_json(_evaluate(records, _mute, monkeypatch)), allow_nan=False)
    read = json.loads(written)
    detectors = read["tests"]["test-seen"]["detectors"]
    assert [d["kind"] for d in detectors].count("sanity check") == 6
    assert detectors[1]["trials_on_tune"] == 5


def test_the_verb_writes_numbers_report_and_ledger(
    store: Path,
    records: list[Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("salus_ros.evaluation.records.load_records", lambda *_, **__: records)
    checkpoint = SimpleNamespace(
        settings=MonitorSettings(),
        data_hash="feed",
        policy_hashes=("abcd",),
        alpha=0.05,
        threshold=np.full(len(FailureType), 0.5),
        signals=("motion.jerk",),
        report={"members": [{"curve": [[0.4, 0.5], [0.3, 0.4]]}]},
    )
    monkeypatch.setattr(Checkpoint, "load", lambda _: checkpoint)
    monkeypatch.setattr(protocol, "judgements", _prophet)
    monkeypatch.setattr(
        "salus_ros.evaluation.baselines.rivals", lambda seed: {"Mahalanobis": (Mahalanobis(),)}
    )
    monkeypatch.setattr("salus_ros.evaluation.retraining.variants", lambda *_, **__: [])
    ledger = tmp_path / "docs" / "ledger.md"
    arguments = ["evaluate", str(store), "--output", str(tmp_path / "out"), "--ledger", str(ledger)]
    for _ in range(2):
        assert main([*arguments, "--draws", "20", "--jobs", "1", "--quiet"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    html = (tmp_path / "out" / "report.html").read_text()
    assert metrics["tests"]["test-seen"]["detectors"][0]["mean_auroc"]["value"] == 1.0
    assert {p.suffix for p in (tmp_path / "out" / "plots").iterdir()} == {".svg"}
    assert "data:image/webp" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert ledger.read_text().count("trained on feed") == 2
    assert capsys.readouterr().err == ""


def test_a_share_that_is_none_is_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(store), "--alpha", "5"]) == 2
    assert "--alpha 5.0 was given" in capsys.readouterr().err
