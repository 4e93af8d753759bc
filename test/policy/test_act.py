"""The ACT head in the 16 bits in which a GPU runs it."""

from __future__ import annotations

import copy

import torch

from salus_ros.policy.tinyvla.act import ActHead
from salus_ros.policy.tinyvla.configuration import ActHead as ActSettings

SETTINGS = ActSettings(
    hidden_dim=32, dim_feedforward=64, nheads=4, enc_layers=1, dec_layers=1, chunk_size=4, action_dim=10
)
TOKENS = 1200
"""More than two views of 336 px make (1152), and far more than the 256 places that bfloat16 can count."""


def test_in_bfloat16_the_head_knows_every_place_that_it_knows_in_float32():
    torch.manual_seed(0)
    half = ActHead(SETTINGS, state_dim=7).eval().bfloat16()
    whole = copy.deepcopy(half).float()
    memory, state = torch.randn(1, TOKENS, 32).bfloat16(), torch.randn(1, 7).bfloat16()
    with torch.inference_mode():
        expected = whole(state.float(), memory.float())
        error = (half(state, memory).float() - expected).abs().max() / expected.abs().max()
    # Rounding alone makes 0.5 %; places that bfloat16 rounds to a neighbour's make 2 %.
    assert error < 0.01, f"actions are off by {float(error):.1%} of the largest"
