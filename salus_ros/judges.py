"""Judges without a model of failure: what SALUS has to beat, and what must not work.

They speak the monitor's language, so that the gate treats each of them as it treats the monitor.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.types import (
    HORIZONS_S,
    FailurePrediction,
    FailureType,
    Floats,
    InterventionState,
    PointCloud,
    PolicyOutput,
    RobotState,
)

if TYPE_CHECKING:
    from salus_ros.data.episode import Episode

THRESHOLD: Final = 0.5
"""Probability at which these judges' alarms are up."""
CALM: Final = np.zeros(len(HORIZONS_S))
CERTAIN: Final = np.ones(len(HORIZONS_S))


class PlainJudge:
    """Looks at nothing, and is calm; the base of the others."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the episode before."""
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
        """What is foreseen; ``None`` before the first policy output."""
        return self._say(now_s, *self._foresee(now_s)) if self._sequence >= 0 else None

    def _foresee(self, now_s: float) -> tuple[FailureType, Floats]:
        """The failure that is foreseen, and its probability at each horizon."""
        return FailureType.COLLISION, CALM

    def _foresee_timeout(self, now_s: float) -> float:
        """The probability of a time-out."""
        return 0.0

    def _say(self, now_s: float, failure: FailureType, level: Floats) -> FailurePrediction:
        probability = np.zeros((len(FailureType), len(HORIZONS_S)))
        probability[failure] = level
        risk = float(min(0.5 * level.max() / THRESHOLD, 1.0))
        return FailurePrediction(
            stamp_s=now_s,
            sequence=self._sequence,
            horizons_s=HORIZONS_S,
            probability=probability,
            timeout_probability=self._foresee_timeout(now_s),
            risk=risk,
            risk_type=failure,
            risk_horizon_s=HORIZONS_S[-1],
            alarm=risk >= 0.5,
            threshold=np.full(len(FailureType), THRESHOLD),
            out_of_distribution=False,
        )


class ControlSettings(BaseModel):
    """Thresholds of the judges below, set on tune seeds by ``fit_controls``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effort: float = Field(0.1, gt=0, description="Change of effort over the joint's limit that is an alarm.")
    noise: float = Field(0.99, gt=0, description="Random number in [0, 1] above which there is an alarm.")
    alpha: float = Field(0.05, gt=0, lt=1, description="False alarms per successful episode at most.")
    episodes: int = Field(0, ge=0, description="Successful episodes that they were set on; 0 = none yet.")


class EffortThreshold(PlainJudge):
    """The collision detection that many arms offer: effort that departs from its last second's mean.

    An alarm is taken for a collision that is happening, and stops the arm.
    """

    WINDOW_S: Final = 1.0
    RECENT_S: Final = 0.1

    def __init__(self, threshold: float, effort_limit_nm: Floats) -> None:
        self._threshold = threshold
        self._limit_nm = effort_limit_nm
        super().__init__()

    def reset(self) -> None:
        """Forgets the effort of the episode before."""
        super().reset()
        self._share: deque[tuple[float, Floats]] = deque()

    def observe_robot(self, state: RobotState) -> None:
        """Keeps one second of effort."""
        self._share.append((state.stamp_s, state.joint_effort_nm / self._limit_nm))
        while self._share[0][0] < state.stamp_s - self.WINDOW_S:
            self._share.popleft()

    @property
    def change(self) -> float:
        """Largest departure of the last 0.1 s from the last second's mean effort, over the joint's limit; 0
        until there is a second of it."""
        if not self._share or self._share[-1][0] - self._share[0][0] < 0.9 * self.WINDOW_S:
            return 0.0
        stamps = np.array([stamp_s for stamp_s, _ in self._share])
        share = np.array([row for _, row in self._share])
        recent = share[stamps > stamps[-1] - self.RECENT_S].mean(axis=0)
        return float(np.nan_to_num(np.abs(recent - share.mean(axis=0))).max())

    def _foresee(self, now_s: float) -> tuple[FailureType, Floats]:
        return FailureType.COLLISION, CERTAIN if self.change > self._threshold else CALM


class NoiseThreshold(PlainJudge):
    """An alarm on random numbers: what the uncertainty of a policy that knows nothing of its own comes to."""

    def __init__(self, seed: int, threshold: float) -> None:
        self._seed = seed
        self._threshold = threshold
        super().__init__()

    def reset(self) -> None:
        """Starts again with the same seed."""
        super().reset()
        self._random = np.random.default_rng([self._seed, 0xD0331E])

    def draw(self) -> tuple[float, FailureType]:
        """The next random number in [0, 1], and the failure that it is taken for."""
        return self._random.random(), FailureType(int(self._random.integers(len(FailureType))))

    def _foresee(self, now_s: float) -> tuple[FailureType, Floats]:
        drawn, failure = self.draw()
        return failure, CERTAIN if drawn > self._threshold else CALM


def fit_controls(
    successes: Sequence[Episode], effort_limit_nm: Floats, alpha: float = 0.05, period_s: float = 0.05
) -> ControlSettings:
    """Thresholds that a successful episode exceeds with probability ``alpha``, by split conformal.

    Args:
        successes: episodes without intervention, on tune seeds.
        effort_limit_nm: (J,)
        alpha: as the monitor's.
        period_s: time between two predictions.

    Raises:
        SalusError: too few episodes for this ``alpha``.
    """
    if len(successes) < 1.0 / alpha - 1.0:
        raise SalusError(
            f"There are {len(successes)} successful episodes to set thresholds on, but {alpha:g} false "
            f"alarms per episode need {math.ceil(1.0 / alpha - 1.0)}; collect more."
        )
    scores = np.array([_maxima(episode, effort_limit_nm, period_s) for episode in successes])
    rank = math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-9)
    effort, noise = np.sort(scores, axis=0)[rank - 1]
    return ControlSettings(effort=effort, noise=noise, alpha=alpha, episodes=len(successes))


def _maxima(episode: Episode, effort_limit_nm: Floats, period_s: float) -> tuple[float, float]:
    """Largest change of effort and largest random number of an episode."""
    effort, noise = EffortThreshold(np.inf, effort_limit_nm), NoiseThreshold(episode.meta.seed, np.inf)
    largest, drawn, next_s = 0.0, 0.0, 0.0
    for i in range(len(episode.robot)):
        state = episode.robot.item(i)
        effort.observe_robot(state)
        if state.stamp_s >= next_s - 1e-9:
            largest, drawn = max(largest, effort.change), max(drawn, noise.draw()[0])
            next_s = state.stamp_s + period_s
    return largest, drawn
