"""Errors of a policy on demonstrations that it was not trained on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salus_ros.policy.tinyvla.model import TinyVla
from salus_ros.policy.tinyvla.statistics import Statistics
from salus_ros.policy.training.demonstrations import POSITION_UNIT_M, Demonstrations
from salus_ros.policy.training.inputs import Inputs


@torch.no_grad()
def validate(
    model: TinyVla, inputs: Inputs, statistics: Statistics, data: Demonstrations, batch: int = 128
) -> dict[str, float]:
    """Errors of all members' mean on frames that were not trained on.

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
        condition = _condition(model, inputs, statistics, data, first, np.full(len(first), number))
        error = _positions(model, condition).mean(dim=1) * POSITION_UNIT_M - wanted
        result[f"first_frame_cm/{text}"] = 100 * float(error[seen, :3].norm(dim=-1).mean())
        result[f"first_goal_cm/{text}"] = 100 * float(error[seen, 3:].norm(dim=-1).mean())
    errors, near, actions = [], [], []
    some = np.arange(0, len(data), max(1, len(data) // 400))
    for start in range(0, len(some), batch):
        index = some[start : start + batch]
        condition = _condition(model, inputs, statistics, data, index, data.instruction[index])
        wanted = torch.from_numpy(data.objects_m[index, data.instruction[index]])
        guess = _positions(model, condition)[..., :3].mean(dim=1) * POSITION_UNIT_M
        error = (guess - wanted).norm(dim=-1)
        errors.append(error)
        near.append(error[wanted.norm(dim=-1) < 0.1])
        planned = _chunks(model, statistics, condition).mean(dim=1)
        actions.append(planned - torch.from_numpy(data.actions[index]))
    difference = torch.cat(actions)
    result["target_cm"] = 100 * float(torch.cat(errors).mean())
    result["target_near_cm"] = 100 * float(torch.cat(near).mean())
    result["action_cm"] = 100 * float(difference[..., :3].norm(dim=-1).mean())
    result["action_near_end_cm"] = 100 * float(difference[:, -1, :3].norm(dim=-1).mean())
    result["gripper_cm"] = 100 * float(difference[..., 9].abs().mean())
    return result


def _condition(
    model: TinyVla,
    inputs: Inputs,
    statistics: Statistics,
    data: Demonstrations,
    index: NDArray[np.int64],
    instruction: NDArray[np.int64],
) -> Tensor:
    """(N, K, H), what the heads see of frames (N,) under instructions (N,)."""
    state = torch.from_numpy(statistics.normalise_state(data.state[index]))
    prompts = inputs.prompts(torch.from_numpy(instruction))
    return model.condition_each(inputs.pixels(data.images[index]), prompts, state)


def _positions(model: TinyVla, condition: Tensor) -> Tensor:
    """(N, K, 6) of the named object and of the goal, in ``POSITION_UNIT_M``."""
    assert model.auxiliary is not None
    guess: Tensor = model.auxiliary(condition)
    return guess[..., :6]


def _chunks(model: TinyVla, statistics: Statistics, condition: Tensor) -> Tensor:
    """(N, K, T, D), one draw each."""
    config = model.config
    noise = torch.randn(len(condition), 1, config.chunk_size, config.action_dim)
    drawn = model.sample(condition, noise.expand(-1, condition.shape[1], -1, -1)).actions
    return torch.from_numpy(statistics.actions(drawn.numpy(), model.extensions.action_normalisation))
