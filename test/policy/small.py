"""A tiny untrained policy, for tests that need one that runs, not one that is good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from salus_ros.policy.tinyvla import checkpoint
from salus_ros.policy.tinyvla.model import TinyVla
from salus_ros.policy.tinyvla.tokenizer import train_tokenizer
from salus_ros.policy.training.architecture import image_processor, small_configuration
from salus_ros.policy.training.demonstrations import Demonstrations, statistics_of
from salus_ros.policy.training.settings import TrainingSettings
from salus_ros.types import Observation, RobotState

INSTRUCTIONS = tuple(f"put the {colour} cube in the bin" for colour in ("blue", "green", "red"))
START_RAD = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 1.95, 0.785])
WIDTHS = (16, 32)


def demonstrations(episodes: int = 20, frames: int = 4, seed: int = 0) -> Demonstrations:
    """Scenes whose images show a bright square where the named object is."""
    rng = np.random.default_rng(seed)
    total = episodes * frames
    episode = np.repeat(np.arange(episodes), frames)
    images = np.full((total, 2, 64, 64, 3), 90, np.uint8)
    instruction = rng.integers(0, 3, episodes)[episode]
    objects = np.zeros((total, 3, 3), np.float32)
    for frame in range(total):
        for colour in range(3):
            row, column = rng.integers(0, 56, 2)
            images[frame, :, row : row + 8, column : column + 8, colour] = 250
            objects[frame, colour] = [row / 200, column / 200, 0.02]
    wanted = objects[np.arange(total), instruction]
    actions = np.zeros((total, 16, 10), np.float32)
    actions[..., :3] = wanted[:, None] * np.linspace(0.1, 1, 16)[:, None]
    actions[..., 3:9] = [1, 0, 0, 0, 1, 0]
    state = rng.normal(size=(total, 13)).astype(np.float32)
    return Demonstrations(
        images=images,
        state=state,
        actions=actions,
        instruction=instruction,
        instructions=INSTRUCTIONS,
        objects_m=objects,
        tasks=("bin",) * 3,
        goals_m=objects[:, [0]].repeat(3, axis=1),
        things_m=objects,
        held=np.zeros(total, np.float32),
        episode=episode,
    )


def write_checkpoint(folder: Path, members: int = 3) -> Path:
    """An untrained checkpoint in the shipped architecture."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(INSTRUCTIONS)
    config = small_configuration(tokenizer.get_vocab_size(), 16, ("front", "wrist"), 0.05, members)
    statistics = statistics_of(demonstrations(), TrainingSettings())
    checkpoint.save(folder, TinyVla(config, WIDTHS), tokenizer, image_processor(config), statistics)
    return folder


def observation(stamp_s: float = 0.0, seed: int = 0) -> Observation:
    """Noise for images, a usual posture."""
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 255, (128, 128, 3)).astype(np.uint8) for name in ("front", "wrist")}
    robot = RobotState(stamp_s, START_RAD, np.zeros(7), np.zeros(7), 0.08)
    return Observation(stamp_s, robot, images, INSTRUCTIONS[0])
