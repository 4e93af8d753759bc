"""``salus evaluate``, with a monitor that is told the truth, and whole with one that is trained here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from salus_ros.cli.main import main
from salus_ros.errors import SalusError
from salus_ros.evaluation import detectors
from salus_ros.evaluation.baselines import rivals
from salus_ros.evaluation.baselines.distances import Mahalanobis
from salus_ros.evaluation.kept import Kept
from salus_ros.evaluation.records import Record
from salus_ros.monitor.checkpoint import FILE_NAME, Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.scoring import Series
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.training import train
from salus_ros.monitor.training_settings import TrainingSettings
from salus_ros.types import FailureType


def prophet(_: object, samples: Sequence[Sample]) -> list[Series]:
    """0.9 where the label says that an onset lies within the horizon, else 0.1."""
    return [
        Series(0.1 + 0.8 * s.target, np.zeros(len(s.time_s)), np.zeros(len(s.time_s), bool)) for s in samples
    ]


def test_the_verb_writes_numbers_report_and_ledger(
    small_store: Path,
    small_records: list[Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("salus_ros.evaluation.records.load_records", lambda *_, **__: small_records)
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
    monkeypatch.setattr(detectors, "series", prophet)
    monkeypatch.setattr(
        "salus_ros.evaluation.baselines.rivals", lambda seed: {"Mahalanobis": (Mahalanobis(),)}
    )
    monkeypatch.setattr("salus_ros.evaluation.retraining.variants", lambda *_, **__: [])
    ledger = tmp_path / "docs" / "ledger.md"
    arguments = ["evaluate", str(small_store), "--output", str(tmp_path / "out"), "--ledger", str(ledger)]
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


def test_a_share_that_is_none_is_refused(small_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(small_store), "--alpha", "5"]) == 2
    assert "--alpha 5.0 was given" in capsys.readouterr().err


@pytest.fixture(name="trained", scope="module")
def fixture_trained(small_records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = TrainingSettings(members=1, channels=4, epochs=2)
    folder: Path = tmp_path_factory.mktemp("monitor")
    train([r.sample for r in small_records], settings, MonitorSettings(), progress=False).save(
        folder / FILE_NAME
    )
    return folder


def evaluated(store: Path, monitor: Path, output: Path, *others: str) -> dict[str, Any]:
    arguments = ["evaluate", str(store), "--unseen", str(store), "--monitor", str(monitor), "--ablations"]
    arguments += ["--seeds", "2", "--draws", "20", "--output", str(output)]
    assert main([*arguments, "--ledger", str(output / "ledger.md"), "--quiet", *others]) == 0
    found: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return {name: found[name] for name in ("tests", "unavailable", "episodes")}


def flat(found: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of nested dictionaries and lists, by its path."""
    parts = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    inner = {p: leaf for key, part in parts for p, leaf in flat(part, f"{path}/{key}").items()}
    return inner or {path: str(found) if isinstance(found, dict | list) else found}


def test_the_whole_protocol_runs_with_ablations_and_goes_on_where_it_was(
    small_store: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("Mahalanobis", "effort threshold", "ensemble variance")
    monkeypatch.setattr(
        "salus_ros.evaluation.baselines.rivals", lambda seed: {name: rivals(seed)[name] for name in few}
    )
    first = evaluated(small_store, trained, tmp_path, "--jobs", "1")
    found = first["tests"]["test-seen"]["detectors"]
    names = [d["name"] for d in found]
    assert names[0] == "SALUS" and {"SALUS, seed 1", "SALUS, successes only", *few} <= set(names)
    assert {"SALUS, without grasp", "SALUS, with latent", "SALUS, first predictor"} <= set(names)
    assert {"SALUS, 1 of the policy's members", "SALUS, 2 networks"} <= set(names)
    assert first["unavailable"]["SALUS, 50 training episodes"] == "there are 4 training episodes."
    assert first["unavailable"]["SALUS, 2 of the policy's members"] == (
        "the policy had 2 members; expected more than 2."
    )
    assert found[0]["timeouts"]["timed_out"] == 3
    assert first["episodes"]["test-unseen"] == sum(
        first["episodes"][split] for split in ("train", "tune", "calibrate", "test")
    )

    parts = sorted((tmp_path / "parts").iterdir())
    made = {part: part.stat().st_mtime_ns for part in parts}
    for lost in (next(p for p in parts if p.suffix == suffix) for suffix in (".safetensors", ".pickle")):
        lost.unlink()
        del made[lost]
    again = evaluated(small_store, trained, tmp_path, "--jobs", "2")
    same = pytest.approx(flat(first), rel=1e-9, nan_ok=True)  # sums of other threads differ in their last bit
    assert flat(again) == same, "in two processes, and with two parts made anew, the figures are the same"
    assert sorted((tmp_path / "parts").iterdir()) == parts
    assert {part: part.stat().st_mtime_ns for part in made} == made, "what was kept is not made again"


def test_what_depends_on_other_episodes_or_settings_is_made_anew(tmp_path: Path) -> None:
    made: list[str] = []

    def answer(kept: Kept, about: str) -> int:
        return kept.scores(about, lambda: made.append(about) or len(made))

    here, elsewhere, more = (Kept(tmp_path, *hashes) for hashes in (("a",), ("b",), ("a", "unseen")))
    assert [answer(here, "x"), answer(here, "x"), answer(here, "y")] == [1, 1, 2]
    assert [answer(elsewhere, "x"), answer(more, "x"), answer(here, "x")] == [3, 4, 1]
    assert [answer(Kept(None, "a"), "x") for _ in range(2)] == [5, 6], "without a folder nothing is kept"


def test_a_result_that_was_half_written_is_made_anew(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "a")
    kept.scores("x", lambda: 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:3])
    assert kept.scores("x", lambda: 2) == 2
    assert kept.scores("x", lambda: 3) == 2


def test_a_training_that_fails_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    def fails(state: Path | None) -> Checkpoint:
        raise SalusError("too few.")

    with pytest.raises(SalusError, match="too few"):
        Kept(tmp_path, "a").checkpoint("x", fails)
    assert list(tmp_path.iterdir()) == []
