"""The whole Llava-Pythia policy model: images, state and instruction to a chunk of actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.backbone import Attention, NeoX, VisionTower, build_projector
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.diffusion import Ddim, alphas_cumprod
from salus_ros.policy.tinyvla.members import MemberLinear
from salus_ros.policy.tinyvla.unet import ConditionalUnet1D

IMAGE_TOKEN = -200
"""Stands in the prompt's ids where the image tokens go."""


@dataclass(frozen=True)
class Samples:
    """What one sampling run yields."""

    actions: Tensor
    """(S, K, T, D), normalised."""
    disagreement: Tensor
    """(steps,): variance between members of the predicted clean chunk, mean over the rest."""


class TinyVla(nn.Module):
    """Llava-Pythia with a diffusion head, K ensemble members in one.

    N observations, V views, K members, L tokens, H hidden width, T steps, D action dimensions.
    """

    def __init__(
        self, config: TinyVlaConfig, widths: Sequence[int] = (256, 512, 1024), attention: Attention = "sdpa"
    ) -> None:
        super().__init__()
        extensions = config.extensions
        if config.action_head != "droid_diffusion":
            raise SalusError(
                f"action_head_type is {config.action_head!r}, expected 'droid_diffusion'; a checkpoint "
                "without it is a backbone and cannot move a robot: train a head with `salus train-policy`."
            )
        self.config, self.extensions = config, extensions
        self.vision_tower = VisionTower(config.vision_tower, attention)
        self.mm_projector = build_projector(config.projector)
        self.gpt_neox = NeoX(config, attention)
        self.embed_out = ConditionalUnet1D(
            config.action_dim,
            config.hidden_size,
            config.state_dim,
            widths,
            extensions.members,
            extensions.joined_tokens,
        )
        hidden = config.hidden_size
        self.instruction_film = nn.Linear(hidden, 2 * hidden) if extensions.instruction_film else None
        if self.instruction_film is not None:
            nn.init.zeros_(self.instruction_film.bias)
        self.auxiliary = (
            nn.Sequential(
                MemberLinear(hidden, hidden, extensions.members),
                nn.GELU(),
                MemberLinear(hidden, extensions.auxiliary_dim, extensions.members),
            )
            if extensions.auxiliary_dim
            else None
        )
        self.sampler = Ddim(
            extensions.inference_steps,
            extensions.prediction,
            extensions.clip_sample,
            extensions.timestep_spacing,
        )
        self.table: Tensor
        self.register_buffer("table", alphas_cumprod(), persistent=False)

    def see(self, pixels: Tensor) -> Tensor:
        """Views (N, V, 3, S, S) to image tokens (N, V * P, H), in the order of the views."""
        n, views = pixels.shape[:2]
        features = self.mm_projector(self.vision_tower(pixels.flatten(0, 1)))
        tokens: Tensor = features
        return tokens.reshape(n, views * tokens.shape[1], -1)

    def embed(self, image_tokens: Tensor, ids: Tensor) -> Tensor:
        """Join image tokens (N, P, H) and prompt ids (N, M), which hold one -200 each: (N, L, H)."""
        place = int((ids[0] == IMAGE_TOKEN).nonzero()[0])
        before, after = ids[:, :place], ids[:, place + 1 :]
        before, after = self.gpt_neox.embed_in(before), self.gpt_neox.embed_in(after)
        if self.instruction_film is not None:
            scale, shift = self.instruction_film(after.sum(dim=1, keepdim=True)).chunk(2, dim=-1)
            image_tokens = image_tokens * (1 + scale) + shift
        order = (before, after, image_tokens)
        if self.extensions.token_order == "published":
            order = (before, image_tokens, after)
        return torch.cat(order, dim=1)

    def hidden_states(self, image_tokens: Tensor, ids: Tensor) -> Tensor:
        """Final-norm hidden states of all positions, (N, K, L, H)."""
        return self.gpt_neox.members(self.gpt_neox.trunk(self.embed(image_tokens, ids)))

    def condition(self, pixels: Tensor, ids: Tensor, state: Tensor) -> Tensor:
        """What the head sees of an observation, (N, K, H)."""
        return self.embed_out.condition(self.hidden_states(self.see(pixels), ids), state)

    def sample(self, condition: Tensor, noise: Tensor) -> Samples:
        """Denoise ``noise`` (S, K, T, D) under one condition (1, K, H) that all draws share."""
        chunk, sampler, head = noise, self.sampler, self.embed_out
        steps = sampler.timesteps()
        # A single member follows the published order of operations, to the bit; K members the quick one.
        schedule = head.modulation_schedule(torch.tensor(steps), condition) if head.members > 1 else None
        disagreement = []
        for index, step in enumerate(steps):
            if schedule is None:
                output = head(chunk, torch.tensor([step]), condition.expand(len(chunk), -1, -1))
            else:
                output = head.denoise(chunk, schedule[index])
                clean, _ = sampler.clean(output, step, chunk, self.table)
                disagreement.append(clean.var(dim=1).mean())
            chunk = sampler.step(output, step, chunk, self.table)
        return Samples(chunk, torch.stack(disagreement) if disagreement else torch.empty(0))
