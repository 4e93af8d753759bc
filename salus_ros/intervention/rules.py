"""The policy of the mode machine: which cause leads to which mode, and what ends it.

The mechanism is in :mod:`salus_ros.intervention.modes`. Nothing here computes; the table in the docs is
generated from it.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final, NamedTuple

from salus_ros.intervention.inputs import RequestKind
from salus_ros.types import Cause, Mode


class Trigger(NamedTuple):
    """A cause, and the mode that it asks for."""

    mode: Mode
    cause: Cause


class Clear(enum.Enum):
    """What ends a trigger once it has come."""

    GONE = "as soon as it is gone"
    NEW_PLAN = "a plan newer than the standstill has come"
    GONE_AND_NEW_PLAN = (
        "all of its mode are gone for the hold-off time, and a plan newer than the standstill has come"
    )
    STANDSTILL = "the arm stands; a replan follows, or a call for assistance when the stops are used up"
    PERSON = "a person answers"
    RESET = "a person resets, and nothing that leads to this mode is present"


class Rule(NamedTuple):
    """What ends a trigger, and what a person may do about it."""

    clear: Clear
    requests: frozenset[RequestKind] = frozenset()
    """Requests by which a person takes over."""
    must_be_gone: bool = False
    """The requests are denied while the trigger is present."""


_ANSWERS: Final = frozenset({RequestKind.RESUME, RequestKind.RETRY, RequestKind.ABORT})
_RESET: Final = frozenset({RequestKind.RESET})

_SLOW: Final = Rule(Clear.GONE)
_REPLAN: Final = Rule(Clear.NEW_PLAN)
_ASSIST: Final = Rule(Clear.PERSON, _ANSWERS)
_ASSIST_WHEN_GONE: Final = Rule(Clear.PERSON, _ANSWERS, must_be_gone=True)
_HOLD: Final = Rule(Clear.GONE_AND_NEW_PLAN)
_STOP: Final = Rule(Clear.STANDSTILL)
_LATCH: Final = Rule(Clear.RESET, _RESET, must_be_gone=True)

RULES: Final = MappingProxyType(
    {
        Trigger(Mode.SLOW_DOWN, Cause.RISK): _SLOW,
        Trigger(Mode.SLOW_DOWN, Cause.PREDICTION_LATE): _SLOW,
        Trigger(Mode.SLOW_DOWN, Cause.TRACKING_ERROR): _SLOW,
        Trigger(Mode.REPLAN, Cause.FORESEEN_DROP): _REPLAN,
        Trigger(Mode.REPLAN, Cause.FORESEEN_MISS): _REPLAN,
        Trigger(Mode.REPLAN, Cause.FORESEEN_TIMEOUT): _REPLAN,
        Trigger(Mode.REPLAN, Cause.PLAN_REFUSED): _REPLAN,
        Trigger(Mode.REPLAN, Cause.AFTER_STOP): _REPLAN,
        Trigger(Mode.REPLAN, Cause.PERSON): _REPLAN,
        Trigger(Mode.ASSIST, Cause.REPLANS_EXHAUSTED): _ASSIST,
        Trigger(Mode.ASSIST, Cause.FORESEEN_COLLISION): _ASSIST,
        Trigger(Mode.ASSIST, Cause.OUT_OF_DISTRIBUTION): _ASSIST,
        Trigger(Mode.ASSIST, Cause.STALL): _ASSIST,
        Trigger(Mode.ASSIST, Cause.CONTACT): _ASSIST_WHEN_GONE,
        Trigger(Mode.HOLD, Cause.STARTUP): _HOLD,
        Trigger(Mode.HOLD, Cause.AFTER_STOP): _HOLD,
        Trigger(Mode.HOLD, Cause.PREDICTION_LATE): _HOLD,
        Trigger(Mode.HOLD, Cause.PREDICTION_INVALID): _HOLD,
        Trigger(Mode.HOLD, Cause.POLICY_LATE): _HOLD,
        Trigger(Mode.HOLD, Cause.POLICY_INVALID): _HOLD,
        Trigger(Mode.HOLD, Cause.PLAN_ENDED): _HOLD,
        Trigger(Mode.HOLD, Cause.SECOND_POLICY_PUBLISHER): _HOLD,
        Trigger(Mode.HOLD, Cause.TRACKING_ERROR): _HOLD,
        Trigger(Mode.HOLD, Cause.TIME_UNSOUND): _HOLD,
        Trigger(Mode.HOLD, Cause.GATE_OVERRUN): _HOLD,
        Trigger(Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION): _STOP,
        Trigger(Mode.EMERGENCY_STOP, Cause.FORESEEN_COLLISION): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.REPLANS_EXHAUSTED): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.JOINT_STATE_LATE): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.JOINT_STATE_INVALID): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.CONTACT_FORCE): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.SECOND_COMMAND_PUBLISHER): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.EXCEPTION): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.PERSON): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.BUTTON): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.BUTTON_LOST): _LATCH,
        Trigger(Mode.EMERGENCY_STOP, Cause.LATCH_RESTORED): _LATCH,
    }
)
"""Every trigger there is."""

LEARNED: Final = frozenset(
    {
        Trigger(Mode.SLOW_DOWN, Cause.RISK),
        Trigger(Mode.REPLAN, Cause.FORESEEN_DROP),
        Trigger(Mode.REPLAN, Cause.FORESEEN_MISS),
        Trigger(Mode.REPLAN, Cause.FORESEEN_TIMEOUT),
        Trigger(Mode.ASSIST, Cause.OUT_OF_DISTRIBUTION),
        Trigger(Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION),
        Trigger(Mode.EMERGENCY_STOP, Cause.FORESEEN_COLLISION),
    }
)
"""What learned risk asks for: the only triggers that ``shadow_mode`` mutes."""

WHEN_INACTIVE: Final = frozenset(
    Trigger(Mode.EMERGENCY_STOP, cause)
    for cause in (
        Cause.SECOND_COMMAND_PUBLISHER,
        Cause.EXCEPTION,
        Cause.PERSON,
        Cause.BUTTON,
        Cause.LATCH_RESTORED,
    )
)
"""What also counts while the gate is not active."""

FAULT_MODES: Final = MappingProxyType(
    {trigger.cause: trigger.mode for trigger in RULES if trigger.mode in (Mode.HOLD, Mode.EMERGENCY_STOP)}
)
"""The mode that a fault reported from outside leads to."""

NEWER_PLAN: Final = frozenset(
    {RequestKind.ACTIVATE, RequestKind.RESET, RequestKind.RESUME, RequestKind.RETRY}
)
"""Requests after which only a plan newer than them moves the arm."""

FOLLOWING: Final = frozenset({Mode.NOMINAL, Mode.SLOW_DOWN})
"""Modes in which the arm follows the policy."""

REASONS: Final = MappingProxyType(
    {
        Cause.NONE: "following the policy",
        Cause.STARTUP: "waiting for a plan newer than the activation",
        Cause.DEACTIVATED: "not active",
        Cause.SHUTDOWN: "shutting down",
        Cause.RISK: "the risk of a failure is raised",
        Cause.FORESEEN_COLLISION: "a collision is foreseen",
        Cause.FORESEEN_DROP: "the object will be dropped",
        Cause.FORESEEN_MISS: "the fingers will miss",
        Cause.FORESEEN_TIMEOUT: "the task will not be done in time",
        Cause.OUT_OF_DISTRIBUTION: "at risk and outside the training data",
        Cause.PREDICTION_LATE: "no valid failure prediction in time",
        Cause.PREDICTION_INVALID: "failure predictions are invalid",
        Cause.POLICY_LATE: "no valid policy output in time",
        Cause.POLICY_INVALID: "policy outputs are invalid",
        Cause.PLAN_REFUSED: "plans cannot be joined to where the arm is",
        Cause.PLAN_ENDED: "the plan has ended",
        Cause.REPLANS_EXHAUSTED: "all attempts to replan are used up",
        Cause.SECOND_POLICY_PUBLISHER: "another node publishes policy outputs",
        Cause.AFTER_STOP: "waiting for a plan newer than the stop",
        Cause.JOINT_STATE_LATE: "no valid joint states in time",
        Cause.JOINT_STATE_INVALID: "joint states are impossible",
        Cause.TRACKING_ERROR: "the arm does not follow its commands",
        Cause.STALL: "the arm makes no progress",
        Cause.CONTACT: "contact",
        Cause.CONTACT_FORCE: "contact force over the hard limit",
        Cause.TIME_UNSOUND: "the ROS clock is missing, stands still or has jumped",
        Cause.GATE_OVERRUN: "the gate misses its control period",
        Cause.SECOND_COMMAND_PUBLISHER: "another node commands the arm",
        Cause.EXCEPTION: "an internal error",
        Cause.PERSON: "a person asked for it",
        Cause.BUTTON: "the emergency stop button is pressed",
        Cause.BUTTON_LOST: "the emergency stop button is silent",
        Cause.LATCH_RESTORED: "stopped before the restart, or the latch file cannot be read",
    }
)
"""Each cause in words for people."""
