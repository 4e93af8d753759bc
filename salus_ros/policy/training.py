"""Behaviour cloning of a TinyVLA ensemble from demonstrations.

All members are trained in one run. Each episode belongs to a few of them, so that every
member learns from its own resample of the demonstrations, while the trunk that they share
learns from all. Beside the denoising loss, the condition that the heads see must hold where
the named object, the goal and the tool are; and where another object and another goal are once
another instruction is given. Without that last one a policy learns the average of the objects.
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
from salus_ros.policy.tinyvla.configuration import MemberPart, TinyVlaConfig
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
    member_part: MemberPart = Field(
        default="last_block", description="What each member has for itself; see the checkpoint's member_part."
    )
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
        default=0.25, ge=0, lt=1, description="Random change of brightness of each view."
    )
    position_floor_m: float = Field(
        default=0.008, gt=0, description="Least deviation that positions are divided by."
    )
    rotation_floor: float = Field(default=0.05, gt=0, description="The same for the six numbers of rotation.")
    gripper_floor_m: float = Field(default=0.008, gt=0, description="The same for the gripper's opening.")
    auxiliary_weight: float = Field(default=0.5, ge=0, description="Weight of the position losses.")
    goal_weight: float = Field(
        default=0.5, ge=0, description="Weight of the goal's position beside the named object's."
    )
    counterfactual_weight: float = Field(default=0.5, ge=0, description="Weight of the counterfactual loss.")
    task_weights: dict[str, float] = Field(
        default={"stack": 2.0, "push": 2.0},
        description="Share of each task in a batch, relative to the others; 1 for those that are not named.",
    )


@dataclass(frozen=True)
class Demonstrations:
    """Frames of demonstrations as arrays: F frames, V views, T steps, I instructions, O things."""

    images: NDArray[np.uint8]
    """(F, V, S, S, 3) RGB, already at the vision tower's size."""
    state: Floats32
    """(F, S), see ``policy.action.tool_state``."""
    actions: Floats32
    """(F, T, 10), relative to the measured tool pose."""
    instruction: NDArray[np.int64]
    """(F,), index into ``instructions``."""
    instructions: tuple[str, ...]
    tasks: tuple[str, ...]
    """(I,), the task that each instruction belongs to."""
    objects_m: Floats32
    """(F, I, 3), position of the object that each instruction names, from the tool, in the base
    frame's axes; nan where it is not in the scene."""
    goals_m: Floats32
    """(F, I, 3), where each instruction wants it, from the tool; nan where that is not in the scene."""
    things_m: Floats32
    """(F, O, 3), positions of all that may be named, from the tool; nan for what is not in the scene."""
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
    vocabulary: int,
    chunk: int,
    camera_names: tuple[str, ...],
    period_s: float,
    members: int,
    member_part: MemberPart = "last_block",
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
            "member_part": member_part,
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
        statistics: preprocessing.Statistics | None = None,
    ) -> None:
        """``statistics``: normalisation of states and actions; default: that of the data."""
        if len(data) == 0:
            raise SalusError("There are no demonstrations to learn from; collect some first.")
        torch.manual_seed(settings.seed)
        self.data, self.settings = data, settings
        self.statistics = statistics or statistics_of(data, settings)
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
        self._ids = [
            torch.tensor(preprocessing.prompt_ids(tokenizer, preprocessing.prompt(text)))
            for text in data.instructions
        ]
        self._length = torch.tensor([len(ids) for ids in self._ids])
        # Reads all objects from the image tokens alone: it teaches the tower, and is not shipped.
        hidden, tokens = config.hidden_size, config.extensions.joined_tokens
        self._reader = nn.Sequential(
            nn.Flatten(1),
            nn.Linear(tokens * hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 3 * data.things_m.shape[1]),
        )
        parameters = [*self.model.parameters(), *self._reader.parameters()]
        self._optimizer = torch.optim.AdamW(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self._state = torch.from_numpy(self.statistics.normalise_state(data.state))
        scaled = (data.actions - self.statistics.action_mean) / self.statistics.action_std
        self._actions = torch.from_numpy(scaled.astype(np.float32))
        self._tasks = tuple(sorted(set(data.tasks)))
        self._groups = self._resample()
        self._batches = self._indices()

    def _resample(self) -> list[tuple[tuple[int, ...], list[NDArray[np.int64]]]]:
        """For each set of members, the frames of the episodes that belong to it, one array per task."""
        settings, data = self.settings, self.data
        sets = list(
            itertools.combinations(
                range(settings.members), min(settings.members_per_episode, settings.members)
            )
        )
        episodes, first = np.unique(data.episode, return_index=True)
        task = np.array(data.tasks)[data.instruction]
        # Dealt out task by task, so that every set has as many of each.
        order = np.random.default_rng(settings.seed).permutation(len(episodes))
        order = order[np.argsort(task[first[order]], kind="stable")]
        owner = dict(zip(episodes[order].tolist(), itertools.cycle(range(len(sets))), strict=False))
        owners = np.array([owner[int(episode)] for episode in data.episode])
        # While the hand is still far from the named object, which one it is decides; later it shows.
        named = data.objects_m[np.arange(len(data)), data.instruction]
        deciding = (np.linalg.norm(named[:, :2], axis=1) > settings.deciding_m) & (data.held == 0)
        groups = []
        for index, members in enumerate(sets):
            strata = []
            for name in self._tasks:
                frames = np.flatnonzero((owners == index) & (task == name))
                again = np.repeat(frames[deciding[frames]], settings.deciding_repeats)
                strata.append(np.concatenate([frames, again]))
            groups.append((members, strata))
        if any(len(frames) == 0 for _, strata in groups for frames in strata):
            raise SalusError(
                f"{len(episodes)} demonstrations of {', '.join(self._tasks)} are too few for "
                f"{settings.members} members; give at least {len(sets)} of each task."
            )
        return groups

    def _slots(self) -> NDArray[np.int64]:
        """The task of each of the frames that one batch takes from one group, as its number in ``_tasks``."""
        each = max(len(self._tasks), self.settings.batch // len(self._groups))
        weights = np.array([self.settings.task_weights.get(name, 1.0) for name in self._tasks])
        counts = np.maximum(1, np.floor(each * weights / weights.sum())).astype(int)
        while counts.sum() < each:
            counts[np.argmax(each * weights / weights.sum() - counts)] += 1
        return np.repeat(np.arange(len(self._tasks)), counts)

    def _indices(self) -> Iterator[NDArray[np.int64]]:
        """Batches of frame indices, equally many of each group, in the order of the groups.

        Slot s of every group is of the same task, which changes from batch to batch: so the prompts that one
        member reads line up with those that the others read.
        """
        rng = np.random.default_rng([self.settings.seed, 1, self.step_count])

        def shuffled(frames: NDArray[np.int64]) -> Iterator[int]:
            while True:
                yield from rng.permutation(frames)

        streams = [[shuffled(frames) for frames in strata] for _, strata in self._groups]
        slots = self._slots()
        while True:
            order = rng.permutation(slots)
            yield np.array([next(strata[task]) for strata in streams for task in order])

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

    def _others(self, present: Tensor) -> Tensor:
        """Another instruction for each row of ``_half``, one that ``present`` (N, I) says could be given.

        In one slot all are of one length, for the same reason as in ``_indices``.
        """
        slots = len(present) // len(self._groups)
        drawn = self._length[torch.randint(len(self._length), (slots,))].repeat(len(self._groups))
        fitting = (self._length == drawn[:, None]).float()
        return torch.multinomial(fitting * (present + 1e-6), 1)[:, 0]

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
        goals = torch.from_numpy(data.goals_m[index]) / POSITION_UNIT_M
        present = ~(objects.isnan() | goals.isnan()).any(dim=-1)
        objects, goals = objects.nan_to_num(), goals.nan_to_num()
        tokens = model.see(self._augment(data.images[index]))

        state = self._state[index]
        state[:, 10:] *= (torch.rand(len(index), 1) >= settings.hidden_velocity).float()

        condition = self._condition(tokens, instruction, state, rows)
        action = self._denoising_loss(condition, self._actions[index][rows])
        every = torch.arange(len(index))
        named, goal = objects[every, instruction], goals[every, instruction]
        guess = self._auxiliary(condition)
        held = torch.from_numpy(data.held[index])
        position = functional.smooth_l1_loss(guess[..., :3], named[rows], beta=KNEE)
        rest = functional.smooth_l1_loss(guess[..., 3:6], goal[rows], beta=KNEE)
        rest = rest + 0.3 * functional.binary_cross_entropy_with_logits(guess[..., 6], held[rows])

        half = self._half(len(index))
        fewer = self._rows(len(half))
        other = self._others(present[half].float())
        imagined = self._auxiliary(self._condition(tokens[half], other, state[half], fewer))[..., :6]
        wanted = torch.cat([objects[half, other], goals[half, other]], dim=-1)[fewer]
        there = present[half, other].float()[fewer][..., None]
        apart = functional.smooth_l1_loss(imagined, wanted, beta=KNEE, reduction="none") * there
        size = 3 * there.sum().clamp(min=1)
        counterfactual = (apart[..., :3].sum() + settings.goal_weight * apart[..., 3:].sum()) / size

        things = torch.from_numpy(data.things_m[index]) / POSITION_UNIT_M
        in_scene = ~things.isnan().any(dim=-1)
        seen = self._reader(tokens).view(len(index), -1, 3)
        tool = self._state_position(index)
        off = functional.smooth_l1_loss(
            seen, things.nan_to_num() + tool[:, None], beta=KNEE, reduction="none"
        ).mean(dim=-1)
        reading = (off * in_scene).sum() / in_scene.sum()

        total = (
            action
            + settings.auxiliary_weight * (position + settings.goal_weight * rest + reading)
            + settings.counterfactual_weight * counterfactual
        )
        with torch.no_grad():
            error_m = (guess[..., :3] - named[rows]).norm(dim=-1).mean() * POSITION_UNIT_M
            goal_m = (guess[..., 3:6] - goal[rows]).norm(dim=-1).mean() * POSITION_UNIT_M
            missed = (imagined - wanted)[..., :3].norm(dim=-1) * there[..., 0]
            imagined_m = missed.sum() / there.sum().clamp(min=1) * POSITION_UNIT_M
        parts = {
            "loss": float(total.detach()),
            "action": float(action.detach()),
            "reading": float(reading.detach()),
            "target_cm": 100 * float(error_m),
            "goal_cm": 100 * float(goal_m),
            "other_cm": 100 * float(imagined_m),
        }
        return total, parts

    def _state_position(self, index: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.data.state[index, :3]) / POSITION_UNIT_M

    def _condition(self, tokens: Tensor, instruction: Tensor, state: Tensor, rows: Tensor) -> Tensor:
        """Condition of each member for its own rows of the batch, (rows, K, H), under instructions (N,).

        Prompts of one length go through together, since no token may stand for nothing.
        """
        model = self.model
        lengths = self._length[instruction]
        parts, places = [], []
        for length in torch.unique(lengths):  # type: ignore[no-untyped-call]
            chosen = (lengths == length).nonzero()[:, 0]
            place = (lengths[rows[:, 0]] == length).nonzero()[:, 0]
            renumbered = torch.full((len(tokens),), -1)
            renumbered[chosen] = torch.arange(len(chosen))
            mine = rows[place]
            ids = torch.stack([self._ids[number] for number in instruction[chosen].tolist()])
            trunk = model.gpt_neox.trunk(model.embed(tokens[chosen], ids))[:, 0]
            hidden = model.gpt_neox.members(trunk[renumbered[mine]])
            parts.append(model.embed_out.condition(hidden, state[mine]))
            places.append(place)
        return torch.cat(parts)[torch.cat(places).argsort()]

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

    def start_from(self, other: nn.Module, words: Mapping[str, int], our_words: Mapping[str, int]) -> None:
        """Take over the weights of a policy of the same shape that may know fewer words.

        Args:
            other: its model.
            words: its vocabulary, token to number.
            our_words: this one's; tokens that the other does not know keep their random embedding.

        Raises:
            SalusError: it is of another shape.
        """
        weights = dict(other.state_dict())
        name = "gpt_neox.embed_in.weight"
        embedding = self.model.state_dict()[name].clone()
        alike = name in weights and weights[name].shape[1:] == embedding.shape[1:]
        for token, number in our_words.items():
            if alike and token in words:
                embedding[number] = weights[name][words[token]]
        weights[name] = embedding
        ours = {key: value.shape for key, value in self.model.state_dict().items()}
        if {key: value.shape for key, value in weights.items()} != ours:
            raise SalusError(
                "The policy to start from has another shape than the one to be trained; start from one that "
                "salus train-policy made, with as many members."
            )
        self.model.load_state_dict(weights)
        self.average.load_state_dict(weights)

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

        ``first_frame_cm/<instruction>`` is the error of the position of the object that the instruction
        names, in the first frame of each episode, whatever its own instruction is; ``first_goal_cm`` that
        of the goal.
        """
        first = np.flatnonzero(np.diff(data.episode, prepend=-1))
        result = {}
        for number, text in enumerate(data.instructions):
            wanted = torch.from_numpy(
                np.concatenate([data.objects_m[first, number], data.goals_m[first, number]], axis=-1)
            )
            seen = ~wanted.isnan().any(dim=-1)
            guess = self._averaged_auxiliary(self._conditions(data, first, np.full(len(first), number)))
            error = guess[..., :6].mean(dim=1) * POSITION_UNIT_M - wanted
            result[f"first_frame_cm/{text}"] = 100 * float(error[seen, :3].norm(dim=-1).mean())
            result[f"first_goal_cm/{text}"] = 100 * float(error[seen, 3:].norm(dim=-1).mean())
        errors, near, actions = [], [], []
        some = np.arange(0, len(data), max(1, len(data) // 400))
        for start in range(0, len(some), batch):
            index = some[start : start + batch]
            condition = self._conditions(data, index, data.instruction[index])
            guess, chunk = self._averaged_auxiliary(condition), self._chunks(condition)
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

    def _conditions(
        self, data: Demonstrations, index: NDArray[np.int64], instruction: NDArray[np.int64]
    ) -> Tensor:
        """(N, K, H), what the heads of the averaged weights see of frames under instructions (N,)."""
        model = self.average
        images = torch.from_numpy(data.images[index]).permute(0, 1, 4, 2, 3).float() / 255
        pixels = (images - self._mean) / self._std
        state = torch.from_numpy(self.statistics.normalise_state(data.state[index]))
        lengths = self._length[torch.from_numpy(instruction)]
        condition = torch.empty(len(index), self.settings.members, model.config.hidden_size)
        for length in torch.unique(lengths):  # type: ignore[no-untyped-call]
            chosen = (lengths == length).nonzero()[:, 0]
            ids = torch.stack([self._ids[number] for number in instruction[chosen].tolist()])
            condition[chosen] = model.condition(pixels[chosen], ids, state[chosen])
        return condition

    def _averaged_auxiliary(self, condition: Tensor) -> Tensor:
        """(N, K, 7)"""
        assert self.average.auxiliary is not None
        guess: Tensor = self.average.auxiliary(condition)
        return guess

    def _chunks(self, condition: Tensor) -> Tensor:
        """(N, K, T, 10), one draw each."""
        model, shape = self.average, self.data.actions.shape[1:]
        chunk = torch.randn(len(condition), 1, *shape).expand(-1, self.settings.members, -1, -1)
        for step in model.sampler.timesteps():
            output = model.embed_out(chunk, torch.tensor([step]), condition)
            chunk = model.sampler.step(output, step, chunk, model.table)
        return torch.from_numpy(self.statistics.actions(chunk.numpy(), model.extensions.action_normalisation))
