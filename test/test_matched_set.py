"""Policy, monitor, manifest and results that are shipped together belong together."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from salus_ros.cli.main import build_parser
from salus_ros.data.manifest import read_manifest
from salus_ros.evaluation.study import monitor_digest, policy_hash
from salus_ros.mixture import Mixture
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.splits import split_of

ROOT = Path(__file__).resolve().parents[1]
POLICY, MONITOR = "models/tinyvla-small", ROOT / "models" / "monitor"
FOLDER = ROOT / "docs" / "results"
EVALUATION = FOLDER / "evaluation.json"
RESULTS = [p for p in sorted(FOLDER.glob("*.json")) if not p.name.startswith("tune-")]
"""What was seen on tune seeds stands for the decision that it led to, and says what it was run with."""


def test_the_monitor_was_trained_on_the_shipped_policy() -> None:
    known = Checkpoint.load(MONITOR).policy_hashes
    assert policy_hash(POLICY) in known, (
        f"the monitor knows {known}: train it again on this policy's episodes"
    )


def test_the_manifest_remakes_the_episodes_that_the_monitor_was_trained_on() -> None:
    manifest = read_manifest(MONITOR / "data.manifest")
    report = json.loads((MONITOR / "training.json").read_text())
    assert manifest.header.policy_hash == policy_hash(POLICY)
    assert manifest.header.mixture_hash == Mixture.read(ROOT / "config" / "mixtures" / "seen.yaml").hash
    split = Counter(split_of(seed).value for seed in manifest.seeds)
    assert dict(split) == report["episodes"], "the seeds are not those of the training"


def test_the_monitor_and_its_training_report_are_of_one_run() -> None:
    report = json.loads((MONITOR / "training.json").read_text())
    assert report["data_hash"] == Checkpoint.load(MONITOR).data_hash


STUDIES = [p for p in sorted(FOLDER.glob("*.json")) if "arms" in json.loads(p.read_text())]


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_studies_are_of_the_mixture_that_their_command_names(path: Path) -> None:
    manifest = json.loads(path.read_text())["manifest"]
    parsed = build_parser("study").parse_args(shlex.split(manifest["command"])[1:])
    assert manifest["mixture_hash"] == Mixture.read(ROOT / parsed.mixture).hash, "run make results"


@pytest.mark.skipif(not EVALUATION.exists(), reason="no evaluation is shipped yet: make results")
def test_the_evaluation_is_of_the_shipped_monitor_on_the_mixtures_of_the_repository() -> None:
    found = json.loads(EVALUATION.read_text())
    report = json.loads((MONITOR / "training.json").read_text())
    assert found["hashes"]["monitor trained on"] == Checkpoint.load(MONITOR).data_hash, "run make results"
    seen, unseen = (
        Mixture.read(ROOT / "config" / "mixtures" / f"{name}.yaml") for name in ("seen", "unseen")
    )
    drawn = {Mixture.model_validate_json(text).hash for text in found["mixture"]}
    assert drawn == {seen.hash} | ({unseen.hash} if "test-unseen" in found["tests"] else set())
    fitted = {name: found["episodes"][name] for name in ("train", "tune", "calibrate")}
    assert fitted == {name: report["episodes"][name] for name in fitted}, (
        "rivals were fitted on other episodes than the monitor"
    )


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_results_are_of_the_shipped_policy_and_monitor(path: Path) -> None:
    manifest: dict[str, Any] = json.loads(path.read_text()).get("manifest", {})
    shipped = {"policy": policy_hash(POLICY), "monitor": monitor_digest(MONITOR)}
    stale = {name: manifest[name] for name in shipped if manifest.get(name, shipped[name]) != shipped[name]}
    assert not stale, f"{path.name} is of {stale}, shipped are {shipped}: run make results"


def test_the_results_are_of_the_commands_in_the_manifest() -> None:
    """What a study says it ran is what ``make results`` would run."""
    for step in yaml.safe_load((ROOT / "config" / "results.yaml").read_text())["steps"]:
        verb, arguments = step["command"].split()[1], step["command"].split()[1:]
        parsed = build_parser(verb).parse_args(arguments)
        for kept in step.get("keep", {}).values():
            if verb != "study" or not (ROOT / kept).exists():
                continue
            manifest = json.loads((ROOT / kept).read_text())["manifest"]
            assert manifest["seeds"] == parsed.seeds
            assert set(parsed.arms.split(",")) <= set(json.loads((ROOT / kept).read_text())["arms"])


def test_the_steps_come_in_an_order_in_which_their_inputs_exist() -> None:
    made: set[str] = set()
    for step in yaml.safe_load((ROOT / "config" / "results.yaml").read_text())["steps"]:
        for needed in step.get("inputs", ()):
            if needed.startswith("runs/"):
                assert any(needed.startswith(folder) for folder in made), (
                    f"{step['name']} needs {needed} too early"
                )
        words = step["command"].split()
        made.add(words[words.index("--output") + 1])


def test_a_step_is_done_until_its_inputs_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import results  # type: ignore[import-not-found]

    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "STAMPS", tmp_path / "stamps")
    (tmp_path / "in").write_text("1")
    writes = "python -c \"open('out', 'w').write('made')\""
    step = results.Step("s", "says", writes, (tmp_path / "in",), {"out": "kept/out"})
    assert not results.is_done(step)
    assert results.run(step) == 0
    assert (tmp_path / "kept" / "out").read_text() == "made"
    assert results.is_done(step)
    (tmp_path / "in").write_text("2")
    assert not results.is_done(step)
    broken = results.Step("b", "says", 'python -c "raise SystemExit(3)"', ())
    assert results.run(broken) == 3
    assert not results.is_done(broken)
    sys.modules.pop("results", None)
