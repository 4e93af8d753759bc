"""Adapters on the language model: trained through peft, saved and read as the released code does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import PeftModel

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla import checkpoint, lora
from salus_ros.policy.tinyvla.features import Features
from salus_ros.policy.tinyvla.finetuning import HeadSettings, HeadTrainer
from salus_ros.policy.tinyvla.layout import locate
from salus_ros.policy.tinyvla.model import LlavaPythia

from .reference_cases import load_cases, of_case, write_backbone

WIDTHS = (16, 32)
SETTINGS = HeadSettings(
    heads=2, widths=WIDTHS, chunk=8, batch=4, warm_up_steps=1, lora_rank=4, lora_learning_rate=1e-2
)
INSTRUCTIONS = ("put the red cube in the bin", "push it")


@pytest.fixture(scope="module")
def stored():
    return load_cases()


@pytest.fixture(scope="module")
def backbone_folder(stored, tmp_path_factory):
    """In 16 bits, as published ones are."""
    folder = tmp_path_factory.mktemp("lora") / "backbone"
    return write_backbone(folder, of_case(stored, "two_views"), torch.float16)


@pytest.fixture(scope="module")
def backbone(backbone_folder):
    torch.set_num_threads(1)
    return checkpoint.load_backbone(backbone_folder)


def episodes(count: int = 3, frames: int = 5) -> list[Features]:
    rng = np.random.default_rng(0)
    return [
        Features(
            seen=rng.normal(size=(frames, 8, 32)).astype(np.float16),
            instruction=INSTRUCTIONS[episode % 2],
            state=rng.normal(size=(frames, 7)).astype(np.float32),
            actions=rng.normal(size=(frames, 8, 10)).astype(np.float32),
            is_pad=np.zeros((frames, 8), np.bool_),
        )
        for episode in range(count)
    ]


@pytest.fixture(scope="module")
def trained(backbone):
    trainer = HeadTrainer(backbone, episodes(), SETTINGS)
    for _ in range(5):
        trainer.step(0.0)
    trainer.model.cpu().eval()
    return trainer


@pytest.fixture(scope="module")
def run(trained, backbone, backbone_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    checkpoint.save_beside(folder, trained.model, backbone.tokenizer, backbone.processor, trained.statistics)
    lora.save_run(folder, trained.step_count, trained.model, SETTINGS.lora_rank, backbone_folder)
    return folder


def test_adapters_and_heads_learn_and_nothing_else_moves(trained, backbone):
    before = backbone.model.state_dict()
    adapted = 0
    for name, tensor in trained.model.state_dict().items():
        if ".lora_B." in name:
            adapted += 1
            assert tensor.abs().max() > 0, f"{name} is where it began"
        elif ".lora_A." not in name and not name.startswith("embed_out."):
            assert torch.equal(tensor, before[name.replace(".base_layer.", ".")]), f"{name} moved"
    assert adapted == 2 * 4, "attention and dense layers of both blocks"


def test_a_run_of_adapters_has_the_released_names(run, stored):
    released, step = of_case(stored, "lora"), run / "checkpoint-5"
    adapter = set(torch.load(step / "adapter_model.bin", weights_only=True))
    assert adapter == {str(key) for key in released["adapter_keys"] if "vision_tower" not in str(key)}
    rest = set(torch.load(step / "non_lora_trainables.bin", weights_only=True))
    of_one_head = {name for name in rest if ".members." not in name}
    assert of_one_head == {str(key) for key in released["rest_keys"]}
    configuration = json.loads((step / "adapter_config.json").read_text())
    for key, value in json.loads(str(released["adapter_config"])).items():
        if key not in ("target_modules", "base_model_name_or_path"):
            assert configuration[key] == value, key
    assert set(configuration["target_modules"]) <= set(
        json.loads(str(released["adapter_config"]))["target_modules"]
    )


def test_what_was_saved_thinks_and_plans_as_what_was_trained(run, trained):
    loaded = checkpoint.load(run)
    assert loaded.layout.kind == "LoRA fine-tune of step 5" and loaded.config.extensions.members == 2
    pixels, state = torch.randn(2, 2, 3, 28, 28), torch.randn(2, 7)
    ids = torch.tensor([[5, -200, 7, 9]] * 2)
    with torch.inference_mode():
        for model in (trained.model, loaded.model):
            model.eval()
        hidden = [model.think(model.embed(model.see(pixels), ids)) for model in (trained.model, loaded.model)]
        torch.testing.assert_close(hidden[1], hidden[0], atol=1e-5, rtol=1e-5)
        conditions = [model.condition(pixels, ids, state) for model in (trained.model, loaded.model)]
        torch.testing.assert_close(conditions[1], conditions[0], atol=5e-3, rtol=5e-3, msg="heads in 16 bits")


def test_peft_reads_the_adapters_and_merges_them_to_the_same(run, backbone):
    model = LlavaPythia(backbone.config)
    model.load_state_dict(backbone.model.state_dict())
    model.prepare_inputs_for_generation = None  # which peft looks for, and the released model has
    merged = PeftModel.from_pretrained(model, str(run / "checkpoint-5")).merge_and_unload()
    ours = locate(run).tensors()
    changed = 0
    for name, tensor in merged.gpt_neox.state_dict().items():
        torch.testing.assert_close(ours[f"gpt_neox.{name}"].float(), tensor, atol=1e-6, rtol=1e-6, msg=name)
        changed += not torch.equal(tensor, backbone.model.state_dict()[f"gpt_neox.{name}"])
    assert changed == 2 * 4


def test_a_run_goes_on_from_its_state_and_from_no_other(backbone, trained):
    again = HeadTrainer(backbone, episodes(), SETTINGS)
    again.restore(trained.state())
    assert again.step_count == 5
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name].cpu(), tensor), name
    losses = []
    for trainer in (again, HeadTrainer(backbone, episodes(), SETTINGS)):
        trainer.restore(trained.state())
        losses.append(trainer.step(0.5))
    assert losses[0] == losses[1]
    other = HeadTrainer(backbone, episodes(), SETTINGS.model_copy(update={"lora_rank": 2}))
    with pytest.raises(SalusError, match="other settings"):
        other.restore(trained.state())


def test_frames_are_seen_under_their_own_instruction(backbone):
    data = episodes()
    trainer = HeadTrainer(backbone, data, SETTINGS)
    trainer.model.eval()
    frames = torch.tensor([7, 0, 14, 3])
    with torch.no_grad():
        together = trainer._trunk(frames)
        for row, (episode, place) in enumerate(((1, 2), (0, 0), (2, 4), (0, 3))):
            one = [Features(**{**vars(data[episode]), "seen": data[episode].seen[place : place + 1]})]
            alone = lora.AdaptedTrunk(trainer.model, backbone, one, trainer._device)(torch.tensor([0]))
            torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-5)


def test_without_peft_the_option_is_refused(backbone, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(SalusError, match=r"peft.*--lora"):
        HeadTrainer(backbone, episodes(), SETTINGS)
