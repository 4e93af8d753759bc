"""Training action heads on a frozen Llava-Pythia.

A frozen backbone gives the same hidden states whenever it sees a frame, and the diffusion head takes their
average only. So every frame goes through the backbone once, the averages are kept on disk, and K heads are
trained on them, on a GPU where there is one, whatever the backbone's size. Heads learn from different
episodes, so that they disagree where the data is thin.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla import checkpoint, preprocessing
from salus_ros.policy.tinyvla.cloning import Clip
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.model import PUBLISHED_WIDTHS, LlavaPythia, TinyVla
from salus_ros.policy.tinyvla.statistics import Statistics
from salus_ros.types import Floats32

DEVIATION_MIN = 1e-2
RANGE_MARGIN = 1e-4
"""Floors of the released code's statistics."""


class HeadSettings(BaseModel):
    """How heads are trained. The defaults of the optimiser are the released code's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="Seeds initial weights, resamples, batches and noise.")
    heads: int = Field(default=5, ge=1, description="Ensemble members, each a head.")
    widths: tuple[int, ...] = Field(
        default=PUBLISHED_WIDTHS, description="Channels of the U-Net, multiples of 8."
    )
    chunk: int = Field(default=16, ge=4, description="Steps of a chunk.")
    period_s: float = Field(default=0.05, gt=0, description="Time between the steps of a chunk, s.")
    cameras: tuple[str, ...] = Field(default=("front", "wrist"), min_length=1, description="Order of views.")
    share: float = Field(default=0.8, gt=0, le=1, description="Share of the episodes that each head sees.")
    batch: int = Field(default=64, ge=1, description="Frames per head and step.")
    learning_rate: float = Field(default=1e-4, gt=0, description="AdamW's highest learning rate.")
    warm_up_steps: int = Field(default=100, ge=1, description="Steps of rising learning rate.")


@dataclass(frozen=True)
class Features:
    """Frames of one episode as the head sees them: F frames, H hidden width, T steps."""

    pooled: Floats32
    """(F, H)"""
    state: Floats32
    """(F, S)"""
    actions: Floats32
    """(F, T, 10)"""
    is_pad: NDArray[np.bool_]
    """(F, T)"""


class FeatureCache:
    """Features of each episode in a file of its own: what is there is not computed again."""

    def __init__(self, folder: Path, made_of: Mapping[str, Any]) -> None:
        """``made_of`` says what decides the features; a folder made of something else is refused."""
        self._folder = folder
        origin, text = folder / "made_of.json", json.dumps(made_of, indent=1, sort_keys=True)
        if origin.exists() and origin.read_text() != text:
            raise SalusError(
                f"{folder} holds features of another checkpoint, other data or other cameras; "
                "choose another --output, or delete it."
            )
        folder.mkdir(parents=True, exist_ok=True)
        origin.write_text(text)

    def of(self, backbone: checkpoint.Backbone, clips: Iterable[Clip], crop: bool) -> Iterator[Features]:
        """The features of each clip, computed where they are not there yet."""
        for index, clip in enumerate(clips):
            path = self._folder / f"{index}.npz"
            if not path.exists():
                made = _features(backbone, clip, crop)
                unfinished = path.with_suffix(".part.npz")
                np.savez(unfinished, **vars(made))
                unfinished.rename(path)
            with np.load(path) as stored:
                yield Features(**{name: stored[name] for name in stored.files})


@torch.inference_mode()
def _features(backbone: checkpoint.Backbone, clip: Clip, crop: bool, batch: int = 16) -> Features:
    model = backbone.model
    ids = preprocessing.prompt_ids(backbone.tokenizer, preprocessing.prompt(clip.instruction))
    text = model.text(torch.tensor([ids]))
    pooled = []
    frames = [preprocessing.pixels(images, backbone.processor, crop) for images in clip.images]
    for start in range(0, len(frames), batch):
        tokens = model.see(torch.stack(frames[start : start + batch]))
        n = len(tokens)
        each = replace(text, before=text.before.expand(n, -1, -1), after=text.after.expand(n, -1, -1))
        pooled.append(model.think(model.join(tokens, each))[:, 0].mean(dim=1))
    return Features(torch.cat(pooled).float().numpy(), clip.state, clip.actions, clip.is_pad)


def statistics_of(episodes: list[Features]) -> Statistics:
    """The released code's statistics: mean and deviation with a floor, range with a margin."""
    state = np.concatenate([episode.state for episode in episodes])
    actions = np.concatenate([episode.actions[:, 0] for episode in episodes])
    every = np.concatenate([episode.actions.reshape(-1, episode.actions.shape[-1]) for episode in episodes])
    return Statistics(
        qpos_mean=state.mean(axis=0),
        qpos_std=np.maximum(state.std(axis=0), DEVIATION_MIN).astype(np.float32),
        action_mean=actions.mean(axis=0),
        action_std=np.maximum(actions.std(axis=0), DEVIATION_MIN).astype(np.float32),
        action_min=(every.min(axis=0) - RANGE_MARGIN).astype(np.float32),
        action_max=(every.max(axis=0) + RANGE_MARGIN).astype(np.float32),
    )


def configuration(backbone: TinyVlaConfig, settings: HeadSettings) -> TinyVlaConfig:
    """The configuration of the policy that comes out: the backbone's, with the head's keys."""
    extensions = {
        **backbone.raw.get("salus", {}),
        "members": settings.heads,
        "member_part": "head",
        "camera_names": list(settings.cameras),
        "action_period_s": settings.period_s,
    }
    head = {"action_head_type": "droid_diffusion", "action_dim": 10, "chunk_size": settings.chunk}
    return TinyVlaConfig.of(
        {**backbone.raw, **head, "state_dim": 7, "concat": "token_cat", "salus": extensions}
    )


class HeadTrainer:
    """K heads on cached features. ``start`` is a fine-tune whose one head stays member 0 as it is."""

    def __init__(
        self,
        backbone: LlavaPythia,
        episodes: list[Features],
        settings: HeadSettings,
        start: checkpoint.Checkpoint | None = None,
    ) -> None:
        if len(episodes) < 2:
            raise SalusError(f"{len(episodes)} successful episodes are too few to train heads on; give more.")
        torch.manual_seed(settings.seed)
        self.settings, self.step_count, self.elapsed_s = settings, 0, 0.0
        self.statistics = start.statistics if start else statistics_of(episodes)
        config = configuration(backbone.config, settings)
        self.model = TinyVla(config, settings.widths, "eager")
        for part in ("vision_tower", "mm_projector", "gpt_neox"):
            getattr(self.model, part).load_state_dict(getattr(backbone, part).state_dict())
        self.model.requires_grad_(False)
        self.model.embed_out.requires_grad_(True)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._kept = start is not None
        if start is not None:
            self._keep_first(start)
        self._pooled = torch.from_numpy(np.concatenate([episode.pooled for episode in episodes]))
        state = np.concatenate([episode.state for episode in episodes])
        self._state = torch.from_numpy(self.statistics.normalise_state(state))
        wanted = np.concatenate([episode.actions for episode in episodes])
        normalised = self.statistics.normalise_actions(wanted, config.extensions.action_normalisation)
        self._actions = torch.from_numpy(normalised)
        self._is_pad = torch.from_numpy(np.concatenate([episode.is_pad for episode in episodes]))
        self._frames = self._resample([len(episode.state) for episode in episodes])
        self.model.embed_out.to(self._device)
        self.model.table = self.model.table.to(self._device)
        self._optimizer = torch.optim.AdamW(
            self.model.embed_out.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-7,
            weight_decay=0.0,
        )

    def _keep_first(self, start: checkpoint.Checkpoint) -> None:
        theirs = start.model.state_dict()
        for name, parameter in self.model.embed_out.named_parameters():
            own = theirs[f"embed_out.{name}"]
            parameter.data[: len(own)] = own
            # What is shared by a gradient step of all is taken out of it for member 0.
            rows = len(own)
            parameter.register_hook(partial(_without_first, rows=rows))  # type: ignore[no-untyped-call]

    def _resample(self, lengths: list[int]) -> list[Tensor]:
        """For each head, the frames of its own share of the episodes."""
        rng = np.random.default_rng(self.settings.seed)
        starts = np.cumsum([0, *lengths])
        count = max(1, round(self.settings.share * len(lengths)))
        chosen = [rng.permutation(len(lengths))[:count] for _ in range(self.settings.heads)]
        return [
            torch.cat([torch.arange(starts[episode], starts[episode + 1]) for episode in own])
            for own in chosen
        ]

    def step(self, progress: float) -> float:
        """One step of the optimiser; ``progress`` in [0, 1] of the run. Returns the loss."""
        settings = self.settings
        rows = torch.stack(
            [frames[torch.randint(len(frames), (settings.batch,))] for frames in self._frames], dim=1
        )
        rate = settings.learning_rate * min(1.0, (self.step_count + 1) / settings.warm_up_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        pooled, state, actions, is_pad = (
            part[rows].to(self._device) for part in (self._pooled, self._state, self._actions, self._is_pad)
        )
        condition = self.model.embed_out.condition(pooled[:, :, None], state)
        loss = self.model.loss(condition, actions, is_pad)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.embed_out.parameters(), 1.0)
        self._optimizer.step()
        self.step_count += 1
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """All that is needed to resume, without the frozen backbone."""
        return {
            "head": self.model.embed_out.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step_count": self.step_count,
            "elapsed_s": self.elapsed_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state`` returned."""
        self.model.embed_out.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step_count, self.elapsed_s = int(state["step_count"]), float(state["elapsed_s"])
        torch.manual_seed(self.settings.seed + self.step_count)


def _without_first(gradient: Tensor, rows: int) -> Tensor:
    gradient = gradient.clone()
    gradient[:rows] = 0
    return gradient
