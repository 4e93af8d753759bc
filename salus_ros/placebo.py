"""A judge that knows nothing: it foresees failures at random times.

It is the placebo of the closed-loop study, and it makes the random interventions that part of the
training data contains, so that the monitor learns what an intervened-with robot looks like.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.types import (
    HORIZONS_S,
    FailurePrediction,
    FailureType,
    InterventionState,
    PointCloud,
    PolicyOutput,
    RobotState,
)


class PlaceboSettings(BaseModel):
    """How often and for how long the placebo is alarmed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slow_rate_per_s: float = Field(0.25, ge=0, description="Onsets of a risk that slows the arm down [1/s].")
    alarm_rate_per_s: float = Field(0.12, ge=0, description="Onsets of an alarm [1/s].")
    collision_share: float = Field(
        0.3, ge=0, le=1, description="Share of alarms that foresee a collision, the others a drop or a miss."
    )
    duration_s: float = Field(0.4, gt=0, description="How long each of them lasts [s].")
    period_s: float = Field(0.05, gt=0, description="Time between two predictions, for the rates [s].")


class RandomTrigger:
    """Foresees failures at random times, with the given rates; deterministic by its seed."""

    SLOW_RISK = 0.42
    ALARM_RISK = 0.9
    THRESHOLD = 0.5

    def __init__(self, seed: int, settings: PlaceboSettings | None = None) -> None:
        self._settings = settings or PlaceboSettings()
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Starts again with the same seed."""
        self._random = np.random.default_rng([self._seed, 0x9A1ACEB0])
        self._until_s = -np.inf
        self._risk = 0.0
        self._type = FailureType.COLLISION
        self._sequence = -1

    def observe_robot(self, state: RobotState) -> None:
        """Ignored."""

    def observe_policy(self, output: PolicyOutput) -> None:
        """Kept for the sequence number alone."""
        self._sequence = output.sequence

    def observe_points(self, cloud: PointCloud) -> None:
        """Ignored."""

    def observe_intervention(self, state: InterventionState) -> None:
        """Ignored."""

    def predict(self, now_s: float) -> FailurePrediction | None:
        """A calm prediction, or for a while an alarmed one; ``None`` before the first policy output."""
        if self._sequence < 0:
            return None
        settings = self._settings
        draw = self._random.random()
        if now_s >= self._until_s:
            self._risk = 0.0
            if draw < settings.alarm_rate_per_s * settings.period_s:
                self._begin(now_s, self.ALARM_RISK)
            elif draw < (settings.alarm_rate_per_s + settings.slow_rate_per_s) * settings.period_s:
                self._begin(now_s, self.SLOW_RISK)
        probability = np.zeros((len(FailureType), len(HORIZONS_S)))
        probability[self._type] = self._risk * self.THRESHOLD / 0.5
        return FailurePrediction(
            stamp_s=now_s,
            sequence=self._sequence,
            horizons_s=HORIZONS_S,
            probability=probability,
            timeout_probability=0.0,
            risk=self._risk,
            risk_type=self._type,
            risk_horizon_s=HORIZONS_S[-1],
            alarm=self._risk >= 0.5,
            threshold=np.full(len(FailureType), self.THRESHOLD),
            out_of_distribution=False,
        )

    def _begin(self, now_s: float, risk: float) -> None:
        self._until_s = now_s + self._settings.duration_s
        self._risk = risk
        if self._random.random() < self._settings.collision_share:
            self._type = FailureType.COLLISION
        else:
            self._type = FailureType(int(self._random.integers(FailureType.DROP, FailureType.MISS + 1)))
