"""Behaviour cloning of a TinyVLA ensemble from demonstrations.

All members are trained in one run. Each episode belongs to a few of them, so that every
member learns from its own resample of the demonstrations, while the trunk that they share
learns from all. Beside the denoising loss, the condition that the heads see must hold where
the named object, the goal and the tool are; and where another object is once another
instruction is given. Without that last one a policy learns the average of the objects.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla import preprocessing
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.diffusion import TRAINING_STEPS, add_noise
from salus_ros.policy.tinyvla.model import TinyVla
from salus_ros.types import Floats32

AUXILIARY_DIM = 7
"""Named object from the tool (3), goal from the tool (3), held or not (1)."""

STATE_DIM = 13
"""Tool position, six of rotation, opening, and the tool's linear velocity."""

POSITION_UNIT_M = 0.05
"""Auxiliary positions are regressed in this unit, so that their loss is of the order of 1."""

KNEE = 0.5
"""Where the auxiliary loss turns from quadratic to linear, in that unit: at 2.5 cm."""


class TrainingSettings(BaseModel):
    """How a policy is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="Seeds initial weights, resamples, batches and noise.")
    members: int = Field(default=5, ge=1, description="Ensemble members.")
    members_per_episode: int = Field(default=2, ge=1, description="Members that learn from one episode.")
    batch: int = Field(default=60, ge=1, description="Observations per step, about.")
    draws: int = Field(default=2, ge=1, description="Noise draws per observation and member.")
    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW's highest learning rate.")
    weight_decay: float = Field(default=1e-2, ge=0, description="AdamW's weight decay.")
    warm_up_steps: int = Field(default=100, ge=1, description="Steps of rising learning rate.")
    decay_from: float = Field(
        default=0.5, ge=0, lt=1, description="Share of the run after which the rate falls to 0."
    )
    average_decay: float = Field(
        default=0.998, ge=0, lt=1, description="Decay of the weights' moving average."
    )
    deciding_m: float = Field(
        default=0.05,
        ge=0,
        description="Frames whose tool is farther than this from the named object, sideways,"
        " decide which object is approached.",
    )
    deciding_repeats: int = Field(
        default=1, ge=0, description="How often more than others such frames are used."
    )
    shift_px: int = Field(default=1, ge=0, description="Random shift of each view, pixels.")
    hidden_velocity: float = Field(
        default=0.2, ge=0, le=1, description="Share of states whose velocity is replaced by the average."
    )
    brightness: float = Field(
        default=0.1, ge=0, lt=1, description="Random change of brightness of each view."
    )
    position_floor_m: float = Field(
        default=0.008, gt=0, description="Least deviation that positions are divided by."
    )
    rotation_floor: float = Field(default=0.05, gt=0, description="The same for the six numbers of rotation.")
    gripper_floor_m: float = Field(default=0.008, gt=0, description="The same for the gripper's opening.")
    auxiliary_weight: float = Field(default=0.5, ge=0, description="Weight of the position losses.")
    counterfactual_weight: float = Field(default=0.5, ge=0, description="Weight of the counterfactual loss.")


@dataclass(frozen=True)
class Demonstrations:
    """Frames of demonstrations as arrays: F frames, V views, T steps, I instructions."""

    images: NDArray[np.uint8]
    """(F, V, S, S, 3) RGB, already at the vision tower's size."""
    state: Floats32
    """(F, S), see ``policy.action.tool_state``."""
    actions: Floats32
    """(F, T, 10), relative to the measured tool pose."""
    instruction: NDArray[np.int64]
    """(F,), index into ``instructions``."""
    instructions: tuple[str, ...]
    objects_m: Floats32
    """(F, I, 3), position of the object that each instruction names, from the tool, in the base
    frame's axes; nan where it is not in the scene."""
    goal_m: Floats32
    """(F, 3), position of the goal from the tool."""
    held: Floats32
    """(F,), 1 while the gripper holds the named object."""
    episode: NDArray[np.int64]
    """(F,)"""

    def __len__(self) -> int:
        return len(self.state)


def statistics_of(data: Demonstrations, settings: TrainingSettings) -> preprocessing.Statistics:
    """Mean and deviation of states, and of actions per step and dimension, with floors."""
    floor = np.array(
        [settings.position_floor_m] * 3 + [settings.rotation_floor] * 6 + [settings.gripper_floor_m],
        np.float32,
    )
    state_floor = np.concatenate([floor, np.full(data.state.shape[1] - len(floor), 0.01, np.float32)])
    return preprocessing.Statistics(
        qpos_mean=data.state.mean(axis=0),
        qpos_std=np.maximum(data.state.std(axis=0), state_floor),
        action_mean=data.actions.mean(axis=0),
        action_std=np.maximum(data.actions.std(axis=0), floor),
        action_min=data.actions.min(axis=(0, 1)),
        action_max=data.actions.max(axis=(0, 1)),
    )


def small_configuration(
    vocabulary: int, chunk: int, camera_names: tuple[str, ...], period_s: float, members: int
) -> TinyVlaConfig:
    """The architecture of the shipped policy, sized for a processor without an accelerator."""
    width = 128
    raw: dict[str, Any] = {
        "architectures": ["LlavaPythiaForCausalLM"],
        "model_type": "llava_pythia",
        "torch_dtype": "float16",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "attention_bias": True,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "use_parallel_residual": True,
        "max_position_embeddings": 2048,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "concat": "token_cat",
        "image_aspect_ratio": "pad",
        "mm_use_im_start_end": False,
        "action_head_type": "droid_diffusion",
        "action_dim": 10,
        "state_dim": STATE_DIM,
        "chunk_size": chunk,
        "vision_config": {
            "vision_tower": {
                "model_type": "llava_pythia_clip_vision_model",
                "vision_model_name_or_path": "clip-vit-small-patch16-64",
                "hidden_size": width,
                "intermediate_size": 4 * width,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_channels": 3,
                "image_size": 64,
                "patch_size": 16,
                "hidden_act": "quick_gelu",
                "layer_norm_eps": 1e-5,
                "mm_vision_select_layer": -1,
                "mm_vision_select_feature": "patch",
            },
            "mm_projector": {
                "mm_projector_type": "mlp2x_gelu",
                "mm_hidden_size": width,
                "hidden_size": width,
            },
        },
        "salus": {
            "members": members,
            "token_order": "text_first",
            "instruction_film": True,
            "joined_tokens": 16 * len(camera_names),
            "prediction": "sample",
            "clip_sample": False,
            "inference_steps": 5,
            "lowest_tool_m": 0.014,
            "timestep_spacing": "trailing",
            "action_normalisation": "per_step",
            "action_frame": "measured_tool",
            "crop": False,
            "camera_names": list(camera_names),
            "action_period_s": period_s,
            "auxiliary_dim": AUXILIARY_DIM,
        },
    }
    return TinyVlaConfig.of(raw)


def image_processor(config: TinyVlaConfig) -> preprocessing.ImageProcessor:
    """CLIP's normalisation at the tower's size."""
    return preprocessing.ImageProcessor(
        size=config.vision_tower.image_size,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )


class Trainer:
    """One training run: steps, moving average of the weights, state to resume from."""

    def __init__(
        self,
        data: Demonstrations,
        config: TinyVlaConfig,
        tokenizer: Tokenizer,
        widths: tuple[int, ...],
        settings: TrainingSettings,
    ) -> None:
        if len(data) == 0:
            raise SalusError("There are no demonstrations to learn from; collect some first.")
        torch.manual_seed(settings.seed)
        self.data, self.settings = data, settings
        self.statistics = statistics_of(data, settings)
        # Eager attention is the faster one on sequences as short as these.
        self.model = TinyVla(config, widths, "eager")
        self.model.vision_tower.initialise()
        self.average = TinyVla(config, widths, "eager")
        self.average.load_state_dict(self.model.state_dict())
        self.average.eval().requires_grad_(False)
        self.step_count = 0
        self.elapsed_s = 0.0
        processor = image_processor(config)
        self._mean = torch.tensor(processor.mean).view(3, 1, 1)
        self._std = torch.tensor(processor.std).view(3, 1, 1)
        self._ids = torch.tensor(
            [preprocessing.prompt_ids(tokenizer, preprocessing.prompt(text)) for text in data.instructions]
        )
        # Reads all objects from the image tokens alone: it teaches the tower, and is not shipped.
        hidden, tokens = config.hidden_size, config.extensions.joined_tokens
        self._reader = nn.Sequential(
            nn.Flatten(1),
            nn.Linear(tokens * hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 3 * len(data.instructions)),
        )
        parameters = [*self.model.parameters(), *self._reader.parameters()]
        self._optimizer = torch.optim.AdamW(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self._state = torch.from_numpy(self.statistics.normalise_state(data.state))
        scaled = (data.actions - self.statistics.action_mean) / self.statistics.action_std
        self._actions = torch.from_numpy(scaled.astype(np.float32))
        self._groups = self._resample()
        self._batches = self._indices()

    def _resample(self) -> list[tuple[tuple[int, ...], NDArray[np.int64]]]:
        """For each set of members, the frames of the episodes that belong to it."""
        settings = self.settings
        sets = list(
            itertools.combinations(
                range(settings.members), min(settings.members_per_episode, settings.members)
            )
        )
        episodes = np.unique(self.data.episode)
        order = np.random.default_rng(settings.seed).permutation(len(episodes))
        owner = dict(zip(episodes[order].tolist(), itertools.cycle(range(len(sets))), strict=False))
        owners = np.array([owner[int(episode)] for episode in self.data.episode])
        # While the hand is still far from the named object, which one it is decides; later it shows.
        named = self.data.objects_m[np.arange(len(self.data)), self.data.instruction]
        deciding = (np.linalg.norm(named[:, :2], axis=1) > settings.deciding_m) & (self.data.held == 0)
        groups = []
        for index, members in enumerate(sets):
            frames = np.flatnonzero(owners == index)
            again = frames[deciding[frames]]
            groups.append((members, np.concatenate([frames, np.repeat(again, settings.deciding_repeats)])))
        if any(len(frames) == 0 for _, frames in groups):
            raise SalusError(
                f"{len(episodes)} demonstrations are too few for {settings.members} members; "
                f"give at least {len(sets)}."
            )
        return groups

    def _indices(self) -> Iterator[NDArray[np.int64]]:
        """Batches of frame indices, equally many of each group, in the order of the groups."""
        rng = np.random.default_rng([self.settings.seed, 1, self.step_count])
        each = max(1, self.settings.batch // len(self._groups))

        def shuffled(frames: NDArray[np.int64]) -> Iterator[int]:
            while True:
                yield from rng.permutation(frames)

        streams = [shuffled(frames) for _, frames in self._groups]
        while True:
            yield np.array([index for stream in streams for index in itertools.islice(stream, each)])

    def _rows(self, batch: int) -> Tensor:
        """(rows, K): which rows of a batch each member learns from."""
        each = batch // len(self._groups)
        rows: list[list[int]] = [[] for _ in range(self.settings.members)]
        for group, (members, _) in enumerate(self._groups):
            for member in members:
                rows[member] += range(group * each, (group + 1) * each)
        return torch.tensor(rows).T

    def _half(self, batch: int) -> Tensor:
        """The first half of each group's rows of a batch."""
        each = batch // len(self._groups)
        return torch.arange(batch).view(-1, each)[:, : max(1, each // 2)].flatten()

    def _augment(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 (N, V, S, S, 3) to normalised pixels (N, V, 3, S, S), shifted and brightened at random."""
        n, views, side = images.shape[:3]
        pixels = torch.from_numpy(images).permute(0, 1, 4, 2, 3).flatten(0, 1).float() / 255
        reach = self.settings.shift_px
        padded = functional.pad(pixels, (reach,) * 4, mode="replicate")
        offset = torch.randint(0, 2 * reach + 1, (n * views, 2))
        rows = (offset[:, :1] + torch.arange(side)).view(-1, 1, side, 1)
        columns = (offset[:, 1:] + torch.arange(side)).view(-1, 1, 1, side)
        pixels = padded[
            torch.arange(n * views).view(-1, 1, 1, 1), torch.arange(3).view(1, 3, 1, 1), rows, columns
        ]
        change = 1 + self.settings.brightness * (2 * torch.rand(n * views, 1, 1, 1) - 1)
        pixels = (pixels * change).clamp(0, 1)
        return ((pixels - self._mean) / self._std).view(n, views, 3, side, side)

    def loss(self, index: NDArray[np.int64]) -> tuple[Tensor, dict[str, float]]:
        """The training loss of a batch of frames, and its parts."""
        model, data, settings = self.model, self.data, self.settings
        rows = self._rows(len(index))
        instruction = torch.from_numpy(data.instruction[index])
        objects = torch.from_numpy(data.objects_m[index]) / POSITION_UNIT_M
        present = ~objects.isnan().any(dim=-1)
        objects = objects.nan_to_num()
        tokens = model.see(self._augment(data.images[index]))

        state = self._state[index]
        state[:, 10:] *= (torch.rand(len(index), 1) >= settings.hidden_velocity).float()

        condition = self._condition(tokens, self._ids[instruction], state, rows)
        action = self._denoising_loss(condition, self._actions[index][rows])
        named = objects[torch.arange(len(index)), instruction]
        guess = self._auxiliary(condition)
        goal = torch.from_numpy(data.goal_m[index]) / POSITION_UNIT_M
        held = torch.from_numpy(data.held[index])
        position = functional.smooth_l1_loss(guess[..., :3], named[rows], beta=KNEE)
        rest = functional.smooth_l1_loss(guess[..., 3:6], goal[rows], beta=KNEE)
        rest = rest + 0.3 * functional.binary_cross_entropy_with_logits(guess[..., 6], held[rows])

        half = self._half(len(index))
        fewer = self._rows(len(half))
        other = torch.multinomial(present[half].float(), 1)[:, 0]
        imagined = self._condition(tokens[half], self._ids[other], state[half], fewer)
        wanted = objects[half][torch.arange(len(half)), other][fewer]
        counterfactual = functional.smooth_l1_loss(self._auxiliary(imagined)[..., :3], wanted, beta=KNEE)

        tool = self._state_position(index)
        seen = self._reader(tokens).view(len(index), -1, 3)
        apart = functional.smooth_l1_loss(seen, objects + tool[:, None], beta=KNEE, reduction="none").mean(
            dim=-1
        )
        reading = (apart * present).sum() / present.sum()

        total = (
            action
            + settings.auxiliary_weight * (position + 0.3 * rest + reading)
            + settings.counterfactual_weight * counterfactual
        )
        with torch.no_grad():
            error_m = (guess[..., :3] - named[rows]).norm(dim=-1).mean() * POSITION_UNIT_M
            imagined_m = (self._auxiliary(imagined)[..., :3] - wanted).norm(dim=-1).mean() * POSITION_UNIT_M
        parts = {
            "loss": float(total.detach()),
            "action": float(action.detach()),
            "reading": float(reading.detach()),
            "target_cm": 100 * float(error_m),
            "other_cm": 100 * float(imagined_m),
        }
        return total, parts

    def _state_position(self, index: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.data.state[index, :3]) / POSITION_UNIT_M

    def _condition(self, tokens: Tensor, ids: Tensor, state: Tensor, rows: Tensor) -> Tensor:
        """Condition of each member for its own rows of the batch, (rows, K, H)."""
        model = self.model
        trunk = model.gpt_neox.trunk(model.embed(tokens, ids))[:, 0]
        hidden = model.gpt_neox.members(trunk[rows])
        return model.embed_out.condition(hidden, state[rows])

    def _auxiliary(self, condition: Tensor) -> Tensor:
        assert self.model.auxiliary is not None
        guess: Tensor = self.model.auxiliary(condition)
        return guess

    def _denoising_loss(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """``condition`` (rows, K, H) and ``chunk`` (rows, K, T, D)."""
        draws = self.settings.draws
        condition, chunk = condition.repeat(draws, 1, 1), chunk.repeat(draws, 1, 1, 1)
        noise = torch.randn_like(chunk)
        step = torch.randint(0, TRAINING_STEPS, (len(chunk),))
        noisy = add_noise(chunk, noise, step, self.model.table)
        wanted = noise if self.model.extensions.prediction == "epsilon" else chunk
        return functional.mse_loss(self.model.embed_out(noisy, step, condition), wanted)

    def step(self, progress: float) -> dict[str, float]:
        """One step of the optimiser; ``progress`` in [0, 1] says how much of the run is over."""
        settings = self.settings
        rate = settings.learning_rate * min(1.0, (self.step_count + 1) / settings.warm_up_steps)
        rate *= min(1.0, max(0.0, 1 - progress) / (1 - settings.decay_from))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        total, parts = self.loss(next(self._batches))
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self.step_count += 1
        decay = min(settings.average_decay, self.step_count / (self.step_count + 10))
        with torch.no_grad():
            ours: list[Tensor] = list(self.average.parameters())
            theirs: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(ours, theirs, 1 - decay)
        return parts

    def state(self) -> dict[str, Any]:
        """All that is needed to resume."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "reader": self._reader.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step_count": self.step_count,
            "elapsed_s": self.elapsed_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state`` returned."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._reader.load_state_dict(state["reader"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step_count, self.elapsed_s = int(state["step_count"]), float(state["elapsed_s"])
        torch.manual_seed(self.settings.seed + self.step_count)
        self._batches = self._indices()

    @torch.no_grad()
    def validate(self, data: Demonstrations, batch: int = 128) -> dict[str, float]:
        """Errors of the averaged weights on frames that were not trained on, all members' mean.

        ``first_frame_cm/<instruction>`` is the error of the position of the object that the
        instruction names, in the first frame of each episode, whatever its own instruction is.
        """
        first = np.flatnonzero(np.diff(data.episode, prepend=-1))
        result = {}
        for number, text in enumerate(data.instructions):
            wanted = torch.from_numpy(data.objects_m[first, number])
            seen = ~wanted.isnan().any(dim=-1)
            guess, _ = self._predict(data, first, np.full(len(first), number))
            error = (guess[..., :3].mean(dim=1) * POSITION_UNIT_M - wanted).norm(dim=-1)
            result[f"first_frame_cm/{text}"] = 100 * float(error[seen].mean())
        errors, near, actions = [], [], []
        some = np.arange(0, len(data), max(1, len(data) // 400))
        for start in range(0, len(some), batch):
            index = some[start : start + batch]
            guess, chunk = self._predict(data, index, data.instruction[index])
            wanted = torch.from_numpy(data.objects_m[index, data.instruction[index]])
            error = (guess[..., :3].mean(dim=1) * POSITION_UNIT_M - wanted).norm(dim=-1)
            errors.append(error)
            near.append(error[wanted.norm(dim=-1) < 0.1])
            truth = torch.from_numpy(data.actions[index])
            difference = chunk.mean(dim=1) - truth
            actions.append(difference)
        result["target_cm"] = 100 * float(torch.cat(errors).mean())
        result["target_near_cm"] = 100 * float(torch.cat(near).mean())
        difference = torch.cat(actions)
        result["action_cm"] = 100 * float(difference[..., :3].norm(dim=-1).mean())
        result["action_near_end_cm"] = 100 * float(difference[:, -1, :3].norm(dim=-1).mean())
        result["gripper_cm"] = 100 * float(difference[..., 9].abs().mean())
        return result

    def _predict(
        self, data: Demonstrations, index: NDArray[np.int64], instruction: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Auxiliary guesses (N, K, 7) and chunks (N, K, T, 10), one draw, of the averaged weights."""
        model = self.average
        assert model.auxiliary is not None
        images = torch.from_numpy(data.images[index]).permute(0, 1, 4, 2, 3).float() / 255
        state = torch.from_numpy(self.statistics.normalise_state(data.state[index]))
        condition = model.condition((images - self._mean) / self._std, self._ids[instruction], state)
        chunk = torch.randn(len(index), 1, *data.actions.shape[1:]).expand(-1, self.settings.members, -1, -1)
        for step in model.sampler.timesteps():
            output = model.embed_out(chunk, torch.tensor([step]), condition)
            chunk = model.sampler.step(output, step, chunk, model.table)
        actions = self.statistics.actions(chunk.numpy(), model.extensions.action_normalisation)
        return model.auxiliary(condition), torch.from_numpy(actions)
