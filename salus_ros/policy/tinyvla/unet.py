"""The diffusion head: a one-dimensional U-Net over the steps of an action chunk.

One class serves a single head and an ensemble of K: with ``members`` = K every parameter
holds K heads, concatenated along its first axis, and grouped operations keep them apart.
With K = 1 the operations are those of the published code, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from salus_ros.policy.tinyvla.members import MemberLayerNorm, MemberLinear

STEP_EMBEDDING_DIM = 256
"""Width of the sinusoidal step embedding, fixed in the published code."""

JOINED_WIDTH = 24
"""Numbers that each image token keeps when tokens are joined place by place."""

KERNEL_SIZE = 5
NORM_GROUPS = 8
"""Convolution width and GroupNorm groups, fixed in the published code."""


class ConvBlock(nn.Module):
    """Convolution, group norm, Mish, on (N, K * C, T)."""

    def __init__(self, inputs: int, outputs: int, members: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(
                members * inputs, members * outputs, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=members
            ),
            nn.GroupNorm(members * NORM_GROUPS, members * outputs),
            nn.Mish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same number of steps out as in."""
        y: Tensor = self.block(x)
        return y


class ResidualBlock(nn.Module):
    """Two convolution blocks, the condition between them as scale and shift (``scale * x + bias``)."""

    def __init__(self, inputs: int, outputs: int, condition_dim: int, members: int) -> None:
        super().__init__()
        self.members, self.outputs = members, outputs
        self.blocks = nn.ModuleList(
            [ConvBlock(inputs, outputs, members), ConvBlock(outputs, outputs, members)]
        )
        self.cond_encoder = nn.Sequential(nn.Mish(), MemberLinear(condition_dim, 2 * outputs, members))
        self.residual_conv: nn.Module = (
            nn.Conv1d(members * inputs, members * outputs, 1, groups=members)
            if inputs != outputs
            else nn.Identity()
        )

    @property
    def linear(self) -> MemberLinear:
        """The layer that turns a condition into scale and shift."""
        layer = self.cond_encoder[1]
        assert isinstance(layer, MemberLinear)
        return layer

    def modulation(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift, each (N, K * C, 1), of a condition (N, K, D)."""
        embedded = self.cond_encoder(condition).view(-1, self.members, 2, self.outputs)
        scale = embedded[:, :, 0].reshape(-1, self.members * self.outputs, 1)
        shift = embedded[:, :, 1].reshape(-1, self.members * self.outputs, 1)
        return scale, shift

    def forward(self, x: Tensor, modulation: tuple[Tensor, Tensor]) -> Tensor:
        """(N, K * C_in, T) to (N, K * C_out, T)."""
        scale, shift = modulation
        out = self.blocks[0](x)
        out = scale * out + shift
        y: Tensor = self.blocks[1](out) + self.residual_conv(x)
        return y


def _parts(level: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    first, second, sample = level.children()
    return first, second, sample


class _Sample(nn.Module):
    """Halves (``Downsample1d``) or doubles (``Upsample1d``) the number of steps."""

    def __init__(self, channels: int, members: int, *, up: bool) -> None:
        super().__init__()
        wide = members * channels
        self.conv: nn.Module = (
            nn.ConvTranspose1d(wide, wide, 4, 2, 1, groups=members)
            if up
            else nn.Conv1d(wide, wide, 3, 2, 1, groups=members)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class _SinusoidalStep(nn.Module):
    """The published step embedding: computed in bfloat16, up to 0.31 away from float32."""

    def forward(self, step: Tensor) -> Tensor:
        half = STEP_EMBEDDING_DIM // 2
        rate = torch.arange(half, device=step.device, dtype=torch.bfloat16) * -(math.log(10000) / (half - 1))
        angle = step[:, None] * torch.exp(rate)[None, :]
        return torch.cat((angle.sin(), angle.cos()), dim=-1)


class ConditionalUnet1D(nn.Module):
    """Denoises chunks of actions under a condition; K members side by side.

    Shapes: N samples per member, K members, T steps (a multiple of 2 for each level but the
    first), D action dimensions, H condition width.
    """

    def __init__(
        self,
        action_dim: int,
        hidden_size: int,
        state_dim: int,
        widths: Sequence[int] = (256, 512, 1024),
        members: int = 1,
        joined_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.members, self.action_dim = members, action_dim
        condition = STEP_EMBEDDING_DIM + hidden_size
        k = members
        self.squeeze = MemberLinear(hidden_size, JOINED_WIDTH, k) if joined_tokens else None
        self.join = MemberLinear(joined_tokens * JOINED_WIDTH, hidden_size, k) if joined_tokens else None
        self.joined_tokens = joined_tokens
        self.norm_after_pool = MemberLayerNorm(hidden_size, k)
        self.combine = MemberLinear(hidden_size + state_dim, hidden_size, k)

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, condition, k)

        pairs = list(zip([action_dim, *widths[:-1]], widths, strict=True))
        self.mid_modules = nn.ModuleList([block(widths[-1], widths[-1]) for _ in range(2)])
        self.down_modules = nn.ModuleList(
            nn.ModuleList(
                [
                    block(inputs, outputs),
                    block(outputs, outputs),
                    _Sample(outputs, k, up=False) if level < len(pairs) - 1 else nn.Identity(),
                ]
            )
            for level, (inputs, outputs) in enumerate(pairs)
        )
        self.up_modules = nn.ModuleList(
            nn.ModuleList([block(2 * outputs, inputs), block(inputs, inputs), _Sample(inputs, k, up=True)])
            for inputs, outputs in reversed(pairs[1:])
        )
        self.diffusion_step_encoder = nn.Sequential(
            _SinusoidalStep(),
            MemberLinear(STEP_EMBEDDING_DIM, 4 * STEP_EMBEDDING_DIM, k),
            nn.Mish(),
            MemberLinear(4 * STEP_EMBEDDING_DIM, STEP_EMBEDDING_DIM, k),
        )
        self.final_conv = nn.Sequential(
            ConvBlock(widths[0], widths[0], k),
            nn.Conv1d(k * widths[0], k * action_dim, 1, groups=k),
        )

    def condition(self, hidden: Tensor, state: Tensor) -> Tensor:
        """Pool hidden states (N, K, L, H) and join the state (N, S) or (N, K, S): the condition (N, K, H).

        Hidden states of all members alike may have one in place of K.
        """
        n, k, length, width = hidden.shape
        pooled = functional.adaptive_avg_pool1d(hidden.reshape(n * k, length, width).permute(0, 2, 1), 1)
        pooled = pooled.view(n, k, width)
        if self.squeeze is not None and self.join is not None:
            # An average over places says what is there, but only a deep network makes it say where.
            places = self.squeeze(hidden[:, :, length - self.joined_tokens :])
            pooled = pooled + self.join(places.flatten(2))
        pooled = self.norm_after_pool(pooled)
        pooled = pooled.expand(-1, self.members, -1)
        if state.dim() == 2:
            state = state[:, None].expand(-1, self.members, -1)
        y: Tensor = self.combine(torch.cat([pooled, state], dim=-1))
        return y

    def embed_step(self, step: Tensor) -> Tensor:
        """Diffusion steps (N,) to embeddings (N, K, 256)."""
        sinusoid, *rest = list(self.diffusion_step_encoder)
        y: Tensor = sinusoid(step).to(self.combine.weight.dtype)[:, None]
        for layer in rest:
            y = layer(y)
        return y

    def residual_blocks(self) -> list[ResidualBlock]:
        """All residual blocks in the order in which they run."""
        blocks: list[ResidualBlock] = []
        for level in (*self.down_modules, self.mid_modules, *self.up_modules):
            blocks += [module for module in level.children() if isinstance(module, ResidualBlock)]
        return blocks

    def modulations(self, feature: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Scale and shift of every residual block for joined features (N, K, 256 + H)."""
        return [block.modulation(feature) for block in self.residual_blocks()]

    def forward(self, sample: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Predict for noisy chunks (N, K, T, D) at steps (N,) under a condition (N, K, H)."""
        embedded = self.embed_step(step).expand(sample.shape[0], self.members, -1)
        return self.denoise(sample, self.modulations(torch.cat([embedded, condition], dim=-1)))

    def denoise(self, sample: Tensor, modulations: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The U-Net itself, once the condition has been turned into scales and shifts."""
        n, k, steps, dim = sample.shape
        x = sample.moveaxis(-1, -2).reshape(n, k * dim, steps)
        modulation = iter(modulations)
        skips: list[Tensor] = []
        for level in self.down_modules:
            first, second, down = _parts(level)
            x = second(first(x, next(modulation)), next(modulation))
            skips.append(x)
            x = down(x)
        for middle in self.mid_modules:
            x = middle(x, next(modulation))
        for level in self.up_modules:
            first, second, up = _parts(level)
            x = self._join(x, skips.pop())
            x = up(second(first(x, next(modulation)), next(modulation)))
        y: Tensor = self.final_conv(x)
        return y.view(n, k, dim, steps).moveaxis(-1, -2)

    def _join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join the channels of each member: (N, K * C, T) twice to (N, K * 2C, T)."""
        if self.members == 1:
            return torch.cat((x, skip), dim=1)
        n, _, steps = x.shape
        joined = torch.cat((x.view(n, self.members, -1, steps), skip.view(n, self.members, -1, steps)), dim=2)
        return joined.view(n, -1, steps)
