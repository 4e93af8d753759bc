"""A policy that knows nothing: the control that must score at chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.assets import asset
from salus_ros.policy import uncertainty
from salus_ros.policy.options import settings_of, split_options
from salus_ros.policy.outputs import Outputs
from salus_ros.robot.model import ArmModel
from salus_ros.types import ActionChunk, Observation, PolicyOutput

STEPS = 16


class RandomPolicySettings(BaseModel):
    """How the arm is moved about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="Seeds the motion.")
    members: int = Field(default=5, ge=1, description="Ensemble members that it pretends to have.")
    draws: int = Field(default=4, ge=1, description="Draws of each.")
    speed_rad_s: float = Field(default=0.2, gt=0, description="Deviation of each joint's speed, rad/s.")
    action_period_s: float = Field(default=0.05, gt=0, description="Time between the points of a chunk, s.")


class RandomPolicy:
    """Each chunk moves every joint at a random speed from where it is; the hand opens and closes at random.

    Samples are plain normal numbers, so that whatever is computed from them foretells nothing.
    """

    name = "random"

    def __init__(self, settings: RandomPolicySettings, arm: ArmModel) -> None:
        self.hash = uncertainty.hash_of(self.name, settings.model_dump_json(exclude={"seed"}))
        self.action_period_s = settings.action_period_s
        self._settings, self._arm = settings, arm
        self._outputs = Outputs(self.name, self.hash)
        self._rng = np.random.default_rng(settings.seed)

    def reset(self, seed: int | None = None) -> None:
        """Forget the chunk before; with a seed, begin its motion."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._outputs.forget()

    def act(self, observation: Observation) -> PolicyOutput:
        """One chunk; see ``Policy.act``."""
        settings, arm = self._settings, self._arm
        start = observation.robot.joint_position_rad
        times = settings.action_period_s * np.arange(1, STEPS + 1, dtype=np.float64)
        speed = self._rng.normal(0.0, settings.speed_rad_s, len(start))
        path = np.clip(start + times[:, None] * speed, arm.position_lower_rad, arm.position_upper_rad)
        chunk = ActionChunk(observation.stamp_s, times, path, np.full(STEPS, 0.08 * self._rng.integers(2)))
        samples = self._rng.normal(size=(settings.members, settings.draws, STEPS, 10)).astype(np.float32)
        return self._outputs.next(observation, chunk, samples)


def load(path: Path | None, seed: int) -> RandomPolicy:
    """``random`` or ``random?speed_rad_s=0.5``, for the shipped arm."""
    _, options = split_options(path)
    settings = settings_of(RandomPolicySettings, options, seed=seed)
    return RandomPolicy(settings, ArmModel.from_urdf(asset("urdf/salus_arm.urdf")))
