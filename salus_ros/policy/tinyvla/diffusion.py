"""The DDIM sampler of the published policy, deterministic (eta 0).

The tables are built as ``diffusers`` builds them for ``squaredcos_cap_v2``, in float32
whatever the model's precision is: in bfloat16 every action would be NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

TRAINING_STEPS = 100
INFERENCE_STEPS = 10
"""Both fixed in the published code."""

Prediction = Literal["epsilon", "sample"]
Spacing = Literal["leading", "trailing"]


def alphas_cumprod(steps: int = TRAINING_STEPS) -> Tensor:
    """The cumulative product of (1 - beta) of the squared-cosine schedule, (steps,) float32."""

    def alpha_bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999) for i in range(steps)]
    return torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float32), dim=0)


@dataclass(frozen=True)
class Ddim:
    """Deterministic DDIM over ``inference_steps`` evenly spaced steps, last one at 0."""

    inference_steps: int = INFERENCE_STEPS
    prediction: Prediction = "epsilon"
    clip_sample: bool = True
    """Clip the predicted clean chunk to [-1, 1], as the published code does."""
    spacing: Spacing = "leading"
    """``leading`` visits 90, 80, ..., 0, as published; ``trailing`` 99, 89, ..., 9, which begins
    where the noise does, so that few steps suffice."""

    def timesteps(self) -> list[int]:
        """Training steps visited, from noisy to clean."""
        if self.spacing == "trailing":
            ends = [
                round(TRAINING_STEPS * i / self.inference_steps) for i in range(self.inference_steps, 0, -1)
            ]
            return [end - 1 for end in ends]
        ratio = TRAINING_STEPS // self.inference_steps
        return [i * ratio for i in reversed(range(self.inference_steps))]

    def clean(self, output: Tensor, step: int, sample: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """The clean chunk and the noise that a model output at ``step`` stands for."""
        alpha = table[step]
        beta = 1 - alpha
        if self.prediction == "epsilon":
            clean, noise = (sample - beta**0.5 * output) / alpha**0.5, output
        else:
            clean, noise = output, (sample - alpha**0.5 * output) / beta**0.5
        if self.clip_sample:
            clean = clean.clamp(-1, 1)
        return clean, noise

    def step(self, output: Tensor, step: int, sample: Tensor, table: Tensor) -> Tensor:
        """One step towards the clean chunk."""
        clean, noise = self.clean(output, step, sample, table)
        later = [visited for visited in self.timesteps() if visited < step]
        alpha = table[max(later)] if later else torch.tensor(1.0)
        return alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise


def add_noise(clean: Tensor, noise: Tensor, step: Tensor, table: Tensor) -> Tensor:
    """Noisy chunks for training: ``clean`` and ``noise`` of shape (N, ...), ``step`` (N,)."""
    alpha = table.to(clean.device)[step].view(-1, *[1] * (clean.dim() - 1))
    return alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
