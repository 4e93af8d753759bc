"""The whole Llava-Pythia policy model: images, state and instruction to a chunk of actions.

Shapes throughout: N observations, V views, K members, L tokens, H hidden width, S draws, T steps of a
chunk, D action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from salus_ros.policy.tinyvla.act import ActHead, ActLoss
from salus_ros.policy.tinyvla.backbone import Attention, NeoX, VisionTower, build_projector
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.diffusion import TRAINING_STEPS, Ddim, add_noise, alphas_cumprod
from salus_ros.policy.tinyvla.members import MemberLinear
from salus_ros.policy.tinyvla.unet import ConditionalUnet1D

IMAGE_TOKEN = -200
"""Stands in the prompt's ids where the image tokens go."""

PUBLISHED_WIDTHS = (256, 512, 1024)
"""Channels of the published U-Net; a checkpoint's own are read from its shapes."""


@dataclass(frozen=True)
class Samples:
    """What one sampling run yields."""

    actions: Tensor
    """(S, K, T, D), normalised."""
    disagreement: Tensor
    """(steps,): variance between members of the predicted clean chunk, mean over the rest; empty for one."""


@dataclass(frozen=True)
class Text:
    """An embedded prompt, without its image tokens."""

    before: Tensor
    """(N, B, H)"""
    after: Tensor
    """(N, A, H)"""
    film: Tensor | None
    """(N, 1, 2 * H): scale and shift of image tokens; none as published."""

    def repeated(self, n: int) -> Text:
        """One prompt for ``n`` observations."""
        return self._each(lambda part: part.expand(n, -1, -1))

    def to(self, device: torch.device) -> Text:
        """The same on a device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Text:
        film = None if self.film is None else change(self.film)
        return Text(change(self.before), change(self.after), film)


class LlavaPythia(nn.Module):
    """The backbone: views and a prompt to hidden states. It cannot move a robot."""

    def __init__(self, config: TinyVlaConfig, attention: Attention = "sdpa") -> None:
        super().__init__()
        hidden = config.hidden_size
        self.config, self.extensions, self.attention = config, config.extensions, attention
        self.vision_tower = VisionTower(config.vision_tower, attention)
        self.mm_projector = build_projector(config.projector)
        self.gpt_neox = NeoX(config, attention)
        self.instruction_film = nn.Linear(hidden, 2 * hidden) if self.extensions.instruction_film else None
        if self.instruction_film is not None:
            nn.init.zeros_(self.instruction_film.bias)

    def see(self, pixels: Tensor) -> Tensor:
        """Views (N, V, 3, S, S) to image tokens (N, V * P, H), in the order of the views."""
        if self.attention == "eager":
            # One view after the other, as published: a product over all of them rounds otherwise.
            return torch.cat([self.mm_projector(self.vision_tower(view)) for view in pixels.unbind(1)], dim=1)
        n, views = pixels.shape[:2]
        tokens: Tensor = self.mm_projector(self.vision_tower(pixels.flatten(0, 1)))
        return tokens.reshape(n, views * tokens.shape[1], -1)

    def text(self, ids: Tensor) -> Text:
        """Embed prompt ids (N, M), which hold one -200 each, at the same place; the same for every image."""
        place = int((ids[0] == IMAGE_TOKEN).nonzero()[0])
        before, after = self.gpt_neox.embed_in(ids[:, :place]), self.gpt_neox.embed_in(ids[:, place + 1 :])
        film = None
        if self.instruction_film is not None:
            film = self.instruction_film(after.sum(dim=1, keepdim=True))
        return Text(before, after, film)

    def join(self, image_tokens: Tensor, text: Text) -> Tensor:
        """Image tokens (N, P, H) and the embedded prompt: (N, L, H)."""
        if text.film is not None:
            scale, shift = text.film.chunk(2, dim=-1)
            image_tokens = image_tokens * (1 + scale) + shift
        order = (text.before, text.after, image_tokens)
        if self.extensions.token_order == "published":
            order = (text.before, image_tokens, text.after)
        return torch.cat(order, dim=1)

    def embed(self, image_tokens: Tensor, ids: Tensor) -> Tensor:
        """Image tokens (N, P, H) and prompt ids (N, M): (N, L, H)."""
        return self.join(image_tokens, self.text(ids))

    def think(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, L, H) to final-norm hidden states of all positions: (N, K, L, H), or (N, 1, L, H)
        where members share them."""
        return self.gpt_neox.members(self.gpt_neox.trunk(embeddings))


class TinyVla(LlavaPythia):
    """Llava-Pythia with a diffusion head, K ensemble members in one."""

    def __init__(
        self, config: TinyVlaConfig, widths: Sequence[int] = PUBLISHED_WIDTHS, attention: Attention = "sdpa"
    ) -> None:
        super().__init__(config, attention)
        extensions, hidden = config.extensions, config.hidden_size
        members, outputs = extensions.members, extensions.auxiliary_dim
        self.embed_out = ConditionalUnet1D(
            config.action_dim, hidden, config.state_dim, widths, members, extensions.joined_tokens
        )
        self.auxiliary = (
            nn.Sequential(
                MemberLinear(hidden, hidden, members), nn.GELU(), MemberLinear(hidden, outputs, members)
            )
            if outputs
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

    def condition(self, pixels: Tensor, ids: Tensor, state: Tensor) -> Tensor:
        """What the head sees of observations with prompts of one length, (N, K, H)."""
        return self.embed_out.condition(self.think(self.embed(self.see(pixels), ids)), state)

    def condition_each(self, pixels: Tensor, prompts: Sequence[Tensor], state: Tensor) -> Tensor:
        """The same for prompts (M,) of any lengths: (N, K, H), each row as if it were alone.

        The released code pads a batch and averages over the padding too, so that a row depends on its
        neighbours; here rows of one length are taken together and nothing is padded.
        """
        tokens = self.see(pixels)
        rows: dict[int, Tensor] = {}
        for length in {len(prompt) for prompt in prompts}:
            index = torch.tensor([i for i, prompt in enumerate(prompts) if len(prompt) == length])
            ids = torch.stack([prompts[i] for i in index.tolist()])
            hidden = self.think(self.embed(tokens[index], ids))
            conditions = self.embed_out.condition(hidden, state[index])
            rows.update(zip(index.tolist(), conditions, strict=True))
        return torch.stack([rows[i] for i in range(len(prompts))])

    def sample(self, condition: Tensor, noise: Tensor) -> Samples:
        """Denoise ``noise`` (S, K, T, D) under one condition (1, K, H) that all draws share.

        Plain and in the published order of operations; ``denoising.Denoiser`` is the quick one.
        """
        chunk, sampler, head = noise, self.sampler, self.embed_out
        several = head.members > 1
        disagreement = []
        for step in sampler.timesteps():
            at = torch.tensor([step], device=chunk.device)
            output = head(chunk, at, condition.expand(len(chunk), -1, -1))
            if several:
                clean, _ = sampler.clean(output, step, chunk, self.table)
                disagreement.append(clean.var(dim=1).mean())
            chunk = sampler.step(output, step, chunk, self.table)
        return Samples(chunk, torch.stack(disagreement) if disagreement else chunk.new_empty(0))

    def loss(self, condition: Tensor, actions: Tensor, is_pad: Tensor) -> Tensor:
        """The published training loss for conditions (N, K, H), each member on the same rows.

        ``actions`` (N, K or 1, T, D) are normalised; ``is_pad`` (N, T), or (N, K, T), marks steps past the
        episode's end, which count as zero in the mean. Noise and steps are drawn as the released code draws
        them, the same for all members, so that one seed gives one loss.
        """
        n, k = condition.shape[:2]
        noise = torch.randn((1, n, *actions.shape[2:]), device=actions.device, dtype=actions.dtype)[0]
        step = torch.randint(0, TRAINING_STEPS, (n,), device=actions.device)
        clean, noise = actions.expand(-1, k, -1, -1), noise[:, None].expand(-1, k, -1, -1)
        noisy = add_noise(clean, noise, step, self.table)
        wanted = noise if self.extensions.prediction == "epsilon" else clean
        errors = functional.mse_loss(self.embed_out(noisy, step, condition), wanted, reduction="none")
        is_pad = is_pad if is_pad.dim() == 3 else is_pad[:, None]
        return (errors * ~is_pad[..., None]).mean()


class TinyVlaAct(LlavaPythia):
    """Llava-Pythia with K heads of the ACT kind, which do not sample: each gives one chunk."""

    def __init__(self, config: TinyVlaConfig, state_dim: int, attention: Attention = "sdpa") -> None:
        super().__init__(config, attention)
        assert config.act is not None
        settings, hidden = config.act, config.hidden_size
        middle = max(hidden, settings.hidden_dim) // 2
        members = range(config.extensions.members)
        self.embed_out = nn.ModuleList(ActHead(settings, state_dim) for _ in members)
        self.proj_to_action = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden, middle),
                nn.LayerNorm(middle),
                nn.ReLU(),
                nn.Linear(middle, settings.hidden_dim),
                nn.LayerNorm(settings.hidden_dim),
            )
            for _ in members
        )

    def memory(self, hidden: Tensor) -> list[Tensor]:
        """What each head attends to, (N, L, A), of hidden states (N, K or 1, L, H)."""
        shared = hidden.shape[1] == 1
        return [
            project(hidden[:, 0 if shared else index]) for index, project in enumerate(self.proj_to_action)
        ]

    def actions(self, memory: Sequence[Tensor], state: Tensor) -> Tensor:
        """Normalised chunks (N, K, T, D) for states (N, S)."""
        return torch.stack([head(state, seen) for head, seen in self._heads(memory)], dim=1)

    def loss(self, memory: Sequence[Tensor], state: Tensor, actions: Tensor, is_pad: Tensor) -> list[ActLoss]:
        """The published training loss of each member, on normalised actions (N, T, D)."""
        return [head.loss(state, seen, actions, is_pad) for head, seen in self._heads(memory)]

    def _heads(self, memory: Sequence[Tensor]) -> Iterator[tuple[ActHead, Tensor]]:
        for head, seen in zip(self.embed_out, memory, strict=True):
            assert isinstance(head, ActHead)
            yield head, seen
