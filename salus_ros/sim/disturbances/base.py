"""What a disturbance may do to an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from salus_ros.sim.layout import Layout
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import World
from salus_ros.types import Floats, Image


@dataclass
class Disturbance:
    """Leaves everything as it is; families override what they change."""

    name: ClassVar[str] = ""

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Disturbance:
        """Draw one of a strength from 0, hardly to be noticed, to 1, the worst that the family knows."""
        return cls()

    def change_layout(self, layout: Layout) -> Layout:
        """Change the scene before it is set up."""
        return layout

    def change_world(self, world: World, layout: Layout) -> None:
        """Change values of the model, which the next reset undoes."""

    def step(self, world: World, data: mujoco.MjData, truth: Truth) -> None:
        """Act in a control period."""

    def command_lag_s(self) -> float:
        """Time constant by which the motors lag behind their commands."""
        return 0.0

    def joint_bias_rad(self, joints: int) -> Floats:
        """(joints,), what the joint sensors report beyond the true position."""
        return np.zeros(joints)

    def see(self, image: Image, camera: str, time_s: float) -> Image:
        """Change what a camera sees, (H, W, 3)."""
        return image


def between(strength: float, weakest: float, strongest: float) -> float:
    """The value that a strength stands for."""
    return weakest + strength * (strongest - weakest)
