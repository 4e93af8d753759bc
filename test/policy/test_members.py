from __future__ import annotations

import pytest
import torch

from salus_ros.policy.tinyvla import naming
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.denoising import Denoiser
from salus_ros.policy.tinyvla.members import MemberLayerNorm, MemberLinear
from salus_ros.policy.tinyvla.model import TinyVla
from salus_ros.policy.tinyvla.unet import ConditionalUnet1D
from salus_ros.policy.training.architecture import small_configuration

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


@pytest.mark.parametrize("members", [1, MEMBERS])
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_the_quick_sampling_is_the_plain_one(members, prediction):
    torch.manual_seed(0)
    raw = small_configuration(300, 16, ("front", "wrist"), 0.05, members).raw
    published = {"clip_sample": True, "timestep_spacing": "leading"} if prediction == "epsilon" else {}
    config = TinyVlaConfig.of({**raw, "salus": {**raw["salus"], "prediction": prediction, **published}})
    model = TinyVla(config, (16, 32)).requires_grad_(False)
    condition, noise = torch.randn(1, members, 128), torch.randn(4, 1, 16, 10)
    plain = model.sample(condition, noise.expand(-1, members, -1, -1))
    quick = Denoiser(model).sample(condition, noise)
    torch.testing.assert_close(quick.actions, plain.actions, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(quick.disagreement, plain.disagreement, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("part", ["last_block", "head", "adapter"])
def test_members_share_what_is_not_their_own(part):
    torch.manual_seed(0)
    raw = small_configuration(300, 16, ("front", "wrist"), 0.05, MEMBERS).raw
    model = TinyVla(TinyVlaConfig.of({**raw, "salus": {**raw["salus"], "member_part": part}}), (16, 32))
    for parameter in model.gpt_neox.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pixels, ids, state = torch.randn(2, 2, 3, 64, 64), torch.tensor([[5, -200, 7, 9]] * 2), torch.randn(2, 13)
    with torch.inference_mode():
        hidden = model.think(model.embed(model.see(pixels), ids))
        assert hidden.shape[1] == (1 if part == "head" else MEMBERS)
        assert model.embed_out.condition(hidden, state).shape == (2, MEMBERS, 128)
    names = {name for name in naming.to_published(model) if name.startswith("members.1.")}
    assert "members.1.embed_out.combine.weight" in names
    own = {name.removeprefix("members.1.gpt_neox.").split(".")[0] for name in names if "gpt_neox" in name}
    assert own == {"last_block": {"layers", "final_layer_norm"}, "head": set(), "adapter": {"adapter"}}[part]
