from __future__ import annotations

import pytest
import torch

from salus_ros.policy.tinyvla.members import MemberLayerNorm, MemberLinear
from salus_ros.policy.tinyvla.unet import ConditionalUnet1D

MEMBERS = 3


def split(module: torch.nn.Module, alone: torch.nn.Module, index: int) -> None:
    """Give ``alone`` the parameters of one member."""
    parts = {name: tensor.chunk(MEMBERS)[index] for name, tensor in module.state_dict().items()}
    alone.load_state_dict(parts)


@pytest.mark.parametrize("rows", [1, MEMBERS], ids=["one input for all", "an input each"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_members_are_separate_layers(rows, bias):
    torch.manual_seed(0)
    together, alone = MemberLinear(5, 4, MEMBERS, bias=bias), MemberLinear(5, 4, bias=bias)
    x = torch.randn(2, rows, 6, 5)
    for index in range(MEMBERS):
        split(together, alone, index)
        torch.testing.assert_close(together(x)[:, index], alone(x[:, min(index, rows - 1)]))


def test_norm_members_are_separate_layers():
    torch.manual_seed(0)
    together, alone = MemberLayerNorm(8, MEMBERS), MemberLayerNorm(8)
    torch.nn.init.normal_(together.weight)
    torch.nn.init.normal_(together.bias)
    x = torch.randn(2, MEMBERS, 4, 8)
    for index in range(MEMBERS):
        split(together, alone, index)
        torch.testing.assert_close(together(x)[:, index], alone(x[:, index]))


@pytest.fixture
def heads():
    torch.manual_seed(0)
    return (ConditionalUnet1D(10, 16, 7, (16, 32), members) for members in (MEMBERS, 1))


def test_heads_side_by_side_are_separate_heads(heads):
    together, alone = heads
    hidden, state = torch.randn(4, MEMBERS, 9, 16), torch.randn(4, 7)
    noisy, step = torch.randn(4, MEMBERS, 8, 10), torch.tensor([30, 0, 99, 7])
    condition = together.condition(hidden, state)
    output = together(noisy, step, condition)
    for index in range(MEMBERS):
        split(together, alone, index)
        expected = alone.condition(hidden[:, index : index + 1], state)
        torch.testing.assert_close(condition[:, index : index + 1], expected)
        one = slice(index, index + 1)
        torch.testing.assert_close(output[:, one], alone(noisy[:, one], step, expected), atol=1e-5, rtol=1e-5)


def test_the_schedule_of_modulations_is_what_each_step_computes(heads):
    together, _ = heads
    condition, noisy = torch.randn(1, MEMBERS, 16), torch.randn(4, MEMBERS, 8, 10)
    steps = torch.tensor([90, 40, 0])
    schedule = together.modulation_schedule(steps, condition)
    for index, step in enumerate(steps):
        expected = together(noisy, step[None], condition.expand(4, -1, -1))
        torch.testing.assert_close(together.denoise(noisy, schedule[index]), expected, atol=1e-5, rtol=1e-5)
