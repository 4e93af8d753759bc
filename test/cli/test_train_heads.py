"""``salus train-policy --init-from PATH --demos DATA --heads K``, from a backbone and from a fine-tune."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from salus_ros.cli.demonstrations import collect
from salus_ros.cli.main import main
from salus_ros.policy.registry import load_policy
from salus_ros.policy.tinyvla import checkpoint
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.finetuning import HeadTrainer
from salus_ros.policy.tinyvla.model import TinyVla
from salus_ros.policy.tinyvla.statistics import Statistics

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the cases of test/policy

from policy.reference_cases import load_cases, of_case, write_backbone, write_case
from policy.small import observation


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    collect(folder, {"bin": 3}, 1)
    assert len(list(folder.rglob("*.npz"))) == 3
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    base, cases = tmp_path_factory.mktemp("published"), load_cases()
    return {
        "backbone": write_backbone(base / "backbone", of_case(cases, "two_views")),
        "fine_tune": write_case(base / "fine_tune", of_case(cases, "two_views")),
        "act": write_case(base / "act", of_case(cases, "act")),
        "one_view": write_case(base / "one_view", of_case(cases, "one_view")),
    }


def train(init, demos, output, seconds=0.5, heads=3, more=()):
    arguments = ["--init-from", str(init), "--demos", str(demos), "--heads", str(heads)]
    arguments += ["--widths", "16", "32", *more]
    return main(["train-policy", *arguments, "--output", str(output), "--minutes", str(seconds / 60)])


def test_a_backbone_becomes_an_ensemble_that_moves_a_robot(published, demonstrations, tmp_path):
    assert train(published["backbone"], demonstrations, tmp_path) == 0
    policy = load_policy(tmp_path)
    assert policy.config.extensions.members == 3 and policy.config.extensions.member_part == "head"
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["steps"] > 0 and not record["first_head_kept"]
    published_names = set(load_file(published["fine_tune"] / "model.safetensors"))
    saved = set(load_file(tmp_path / "model.safetensors"))
    assert {
        name for name in published_names if "up_modules" not in name and "down_modules" not in name
    } <= saved, "one head and the backbone stand under the published names"
    statistics = pickle.loads((tmp_path / "dataset_stats.pkl").read_bytes())
    assert statistics["action_min"].shape == (10,), "as the released code reads them"

    features = sorted((tmp_path / "features").glob("*.npz"))
    before = [file.stat().st_mtime_ns for file in features]
    assert train(published["backbone"], demonstrations, tmp_path, 60 * record["minutes"] + 0.7) == 0
    assert [file.stat().st_mtime_ns for file in features] == before, "features were computed again"
    assert json.loads((tmp_path / "training.json").read_text())["steps"] > record["steps"], "it went on"


def test_a_fine_tune_keeps_its_head_and_gets_more(published, demonstrations, tmp_path):
    assert train(published["fine_tune"], demonstrations, tmp_path) == 0
    before = load_file(published["fine_tune"] / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    for name, tensor in before.items():
        torch.testing.assert_close(after[name].float(), tensor, atol=1e-3, rtol=1e-3, msg=name)
    other = after["members.1.embed_out.combine.weight"].float()
    assert (other - before["embed_out.combine.weight"]).abs().max() > 0.01
    loaded, original = checkpoint.load(tmp_path), checkpoint.load(published["fine_tune"])
    np.testing.assert_array_equal(loaded.statistics.qpos_mean, original.statistics.qpos_mean)


@pytest.mark.parametrize("start", ["backbone", "fine_tune", "act"])
def test_adapters_become_a_run_that_loads_goes_on_and_is_told(
    published, demonstrations, tmp_path, capsys, monkeypatch, start
):
    output, options = tmp_path / "run", ("--lora", "4")
    assert train(published[start], demonstrations, output, more=options) == 0
    record = json.loads((output / "training.json").read_text())
    assert record["settings"]["lora_rank"] == 4 and not record["first_head_kept"]
    step = output / f"checkpoint-{record['steps']}"
    assert sorted(file.name for file in step.iterdir()) == [
        "adapter_config.json", "adapter_model.bin", "non_lora_trainables.bin"
    ]  # fmt: skip
    policy = load_policy(output)
    assert policy.config.extensions.members == 3
    output_of = policy.act(observation())
    assert np.isfinite(output_of.chunk.joint_position_rad).all() and output_of.uncertainty.epistemic > 0

    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    assert main(["inspect", str(output)]) == 0
    printed = capsys.readouterr().out
    for words in (f"LoRA fine-tune of step {record['steps']}", "rank 4, alpha 16, on 8 linear layers"):
        assert words in printed, printed

    assert train(published[start], demonstrations, output, 60 * record["minutes"] + 0.7, more=options) == 0
    after = json.loads((output / "training.json").read_text())["steps"]
    assert after > record["steps"], "it went on"
    assert load_policy(output).hash == load_policy(output / f"checkpoint-{after}").hash != policy.hash


def test_what_does_not_go_with_adapters_is_told(published, demonstrations, tmp_path, capsys):
    def refused(reason, *arguments, **settings):
        assert train(published["backbone"], demonstrations, *arguments, **settings) == 2
        assert reason in capsys.readouterr().err

    assert main(["train-policy", "--lora", "4"]) == 2
    assert "--lora goes with --heads" in capsys.readouterr().err
    refused("rank above 0", tmp_path, more=("--lora", "-1"))
    assert train(published["backbone"], demonstrations, tmp_path, 0.1) == 0
    refused("whole checkpoint already", tmp_path, more=("--lora", "4"))
    refused("other settings", tmp_path, 0.1, heads=2)
    (tmp_path / "heads.pt").write_bytes(b"half a file")
    refused("delete it to begin anew", tmp_path, 0.1)


def fine_tune_of(sizes, source, folder):
    """A fine-tune that takes states and gives actions of other sizes than those that are learned here."""
    loaded = checkpoint.load(source)
    config = TinyVlaConfig.of({**loaded.config.raw, **sizes})
    state, actions = np.ones(config.state_dim, np.float32), np.ones(config.action_dim, np.float32)
    statistics = Statistics(state, state, actions, actions, -actions, actions)
    checkpoint.save(folder, TinyVla(config, (16, 32)), loaded.tokenizer, loaded.processor, statistics)
    return folder


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"state_dim": 9}, "states of 9 numbers and gives actions of 10, but heads are trained on 7 and 10"),
        ({"action_dim": 8}, "states of 7 numbers and gives actions of 8"),
    ],
)
def test_a_fine_tune_of_other_sizes_is_refused_before_its_features_are_computed(
    published, demonstrations, tmp_path, capsys, sizes, reason
):
    init = fine_tune_of(sizes, published["fine_tune"], tmp_path / "init")
    assert train(init, demonstrations, tmp_path / "out") == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_fine_tune_whose_actions_never_changed_is_refused(published, demonstrations, tmp_path, capsys):
    init = shutil.copytree(published["fine_tune"], tmp_path / "init")
    statistics = pickle.loads((init / "dataset_stats.pkl").read_bytes())
    statistics["action_max"][3] = statistics["action_min"][3]
    (init / "dataset_stats.pkl").write_bytes(pickle.dumps(statistics))
    assert train(init, demonstrations, tmp_path / "out") == 2
    assert "actions whose number 3 never changed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_fine_tune_of_one_view_is_given_one_camera_and_stays_one(
    published, demonstrations, tmp_path, capsys
):
    assert train(published["one_view"], demonstrations, tmp_path / "out") == 2
    assert "trained on one view, but the cameras are front, wrist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert train(published["one_view"], demonstrations, tmp_path / "out", more=("--cameras", "wrist")) == 0
    made = checkpoint.load(tmp_path / "out").config
    assert (made.views_max, made.extensions.camera_names) == (1, ("wrist",))


def test_widths_that_the_chunk_does_not_divide_into_are_refused_at_once(
    published, demonstrations, tmp_path, capsys
):
    more = ("--widths", *["8"] * 6)
    assert train(published["backbone"], demonstrations, tmp_path / "out", more=more) == 2
    assert "6 widths needs chunks of a multiple of 32 steps" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_peft_adapters_are_refused_before_anything_is_computed(
    published, demonstrations, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert train(published["backbone"], demonstrations, tmp_path / "out", more=("--lora", "4")) == 2
    assert "pip install peft" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_gpu_without_enough_memory_is_told(published, demonstrations, tmp_path, capsys, monkeypatch):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    monkeypatch.setattr(HeadTrainer, "step", out_of_memory)
    assert train(published["backbone"], demonstrations, tmp_path) == 2
    assert "The GPU's memory ran out (CUDA out of memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"demos": "absent"}, "There is no"),
        ({"init": "models/tinyvla-small"}, "no one backbone|members already"),
        ({"cameras": "side"}, "'side'"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(published, demonstrations, tmp_path, capsys, change, reason):
    init = change.get("init", published["backbone"])
    arguments = [
        "--init-from",
        str(init),
        "--demos",
        change.get("demos", str(demonstrations)),
        "--heads",
        "3",
    ]
    if "cameras" in change:
        arguments += ["--cameras", change["cameras"]]
    code = main(["train-policy", *arguments, "--output", str(tmp_path / "out"), "--minutes", "0.01"])
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert code == 2
    assert re.search(reason, error), error
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_features_of_something_else_are_not_mixed_in(published, demonstrations, tmp_path, capsys):
    assert train(published["backbone"], demonstrations, tmp_path, 0.1) == 0
    assert train(published["fine_tune"], demonstrations, tmp_path, 0.1) == 2
    assert "another checkpoint" in capsys.readouterr().err


def test_a_folder_without_heads_is_told(capsys):
    assert main(["train-policy", "--demos", "some/folder"]) == 2
    assert "goes with --heads" in capsys.readouterr().err
