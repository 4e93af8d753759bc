"""One training run of an ensemble: its losses, its steps, and the state to resume from.

It runs on a GPU where there is one. Whatever is drawn at random is drawn on the processor, so that a seed
means the same on both.

All members are trained together, each on its own resample of the demonstrations, while the trunk that they
share learns from all. Beside the denoising loss, the condition that the heads see must hold where
the named object, the goal and the tool are; and where another object and another goal are once
another instruction is given. Without that last one a policy learns the average of the objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.diffusion import TRAINING_STEPS, add_noise
from salus_ros.policy.tinyvla.model import TinyVla
from salus_ros.policy.tinyvla.statistics import Statistics
from salus_ros.policy.training.architecture import image_processor
from salus_ros.policy.training.batches import Batches
from salus_ros.policy.training.demonstrations import POSITION_UNIT_M, Demonstrations, statistics_of
from salus_ros.policy.training.inputs import Inputs
from salus_ros.policy.training.settings import TrainingSettings

KNEE = 0.5
"""Where the auxiliary loss turns from quadratic to linear, in units of 5 cm: at 2.5 cm."""


class Trainer:
    """One training run: steps, moving average of the weights, state to resume from."""

    def __init__(
        self,
        data: Demonstrations,
        config: TinyVlaConfig,
        tokenizer: Tokenizer,
        widths: tuple[int, ...],
        settings: TrainingSettings,
        statistics: Statistics | None = None,
    ) -> None:
        """``statistics``: normalisation of states and actions; default: that of the data."""
        if len(data) == 0:
            raise SalusError("There are no demonstrations to learn from; collect some first.")
        torch.manual_seed(settings.seed)
        self.data, self.settings = data, settings
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.statistics = statistics or statistics_of(data, settings)
        # Eager attention is the faster one on sequences as short as these.
        self.model = TinyVla(config, widths, "eager")
        self.model.vision_tower.initialise()
        self.average = TinyVla(config, widths, "eager")
        self.average.load_state_dict(self.model.state_dict())
        self.average.eval().requires_grad_(False)
        # Moved after they were drawn: one seed gives the same weights and batches on every device.
        for module in (self.model, self.average):
            module.to(self._device)
        self.step_count = 0
        self.elapsed_s = 0.0
        self.inputs = Inputs(data.instructions, tokenizer, image_processor(config))
        # Reads all objects from the image tokens alone: it teaches the tower, and is not shipped.
        hidden, tokens = config.hidden_size, config.extensions.joined_tokens
        self._reader = nn.Sequential(
            nn.Flatten(1),
            nn.Linear(tokens * hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 3 * data.things_m.shape[1]),
        ).to(self._device)
        parameters = [*self.model.parameters(), *self._reader.parameters()]
        self._optimizer = torch.optim.AdamW(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self._state = torch.from_numpy(self.statistics.normalise_state(data.state))
        scaled = (data.actions - self.statistics.action_mean) / self.statistics.action_std
        self._actions = torch.from_numpy(scaled.astype(np.float32))
        self.batches = Batches(data, settings, self.inputs.length)
        self._indices = self.batches.after(0)

    def loss(self, index: NDArray[np.int64]) -> tuple[Tensor, dict[str, float]]:
        """The training loss of a batch of frames, and its parts."""
        model, data, settings, batches = self.model, self.data, self.settings, self.batches
        rows = batches.rows(len(index))
        instruction = torch.from_numpy(data.instruction[index])
        objects = torch.from_numpy(data.objects_m[index]) / POSITION_UNIT_M
        goals = torch.from_numpy(data.goals_m[index]) / POSITION_UNIT_M
        present = ~(objects.isnan() | goals.isnan()).any(dim=-1)
        objects, goals = objects.nan_to_num(), goals.nan_to_num()
        views = self.inputs.augmented(data.images[index], settings.shift_px, settings.brightness)
        tokens = model.see(self._on_device(views))

        state = self._state[index]
        state[:, 10:] *= (torch.rand(len(index), 1) >= settings.hidden_velocity).float()
        state = self._on_device(state)

        condition = self._condition(tokens, instruction, state, rows)
        action = self._denoising_loss(condition, self._on_device(self._actions[index][rows]))
        every = torch.arange(len(index))
        named = self._on_device(objects[every, instruction][rows])
        goal = self._on_device(goals[every, instruction][rows])
        held = self._on_device(torch.from_numpy(data.held[index])[rows])
        guess = self._auxiliary(condition)
        position = functional.smooth_l1_loss(guess[..., :3], named, beta=KNEE)
        rest = functional.smooth_l1_loss(guess[..., 3:6], goal, beta=KNEE)
        rest = rest + 0.3 * functional.binary_cross_entropy_with_logits(guess[..., 6], held)

        half = batches.half(len(index))
        fewer = batches.rows(len(half))
        other = batches.other_instructions(present[half].float())
        imagined = self._auxiliary(self._condition(tokens[half], other, state[half], fewer))[..., :6]
        wanted = self._on_device(torch.cat([objects[half, other], goals[half, other]], dim=-1)[fewer])
        there = self._on_device(present[half, other].float()[fewer][..., None])
        apart = functional.smooth_l1_loss(imagined, wanted, beta=KNEE, reduction="none") * there
        size = 3 * there.sum().clamp(min=1)
        counterfactual = (apart[..., :3].sum() + settings.goal_weight * apart[..., 3:].sum()) / size

        things = self._on_device(torch.from_numpy(data.things_m[index]) / POSITION_UNIT_M)
        in_scene = ~things.isnan().any(dim=-1)
        seen = self._reader(tokens).view(len(index), -1, 3)
        tool = self._on_device(torch.from_numpy(data.state[index, :3]) / POSITION_UNIT_M)
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
            error_m = (guess[..., :3] - named).norm(dim=-1).mean() * POSITION_UNIT_M
            goal_m = (guess[..., 3:6] - goal).norm(dim=-1).mean() * POSITION_UNIT_M
            missed = (imagined - wanted)[..., :3].norm(dim=-1) * there[..., 0]
            imagined_m = missed.sum() / there.sum().clamp(min=1) * POSITION_UNIT_M
        parts = {
            "loss": total.detach(),
            "action": action.detach(),
            "reading": reading.detach(),
            "target_cm": 100 * error_m,
            "goal_cm": 100 * goal_m,
            "other_cm": 100 * imagined_m,
        }
        # Read at once: each read would wait for the device.
        return total, dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)

    def _condition(self, tokens: Tensor, instruction: Tensor, state: Tensor, rows: Tensor) -> Tensor:
        """Condition of each member for its own rows of the batch, (rows, K, H), under instructions (N,).

        Prompts of one length go through together, since no token may stand for nothing.
        """
        model = self.model
        lengths = self.inputs.length[instruction]
        parts, places = [], []
        for length in torch.unique(lengths):  # type: ignore[no-untyped-call]
            chosen = (lengths == length).nonzero()[:, 0]
            place = (lengths[rows[:, 0]] == length).nonzero()[:, 0]
            renumbered = torch.full((len(tokens),), -1)
            renumbered[chosen] = torch.arange(len(chosen))
            mine = rows[place]
            ids = self._on_device(torch.stack(self.inputs.prompts(instruction[chosen])))
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
        noise = self._on_device(torch.randn(chunk.shape))
        step = self._on_device(torch.randint(0, TRAINING_STEPS, (len(chunk),)))
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
        total, parts = self.loss(next(self._indices))
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
        """Go on from a state that ``state`` returned.

        Raises:
            SalusError: it is of a run with another shape.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self._reader.load_state_dict(state["reader"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError):
            raise SalusError(
                "The run to go on from has other members, or learned other words; give the options and tasks "
                "that it was started with, or another --output."
            ) from None
        self.step_count, self.elapsed_s = int(state["step_count"]), float(state["elapsed_s"])
        torch.manual_seed(self.settings.seed + self.step_count)
        self._indices = self.batches.after(self.step_count)
