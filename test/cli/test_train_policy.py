from __future__ import annotations

import json

import pytest

from salus_ros.assets import asset
from salus_ros.cli.main import main
from salus_ros.policy.registry import load_policy
from salus_ros.policy.tinyvla.checkpoint import WEIGHTS
from salus_ros.policy.training.settings import TrainingSettings
from salus_ros.settings_file import read_settings

FEW = 16
"""A fifth is set aside, and each task needs one demonstration for each of the ten pairs of members."""
TASKS = ("push", "stack")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("train_policy")
    return base / "demos", base / "policy"


def train(folders, seconds):
    demos, output = folders
    arguments = ["--demos", str(FEW), "--demo-dir", str(demos), "--output", str(output), "--jobs", "1"]
    arguments += ["--tasks", *TASKS, "--minutes", str(seconds / 60), "--evaluate", "0"]
    return main(["train-policy", *arguments])


def test_from_nothing_to_a_policy_that_loads_and_on_from_there(folders):
    demos, output = folders
    assert train(folders, 0.1) == 0
    files = sorted(demos.glob("*/*.npz"))
    assert [len([file for file in files if file.parent.name == task]) for task in TASKS] == [FEW, FEW]
    assert load_policy(output).name == "tinyvla"
    before = json.loads((output / "training.json").read_text())

    written = [file.stat().st_mtime_ns for file in files]
    assert train(folders, 60 * before["minutes"] + 1.0) == 0
    assert [file.stat().st_mtime_ns for file in files] == written, "demonstrations were recorded again"
    after = json.loads((output / "training.json").read_text())
    assert after["steps"] > before["steps"], "the second run went on from the first"
    assert (output / WEIGHTS).stat().st_size < 25 * 2**20


@pytest.mark.parametrize(
    "arguments", [["--demos", "3"], ["--minutes", "0"], ["--tasks", "fly"], ["--corrections", "9"]]
)
def test_too_little_of_anything_is_refused_in_one_sentence(arguments, capsys, tmp_path):
    code = main(["train-policy", "--demo-dir", str(tmp_path), "--output", str(tmp_path / "out"), *arguments])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists(), "nothing was written"


def test_settings_of_the_training_come_from_a_file_and_wrong_ones_are_refused(capsys, tmp_path):
    shipped = asset("config/training/corrections.yaml")
    written = json.loads(asset("models/tinyvla-small/training.json").read_text())["settings"]
    settings = read_settings(shipped, TrainingSettings, "itself")
    assert settings.model_dump() == written, "the shipped policy was trained with other settings"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("brightness: 2")
    output = tmp_path / "out"
    assert main(["train-policy", "--settings", str(wrong), "--output", str(output)]) == 2
    assert "brightness" in capsys.readouterr().err
    assert not output.exists(), "nothing was written"
