"""A policy whose path is known: the first joint swings slowly about where it was at the start."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from salus_ros.types import ActionChunk, Observation, PolicyOutput, Uncertainty

AMPLITUDE_RAD = 0.2
PERIOD_S = 4.0
INFERENCE_S = 0.06


class WavePolicy:
    name = "wave"
    hash = "0" * 16
    action_period_s = 0.05

    def __init__(self) -> None:
        self._sequence = 0
        self._start: tuple[float, np.ndarray] | None = None

    def reset(self, seed: int | None = None) -> None:
        """The swing starts anew from where the arm stands."""
        self._start = None

    def act(self, observation: Observation) -> PolicyOutput:
        time.sleep(INFERENCE_S)
        if self._start is None:
            self._start = (observation.stamp_s, observation.robot.joint_position_rad)
        began_s, home = self._start
        after = np.arange(1, 17) * self.action_period_s
        angle = 2.0 * np.pi * (observation.stamp_s - began_s + after) / PERIOD_S
        path = np.tile(home, (16, 1))
        path[:, 0] += AMPLITUDE_RAD * 0.5 * (1.0 - np.cos(angle))
        if os.environ.get("WAVE_NAN_FROM") and self._sequence >= int(os.environ["WAVE_NAN_FROM"]):
            path[3, 2] = np.nan
        output = PolicyOutput(
            sequence=self._sequence,
            policy_name=self.name,
            policy_hash=self.hash,
            instruction=observation.instruction,
            chunk=ActionChunk(observation.stamp_s, after, path, np.full(16, 0.08)),
            uncertainty=Uncertainty(ensemble_size=1),
            samples=np.zeros((1, 1, 16, 10), np.float32),
            inference_time_s=float("nan"),
        )
        self._sequence += 1
        return output


def load(path: Path | None, seed: int) -> WavePolicy:
    return WavePolicy()
