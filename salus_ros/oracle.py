"""A judge that knows the true future, by going back in the simulator: the bound of what foresight can give.

The episode runs as without SALUS until a failure begins. Then it goes back to half a second before that
onset, and the gate is told what would come; from there the same rule holds again. An episode that runs out of
time goes back once, to some seconds before its end. Where nothing fails, the episode is that of the arm
``none`` to the bit. This equals a look ahead from every moment, and costs no more than the seconds that are
run twice.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.intervention.rules import FOLLOWING
from salus_ros.judges import CALM, CERTAIN, PlainJudge
from salus_ros.rollout import Rollout
from salus_ros.types import HORIZONS_S, EpisodeEvent, EventKind, FailureType, Floats, InterventionState

NO_PERSISTENCE: Final[Mapping[str, object]] = {
    "stop_persistence": 1,
    "replan_persistence": 1,
    "replan_grace_s": 0.0,
}
"""Settings of a gate that hears an oracle: what is certain need not be said twice, and an oracle never looks
at the plan before."""


class Remedy(enum.Enum):
    """What the oracle makes the gate do about a failure."""

    OWN = "own"
    """What the gate's own strategy table says."""
    SLOW_DOWN = "slow down"
    STOP = "stop"
    """A protective stop, then a replan."""
    REPLAN = "replan"
    NOTHING = "nothing"


class OracleSettings(BaseModel):
    """When the oracle speaks, and what it asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lead_s: float = Field(0.5, gt=0, le=1.0, description="How long before an onset the gate is told [s].")
    collision: Remedy = Field(Remedy.OWN, description="What is done about a collision.")
    drop: Remedy = Field(Remedy.OWN, description="What is done about a drop.")
    miss: Remedy = Field(Remedy.OWN, description="What is done about a miss.")
    timeouts: bool = Field(True, description="Whether the gate is told of a time-out as well.")
    timeout_lead_s: float = Field(
        8.0, gt=0, description="How long before the time is over the gate is told that it will be [s]."
    )
    keep_s: float = Field(0.1, gt=0, description="Time between two moments that it can go back to [s].")

    def remedy(self, failure: FailureType) -> Remedy:
        """What is done about this type."""
        return {
            FailureType.COLLISION: self.collision,
            FailureType.DROP: self.drop,
            FailureType.MISS: self.miss,
        }[failure]


class Oracle(PlainJudge):
    """Says what it was told, and nothing else."""

    SLOW_LEVEL = 0.49
    """Just below the threshold: the gate slows down as far as it ever does, and does no more."""
    _PASSED_S = 0.3
    """A failure foreseen so long ago has not come."""

    def __init__(self, settings: OracleSettings) -> None:
        self._settings = settings
        super().__init__()

    def reset(self) -> None:
        """Knows nothing of the future."""
        super().reset()
        self._failure: FailureType | None = None
        self._late = False
        self._left_s = 0.0
        self._stamp_s = 0.0
        self._speed = 1.0

    @property
    def calm(self) -> bool:
        """Whether no failure is foreseen."""
        return self._failure is None

    def foresee_timeout(self) -> None:
        """Learns that the time will be over if nothing is done."""
        self._failure, self._late = None, True

    def foresee(self, failure: FailureType, left_s: float, now_s: float) -> None:
        """Learns what begins in ``left_s`` of the path's nominal time if nothing is done."""
        self._failure, self._left_s, self._stamp_s, self._speed = failure, left_s, now_s, 1.0

    def observe_intervention(self, state: InterventionState) -> None:
        """What was foreseen is over when the plan is given up; slowing down only stretches the time to it."""
        self._pass(state.stamp_s)
        self._speed = state.speed_scale
        if state.mode not in FOLLOWING:
            self._failure, self._late = None, False

    def _foresee_timeout(self, now_s: float) -> float:
        return float(self._late)

    def _foresee(self, now_s: float) -> tuple[FailureType, Floats]:
        self._pass(now_s)
        failure = self._failure
        if failure is None:
            return FailureType.COLLISION, CALM
        remedy = self._settings.remedy(failure)
        if remedy is Remedy.NOTHING:
            return failure, CALM
        if remedy is Remedy.SLOW_DOWN:
            return failure, np.full(len(HORIZONS_S), self.SLOW_LEVEL)
        if remedy is Remedy.STOP:
            return FailureType.COLLISION, CERTAIN
        if remedy is Remedy.REPLAN:
            return FailureType.MISS, CERTAIN
        return failure, np.where(self._left_s <= np.array(HORIZONS_S) + 1e-6, 1.0, 0.0)

    def _pass(self, now_s: float) -> None:
        self._left_s -= self._speed * max(now_s - self._stamp_s, 0.0)
        self._stamp_s = now_s
        if self._failure is not None and self._left_s < -self._PASSED_S:
            self._failure = None


def run_with_oracle(rollout: Rollout, oracle: Oracle, meta: EpisodeMeta, settings: OracleSettings) -> Episode:
    """One episode in which every failure that would begin is foreseen ``settings.lead_s`` ahead.

    A failure that begins while the gate already acts on the one before stands: nothing foresaw it in time. A
    time-out is foreseen once, ``settings.timeout_lead_s`` before the end or at the last moment before that.

    Args:
        rollout: with ``oracle`` as its judge, and a policy that can go back.
    """
    rollout.start(meta)
    recent: deque[_Kept] = deque(maxlen=round(settings.lead_s / settings.keep_s) + 3)
    early: deque[_Kept] = deque(maxlen=round(settings.timeout_lead_s) + 2)
    may_be_late = settings.timeouts
    while not rollout.over or (may_be_late and early and rollout.outcome is Outcome.TIMEOUT):
        if rollout.over:
            may_be_late = False
            rollout.restore(_latest(early, rollout.time_s - settings.timeout_lead_s).moment)
            oracle.foresee_timeout()
        now_s = rollout.time_s
        if not oracle.calm or rollout.mode not in FOLLOWING:
            recent.clear()
        elif not recent or now_s - recent[-1].time_s >= settings.keep_s - 1e-9:
            recent.append(_Kept(now_s, rollout.save()))
            if may_be_late and (not early or now_s - early[-1].time_s >= 1.0):
                early.append(recent[-1])
        onset = _onset(rollout.step())
        if onset is None or not recent:
            continue
        failure, onset_s = onset
        back_to = _latest(recent, onset_s - settings.lead_s)
        recent.clear()
        while early and early[-1].time_s > back_to.time_s:
            early.pop()  # of what will not have been
        rollout.restore(back_to.moment)
        oracle.foresee(failure, onset_s - back_to.time_s, back_to.time_s)
    return rollout.finish()


class _Kept(NamedTuple):
    """A moment to go back to."""

    time_s: float
    moment: object


def _latest(kept: Sequence[_Kept], until_s: float) -> _Kept:
    """The last moment that is no later than this, or else the first."""
    early = [each for each in kept if each.time_s <= until_s + 1e-9]
    return early[-1] if early else kept[0]


def _onset(events: tuple[EpisodeEvent, ...]) -> tuple[FailureType, float] | None:
    """Type and time of the first failure among the events."""
    for event in events:
        if event.kind is EventKind.FAILURE_ONSET and event.failure is not None:
            return event.failure, event.stamp_s
    return None
