"""The gate: policy outputs and failure predictions in, safe commands out.

One tick: time passes (:mod:`.motion`), what arrived is checked (:mod:`.senses`), the mode follows from what
is present (:mod:`.modes` by :mod:`.rules`), the mode moves or stops the arm, and the command is looked at
once more (:mod:`.limits`).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import Final

import numpy as np

from salus_ros.intervention.follower import MotionLimits
from salus_ros.intervention.inputs import Answer, Decision, Fault, GateInputs, RequestKind
from salus_ros.intervention.latch import LatchRecord
from salus_ros.intervention.limits import Limits
from salus_ros.intervention.modes import Facts, ModeSettings, ModeState, step
from salus_ros.intervention.motion import ArmMotion, EntryRules
from salus_ros.intervention.report import GateReport, LimitReport
from salus_ros.intervention.retrace import DrivenPath
from salus_ros.intervention.rules import FOLLOWING, LEARNED, REASONS, Trigger
from salus_ros.intervention.senses import Plan, Senses
from salus_ros.intervention.settings import GateSettings
from salus_ros.intervention.tracking import StallCheck
from salus_ros.robot.model import ArmModel
from salus_ros.types import Cause, Floats, InterventionState, JointTrajectory, Mode

_STOP_AT_MEASURED: Final = frozenset(
    {
        Trigger(Mode.ASSIST, Cause.CONTACT),
        Trigger(Mode.ASSIST, Cause.STALL),
        Trigger(Mode.HOLD, Cause.TRACKING_ERROR),
        Trigger(Mode.EMERGENCY_STOP, Cause.CONTACT_FORCE),
    }
)
"""Stop at the place measured at once, whatever the mode: the command is where the arm cannot go, must not go,
or is no more."""

_RETRACED: Final = frozenset({Cause.FORESEEN_DROP, Cause.FORESEEN_MISS, Cause.AFTER_STOP})
"""Replans that first drive a little of the path back."""

_FORESEEN_MISHAPS: Final = frozenset(
    {Trigger(Mode.REPLAN, Cause.FORESEEN_DROP), Trigger(Mode.REPLAN, Cause.FORESEEN_MISS)}
)
"""What harms nobody if it happens, so that one may rather try it than call a person."""

_NEWER_PLAN: Final = frozenset(
    {RequestKind.ACTIVATE, RequestKind.RESET, RequestKind.RESUME, RequestKind.RETRY}
)
"""Requests after which only a plan newer than them moves the arm."""

_NAMED_LATE: Final = frozenset({Cause.SECOND_COMMAND_PUBLISHER, Cause.SECOND_POLICY_PUBLISHER})

_GRIPPER_STEP_M: Final = 5e-4
_HISTORY: Final = 150


class Gate:
    """Decides at every control period what the arm does; pure, time is passed in.

    The caller starts it with ``Request(RequestKind.ACTIVATE)``, repeated until it is answered with
    ``accepted``: the gate stays ``INACTIVE`` until joint states, policy output and prediction are fresh.
    Deactivate it before the arm or the simulated world is moved by somebody else, activate it again after.
    """

    def __init__(self, settings: GateSettings, arm: ArmModel, latched: LatchRecord | None = None) -> None:
        """Start inactive; emergency-stopped if a latch from before the restart is given."""
        self.settings = s = settings
        self._arm = arm
        self._limits = Limits(arm, s.position_margin_rad, s.workspace_lower_m, s.workspace_upper_m)
        self._motion_limits = MotionLimits(
            arm.velocity_limit_rad_s * s.velocity_fraction,
            arm.acceleration_limit_rad_s2 * s.acceleration_fraction,
            s.braking_share,
            s.braking_rate_max_s,
            s.speeding_up_rate_s,
            s.period_s,
            s.lead_s,
        )
        self._entry_rules = EntryRules(s.blend_s, s.blend_rad, s.entry_window_s, s.entry_time_weight_rad_s)
        self._mode_settings = ModeSettings(
            s.hold_off_s,
            s.replan_attempts,
            s.protective_stops,
            s.attempts_renew_s,
            s.replan_timeout_s,
            s.assist_timeout_s,
        )
        self._senses = Senses(settings, arm, self._limits)
        self._driven = DrivenPath()
        self._stall = StallCheck(s.stall_s, s.stall_progress)
        held = frozenset({Trigger(Mode.EMERGENCY_STOP, Cause.LATCH_RESTORED)}) if latched else frozenset()
        self._modes = ModeState(held=held)
        self._latched_reason = latched.reason if latched else ""
        self._last_mode = self._modes.mode
        self._reason = ""
        self._mode_since_s = math.nan
        self._last_s = math.nan
        self._counts = dict.fromkeys(Mode, 0)
        self._fault = ""
        self._present: frozenset[Trigger] = frozenset()
        self._lost = False
        """Where the controller is by now is unknown: the clock stood, or an update failed. What it was sent
        last ends in rest; until it is found there it gets nothing more."""
        self._motion: ArmMotion | None = None
        self._executing: Plan | None = None
        self._tried: Plan | None = None
        self._renew_motion_state()

    def update(self, now_s: float, inputs: GateInputs) -> Decision:
        """Decide for this moment.

        Never raises: an internal error stops the arm by what it was sent last, and latches.

        Args:
            now_s: Steady time; a simulator that runs in one process passes its own time.
            inputs: What arrived since the last tick.
        """
        try:
            return self._update(now_s, inputs)
        except Exception as error:
            self._fault = f"{type(error).__name__}: {error}"
            stop = Trigger(Mode.EMERGENCY_STOP, Cause.EXCEPTION)
            self._modes = replace(self._modes, held=self._modes.held | {stop})
            self._executing = None
            self._lost = True
            answers = tuple(Answer(request, False, self._fault) for request in inputs.requests)
            return self._decision(now_s, inputs, answers, None, None, None, (), entered=True)

    def report(self, now_s: float) -> GateReport:
        """How near it is to acting; what is commanded counts, or what is measured while nothing is."""
        motion, robot = self._motion, self._senses.robot
        limits: tuple[LimitReport, ...] = ()
        if motion is not None:
            limits = self._limits.use(motion.position, motion.velocity)
        elif robot is not None:
            limits = self._limits.use(robot.joint_position_rad, robot.joint_velocity_rad_s)
        return GateReport(self._senses.inputs(now_s), limits)

    def _renew_motion_state(self) -> None:
        """Forget the plan and what was driven: at activation."""
        self._executing = None
        self._tried = None
        self._bar_s = -math.inf
        self._entry_speed = 1.0
        self._refused_plans = 0
        self._progress_s = 0.0
        self._entered_at_s = 0.0
        self._history: deque[tuple[float, float]] = deque(maxlen=_HISTORY)
        self._settled = False
        self._rest_since_s: float | None = None
        self._idle_since_s: float | None = None
        self._retrace_due = self._retracing = False
        self._asked_for = 0
        self._gripper_sent_m = math.nan
        self._lost = False
        self._driven.clear()
        self._stall.reset()

    def _update(self, now_s: float, inputs: GateInputs) -> Decision:
        senses = self._senses
        refused = senses.take(now_s, inputs)
        if senses.clock.jumped:
            self._bar_s = inputs.ros_time_s
            self._history.clear()
        self._advance(inputs.ros_time_s)
        self._lost |= senses.clock.stands

        faults = inputs.faults
        if self._fault:
            faults, self._fault = (*faults, Fault(Cause.EXCEPTION, self._fault)), ""
        learned = self._learned()
        muted = self.settings.shadow_mode
        present = self._own_triggers(now_s) | senses.present(now_s, faults)
        before = self._modes
        facts = Facts(
            present=present if muted else present | learned,
            standing=self._standing(),
            plan_ready=self._plan_ready(inputs.ros_time_s),
            inputs_missing=senses.missing(now_s) if _asks_to_activate(inputs) else "",
            step_s=0.0 if math.isnan(self._last_s) else max(now_s - self._last_s, 0.0),
            progress_s=max(self._motion.advanced_s, 0.0) if self._motion is not None else 0.0,
        )
        self._last_s = now_s
        result = step(before, facts, tuple(r.kind for r in inputs.requests), self._mode_settings)
        self._modes = result.state
        answers = tuple(
            Answer(request, accepted, message)
            for request, (accepted, message) in zip(inputs.requests, result.answers, strict=True)
        )
        for answer in answers:
            if answer.accepted and answer.request.kind in _NEWER_PLAN:
                self._bar_s = inputs.ros_time_s
                if facts.standing:
                    # Somebody may have moved the arm meanwhile; a hold where it was would make it leap.
                    self._place_at_measured(now_s)
        self._on_change(before, now_s, inputs)

        trigger = self._modes.trigger
        entered = trigger.mode != self._last_mode
        command, gripper_m = None, None
        if self._motion is not None and self._modes.active:
            came, self._present = facts.present - self._present, facts.present
            gripper_m = self._move(trigger, came, now_s, inputs.ros_time_s)
            if not self._lost and (entered or senses.clock.step_s > 0.0):
                # When no time has passed, what was sent last still holds.
                command = self._checked(self._motion)
                senses.tracking.command(self._motion.position)
        request_replan = self._ask()
        would = max((t.mode for t in learned), default=None) if muted else None
        return self._decision(
            now_s, inputs, answers, command, gripper_m, would, refused, entered, request_replan
        )

    def _advance(self, ros_time_s: float) -> None:
        """Let the motion in hand go on, and remember what was driven."""
        if self._motion is None:
            return
        self._motion.advance(self._senses.clock.step_s)
        if self._executing is not None:
            self._progress_s += self._motion.advanced_s
            self._history.append((ros_time_s, self._progress_s))
            if self._senses.contact.contact:
                self._driven.clear()
            else:
                self._driven.note(self._progress_s, self._motion.position)

    def _learned(self) -> frozenset[Trigger]:
        """What learned risk asks for; it is about the policy's motion, so a standing arm has none."""
        if self._executing is None or self._modes.mode not in FOLLOWING:
            return frozenset()
        found = self._senses.risk.verdict.triggers & LEARNED
        s = self.settings
        if s.when_replans_are_used_up == "go_on" and self._modes.replans >= s.replan_attempts:
            found -= _FORESEEN_MISHAPS
        return found

    def _own_triggers(self, now_s: float) -> frozenset[Trigger]:
        """What follows from the gate's own motion."""
        if self._modes.mode not in FOLLOWING or self._motion is None:
            self._idle_since_s = None
            self._stall.reset()
            return frozenset()
        found = set()
        if self._refused_plans >= self.settings.refused_plans_to_replan:
            self._refused_plans = 0
            found.add(Trigger(Mode.REPLAN, Cause.PLAN_REFUSED))
        if self._executing is not None:
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now_s
        elif now_s - self._idle_since_s >= self.settings.hold_off_s:
            found.add(Trigger(Mode.HOLD, Cause.PLAN_ENDED))
        if self._stall.stalled(now_s, self._motion.advanced_s):
            found.add(Trigger(Mode.ASSIST, Cause.STALL))
        return frozenset(found)

    def _standing(self) -> bool:
        """Whether the arm stands for the mode machine: at rest, settled, and nothing left to retrace."""
        if self._motion is None:
            return True
        if self._modes.leaving != Cause.NONE:
            return self._motion.standing or self._lost
        if self._lost:
            return False
        retracing = self._modes.mode == Mode.REPLAN and (self._retrace_due or self._retracing)
        return self._motion.standing and self._settled and not retracing

    def _newer_plan(self, ros_time_s: float) -> Plan | None:
        """The newest plan, if it may move the arm: newer than the standstill and than the one in hand."""
        plan = self._senses.plan
        if plan is None or plan.output.stamp_s <= self._bar_s:
            return None
        if ros_time_s - plan.output.stamp_s > self.settings.plan_age_max_s:
            return None
        if self._executing is not None and plan.output.stamp_s <= self._executing.output.stamp_s:
            return None
        return plan

    def _plan_ready(self, ros_time_s: float) -> bool:
        plan = self._newer_plan(ros_time_s)
        if plan is None or self._motion is None or self._modes.mode in FOLLOWING:
            return False
        return self._motion.entry(plan.path, self._due_s(plan), plan.end_s).objection == ""

    def _on_change(self, before: ModeState, now_s: float, inputs: GateInputs) -> None:
        """What a step of the mode machine means for the rest."""
        after = self._modes
        if after.active and not before.active:
            measured = self._senses.measured
            assert measured is not None  # an activation needs fresh joint states
            self._motion = ArmMotion(
                self._limits.inside(measured), self._motion_limits, self._limits, self._entry_rules
            )
            self._renew_motion_state()
            self._settled = True
            self._bar_s = inputs.ros_time_s
            self._counts = dict.fromkeys(Mode, 0)
            self._senses.renew_counters()
            self._senses.arm(now_s)
        elif before.active and not after.active:
            self._senses.disarm()
            self._motion = None
            self._executing = None
        elif before.mode == Mode.EMERGENCY_STOP != after.mode:
            self._senses.arm(now_s)
        if before.mode == Mode.ASSIST != after.mode and after.mode != Mode.EMERGENCY_STOP:
            self._senses.contact.reset()

    def _move(
        self, trigger: Trigger, came: frozenset[Trigger], now_s: float, ros_time_s: float
    ) -> float | None:
        """Do what the mode asks for; returns the gripper's opening when it is to change."""
        assert self._motion is not None
        if trigger.mode in FOLLOWING:
            if self._last_mode not in FOLLOWING:
                self._senses.risk.reset(now_s + self.settings.replan_grace_s)
            return self._follow(ros_time_s)
        if self._executing is not None:
            # From here on only a newer plan moves the arm.
            self._retrace_due = self._motion.speed > 0.0
            self._executing = None
            self._settled = False
            self._rest_since_s = None
        if self._lost:
            self._find(now_s)
        else:
            self._stand(trigger, not came.isdisjoint(_STOP_AT_MEASURED), now_s)
        if not self._standing():
            self._bar_s = ros_time_s
        return None

    def _follow(self, ros_time_s: float) -> float | None:
        motion = self._motion
        assert motion is not None
        self._enter_newer(motion, ros_time_s)
        if self._executing is None:
            motion.stop()
            return None
        motion.follow(min(self._speed(), self._entry_speed))
        if motion.standing and self._progress_since_entry() > 0.0:
            # A standstill like any other: only a newer plan ends it.
            self._executing = None
            self._bar_s = ros_time_s
            return None
        return self._gripper(motion.path_time_s)

    def _progress_since_entry(self) -> float:
        return self._progress_s - self._entered_at_s

    def _enter_newer(self, motion: ArmMotion, ros_time_s: float) -> None:
        """Go over to the newest plan as soon as it can be joined."""
        plan = self._newer_plan(ros_time_s)
        if plan is None or plan is self._tried:
            return
        entry = motion.enter(plan.path, self._due_s(plan), plan.end_s)
        if entry.entered:
            self._executing = plan
            self._entered_at_s = self._progress_s
            self._entry_speed = 1.0
            self._refused_plans = 0
            self._retrace_due = self._retracing = False
            self._settled = False
        elif entry.objection:
            self._tried = plan
            self._entry_speed = 1.0
            self._refused_plans += 1
            self._senses.refused_count += 1
            self._senses.details[Cause.PLAN_REFUSED] = entry.objection
        else:
            self._entry_speed = entry.speed

    def _due_s(self, plan: Plan) -> float:
        """Path time followed since the plan's observation."""
        if not self._history:
            return 0.0
        times, progress = zip(*self._history, strict=True)
        return self._progress_s - float(np.interp(plan.output.stamp_s, times, progress))

    def _speed(self) -> float:
        """Speed scale at most: learned risk, and what was slowed down for."""
        s, held = self.settings, self._modes.held
        speed = 1.0 if s.shadow_mode else self._senses.risk.verdict.speed
        if Trigger(Mode.SLOW_DOWN, Cause.PREDICTION_LATE) in held:
            speed = min(speed, s.late_prediction_speed)
        if Trigger(Mode.SLOW_DOWN, Cause.TRACKING_ERROR) in held:
            speed = min(speed, s.tracking_speed)
        return speed

    def _gripper(self, path_time_s: float) -> float | None:
        """The gripper's opening at this path time, when it differs from what was sent last."""
        assert self._executing is not None
        chunk = self._executing.output.chunk
        opening = float(np.interp(path_time_s, chunk.time_from_start_s, chunk.gripper_opening_m))
        opening = min(max(opening, 0.0), self.settings.gripper_opening_max_m)
        if abs(opening - self._gripper_sent_m) < _GRIPPER_STEP_M:
            return None
        self._gripper_sent_m = opening
        return opening

    def _stand(self, trigger: Trigger, at_measured: bool, now_s: float) -> None:
        """Come to rest, settle where the arm stands, and in a replan drive back a little."""
        motion, senses = self._motion, self._senses
        assert motion is not None
        if at_measured and not senses.robot_silent(now_s):
            assert senses.measured is not None
            self._rest_at(senses.measured)
            self._driven.clear()
            self._settled, self._retrace_due, self._retracing = True, False, False
        if trigger.mode == Mode.REPLAN and self._retrace(trigger.cause, now_s):
            return
        if trigger.mode not in (Mode.REPLAN, Mode.PROTECTIVE_STOP):
            self._retrace_due = self._retracing = False
        motion.stop()
        if motion.standing and not self._settled:
            self._settle(now_s)

    def _retrace(self, cause: Cause, now_s: float) -> bool:
        """Drive back; true while the motion belongs to it."""
        motion = self._motion
        assert motion is not None
        if self._retracing:
            motion.follow(self.settings.retrace_speed)
            if motion.ended and motion.standing:
                self._retracing, self._settled, self._rest_since_s = False, False, None
            return self._retracing
        if not self._retrace_due or not motion.standing or not self._settled:
            return False
        self._retrace_due = False
        if cause not in _RETRACED or self.settings.retrace_path_s <= 0.0:
            return False
        path = self._driven.back(
            self._progress_s, motion.position, self.settings.retrace_path_s, self.settings.path_tolerance_rad
        )
        if path is None:
            return False
        self._retracing = motion.enter(path, path.start_s, path.end_s, anywhere=False).entered
        return self._retracing

    def _settle(self, now_s: float) -> None:
        """Hold a position measured once, when the arm stands, so that it races to no target."""
        motion, senses, s = self._motion, self._senses, self.settings
        assert motion is not None
        if self._rest_since_s is None:
            self._rest_since_s = now_s
        silent = senses.robot_silent(now_s) or senses.robot is None
        waited = now_s - self._rest_since_s >= s.settle_timeout_s
        if silent:
            self._settled = waited
            return
        assert senses.measured is not None
        if senses.still or waited:
            self._rest_at(senses.measured)
            self._settled = True

    def _rest_at(self, measured: Floats) -> None:
        assert self._motion is not None
        if self._limits.in_box(measured):
            self._motion.rest_at(measured)
        else:
            # The arm hangs out of the box a little; its command stays inside.
            self._motion.stop()

    def _find(self, now_s: float) -> None:
        """Take up an arm that was lost, where it stands."""
        if self._senses.clock.stands or self._senses.robot_silent(now_s):
            self._rest_since_s = None
            return
        if self._rest_since_s is None:
            self._rest_since_s = now_s
        if self._senses.still or now_s - self._rest_since_s >= self.settings.settle_timeout_s:
            self._place_at_measured(now_s)

    def _place_at_measured(self, now_s: float) -> None:
        """Hold where the arm is, whatever was commanded before."""
        if self._motion is None or self._senses.robot_silent(now_s):
            return
        measured = self._senses.measured
        assert measured is not None
        self._motion.place(self._limits.inside(measured))
        self._driven.clear()
        self._senses.tracking.reset()
        self._settled, self._lost, self._retrace_due, self._retracing = True, False, False, False

    def _ask(self) -> bool:
        """Whether to ask the policy for a fresh plan now: once an attempt, since a policy that is asked again
        begins again, and a slow one would never finish."""
        if not any(trigger.mode == Mode.REPLAN for trigger in self._modes.held):
            self._asked_for = 0
            return False
        if self._asked_for == self._modes.replans:
            return False
        self._asked_for = self._modes.replans
        return True

    def _checked(self, motion: ArmMotion) -> JointTrajectory | None:
        """The command, if it is inside the limits; otherwise none, and the one before ends in its rest."""
        objection = ""
        for _ in range(2):
            command = motion.trajectory()
            objection = self._limits.objection(motion.position, motion.velocity, command)
            if not objection:
                return command
            motion.stop()
        self._fault = f"a command was withheld: {objection}"
        motion.rest_at(motion.position)
        return None

    def _decision(
        self,
        now_s: float,
        inputs: GateInputs,
        answers: tuple[Answer, ...],
        command: JointTrajectory | None,
        gripper_m: float | None,
        would: Mode | None,
        refused: tuple[str, ...],
        entered: bool,
        request_replan: bool = False,
    ) -> Decision:
        trigger = self._modes.trigger
        if entered or math.isnan(self._mode_since_s):
            self._mode_since_s = now_s
            if entered:
                self._counts[trigger.mode] += 1
        stop_driver = trigger.mode == Mode.EMERGENCY_STOP != self._last_mode
        self._last_mode = trigger.mode
        motion = self._motion
        following = self._executing is not None and motion is not None
        return Decision(
            state=InterventionState(
                stamp_s=inputs.ros_time_s,
                mode=trigger.mode,
                cause=trigger.cause,
                reason=self._why(trigger, entered)
                + (f"; learned risk alone would lead to {would.name}" if would is not None else ""),
                speed_scale=motion.speed if motion is not None and not self._retracing else 0.0,
                sequence=self._executing.output.sequence if self._executing is not None else -1,
                path_time_s=motion.path_time_s if following and motion is not None else math.nan,
                time_in_mode_s=now_s - self._mode_since_s,
                replan_count=self._counts[Mode.REPLAN],
                assist_count=self._counts[Mode.ASSIST],
                protective_stop_count=self._counts[Mode.PROTECTIVE_STOP],
                emergency_stop_count=self._counts[Mode.EMERGENCY_STOP],
                refused_message_count=self._senses.refused_count,
                overrun_count=self._senses.overrun_count,
            ),
            command=command,
            gripper_opening_m=gripper_m,
            request_replan=request_replan,
            stop_driver=stop_driver,
            answers=answers,
            risk_would=would,
            refused=refused,
            standing=motion is None or motion.standing or self._lost,
        )

    def _why(self, trigger: Trigger, entered: bool) -> str:
        """The cause in one sentence; what made it present is kept as long as the mode lasts.

        Save for a second writer, whose name the graph may come to know only after it was noticed.
        """
        detail = self._senses.details.get(trigger.cause, "")
        if trigger.cause == Cause.LATCH_RESTORED:
            detail = self._latched_reason
        if trigger.cause == Cause.EXCEPTION:
            detail = detail or self._fault
        text = REASONS[trigger.cause] + (f": {detail}" if detail else "")
        renamed = trigger.cause in _NAMED_LATE and detail != ""
        if entered or renamed or not self._reason.startswith(REASONS[trigger.cause]):
            self._reason = text
        return self._reason


def _asks_to_activate(inputs: GateInputs) -> bool:
    return any(request.kind is RequestKind.ACTIVATE for request in inputs.requests)
