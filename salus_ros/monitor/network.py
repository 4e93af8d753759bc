"""The temporal network of ``predictor`` as a torch module, for training only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from salus_ros.monitor.predictor import DILATIONS, HORIZONS, TYPES, WIDTH


class Block(nn.Module):
    """Residual causal convolution."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, WIDTH, dilation=dilation)
        self.out = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.padding = (WIDTH - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, steps) to the same shape."""
        hidden = functional.silu(self.conv(functional.pad(x, (self.padding, 0))))
        return x + torch.as_tensor(self.out(self.dropout(hidden)))


class Network(nn.Module):
    """Normalised inputs to hazard logits and a timeout logit, at every step of a sequence."""

    def __init__(self, inputs: int, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, channels)
        self.blocks = nn.ModuleList(Block(channels, dilation, dropout) for dilation in DILATIONS)
        self.head = nn.Linear(channels, TYPES * HORIZONS + 1)
        self.dropout = nn.Dropout(dropout)

    @torch.no_grad()
    def forget(self, history_steps: int) -> None:
        """Blinds blocks to the past where they would look back over more than so many steps."""
        reach = 1
        for block, dilation in zip(self.blocks, DILATIONS, strict=True):
            reach += (WIDTH - 1) * dilation
            if reach > history_steps and isinstance(block, Block):
                block.conv.weight[:, :, :-1] = 0.0

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, steps, inputs) to hazard logits (B, steps, types, horizons) and timeout logits (B, steps)."""
        x = functional.silu(self.stem(inputs)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        out = self.head(self.dropout(x.transpose(1, 2)))
        return out[..., :-1].unflatten(-1, (TYPES, HORIZONS)), out[..., -1]


def hazard_loss(logits: Tensor, target: Tensor, valid: Tensor, positive_weight: Tensor) -> Tensor:
    """Negative log likelihood of discrete survival, per step at which anything is known.

    A horizon's hazard is judged where its label is known and the failure has not begun by the horizon
    before; so what is censored by the episode's end counts for as long as it was seen, and no longer.

    Args:
        logits, target, valid: (..., types, horizons); ``target`` never falls along the horizons.
        positive_weight: (types, horizons), weight of a failure against its absence.
    """
    target = target.to(logits.dtype)
    before = functional.pad(target[..., :-1], (1, 0))
    at_risk = valid.to(logits.dtype) * (1.0 - before)
    loss = functional.binary_cross_entropy_with_logits(
        logits, target, pos_weight=positive_weight, reduction="none"
    )
    return (loss * at_risk).sum() / at_risk.sum().clamp_min(1.0)
