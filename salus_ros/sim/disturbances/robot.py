"""Disturbances of the arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from salus_ros.sim.disturbances.base import Disturbance, between
from salus_ros.sim.layout import Layout
from salus_ros.sim.world import World
from salus_ros.types import Floats


@dataclass
class Payload(Disturbance):
    """The hand is heavier than the controller knows."""

    name: ClassVar[str] = "payload"
    mass_kg: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Payload:
        """Up to the Panda's 3 kg."""
        return cls(between(strength, 0.3, 3.0))

    def change_world(self, world: World, layout: Layout) -> None:
        """Add mass at the hand that gravity compensation leaves out."""
        model, hand = world.model, world.hand_body
        known = model.body_mass[hand]
        model.body_mass[hand] += self.mass_kg
        model.body_gravcomp[hand] = known / model.body_mass[hand]


@dataclass
class Lag(Disturbance):
    """The motors follow their commands late."""

    name: ClassVar[str] = "lag"
    lag_s: float = 0.1

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Lag:
        """A time constant of up to more than two policy periods."""
        return cls(between(strength, 0.05, 0.45))

    def command_lag_s(self) -> float:
        """As drawn."""
        return self.lag_s


@dataclass
class Bias(Disturbance):
    """The joint sensors are off by a constant each, which the controller cannot know."""

    name: ClassVar[str] = "bias"
    share: tuple[float, ...] = ()
    """Of ``largest_rad``, for each joint, from -1 to 1."""
    largest_rad: float = 0.01

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Bias:
        """Up to 0.03 rad, which at the tool is a centimetre or two."""
        return cls(tuple(float(s) for s in rng.uniform(-1, 1, 7)), between(strength, 0.003, 0.03))

    def joint_bias_rad(self, joints: int) -> Floats:
        """As drawn; joints beyond the seventh are right."""
        bias = np.zeros(joints)
        bias[: len(self.share)] = self.largest_rad * np.array(self.share[:joints])
        return bias
