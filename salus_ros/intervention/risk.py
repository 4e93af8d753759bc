"""From failure predictions to what should be done about them: thresholds, persistence, hysteresis.

Monotone by construction: with a higher probability anywhere no speed rises and no trigger goes away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from salus_ros.intervention.rules import Trigger
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause, FailurePrediction, FailureType, Mode

_AT_THRESHOLD: Final = 0.5
_THRESHOLD_MIN: Final = 1e-3
"""A threshold of zero would make every prediction an alarm without bound."""

_HORIZON_ROUNDING_S: Final = 1e-6

_SLOW: Final = Trigger(Mode.SLOW_DOWN, Cause.RISK)
_LATE: Final = Trigger(Mode.REPLAN, Cause.FORESEEN_TIMEOUT)
_REPLAN_CAUSES: Final = {
    FailureType.DROP: Cause.FORESEEN_DROP,
    FailureType.MISS: Cause.FORESEEN_MISS,
}


@dataclass(frozen=True, slots=True)
class RiskVerdict:
    """What learned risk asks for now."""

    triggers: frozenset[Trigger]
    speed: float
    """Highest speed scale, in [0, 1]."""


NO_RISK: Final = RiskVerdict(frozenset(), 1.0)


class RiskJudge:
    """Counts predictions in a row, per strategy."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self.reset()

    def reset(self, since_s: float = -np.inf) -> None:
        """Forget what was predicted: it was about a plan that has been given up.

        Args:
            since_s: when the arm began to follow the next, in the time of ``hear``: for a while after it no
                drop, miss or time-out is acted on.
        """
        self._verdict = NO_RISK
        self._rows: dict[Trigger, int] = {}
        self._slowing = False
        self._low_since_s: float | None = None
        self._since_s = since_s

    @property
    def verdict(self) -> RiskVerdict:
        """What the predictions so far ask for."""
        return self._verdict

    def hear(self, prediction: FailurePrediction, now_s: float) -> None:
        """Take a valid prediction."""
        s = self._settings
        own = np.array([s.collision_threshold, s.drop_threshold, s.miss_threshold])
        threshold = np.maximum(np.where(own > 0.0, own, prediction.threshold), _THRESHOLD_MIN)
        relative = _AT_THRESHOLD * prediction.probability / threshold[:, None]
        horizons = np.array(prediction.horizons_s)
        highest = relative.max(axis=1)
        level = float(highest.max())

        triggers: set[Trigger] = set()
        collision = relative[FailureType.COLLISION]
        stop_mode = Mode.EMERGENCY_STOP if s.latch_on_foreseen_collision else Mode.PROTECTIVE_STOP
        stop = Trigger(stop_mode, Cause.FORESEEN_COLLISION)
        soon = bool((collision[horizons <= s.stop_horizon_s + _HORIZON_ROUNDING_S] >= s.stop_risk).any())
        now = bool(
            (collision[horizons <= s.immediate_stop_horizon_s + _HORIZON_ROUNDING_S] >= s.stop_risk).any()
        )
        if self._persists(stop, soon or now, s.stop_persistence) or now:
            triggers.add(stop)
        for failure, cause in _REPLAN_CAUSES.items():
            trigger = Trigger(Mode.REPLAN, cause)
            foreseen = self._persists(trigger, bool(highest[failure] >= s.replan_risk), s.replan_persistence)
            if foreseen and now_s >= self._since_s + s.replan_grace_s:
                triggers.add(trigger)
        late = self._persists(_LATE, prediction.timeout_probability >= s.timeout_risk, s.timeout_persistence)
        if late and now_s >= self._since_s + s.timeout_grace_s:
            triggers.add(_LATE)
        lost = Trigger(Mode.ASSIST, Cause.OUT_OF_DISTRIBUTION)
        at_risk = prediction.out_of_distribution and level >= _AT_THRESHOLD
        if self._persists(lost, at_risk, s.assist_persistence):
            triggers.add(lost)
        if self._slow(level, now_s):
            triggers.add(_SLOW)
        self._verdict = RiskVerdict(frozenset(triggers), self._speed(level))

    def _persists(self, trigger: Trigger, condition: bool, needed: int) -> bool:
        self._rows[trigger] = self._rows.get(trigger, 0) + 1 if condition else 0
        return self._rows[trigger] >= needed

    def _slow(self, level: float, now_s: float) -> bool:
        s = self._settings
        if self._persists(_SLOW, level >= s.slow_risk, s.slow_persistence):
            self._slowing = True
        if level >= s.slow_risk_clear or not self._slowing:
            self._low_since_s = None
        elif self._low_since_s is None:
            self._low_since_s = now_s
        if self._low_since_s is not None and now_s - self._low_since_s >= s.slow_clear_s:
            self._slowing = False
        return self._slowing

    def _speed(self, level: float) -> float:
        """1 up to where slowing begins, down to the slow speed at the alarm threshold."""
        if not self._slowing:
            return 1.0
        s = self._settings
        span = max(_AT_THRESHOLD - s.slow_risk_clear, 1e-6)
        share = min(max((level - s.slow_risk_clear) / span, 0.0), 1.0)
        return 1.0 - share * (1.0 - s.slow_speed)
