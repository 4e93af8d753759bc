"""The mode machine: from what is present at a tick to the mode, by the rules' clear conditions.

A pure function over a small frozen state, so that all of it can be explored. Precedence is the order of
:class:`~salus_ros.types.Mode`; learned risk is a trigger like any other, so it can add and never remove.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Final

from salus_ros.intervention.inputs import RequestKind
from salus_ros.intervention.rules import FOLLOWING, NEWER_PLAN, RULES, WHEN_INACTIVE, Clear, Trigger
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause, Mode

_AFTER_STOP: Final = Trigger(Mode.REPLAN, Cause.AFTER_STOP)
_WAIT: Final = Trigger(Mode.HOLD, Cause.AFTER_STOP)
_LATE_TASK: Final = Trigger(Mode.REPLAN, Cause.FORESEEN_TIMEOUT)
"""Not counted as an attempt: it may be repeated for as long as nothing goes wrong."""
_EXHAUSTED: Final = Trigger(Mode.ASSIST, Cause.REPLANS_EXHAUSTED)
_MOVES: Final = "the arm has not come to rest yet"
"""The driver, which may go on after the answer, may hold the arm elsewhere: it is taken up at rest only."""


@dataclass(frozen=True, slots=True)
class ModeSettings:
    """The numbers of the mode machine; see ``GateSettings`` for each."""

    hold_off_s: float
    replan_attempts: int
    protective_stops: int
    attempts_renew_s: float
    replan_timeout_s: float
    assist_timeout_s: float

    @classmethod
    def of(cls, settings: GateSettings) -> ModeSettings:
        """Those of the settings."""
        return cls(**{each.name: getattr(settings, each.name) for each in fields(cls)})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is the case at one tick."""

    present: frozenset[Trigger] = frozenset()
    """Triggers that are present now."""
    standing: bool = True
    """The command rests, and so does whatever belongs to the mode (retracing)."""
    lost: bool = False
    """The arm was lost and is measured where it cannot be, so that it stands until a person looks."""
    plan_ready: bool = False
    """A plan newer than the last standstill is at hand and can be joined."""
    inputs_missing: str = ""
    """Which inputs are not fresh; empty when all are. Activation needs it empty."""
    step_s: float = 0.0
    """Time since the last tick."""
    progress_s: float = 0.0
    """Path time followed since the last tick."""


@dataclass(frozen=True, slots=True)
class ModeState:
    """All that the machine remembers."""

    active: bool = False
    leaving: Cause = Cause.NONE
    """Set while a deactivation waits for the standstill."""
    inactive_cause: Cause = Cause.STARTUP
    held: frozenset[Trigger] = frozenset()
    """Triggers that have come and are not cleared."""
    calm_s: float = 0.0
    """How long no trigger for HOLD has been present."""
    replans: int = 0
    stops: int = 0
    renew_s: float = 0.0
    """Path time followed since the last intervention."""
    waiting_s: float = 0.0
    """How long a replan has waited, standing, for its plan."""
    unanswered_s: float = 0.0
    """How long a call for assistance has been unanswered."""

    @property
    def trigger(self) -> Trigger:
        """The mode, and the cause that it is due to."""
        top = max(self.held, default=None)
        if top is not None and top.mode == Mode.EMERGENCY_STOP:
            return top
        if not self.active:
            return Trigger(Mode.INACTIVE, self.inactive_cause)
        if self.leaving != Cause.NONE:
            return Trigger(Mode.HOLD, self.leaving)
        return top or Trigger(Mode.NOMINAL, Cause.NONE)

    @property
    def mode(self) -> Mode:
        """The mode that takes precedence."""
        return self.trigger.mode


@dataclass(frozen=True, slots=True)
class Step:
    """What one tick of the machine gave."""

    state: ModeState
    answers: tuple[tuple[bool, str], ...] = field(default=())
    """Accepted, and why not, for each request."""


def step(state: ModeState, facts: Facts, requests: tuple[RequestKind, ...], settings: ModeSettings) -> Step:
    """One tick: take in what is present, clear what may be cleared, answer the requests.

    Requests come first and are judged by what is present now, so none clears what it cannot see.
    """
    answers: list[tuple[bool, str]] = []
    for request in requests:
        before = state
        state, accepted, message = _REQUESTS[request](before, facts)
        answers.append((accepted, message))
        if state != before and request in NEWER_PLAN:
            facts = replace(facts, plan_ready=False)  # the plan at hand is older than the request
    if state.leaving != Cause.NONE and facts.standing:
        state = _inactive(state, state.leaving)
    state = _take_in(state, facts, settings)
    state = _clear(state, facts, settings)
    return Step(_count(state, facts, settings), tuple(answers))


def _take_in(state: ModeState, facts: Facts, settings: ModeSettings) -> ModeState:
    present = facts.present if state.active else facts.present & WHEN_INACTIVE
    before = state.held
    held = before | present
    replans, stops = state.replans, state.stops
    counted = present - before - {_LATE_TASK}
    if _any(counted, Mode.REPLAN) and not _any(before - {_LATE_TASK}, Mode.REPLAN):
        replans += 1
    if _any(present - before, Mode.PROTECTIVE_STOP):
        stops += 1
    calm_s = 0.0 if _any(present, Mode.HOLD) else state.calm_s + facts.step_s
    latched = frozenset(_of(held, Mode.EMERGENCY_STOP))
    if latched or state.leaving != Cause.NONE:
        # Whatever else was wrong is over with the reset or the end, which wait for a newer plan anyway.
        return replace(state, held=latched, calm_s=0.0)
    renew_s = state.renew_s if (replans, stops) == (state.replans, state.stops) else 0.0
    state = replace(state, held=held, replans=replans, stops=stops, calm_s=calm_s, renew_s=renew_s)
    return _exhaust(state, settings)


def _clear(state: ModeState, facts: Facts, settings: ModeSettings) -> ModeState:
    mode = state.mode
    cleared = {t for t in state.held if RULES[t].clear is Clear.GONE and t not in facts.present}
    came: set[Trigger] = set()
    if facts.standing:
        if mode == Mode.REPLAN and facts.plan_ready:
            cleared |= _of(state.held, Mode.REPLAN)
        calm = state.calm_s >= settings.hold_off_s and not _any(facts.present, Mode.HOLD)
        # What stands for another reason below waits for a plan, or a person, itself.
        stands = _any(state.held, Mode.REPLAN) or _any(state.held, Mode.ASSIST)
        if mode == Mode.HOLD and state.leaving == Cause.NONE and calm and (facts.plan_ready or stands):
            cleared |= _of(state.held, Mode.HOLD)
    replans = state.replans
    if mode == Mode.PROTECTIVE_STOP and facts.standing:
        cleared |= _of(state.held, Mode.PROTECTIVE_STOP)
        if state.stops > settings.protective_stops:
            came.add(Trigger(Mode.ASSIST, Cause.FORESEEN_COLLISION))
        elif not _any(state.held - {_LATE_TASK}, Mode.REPLAN):
            came.add(_AFTER_STOP)
            replans += 1
    state = replace(state, held=(state.held - cleared) | came, replans=replans)
    return _exhaust(state, settings)


def _exhaust(state: ModeState, settings: ModeSettings) -> ModeState:
    """Call a person instead of replanning once more than allowed."""
    if state.replans <= settings.replan_attempts or not _any(state.held, Mode.REPLAN):
        return state
    return replace(state, held=(state.held - _of(state.held, Mode.REPLAN)) | {_EXHAUSTED})


def _count(state: ModeState, facts: Facts, settings: ModeSettings) -> ModeState:
    """Advance the machine's own clocks, and do what they ask."""
    mode = state.mode
    renew_s = state.renew_s + facts.progress_s if mode in FOLLOWING else 0.0
    replans, stops = state.replans, state.stops
    if renew_s >= settings.attempts_renew_s and (replans or stops):
        replans, stops = 0, 0
    # A hold that comes between does not begin the wait anew.
    waiting_s = state.waiting_s if mode == Mode.HOLD and _any(state.held, Mode.REPLAN) else 0.0
    if mode == Mode.REPLAN and facts.standing:
        waiting_s = state.waiting_s + facts.step_s
    if waiting_s >= settings.replan_timeout_s:
        replans, waiting_s = replans + 1, 0.0
    unanswered_s = state.unanswered_s + facts.step_s if mode == Mode.ASSIST else 0.0
    held = state.held
    if 0.0 < settings.assist_timeout_s <= unanswered_s:
        held = held | {Trigger(Mode.EMERGENCY_STOP, Cause.REPLANS_EXHAUSTED)}
    state = replace(
        state,
        held=held,
        replans=replans,
        stops=stops,
        renew_s=renew_s,
        waiting_s=waiting_s,
        unanswered_s=unanswered_s,
    )
    return _exhaust(state, settings)


def _activate(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    if _any(state.held | facts.present, Mode.EMERGENCY_STOP):
        return state, False, "an emergency stop is latched or its cause stands: reset it first"
    if state.active:
        return state, state.leaving == Cause.NONE, "" if state.leaving == Cause.NONE else "still stopping"
    if facts.inputs_missing:
        return state, False, facts.inputs_missing
    waiting = frozenset({Trigger(Mode.HOLD, Cause.STARTUP)})
    return ModeState(active=True, held=waiting), True, ""


def _deactivate(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    return _leave(state, facts, Cause.DEACTIVATED)


def _shutdown(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    return _leave(state, facts, Cause.SHUTDOWN)


def _abort(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    denied = _denied(state, facts, RequestKind.ABORT)
    if denied:
        return state, False, denied
    return _leave(state, facts, Cause.PERSON)


def _leave(state: ModeState, facts: Facts, cause: Cause) -> tuple[ModeState, bool, str]:
    if not state.active:
        return replace(state, inactive_cause=cause), True, ""
    return replace(state, leaving=cause), True, ""


def _inactive(state: ModeState, cause: Cause) -> ModeState:
    latched = _of(state.held, Mode.EMERGENCY_STOP)
    return ModeState(active=False, inactive_cause=cause, held=frozenset(latched))


def _emergency_stop(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    return replace(state, held=state.held | {Trigger(Mode.EMERGENCY_STOP, Cause.PERSON)}), True, ""


def _reset(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    standing = sorted(
        trigger.cause.name.lower() for trigger in facts.present if trigger.mode == Mode.EMERGENCY_STOP
    )
    if standing:
        return state, False, f"the cause still stands: {', '.join(standing)}"
    if state.mode in FOLLOWING:
        return state, False, "nothing is stopped: the arm follows the policy"
    if not (facts.standing or facts.lost):
        return state, False, _MOVES
    if not _any(state.held, Mode.EMERGENCY_STOP):
        return state, True, ""
    if not state.active:
        return ModeState(inactive_cause=state.inactive_cause), True, ""
    return ModeState(active=True, leaving=state.leaving, held=frozenset({_WAIT})), True, ""


def _resume(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    return _take_over(state, facts, RequestKind.RESUME, frozenset({_WAIT}))


def _retry(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    return _take_over(state, facts, RequestKind.RETRY, frozenset({Trigger(Mode.REPLAN, Cause.PERSON)}))


def _take_over(
    state: ModeState, facts: Facts, request: RequestKind, came: frozenset[Trigger]
) -> tuple[ModeState, bool, str]:
    denied = _denied(state, facts, request)
    if denied:
        return state, False, denied
    if not (facts.standing or facts.lost):
        return state, False, _MOVES
    kept = frozenset(t for t in state.held if request not in RULES[t].requests and t.mode != Mode.REPLAN)
    state = replace(state, held=kept | came, calm_s=0.0, stops=0, unanswered_s=0.0)
    return replace(state, replans=1 if _any(came, Mode.REPLAN) else 0), True, ""


def _denied(state: ModeState, facts: Facts, request: RequestKind) -> str:
    answered = [t for t in state.held if request in RULES[t].requests]
    if not answered:
        return "nobody was called for assistance"
    standing = [t.cause.name.lower() for t in answered if RULES[t].must_be_gone and t in facts.present]
    return f"the cause still stands: {', '.join(standing)}" if standing else ""


def _button(state: ModeState, facts: Facts) -> tuple[ModeState, bool, str]:
    """The button's level is a fact, not a request; its heartbeat needs no answer."""
    return state, True, ""


_REQUESTS: Final = {
    RequestKind.ACTIVATE: _activate,
    RequestKind.DEACTIVATE: _deactivate,
    RequestKind.SHUTDOWN: _shutdown,
    RequestKind.EMERGENCY_STOP: _emergency_stop,
    RequestKind.RESET: _reset,
    RequestKind.RESUME: _resume,
    RequestKind.RETRY: _retry,
    RequestKind.ABORT: _abort,
    RequestKind.BUTTON_PRESSED: _button,
    RequestKind.BUTTON_RELEASED: _button,
}


def _of(triggers: frozenset[Trigger], mode: Mode) -> set[Trigger]:
    return {trigger for trigger in triggers if trigger.mode == mode}


def _any(triggers: frozenset[Trigger], mode: Mode) -> bool:
    return any(trigger.mode == mode for trigger in triggers)
