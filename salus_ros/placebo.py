"""A judge that knows nothing: it foresees failures at random times.

It is the placebo of the closed-loop study, and it makes the random interventions that part of the
training data contains, so that the monitor learns what an intervened-with robot looks like.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.intervention.rules import FOLLOWING
from salus_ros.judges import PlainJudge
from salus_ros.types import HORIZONS_S, FailureType, Floats, InterventionState


class PlaceboSettings(BaseModel):
    """How often and for how long the placebo is alarmed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slow_rate_per_s: float = Field(0.25, ge=0, description="Onsets of a risk that slows the arm down [1/s].")
    alarm_rate_per_s: float = Field(0.12, ge=0, description="Onsets of an alarm [1/s].")
    collision_share: float = Field(
        0.3, ge=0, le=1, description="Share of alarms that foresee a collision, the others a drop or a miss."
    )
    timeout_rate_per_s: float = Field(0.0, ge=0, description="Onsets of a foreseen time-out [1/s].")
    duration_s: float = Field(0.4, gt=0, description="How long each of them lasts [s].")
    period_s: float = Field(0.05, gt=0, description="Time between two predictions, for the rates [s].")


class RandomTrigger(PlainJudge):
    """Foresees failures at random times, with the given rates; deterministic by its seed."""

    SLOW_LEVEL = 0.42
    ALARM_LEVEL = 0.9

    def __init__(self, seed: int, settings: PlaceboSettings | None = None) -> None:
        self._settings = settings or PlaceboSettings()
        self._seed = seed
        super().__init__()

    def reset(self) -> None:
        """Starts again with the same seed."""
        super().reset()
        self._random = np.random.default_rng([self._seed, 0x9A1ACEB0])
        # Of their own, so that the rest is drawn as without time-outs.
        self._random_timeouts = np.random.default_rng([self._seed, 0x9A1ACEB1])
        self._until_s = -np.inf
        self._level = 0.0
        self._late = False
        self._type = FailureType.COLLISION

    def observe_intervention(self, state: InterventionState) -> None:
        """A time-out is foreseen until the gate acts: it spares each plan for a while, and would else make
        fewer replans than the rate says."""
        self._late &= state.mode in FOLLOWING

    def _foresee(self, now_s: float) -> tuple[FailureType, Floats]:
        settings = self._settings
        draw = self._random.random()
        if now_s >= self._until_s:
            self._level = 0.0
            if draw < settings.alarm_rate_per_s * settings.period_s:
                self._begin(now_s, self.ALARM_LEVEL)
            elif draw < (settings.alarm_rate_per_s + settings.slow_rate_per_s) * settings.period_s:
                self._begin(now_s, self.SLOW_LEVEL)
        return self._type, np.full(len(HORIZONS_S), self._level)

    def _foresee_timeout(self, now_s: float) -> float:
        settings = self._settings
        self._late |= self._random_timeouts.random() < settings.timeout_rate_per_s * settings.period_s
        return float(self._late)

    def _begin(self, now_s: float, level: float) -> None:
        self._until_s = now_s + self._settings.duration_s
        self._level = level
        if self._random.random() < self._settings.collision_share:
            self._type = FailureType.COLLISION
        else:
            self._type = FailureType(int(self._random.integers(FailureType.DROP, FailureType.MISS + 1)))
