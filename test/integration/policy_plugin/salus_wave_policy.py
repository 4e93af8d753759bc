"""Policies whose path is known: the first joint swings slowly about where it was at the start."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from salus_ros.types import ActionChunk, Observation, PolicyOutput, Uncertainty

AMPLITUDE_RAD = 0.2
PERIOD_S = 4.0
SPEED_RAD_S = np.pi * AMPLITUDE_RAD / PERIOD_S
"""The fastest that the joint ever is."""
INFERENCE_S = 0.06
OPEN_M = 0.08


class WavePolicy:
    name = "wave"
    hash = "0" * 16
    action_period_s = 0.05
    points = 16
    rest_s = 0.0
    """How long the arm rests before the first swing."""
    close_s = float("inf")
    """When the hand closes, counted as the rest is."""

    def __init__(self, begin_s: float | None = None) -> None:
        """Begins at this stamp; by default at that of the first observation after a reset."""
        self._sequence = 0
        self._begin_s = begin_s
        self._start: tuple[float, np.ndarray] | None = None

    def reset(self, seed: int | None = None) -> None:
        """The swing starts anew from where the arm stands."""
        self._start = None

    def act(self, observation: Observation) -> PolicyOutput:
        """A piece of the path; the latent says how far along it the observation was made [s]."""
        time.sleep(INFERENCE_S)
        if self._start is None:
            begin_s = observation.stamp_s if self._begin_s is None else self._begin_s
            self._start = (begin_s, observation.robot.joint_position_rad)
        begin_s, home = self._start
        along_s = observation.stamp_s - begin_s
        after = np.arange(1, self.points + 1) * self.action_period_s
        angle = 2.0 * np.pi * np.maximum(along_s + after - self.rest_s, 0.0) / PERIOD_S
        path = np.tile(home, (self.points, 1))
        path[:, 0] += AMPLITUDE_RAD * 0.5 * (1.0 - np.cos(angle))
        if os.environ.get("WAVE_NAN_FROM") and self._sequence >= int(os.environ["WAVE_NAN_FROM"]):
            path[3, 2] = np.nan
        output = PolicyOutput(
            sequence=self._sequence,
            policy_name=self.name,
            policy_hash=self.hash,
            instruction=observation.instruction,
            chunk=ActionChunk(
                observation.stamp_s, after, path, np.where(along_s + after < self.close_s, OPEN_M, 0.0)
            ),
            uncertainty=Uncertainty(ensemble_size=1, latent=np.array([along_s], np.float32)),
            samples=np.zeros((1, 1, self.points, 10), np.float32),
            inference_time_s=float("nan"),
        )
        self._sequence += 1
        return output


class GraspPolicy(WavePolicy):
    """Rests, swings, and closes its hand on nothing, in chunks so long that a late one delays nothing."""

    name = "grasp"
    hash = "1" * 16
    points = 40
    rest_s = 1.2
    close_s = 2.8


def load(path: Path | None, seed: int) -> WavePolicy:
    return WavePolicy()


def load_grasp(path: Path | None, seed: int) -> GraspPolicy:
    return GraspPolicy()
