"""What goes into one tick of the gate and what comes out of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from salus_ros.types import (
    Cause,
    FailurePrediction,
    InterventionState,
    JointTrajectory,
    Mode,
    PolicyOutput,
    RobotState,
)


class RequestKind(enum.Enum):
    """What a person, a lifecycle manager or a hardware button can ask of the gate."""

    ACTIVATE = "activate"
    """Start following; granted only while all inputs are fresh. Ask again when denied."""
    DEACTIVATE = "deactivate"
    """Stop, then give no more commands."""
    SHUTDOWN = "shutdown"
    """As deactivate, because the process ends."""
    EMERGENCY_STOP = "emergency_stop"
    RESET = "reset"
    """Leave an emergency stop; denied while its cause stands. Binds the policy anew."""
    RESUME = "resume"
    """Answer to a call for assistance: go on with the next fresh plan."""
    RETRY = "retry"
    """Answer to a call for assistance: ask the policy for a new plan, with new attempts."""
    ABORT = "abort"
    """Answer to a call for assistance: become inactive."""
    BUTTON_PRESSED = "button_pressed"
    """One heartbeat of the hardware button while it is pressed."""
    BUTTON_RELEASED = "button_released"
    """One heartbeat of the hardware button while it is released."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request and who made it."""

    kind: RequestKind
    person: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request."""

    request: Request
    accepted: bool
    message: str
    """Why not, when refused."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that only the surroundings of the gate can see, standing at this tick.

    A standing fault (a second publisher) is listed at every tick while it stands; a single
    event (an exception, a message that could not be read) is listed once.
    """

    cause: Cause
    detail: str = ""
    refused: bool = False
    """It only says that a message could not be read: the message is refused, and its silence counts."""


@dataclass(frozen=True, slots=True)
class GateInputs:
    """What arrived since the last tick; ``None`` where nothing did."""

    ros_time_s: float
    """The ROS clock: simulated time under a simulator; nan while there is none."""
    robot: RobotState | None = None
    plan: PolicyOutput | None = None
    prediction: FailurePrediction | None = None
    requests: tuple[Request, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate does at this tick."""

    state: InterventionState
    command: JointTrajectory | None = None
    """For the arm's controller; replaces the one before at reception and ends in rest."""
    gripper_opening_m: float | None = None
    """Set when the gripper's command changes; the gripper is left as it is otherwise."""
    request_replan: bool = False
    """Ask the policy now for a fresh plan: once for each attempt to replan."""
    commit: bool = False
    """With it: the policy is to follow one of its samples, since their mean gets nowhere."""
    lift_m: float = 0.0
    """With it: the policy is to raise the tool by so much before it plans, since the way here ends badly."""
    stop_driver: bool = False
    """Call the driver's own stop now: set once at each entry into an emergency stop."""
    second_writer: bool = False
    """Another node has just begun to command the arm, so that no hold could win, whatever else stops it."""
    placing: bool = False
    """An emergency stop has come while the arm may be on its way to where it is taken up, which no hold
    ends."""
    answers: tuple[Answer, ...] = ()
    """One for each request of this tick, in their order."""
    risk_would: Mode | None = None
    """In shadow mode: the mode that learned risk alone would have asked for."""
    refused: tuple[str, ...] = ()
    """Inputs of this tick that were refused, and why."""
    standing: bool = True
    """The command stands still: no motion is in hand."""
