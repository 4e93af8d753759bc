from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla import checkpoint

from .small import write_checkpoint

GOLDEN = Path(__file__).parent / "golden" / "clip_diffusion"


@pytest.fixture
def golden_copy(tmp_path):
    return Path(shutil.copytree(GOLDEN, tmp_path / "copy"))


@pytest.fixture
def ensemble(tmp_path):
    return write_checkpoint(tmp_path / "ensemble")


def test_an_ensemble_survives_saving_and_loading(ensemble, tmp_path):
    first = checkpoint.load(ensemble)
    checkpoint.save(tmp_path / "again", first.model, first.tokenizer, first.processor, first.statistics)
    second = checkpoint.load(tmp_path / "again")
    assert first.hash == second.hash, "same weights and configuration, same hash"
    for name, tensor in first.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    for name in ("action_mean", "action_std", "qpos_mean", "qpos_std"):
        np.testing.assert_array_equal(getattr(first.statistics, name), getattr(second.statistics, name))


def test_member_0_stands_under_the_published_names(ensemble):
    names = set(load_file(ensemble / checkpoint.WEIGHTS))
    for name in (
        "embed_out.combine.weight",
        "gpt_neox.layers.2.attention.dense.weight",
        "gpt_neox.final_layer_norm.bias",
    ):
        assert name in names and f"members.2.{name}" in names
    assert "members.1.gpt_neox.layers.0.attention.dense.weight" not in names, "the trunk exists once"


def test_the_hash_changes_with_any_weight(ensemble):
    before = checkpoint.load(ensemble).hash
    tensors = load_file(ensemble / checkpoint.WEIGHTS)
    tensors["embed_out.combine.bias"][0] += 1
    save_file(tensors, ensemble / checkpoint.WEIGHTS)
    assert checkpoint.load(ensemble).hash != before


def test_a_backbone_is_refused_with_the_way_out(golden_copy):
    tensors = load_file(golden_copy / checkpoint.WEIGHTS)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("embed_out.")}
    save_file(kept, golden_copy / checkpoint.WEIGHTS)
    with pytest.raises(SalusError, match=r"no trained action head.*train-policy"):
        checkpoint.load(golden_copy)


def test_a_configuration_without_a_head_is_refused(golden_copy):
    path = golden_copy / "config.json"
    raw = json.loads(path.read_text())
    del raw["action_head_type"]
    path.write_text(json.dumps(raw))
    with pytest.raises(SalusError, match=r"action_head_type None.*do not belong together"):
        checkpoint.load(golden_copy)


@pytest.mark.parametrize("key", ["hidden_size", "vision_config", "vocab_size"])
def test_a_missing_key_is_named(golden_copy, key):
    path = golden_copy / "config.json"
    raw = json.loads(path.read_text())
    del raw[key]
    path.write_text(json.dumps(raw))
    with pytest.raises(SalusError, match=key):
        checkpoint.load(golden_copy)


def test_a_missing_tensor_is_named(golden_copy):
    tensors = load_file(golden_copy / checkpoint.WEIGHTS)
    del tensors["gpt_neox.embed_in.weight"]
    save_file(tensors, golden_copy / checkpoint.WEIGHTS)
    with pytest.raises(SalusError, match=r"gpt_neox\.embed_in\.weight"):
        checkpoint.load(golden_copy)


def test_an_unexpected_tensor_is_named(golden_copy):
    tensors = load_file(golden_copy / checkpoint.WEIGHTS)
    save_file({**tensors, "surprise": torch.zeros(1)}, golden_copy / checkpoint.WEIGHTS)
    with pytest.raises(SalusError, match="surprise"):
        checkpoint.load(golden_copy)


def test_buffers_of_older_saves_are_ignored(golden_copy):
    tensors = load_file(golden_copy / checkpoint.WEIGHTS)
    old = {f"gpt_neox.layers.0.attention.{name}": torch.zeros(1) for name in ("bias", "masked_bias")}
    old["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.zeros(1)
    save_file({**tensors, **old}, golden_copy / checkpoint.WEIGHTS)
    checkpoint.load(golden_copy)


def test_a_wrong_shape_is_told(golden_copy):
    tensors = load_file(golden_copy / checkpoint.WEIGHTS)
    tensors["gpt_neox.embed_in.weight"] = torch.zeros(3, 3)
    save_file(tensors, golden_copy / checkpoint.WEIGHTS)
    with pytest.raises(SalusError, match=r"\(3, 3\).*\(432, 64\)"):
        checkpoint.load(golden_copy)


def test_a_truncated_file_is_told(golden_copy):
    path = golden_copy / checkpoint.WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SalusError, match="cannot be read"):
        checkpoint.load(golden_copy)


def test_a_folder_without_configuration_is_told(tmp_path):
    with pytest.raises(SalusError, match=r"no config\.json"):
        checkpoint.load(tmp_path)


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil_was_here"),)


def test_a_pickle_that_holds_more_than_arrays_is_refused_and_not_run(golden_copy, monkeypatch):
    monkeypatch.chdir(golden_copy)
    (golden_copy / "dataset_stats.pkl").write_bytes(pickle.dumps({"qpos_mean": _Evil()}))
    with pytest.raises(SalusError, match="refused"):
        checkpoint.load(golden_copy)
    assert not Path("evil_was_here").exists(), "the pickle's code ran"


def test_missing_statistics_are_told(golden_copy):
    (golden_copy / "dataset_stats.pkl").unlink()
    with pytest.raises(SalusError, match="no units"):
        checkpoint.load(golden_copy)


def test_an_unknown_extension_is_told(ensemble):
    path = ensemble / "config.json"
    raw = json.loads(path.read_text())
    raw["salus"]["telepathy"] = True
    path.write_text(json.dumps(raw))
    with pytest.raises(SalusError, match="telepathy"):
        checkpoint.load(ensemble)
