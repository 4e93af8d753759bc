"""What the gate knows: every input checked, every silence noticed, and the triggers that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from salus_ros.intervention import checks
from salus_ros.intervention.contact import ContactSense
from salus_ros.intervention.inputs import Fault, GateInputs, RequestKind
from salus_ros.intervention.limits import Limits
from salus_ros.intervention.path import JointPath, PathError, spline
from salus_ros.intervention.report import InputReport, LimitReport
from salus_ros.intervention.risk import RiskJudge
from salus_ros.intervention.rules import FAULT_MODES, Trigger
from salus_ros.intervention.settings import GateSettings
from salus_ros.intervention.tracking import PlausibilityCheck, TrackingCheck
from salus_ros.intervention.watchdogs import RosTime, Watchdogs
from salus_ros.robot.model import ArmModel
from salus_ros.types import Cause, Floats, Mode, PolicyOutput, RobotState

_ROBOT: Final = "joint states"
_POLICY: Final = "policy output"
_PREDICTION: Final = "failure prediction"
_BUTTON: Final = "emergency stop button"
_HEARTBEATS: Final = frozenset({RequestKind.BUTTON_PRESSED, RequestKind.BUTTON_RELEASED})


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy output that describes a path inside the limits."""

    output: PolicyOutput
    path: JointPath
    end_s: float
    """Path time up to which it stays inside the limits."""


class Senses:
    """Takes what arrives, refuses what is wrong, and says what is present."""

    def __init__(self, settings: GateSettings, arm: ArmModel, limits: Limits) -> None:
        s = self._settings = settings
        self._arm = arm
        self._limits = limits
        self.clock = RosTime(s.period_s, s.clock_stall_s, s.clock_jump_s)
        self._watchdogs = Watchdogs(
            {
                _ROBOT: s.joint_state_deadline_s,
                _POLICY: s.policy_deadline_s,
                _PREDICTION: s.prediction_hold_deadline_s,
                _BUTTON: s.button_deadline_s,
            }
        )
        self._plausibility = PlausibilityCheck(arm, s.jump_margin_rad)
        self.contact = ContactSense(
            arm,
            (s.contact_force_n, s.contact_persistence_s),
            (s.hard_force_n, s.hard_force_persistence_s),
            s.effort_baseline_s,
        )
        self.tracking = TrackingCheck(s.tracking_window_s, s.period_s)
        self.risk = RiskJudge(s)
        self.robot: RobotState | None = None
        """The newest valid joint state that was possible."""
        self.doubted = False
        """Whether joint states were impossible or late since the gate was armed: the arm is not held where
        they say, which could drive it there. A driver that has just come back may not know where it is."""
        self.plan: Plan | None = None
        """The newest valid plan."""
        self.details: dict[Cause, str] = {}
        """What made each cause present, in words."""
        self.refused_count = 0
        self.overrun_count = 0
        self._bad_plans = 0
        self._robot_stamp_s = self._plan_stamp_s = self._prediction_stamp_s = -math.inf
        self._overruns = 0
        self._last_s = math.nan
        self._armed = False
        self._asked_s: float | None = None
        """ROS time from which an activation is asked for, without a pause."""
        self._pressed = False
        self._impossible = ""
        """Why the newest joint state is impossible, if it is."""

    def arm(self, now_s: float) -> None:
        """Watch from now on, and forget what was wrong before: at activation and after a reset."""
        self._armed = True
        self._watchdogs.arm(now_s)
        self.doubted = False
        self.contact.reset()
        self.tracking.reset()
        self.risk.reset()
        self._overruns = 0
        self._bad_plans = 0

    def disarm(self) -> None:
        """Watch nothing that only matters to a moving arm."""
        self._armed = False
        self._watchdogs.disarm()

    def renew_counters(self) -> None:
        """Count from here: at activation."""
        self.refused_count = 0
        self.overrun_count = 0
        self.contact.largest_n = self.tracking.largest_rad = 0.0

    def take(self, now_s: float, inputs: GateInputs) -> tuple[str, ...]:
        """Take what arrived; returns why what was refused was refused."""
        self._tick(now_s, inputs.ros_time_s)
        refused = [
            why
            for why in (
                self._take_robot(now_s, inputs),
                self._take_plan(now_s, inputs),
                self._take_prediction(now_s, inputs),
                *(self._take_unreadable(fault) for fault in inputs.faults),
            )
            if why
        ]
        self.refused_count += len(refused)
        self._take_requests(now_s, inputs)
        return tuple(refused)

    def inputs(self, now_s: float) -> tuple[InputReport, ...]:
        """How long each input has been silent."""
        required = {_PREDICTION: self._settings.monitor == "required", _BUTTON: self._settings.button}
        return tuple(
            InputReport(
                name,
                self._watchdogs.silence_s(name, now_s),
                self._watchdogs.deadline_s(name),
                required.get(name, True),
            )
            for name in (_ROBOT, _POLICY, _PREDICTION, _BUTTON)
        )

    def uses(self) -> tuple[LimitReport, ...]:
        """How near an active gate is to a contact and to an arm that does not follow."""
        s, contact, tracking = self._settings, self.contact, self.tracking
        since = "at most since the activation"
        force = LimitReport(
            "contact force",
            contact.force_n / s.contact_force_n,
            f"about {contact.force_n:.0f} N at the tool, {contact.largest_n:.0f} N {since}",
        )
        if not contact.feels:
            force = LimitReport(force.name, math.nan, "no joint has effort, so that no contact is felt")
        return (
            force,
            LimitReport(
                "distance from commands",
                tracking.error_rad / s.tracking_slow_rad,
                f"{tracking.error_rad:.3f} rad off recent commands, {tracking.largest_rad:.3f} rad {since}",
            ),
        )

    def missing(self, now_s: float) -> str:
        """What stands against an activation, in words; empty if nothing does."""
        names = [_ROBOT, _POLICY]
        if self._settings.monitor == "required":
            names.append(_PREDICTION)
        if self._settings.button:
            names.append(_BUTTON)
        silent = [name for name in names if not self._watchdogs.fresh(name, now_s)]
        if silent or self.robot is None:
            return f"not fresh: {', '.join(silent or names[:1])}"
        if not self.clock.sound:
            return "the ROS clock is not sound"
        if self._impossible:
            return f"{_ROBOT} are impossible: {self._impossible}"
        if self._asked_s is not None and self.robot.stamp_s <= self._asked_s:
            # Whoever asks may just have put the arm somewhere else.
            return f"not fresh: {_ROBOT} newer than the request"
        velocity = self.robot.joint_velocity_rad_s
        if (np.abs(velocity) > 5.0 * self._settings.standing_rad_s).any():
            return "the arm is moving"
        outside = np.abs(self._limits.inside(self.robot.joint_position_rad) - self.robot.joint_position_rad)
        if outside.max() > self._settings.path_tolerance_rad:
            return f"joint {int(outside.argmax()) + 1} is outside its position limits"
        return ""

    @property
    def measured(self) -> Floats | None:
        """(J,) the newest measured position; ``None`` before the first."""
        return None if self.robot is None else self.robot.joint_position_rad

    @property
    def still(self) -> bool:
        """Whether every joint is measured to stand; an arm without measured velocities never is."""
        return self.robot is not None and bool(
            (np.abs(self.robot.joint_velocity_rad_s) <= self._settings.standing_rad_s).all()
        )

    def robot_silent(self, now_s: float) -> bool:
        """Whether joint states are too old to act on."""
        return not self._watchdogs.fresh(_ROBOT, now_s)

    def present(self, now_s: float, faults: tuple[Fault, ...]) -> frozenset[Trigger]:
        """Everything but learned risk that is present at this tick."""
        self.details.clear()
        found: set[Trigger] = set()

        def add(mode: Mode, cause: Cause, detail: str = "") -> None:
            found.add(Trigger(mode, cause))
            if detail:
                self.details[cause] = detail

        for fault in faults:
            if not fault.refused:
                mode = FAULT_MODES.get(fault.cause, Mode.EMERGENCY_STOP)
                cause = fault.cause if fault.cause in FAULT_MODES else Cause.EXCEPTION
                add(mode, cause, fault.detail)
        if self._pressed:
            add(Mode.EMERGENCY_STOP, Cause.BUTTON)
        if not self._armed:
            return frozenset(found)
        s = self._settings
        if s.button and self._watchdogs.late(_BUTTON, now_s):
            add(Mode.EMERGENCY_STOP, Cause.BUTTON_LOST)
        if self._watchdogs.late(_ROBOT, now_s):
            self.doubted = True
            add(Mode.EMERGENCY_STOP, Cause.JOINT_STATE_LATE)
        if self._impossible:
            add(Mode.EMERGENCY_STOP, Cause.JOINT_STATE_INVALID, self._impossible)
        if self._watchdogs.late(_POLICY, now_s):
            add(Mode.HOLD, Cause.POLICY_LATE)
        if self._bad_plans >= s.bad_plans_to_hold:
            add(Mode.HOLD, Cause.POLICY_INVALID)
        if s.monitor == "required":
            if self._watchdogs.late(_PREDICTION, now_s, s.prediction_slow_deadline_s):
                add(Mode.SLOW_DOWN, Cause.PREDICTION_LATE)
            if self._watchdogs.late(_PREDICTION, now_s):
                add(Mode.HOLD, Cause.PREDICTION_LATE)
        if not self.clock.sound:
            add(Mode.HOLD, Cause.TIME_UNSOUND)
        if self._overruns >= s.overruns_to_hold:
            add(Mode.HOLD, Cause.GATE_OVERRUN)
        detail = f"{self.tracking.error_rad:.3f} rad off its recent commands"
        if self.tracking.off(s.tracking_slow_rad, s.tracking_persistence_s, now_s):
            add(Mode.SLOW_DOWN, Cause.TRACKING_ERROR, detail)
        if self.tracking.off(s.tracking_hold_rad, s.tracking_persistence_s, now_s):
            add(Mode.HOLD, Cause.TRACKING_ERROR, detail)
        force = f"about {self.contact.force_n:.0f} N at the tool"
        if self.contact.contact:
            add(Mode.ASSIST, Cause.CONTACT, force)
        if self.contact.hard:
            add(Mode.EMERGENCY_STOP, Cause.CONTACT_FORCE, force)
        return frozenset(found)

    def _tick(self, now_s: float, ros_time_s: float) -> None:
        self.clock.update(now_s, ros_time_s)
        if self.clock.jumped:
            # Stamps from before the jump say nothing about what comes after it.
            self._robot_stamp_s = self._plan_stamp_s = self._prediction_stamp_s = -math.inf
            self._asked_s = None
            self._plausibility.reset()
            self.tracking.reset()
            self.plan = None
        step = now_s - self._last_s
        self._last_s = now_s
        missed = step // (self._settings.overrun_factor * self._settings.period_s)
        if missed >= 1:
            self.overrun_count += int(missed)
            self._overruns += int(missed)
        elif step >= 0.5 * self._settings.period_s:
            # A tick outside the period, because a stop came, says nothing about the period.
            self._overruns = 0

    def _take_robot(self, now_s: float, inputs: GateInputs) -> str:
        state = inputs.robot
        if state is None:
            return ""
        why = checks.robot_state(state, len(self._arm.joint_names)) or self._stamp_objection(
            _ROBOT, state.stamp_s, inputs.ros_time_s, self._settings.joint_state_age_max_s
        )
        if not why and state.stamp_s < self._robot_stamp_s:
            why = f"{_ROBOT}: older than the ones before"
        if why:
            return why
        if state.stamp_s > self._robot_stamp_s or self.clock.step_s == 0.0:
            # Who repeats a stamp while the clock goes on repeats what it said: that is silence.
            self._watchdogs.hear(_ROBOT, now_s)
        self._robot_stamp_s = state.stamp_s
        self._impossible = self._plausibility.objection(state)
        if self._impossible:
            self.doubted = True
            return ""
        self.robot = state
        if self._armed:
            self.contact.feel(state)
            self.tracking.measure(state.joint_position_rad)
        return ""

    def _take_plan(self, now_s: float, inputs: GateInputs) -> str:
        output = inputs.plan
        if output is None:
            return ""
        s = self._settings
        why = checks.plan(output, len(self._arm.joint_names), s.plan_points_max) or self._stamp_objection(
            _POLICY, output.stamp_s, inputs.ros_time_s, s.plan_age_max_s
        )
        if not why and output.stamp_s <= self._plan_stamp_s:
            why = f"{_POLICY}: not newer than the one before"
        if not why:
            try:
                path = spline(
                    output.chunk.time_from_start_s,
                    output.chunk.joint_position_rad,
                    s.path_tolerance_rad,
                    s.plan_points_max,
                )
            except PathError as error:
                why = f"{_POLICY}: {error}"
        if why:
            self._bad_plans += 1
            return why
        self._bad_plans = 0
        self._plan_stamp_s = output.stamp_s
        self.plan = Plan(output, path, self._limits.admissible_end_s(path))
        self._watchdogs.hear(_POLICY, now_s)
        return ""

    def _take_prediction(self, now_s: float, inputs: GateInputs) -> str:
        prediction = inputs.prediction
        if prediction is None or self._settings.monitor == "absent":
            return ""
        why = checks.prediction(prediction) or self._stamp_objection(
            _PREDICTION, prediction.stamp_s, inputs.ros_time_s, self._settings.prediction_age_max_s
        )
        if not why and prediction.stamp_s < self._prediction_stamp_s:
            why = f"{_PREDICTION}: older than the one before"
        if why:
            return why
        if prediction.stamp_s > self._prediction_stamp_s:
            self._watchdogs.hear(_PREDICTION, now_s)
        self._prediction_stamp_s = prediction.stamp_s
        self.risk.hear(prediction, now_s)
        return ""

    def _take_requests(self, now_s: float, inputs: GateInputs) -> None:
        kinds = {request.kind for request in inputs.requests}
        if RequestKind.ACTIVATE not in kinds:
            if not kinds or kinds - _HEARTBEATS:
                self._asked_s = None
        elif self._asked_s is None:
            self._asked_s = float(np.fmax(inputs.ros_time_s, self._robot_stamp_s))
        for request in inputs.requests:
            if request.kind in _HEARTBEATS:
                self._pressed = request.kind is RequestKind.BUTTON_PRESSED
                self._watchdogs.hear(_BUTTON, now_s)

    def _take_unreadable(self, fault: Fault) -> str:
        if not fault.refused:
            return ""
        if fault.cause is Cause.POLICY_INVALID:
            self._bad_plans += 1
        return fault.detail or fault.cause.name.lower()

    def _stamp_objection(self, name: str, stamp_s: float, ros_time_s: float, age_max_s: float) -> str:
        return checks.stamp(name, stamp_s, ros_time_s, self._settings.stamp_ahead_max_s, age_max_s)
