"""Training action heads on a Llava-Pythia, which stays as it is or gets adapters on its language model.

K heads are trained on what the backbone makes of each frame, on a GPU where there is one. Heads learn from
different episodes, so that they disagree where the data is thin; adapters, which all heads share, from all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla import checkpoint, lora
from salus_ros.policy.tinyvla.cloning import ACTION_DIM, STATE_DIM
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.features import Features
from salus_ros.policy.tinyvla.model import PUBLISHED_WIDTHS, TinyVla
from salus_ros.policy.tinyvla.statistics import Statistics

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
    lora_rank: int = Field(
        default=0, ge=0, description="Rank of adapters on the language model (released: 64); 0: none."
    )
    lora_learning_rate: float = Field(default=2e-4, gt=0, description="The adapters' highest learning rate.")


def statistics_of(episodes: Sequence[Features]) -> Statistics:
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
    head = {
        "action_head_type": "droid_diffusion",
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "chunk_size": settings.chunk,
    }
    # One view is not joined to another, and what a checkpoint of one says of that stays.
    views = {"concat": "token_cat"} if len(settings.cameras) > 1 else {}
    return TinyVlaConfig.of({**backbone.raw, **head, **views, "salus": extensions})


class Trunk(Protocol):
    """What the heads learn on."""

    adapters: Mapping[str, nn.Parameter]
    """What of it is trained, by name."""

    def __call__(self, frames: Tensor) -> Tensor:
        """Averages of hidden states (N, H) of frames (N,), which count through all episodes."""
        ...


class FrozenTrunk:
    """Averages that were computed before."""

    def __init__(self, episodes: Sequence[Features], device: torch.device) -> None:
        self.adapters: Mapping[str, nn.Parameter] = {}
        self._device = device
        self._averages = torch.from_numpy(np.concatenate([episode.seen for episode in episodes]))

    def __call__(self, frames: Tensor) -> Tensor:
        """See ``Trunk``."""
        return self._averages[frames].to(self._device)


class HeadTrainer:
    """K heads on features, with adapters under them where settings give these a rank.

    ``start`` is a fine-tune with one head, where member 0 begins; it stays as it is unless adapters change
    what it sees.
    """

    def __init__(
        self,
        backbone: checkpoint.Backbone,
        episodes: Sequence[Features],
        settings: HeadSettings,
        start: checkpoint.Checkpoint | None = None,
    ) -> None:
        if len(episodes) < 2:
            raise SalusError(f"{len(episodes)} successful episodes are too few to train heads on; give more.")
        torch.manual_seed(settings.seed)
        self.settings, self.step_count, self.elapsed_s = settings, 0, 0.0
        self.statistics = start.statistics if start else statistics_of(episodes)
        config = configuration(backbone.config, settings)
        self.model = TinyVla(config, settings.widths)
        for part in ("vision_tower", "mm_projector", "gpt_neox"):
            getattr(self.model, part).load_state_dict(getattr(backbone.model, part).state_dict())
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.requires_grad_(False)
        self._trunk = self._trunk_of(backbone, episodes)
        self.model.embed_out.requires_grad_(True)
        if start is not None:
            self._begin_with(start)
        state = np.concatenate([episode.state for episode in episodes])
        self._state = torch.from_numpy(self.statistics.normalise_state(state))
        wanted = np.concatenate([episode.actions for episode in episodes])
        normalised = self.statistics.normalise_actions(wanted, config.extensions.action_normalisation)
        self._actions = torch.from_numpy(normalised)
        self._is_pad = torch.from_numpy(np.concatenate([episode.is_pad for episode in episodes]))
        self._frames = self._resample([len(episode.state) for episode in episodes])
        self.model.embed_out.to(self._device)
        self.model.table = self.model.table.to(self._device)
        groups = [(list(self.model.embed_out.parameters()), settings.learning_rate)]
        if self._trunk.adapters:
            groups.append((list(self._trunk.adapters.values()), settings.lora_learning_rate))
        self._trained = [parameter for parameters, _ in groups for parameter in parameters]
        self._optimizer = torch.optim.AdamW(
            [{"params": parameters, "highest_rate": rate} for parameters, rate in groups],
            betas=(0.9, 0.98),
            eps=1e-7,
            weight_decay=0.0,
        )

    def _trunk_of(self, backbone: checkpoint.Backbone, episodes: Sequence[Features]) -> Trunk:
        if not self.settings.lora_rank:
            return FrozenTrunk(episodes, self._device)
        lora.adapt(self.model, self.settings.lora_rank)
        return lora.AdaptedTrunk(self.model, backbone, episodes, self._device)

    def _begin_with(self, start: checkpoint.Checkpoint) -> None:
        theirs = start.model.state_dict()
        for name, parameter in self.model.embed_out.named_parameters():
            own = theirs[f"embed_out.{name}"]
            parameter.data[: len(own)] = own
            if not self._trunk.adapters:
                # What is shared by a gradient step of all is taken out of it for member 0.
                parameter.register_hook(partial(_without_first, rows=len(own)))  # type: ignore[no-untyped-call]

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

    def step(self, progress: float) -> dict[str, float]:
        """One step of the optimiser; ``progress`` in [0, 1] of the run. Returns its loss."""
        settings = self.settings
        rows = torch.stack(
            [frames[torch.randint(len(frames), (settings.batch,))] for frames in self._frames], dim=1
        )
        share = min(1.0, (self.step_count + 1) / settings.warm_up_steps)
        share *= 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        for group in self._optimizer.param_groups:
            group["lr"] = share * group["highest_rate"]
        state, actions, is_pad = (
            part[rows].to(self._device) for part in (self._state, self._actions, self._is_pad)
        )
        pooled = self._trunk(rows.flatten()).view(*rows.shape, -1)
        condition = self.model.embed_out.condition(pooled[:, :, None], state)
        loss = self.model.loss(condition, actions, is_pad)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self.step_count += 1
        return {"loss": float(loss.detach())}

    def state(self) -> dict[str, Any]:
        """All that is needed to resume, without what is frozen."""
        return {
            "settings": self.settings.model_dump_json(),
            "adapters": {name: parameter.detach() for name, parameter in self._trunk.adapters.items()},
            "head": self.model.embed_out.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step_count": self.step_count,
            "elapsed_s": self.elapsed_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state`` returned.

        Raises:
            SalusError: it is of a run with other settings.
        """
        if state.get("settings") != self.settings.model_dump_json():
            raise SalusError(
                "The run to go on from was started with other settings (heads, widths, adapters, seed, "
                "cameras or period); give the same ones, or another --output."
            )
        with torch.no_grad():
            for name, parameter in self._trunk.adapters.items():
                parameter.copy_(state["adapters"][name])
        self.model.embed_out.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step_count, self.elapsed_s = int(state["step_count"]), float(state["elapsed_s"])
        torch.manual_seed(self.settings.seed + self.step_count)


def _without_first(gradient: Tensor, rows: int) -> Tensor:
    gradient = gradient.clone()
    gradient[:rows] = 0
    return gradient
