"""Demonstrations as arrays, and the normalisation that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus_ros.policy.tinyvla.statistics import Statistics
from salus_ros.policy.training.settings import TrainingSettings
from salus_ros.types import Floats32

POSITION_UNIT_M = 0.05
"""Auxiliary positions are regressed in this unit, so that their loss is of the order of 1."""


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


def statistics_of(data: Demonstrations, settings: TrainingSettings) -> Statistics:
    """Mean and deviation of states, and of actions per step and dimension, with floors."""
    floor = np.array(
        [settings.position_floor_m] * 3 + [settings.rotation_floor] * 6 + [settings.gripper_floor_m],
        np.float32,
    )
    state_floor = np.concatenate([floor, np.full(data.state.shape[1] - len(floor), 0.01, np.float32)])
    return Statistics(
        qpos_mean=data.state.mean(axis=0),
        qpos_std=np.maximum(data.state.std(axis=0), state_floor),
        action_mean=data.actions.mean(axis=0),
        action_std=np.maximum(data.actions.std(axis=0), floor),
        action_min=data.actions.min(axis=(0, 1)),
        action_max=data.actions.max(axis=(0, 1)),
    )
