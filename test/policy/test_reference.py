"""Towers, heads, views, layouts and post-processing against numbers that the published code computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from salus_ros.policy import action
from salus_ros.policy.tinyvla import checkpoint
from salus_ros.policy.tinyvla.aggregation import TemporalAggregation
from salus_ros.policy.tinyvla.engine import Engine
from salus_ros.policy.tinyvla.model import TinyVlaAct
from salus_ros.policy.tinyvla.preprocessing import ImageProcessor, views_to_unit

from .reference_cases import CASES, load_cases, of_case, platform_name, write_case, write_lora_run

TOLERANCE = 2e-6
"""Of float32 on another processor than the one that computed the numbers."""

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIGLIP = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def stored():
    torch.set_num_threads(1)
    return load_cases()


@pytest.fixture(scope="module", params=CASES)
def case(request, stored, tmp_path_factory):
    arrays = of_case(stored, request.param)
    folder = write_case(tmp_path_factory.mktemp(request.param), arrays)
    return arrays, {attention: checkpoint.load(folder, attention) for attention in ("eager", "sdpa")}


def close(ours, theirs, tolerance=TOLERANCE):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-6, atol=tolerance)


@pytest.fixture(scope="module")
def same(stored):
    """To the bit on the platform that computed the numbers, with eager attention; else close."""
    here = platform_name() == str(stored["platform"])

    def compare(attention, ours, theirs):
        if here and attention == "eager":
            np.testing.assert_array_equal(np.asarray(ours), theirs)
        else:
            close(ours, theirs)

    return compare


def tensors(arrays, *names):
    return [torch.from_numpy(arrays[name]) for name in names]


def noise_of(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(shape)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_embeddings_and_hidden_states(case, same, attention):
    arrays, loaded = case
    model = loaded[attention].model
    pixels, ids = tensors(arrays, "pixels", "ids")
    with torch.inference_mode():
        embedded = model.embed(model.see(pixels), ids)
        same(attention, embedded, arrays["embeddings"])
        same(attention, model.think(embedded)[:, 0], arrays["hidden"])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_final_actions(case, same, attention):
    arrays, loaded = case
    model = loaded[attention].model
    pixels, ids, qpos = (array[:1] for array in tensors(arrays, "pixels", "ids", "qpos"))
    with torch.inference_mode():
        if isinstance(model, TinyVlaAct):
            actions = model.actions(model.memory(model.think(model.embed(model.see(pixels), ids))), qpos)
        else:
            noise = noise_of(1, (1, 1, 8, 10))
            actions = model.sample(model.condition(pixels, ids, qpos), noise).actions
    same(attention, actions[:, 0], arrays["actions"])


def test_the_quick_way_gives_the_same_actions(case):
    arrays, loaded = case
    engine = Engine(loaded["sdpa"].model, "cpu")
    pixels, ids, qpos = (array[0] for array in tensors(arrays, "pixels", "ids", "qpos"))
    drawn = engine.infer(pixels, engine.prepare(ids), qpos, noise_of(1, (1, 1, 8, 10)))
    close(drawn.samples[:, 0], arrays["actions"], 1e-5)
    assert np.isnan(drawn.disagreement), "one head has nobody to disagree with"


def test_the_training_loss_with_padded_steps(case):
    arrays, loaded = case
    model = loaded["eager"].model
    pixels, ids, qpos, chunks, is_pad = tensors(arrays, "pixels", "ids", "qpos", "chunks", "is_pad")
    with torch.inference_mode():
        hidden = model.think(model.embed(model.see(pixels), ids))
        torch.manual_seed(2)
        if isinstance(model, TinyVlaAct):
            (loss,) = model.loss(model.memory(hidden), qpos, chunks, is_pad)
            for part in ("l1", "kl", "loss"):
                np.testing.assert_allclose(getattr(loss, part), arrays[f"loss/{part}"], rtol=1e-6)
        else:
            loss = model.loss(model.embed_out.condition(hidden, qpos), chunks[:, None], is_pad)
            np.testing.assert_allclose(loss, arrays["loss/loss"], rtol=1e-6)


def test_a_lora_run_is_merged_as_peft_merges_it(stored, same, tmp_path):
    run = write_lora_run(tmp_path / "run", stored)
    arrays, lora = of_case(stored, "two_views"), of_case(stored, "lora")
    pixels, ids, qpos = (array[:1] for array in tensors(arrays, "pixels", "ids", "qpos"))
    for folder in (run, run / "checkpoint-20"):
        loaded = checkpoint.load(folder, "eager")
        assert loaded.layout.kind == "LoRA fine-tune of step 20"
        model = loaded.model
        close(model.state_dict()["gpt_neox.layers.1.attention.dense.weight"], lora["dense"], 1e-7)
        with torch.inference_mode():
            actions = model.sample(model.condition(pixels, ids, qpos), noise_of(1, (1, 1, 8, 10))).actions
        same("eager", actions[:, 0], lora["actions"])


@pytest.mark.parametrize("shape", ["30x44", "44x30", "37x37", "28x28"], ids=str)
@pytest.mark.parametrize(("tower", "constants"), [("clip", CLIP), ("siglip", SIGLIP)])
def test_uncropped_pixels_to_the_bit(stored, tower, constants, shape):
    arrays = of_case(stored, f"pixels/{tower}/{shape}".split("/")[0])
    raw, expected = arrays[f"{tower}/{shape}/raw"], arrays[f"{tower}/{shape}/out"]
    np.testing.assert_array_equal(ImageProcessor(28, *constants)(views_to_unit(list(raw))), expected)


def test_six_numbers_to_euler_angles(stored):
    post = of_case(stored, "post")
    euler = action.rotation_to_euler_xyz(action.six_to_rotation(post["six"].astype(np.float64)))
    np.testing.assert_allclose(euler, post["euler"], atol=2e-6)


def test_temporal_aggregation(stored):
    post = of_case(stored, "post")
    aggregation = TemporalAggregation(period_s=0.1)
    for index, (chunk, expected) in enumerate(zip(post["chunks"], post["aggregated"], strict=True)):
        averaged = aggregation.add(0.1 * index, chunk.astype(np.float64))
        np.testing.assert_allclose(averaged[0], expected, atol=1e-6)


def test_a_batch_of_prompts_of_any_length_equals_single_calls(stored, tmp_path):
    model = checkpoint.load(write_case(tmp_path / "case", of_case(stored, "three_views"))).model
    rng = np.random.default_rng(0)
    pixels, qpos = torch.randn(5, 3, 3, 28, 28), torch.randn(5, 7)
    prompts = [
        torch.tensor([7, 8, -200, *rng.integers(2, 400, length).tolist()]) for length in (4, 9, 4, 6, 9)
    ]
    with torch.inference_mode():
        together = model.condition_each(pixels, prompts, qpos)
        for i, prompt in enumerate(prompts):
            alone = model.condition(pixels[i : i + 1], prompt[None], qpos[i : i + 1])
            close(together[i : i + 1], alone, 1e-5)
