"""The diffusion head's sampling, made quick.

The U-Net of ``unet.py`` runs convolutions over (N, K * C, T), grouped by member, in the published order of
operations. Chunks are short, so most of that time goes into calling small kernels. Here the same sums are
written as one matrix product a convolution over (K, N, T, C), for all members, draws and places at once;
norms, gates and their scales and shifts are fused by hand; and whatever depends on the diffusion step or on
the condition alone is computed once. Results differ from the plain loop by rounding only (1e-5).

Shapes: K members, N draws, T steps of a chunk at some level, C channels, D action dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Conv1d, ConvTranspose1d, GroupNorm, Module, functional

from salus_ros.policy.tinyvla.model import Samples, TinyVla
from salus_ros.policy.tinyvla.unet import NORM_GROUPS, STEP_EMBEDDING_DIM, ConvBlock, ResidualBlock, _Sample

_SATURATED = 20.0
"""Mish is the identity from here on, in float32; its exponential is not taken further."""


@dataclass(frozen=True)
class _Product:
    """A convolution as a matrix product: (K, N, T, C) to (K, N, T', O)."""

    weight: Tensor
    """(K, W * C, O)"""
    bias: Tensor
    """(K, 1, O)"""
    window: int
    stride: int = 1
    phases: int = 1
    """Places that one window makes: 2 for the transposed convolution that doubles them."""

    @classmethod
    def of(cls, conv: Module, members: int) -> _Product:
        assert isinstance(conv, Conv1d | ConvTranspose1d) and conv.bias is not None
        weight = conv.weight.detach()
        if isinstance(conv, ConvTranspose1d):
            return cls._doubling(weight, conv.bias.detach(), members)
        outputs, inputs, window = weight.shape
        packed = weight.view(members, outputs // members, inputs, window).permute(0, 3, 2, 1)
        bias = conv.bias.detach().view(members, 1, -1)
        return cls(packed.reshape(members, window * inputs, -1).contiguous(), bias, window, conv.stride[0])

    @classmethod
    def _doubling(cls, weight: Tensor, bias: Tensor, members: int) -> _Product:
        """Kernel 4, stride 2, padding 1: an even place sees x[i - 1], x[i]; an odd one x[i], x[i + 1]."""
        channels = weight.shape[1]
        w = weight.view(members, -1, channels, 4)
        none = torch.zeros_like(w[..., 0])
        even = torch.stack([w[..., 3], w[..., 1], none], dim=1)
        odd = torch.stack([none, w[..., 2], w[..., 0]], dim=1)
        packed = torch.cat([even, odd], dim=-1).flatten(1, 2).contiguous()
        bias = bias.view(members, 1, channels)
        return cls(packed, torch.cat([bias, bias], dim=-1), window=3, phases=2)

    def __call__(self, x: Tensor) -> Tensor:
        k, n, steps, channels = x.shape
        if self.window > 1:
            reach = self.window // 2
            padded = functional.pad(x, (0, 0, reach, reach))
            steps = (steps - 1) // self.stride + 1
            member, draw, place, _ = padded.stride()
            x = padded.as_strided(
                (k, n, steps, self.window * channels), (member, draw, self.stride * place, 1)
            )
        y = torch.baddbmm(self.bias, x.reshape(k, n * steps, -1), self.weight)
        return y.view(k, n, steps * self.phases, -1)


@dataclass(frozen=True)
class _Block:
    """Convolution, group norm, Mish."""

    conv: _Product
    weight: Tensor
    """(K, 1, C) of the norm."""
    bias: Tensor
    """(K, 1, 1, C)"""
    eps: float

    @classmethod
    def of(cls, block: ConvBlock, members: int) -> _Block:
        conv, norm, _ = block.block
        assert isinstance(norm, GroupNorm)
        weight, bias = norm.weight.detach().view(members, 1, -1), norm.bias.detach().view(members, 1, 1, -1)
        return cls(_Product.of(conv, members), weight, bias, norm.eps)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self._on_gpu(x) if x.is_cuda else self._on_processor(x)

    def _on_gpu(self, x: Tensor) -> Tensor:
        """As few kernels as there are: each takes microseconds to begin, and none has much to do."""
        k, n, steps, channels = x.shape
        each = channels // NORM_GROUPS
        x = functional.layer_norm(
            x.view(k, n, steps, NORM_GROUPS, each).transpose(2, 3), (steps, each), eps=self.eps
        )
        weight, bias = (part.view(k, 1, NORM_GROUPS, 1, each) for part in (self.weight, self.bias))
        return functional.mish(torch.addcmul(bias, x, weight)).transpose(2, 3).reshape(k, n, steps, channels)

    def _on_processor(self, x: Tensor) -> Tensor:
        k, n, steps, channels = x.shape
        each = channels // NORM_GROUPS

        def over_group(values: Tensor) -> Tensor:
            """Mean over steps and a group's channels, repeated for each channel: (K, N, C)."""
            mean = values.sum(dim=2).view(k, n, NORM_GROUPS, each).sum(dim=-1, keepdim=True)
            return (mean / (steps * each)).expand(-1, -1, -1, each).reshape(k, n, channels)

        x = x - over_group(x)[:, :, None]
        gain = torch.rsqrt(over_group(x * x) + self.eps) * self.weight
        return _mish(torch.addcmul(self.bias, x, gain[:, :, None]))


def _mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x)) with one exponential: tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2)."""
    e = torch.exp(x.clamp(max=_SATURATED))
    n = e * (e + 2)
    return x * n / (n + 2)


@dataclass(frozen=True)
class _Residual:
    """Two blocks, scale and shift between them, and the way past."""

    first: _Block
    second: _Block
    past: _Product | None

    @classmethod
    def of(cls, block: ResidualBlock) -> _Residual:
        k = block.members
        first, second = (_Block.of(inner, k) for inner in block.blocks if isinstance(inner, ConvBlock))
        past = block.residual_conv
        return cls(first, second, _Product.of(past, k) if isinstance(past, Conv1d) else None)

    def __call__(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        past = x if self.past is None else self.past(x)
        return self.second(torch.addcmul(shift, scale, self.first(x))).add_(past)


class Denoiser:
    """Samples chunks of one trained diffusion head. Its weights are copied: load first, then make one."""

    def __init__(self, model: TinyVla) -> None:
        head = model.embed_out
        k = self.members = head.members
        self.head, self.sampler = head, model.sampler
        self._table = model.table
        self._steps = model.sampler.timesteps()

        def parts(level: Module) -> list[_Residual | _Product]:
            made: list[_Residual | _Product] = []
            for module in level.children():
                if isinstance(module, ResidualBlock):
                    made.append(_Residual.of(module))
                elif isinstance(module, _Sample):
                    made.append(_Product.of(module.conv, k))
            return made

        self._down = [parts(level) for level in head.down_modules]
        self._middle = parts(head.mid_modules)
        self._up = [parts(level) for level in head.up_modules]
        last, out = head.final_conv
        assert isinstance(last, ConvBlock)
        self._last, self._out = _Block.of(last, k), _Product.of(out, k)
        embedded = head.embed_step(torch.tensor(self._steps, device=model.table.device))
        self._gates = [_Gate.of(block, embedded) for block in head.residual_blocks()]

    def sample(self, condition: Tensor, noise: Tensor) -> Samples:
        """Denoise ``noise`` (N, 1 or K, T, D) under one condition (1, K, H) that all draws share."""
        chunk = noise.transpose(0, 1).expand(self.members, -1, -1, -1)
        seen = functional.mish(condition[0])
        gates = [gate(seen) for gate in self._gates]
        disagreement = []
        for index, step in enumerate(self._steps):
            output = self._unet(
                chunk.to(seen.dtype), [(scale[index], shift[index]) for scale, shift in gates]
            )
            output = output.to(chunk.dtype)
            if self.members > 1:
                clean, _ = self.sampler.clean(output, step, chunk, self._table)
                disagreement.append(clean.var(dim=0).mean())
            chunk = self.sampler.step(output, step, chunk, self._table)
        spread = torch.stack(disagreement) if disagreement else chunk.new_empty(0)
        return Samples(chunk.transpose(0, 1), spread)

    def _unet(self, x: Tensor, gates: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """(K, N, T, D) to the same."""
        gate = iter(gates)
        skips: list[Tensor] = []

        def run(modules: Sequence[_Residual | _Product], x: Tensor) -> Tensor:
            for module in modules:
                x = module(x, *next(gate)) if isinstance(module, _Residual) else module(x)
            return x

        for level in self._down:
            x = run(level[:2], x)
            skips.append(x)
            x = run(level[2:], x)
        x = run(self._middle, x)
        for level in self._up:
            x = run(level, torch.cat((x, skips.pop()), dim=-1))
        return self._out(self._last(x))


@dataclass(frozen=True)
class _Gate:
    """The layer that makes scale and shift, split in a part of the step and a part of the condition.

    Mish works on each number by itself, so the layer behind it splits.
    """

    of_step: Tensor
    """(steps, K, 1, 1, 2 * C), with the bias."""
    weight: Tensor
    """(K, H, 2 * C)"""

    @classmethod
    def of(cls, block: ResidualBlock, step: Tensor) -> _Gate:
        linear = block.linear
        weight = linear.weight.detach().view(block.members, 2 * block.outputs, -1).transpose(1, 2)
        seen = functional.mish(step.detach())
        of_step = torch.einsum("skd,kdo->sko", seen, weight[:, :STEP_EMBEDDING_DIM])
        if linear.bias is not None:
            of_step = of_step + linear.bias.detach().view(block.members, -1)
        return cls(of_step[:, :, None, None], weight[:, STEP_EMBEDDING_DIM:].contiguous())

    def __call__(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift, each (steps, K, 1, 1, C), of a condition behind Mish (K, H)."""
        both = self.of_step + torch.bmm(seen[:, None], self.weight)[:, None]
        scale, shift = both.chunk(2, dim=-1)
        return scale, shift
