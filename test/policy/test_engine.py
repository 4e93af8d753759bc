"""The engine's way on a GPU: bfloat16, and one captured graph."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from salus_ros.policy.tinyvla import checkpoint
from salus_ros.policy.tinyvla.denoising import _Block
from salus_ros.policy.tinyvla.engine import GRAPHS_KEPT, LARGE, Engine, _dtype
from salus_ros.policy.tinyvla.unet import ConvBlock

from .small import write_checkpoint

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


def inputs(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(2, 3, 64, 64), torch.randn(13), torch.randn(4, 1, 16, 10)


@needs_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.15)])
def test_a_gpu_draws_what_a_processor_draws(tmp_path, precision, tolerance):
    folder = write_checkpoint(tmp_path / "policy")
    engines = [
        Engine(checkpoint.load(folder).model, "cpu"),
        Engine(checkpoint.load(folder).model, "cuda", precision),
    ]
    for ids in (torch.tensor([5, -200, 7, 9]), torch.tensor([5, -200, 7, 9, 11])):
        for seed in range(3):
            pixels, state, noise = inputs(seed)
            expected, drawn = (engine.infer(pixels, engine.prepare(ids), state, noise) for engine in engines)
            torch.testing.assert_close(
                torch.from_numpy(drawn.samples), torch.from_numpy(expected.samples), atol=tolerance, rtol=0
            )


def test_memory_is_not_shared_between_what_two_inferences_yield(tmp_path):
    engine = Engine(checkpoint.load(write_checkpoint(tmp_path / "policy")).model, "auto")
    text = engine.prepare(torch.tensor([5, -200, 7, 9]))
    (pixels, state, noise), (other, _, _) = inputs(0), inputs(1)
    first = engine.infer(pixels, text, state, noise)
    kept = first.samples.copy()
    engine.infer(other, text, state, noise)
    assert (first.samples == kept).all(), "the second inference wrote into what the first one gave"


def test_the_norm_of_a_gpu_is_that_of_a_processor():
    torch.manual_seed(0)
    block = _Block.of(ConvBlock(8, 16, members=3), members=3)
    block = dataclasses.replace(
        block, weight=torch.randn_like(block.weight), bias=torch.randn_like(block.bias)
    )
    x = torch.randn(3, 4, 8, 16)
    torch.testing.assert_close(block._on_gpu(x), block._on_processor(x), atol=1e-5, rtol=1e-5)


def test_as_many_captures_are_kept_as_are_said_and_the_oldest_go(monkeypatch, tmp_path):
    made = []

    class Capture:
        def __init__(self, function, inputs):
            made.append(len(inputs[0]))

        def replay(self, inputs):
            return tuple(inputs)

    monkeypatch.setattr("salus_ros.policy.tinyvla.engine.Graph", Capture)
    engine = Engine(checkpoint.load(write_checkpoint(tmp_path / "policy")).model, "cpu")
    lengths = range(1, GRAPHS_KEPT + 2)
    for length in (*lengths, lengths[-1], 2, 1):
        engine._graphed(torch.empty(length))
    assert made == [*lengths, 1], "the last and the second were still there, the first was not"
    assert len(engine._graphs) == GRAPHS_KEPT


@pytest.mark.parametrize(
    ("capability", "parameters", "expected"),
    [
        ((9, 0), LARGE, torch.bfloat16),
        ((9, 0), LARGE - 1, torch.float32),
        ((7, 5), LARGE, torch.float32),
    ],
)
def test_large_models_run_in_bfloat16_where_a_gpu_has_it(monkeypatch, capability, parameters, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert _dtype("auto", torch.device("cuda"), parameters) is expected
    assert _dtype("auto", torch.device("cpu"), parameters) is torch.float32
    assert _dtype("bfloat16", torch.device("cpu"), parameters) is torch.bfloat16
