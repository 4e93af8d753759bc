"""The gate: policy outputs and failure predictions in, safe commands out.

One tick: time passes (:mod:`.motion`), what arrived is checked (:mod:`.senses`), the mode follows from what
is present (:mod:`.modes` by :mod:`.rules`), the mode moves the arm (:mod:`.following`) or stops it
(:mod:`.standing`), and the command is looked at once more (:mod:`.limits`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from salus_ros.intervention.follower import MotionLimits
from salus_ros.intervention.following import Following
from salus_ros.intervention.inputs import Answer, Decision, Fault, GateInputs, RequestKind
from salus_ros.intervention.latch import LatchRecord
from salus_ros.intervention.limits import Limits
from salus_ros.intervention.modes import Facts, ModeSettings, ModeState, step
from salus_ros.intervention.motion import ArmMotion, EntryRules
from salus_ros.intervention.report import GateReport, LimitReport
from salus_ros.intervention.rules import FOLLOWING, LEARNED, NEWER_PLAN, REASONS, Trigger
from salus_ros.intervention.senses import Senses
from salus_ros.intervention.settings import GateSettings
from salus_ros.intervention.standing import Standing
from salus_ros.intervention.stop import SOONEST_S
from salus_ros.intervention.tracking import StallCheck
from salus_ros.robot.model import ArmModel
from salus_ros.types import Cause, InterventionState, JointTrajectory, Mode

_STALL: Final = Trigger(Mode.ASSIST, Cause.STALL)
_NOT_FOLLOWED: Final = Trigger(Mode.HOLD, Cause.TRACKING_ERROR)

_CORNERS_FROM_S: Final = (None, 0.015, SOONEST_S)
"""Where the corners of a command are kept from, tried in turn. The controller, which has cut others, is not
exactly where it is commanded to be, and makes up for it by the first point: the nearer, the harder."""
_STOP_AT_MEASURED: Final = frozenset(
    {
        Trigger(Mode.ASSIST, Cause.CONTACT),
        _STALL,
        _NOT_FOLLOWED,
        Trigger(Mode.EMERGENCY_STOP, Cause.CONTACT_FORCE),
    }
)
"""Stop at the place measured at once, whatever the mode: the command is where the arm cannot go, must not go,
or is no more."""

_FORESEEN_MISHAPS: Final = frozenset(
    {Trigger(Mode.REPLAN, Cause.FORESEEN_DROP), Trigger(Mode.REPLAN, Cause.FORESEEN_MISS)}
)
"""What harms nobody if it happens, so that one may rather try it than call a person."""

_FORESEEN_TIMEOUT: Final = Trigger(Mode.REPLAN, Cause.FORESEEN_TIMEOUT)

_LIFTED: Final = frozenset(
    {Trigger(Mode.REPLAN, Cause.AFTER_STOP), Trigger(Mode.REPLAN, Cause.FORESEEN_DROP)}
)
"""After which the policy plans from higher up: a foreseen collision, and a foreseen drop, which may be of an
object that is about to be knocked out of the hand."""

_SECOND_WRITER: Final = Trigger(Mode.EMERGENCY_STOP, Cause.SECOND_COMMAND_PUBLISHER)
_NAMED_LATE: Final = frozenset(
    {
        Cause.SECOND_COMMAND_PUBLISHER,
        Cause.SECOND_POLICY_PUBLISHER,
        Cause.PREDICTION_INVALID,
        Cause.JOINT_STATE_INVALID,
    }
)
"""A second writer leads to these, whose name the graph may come to know only after it was noticed."""


class Gate:
    """Decides at every control period what the arm does; pure, time is passed in.

    The caller starts it with ``Request(RequestKind.ACTIVATE)``, repeated until it is answered with
    ``accepted``: the gate stays ``INACTIVE`` until joint states, policy output and prediction are fresh.
    Deactivate it before the arm or the simulated world is moved by somebody else, activate it again after.
    """

    def __init__(self, settings: GateSettings, arm: ArmModel, latched: LatchRecord | None = None) -> None:
        """Start inactive; emergency-stopped if a latch from before the restart is given."""
        self.settings = s = settings
        self._limits = Limits(arm, s.position_margin_rad, s.workspace_lower_m, s.workspace_upper_m)
        self._motion_limits = MotionLimits.of(arm, settings)
        self._entry_rules = EntryRules.of(settings)
        self._mode_settings = ModeSettings.of(settings)
        self._senses = Senses(settings, arm, self._limits)
        self._following = Following(settings, self._senses)
        self._standing = Standing(settings, self._senses, self._limits)
        self._stall = StallCheck(s.stall_s, s.stall_progress, s.tracking_holds, s.attempts_renew_s)
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
        self._idle_since_s: float | None = None
        self._asked_for: int | None = None
        self._motion: ArmMotion | None = None

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
            self._following.give_up()
            self._standing.lost = True
            answers = tuple(Answer(request, False, self._fault) for request in inputs.requests)
            return self._decision(now_s, inputs, answers, None, None, None, (), entered=True)

    def report(self, now_s: float) -> GateReport:
        """How near it is to acting; what is commanded counts, or what is measured while nothing is."""
        motion, robot = self._motion, self._senses.robot
        limits: tuple[LimitReport, ...] = ()
        if motion is not None:
            limits = (*self._limits.use(motion.position, motion.velocity), *self._senses.uses())
        elif robot is not None:
            limits = self._limits.use(robot.joint_position_rad, robot.joint_velocity_rad_s)
        return GateReport(self._senses.inputs(now_s), limits)

    def _update(self, now_s: float, inputs: GateInputs) -> Decision:
        senses = self._senses
        refused = senses.take(now_s, inputs)
        if senses.clock.jumped:
            self._following.bar(inputs.ros_time_s)
            self._following.forget_times()
        self._advance(inputs.ros_time_s)
        self._standing.lost |= senses.clock.stands

        faults = inputs.faults
        if self._fault:
            faults, self._fault = (*faults, Fault(Cause.EXCEPTION, self._fault)), ""
        learned = self._learned()
        muted = self.settings.shadow_mode
        present = self._own_triggers(now_s) | senses.present(now_s, faults)
        before = self._modes
        facts = Facts(
            present=present if muted else present | learned,
            standing=self._stands(),
            lost=self._motion is not None and self._standing.waits_for_a_person(self._motion, now_s),
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
            if answer.accepted and answer.request.kind in (RequestKind.RESUME, RequestKind.RETRY):
                senses.contact.reset()
            if answer.accepted and answer.request.kind in NEWER_PLAN:
                self._following.bar(inputs.ros_time_s)
                if self._motion is not None and (facts.standing or facts.lost):
                    # Somebody may have moved the arm meanwhile; a hold where it was would make it leap.
                    self._standing.place(self._motion, now_s)
        self._on_change(before, now_s, inputs)

        trigger = self._modes.trigger
        entered = trigger.mode != self._last_mode
        command, gripper_m = None, None
        if self._motion is not None and self._modes.active:
            came, self._present = facts.present - self._present, facts.present
            gripper_m = self._move(trigger, came, now_s, inputs.ros_time_s)
            if not self._standing.lost and (entered or senses.clock.step_s > 0.0):
                # When no time has passed, what was sent last still holds.
                command = self._checked(self._motion)
                senses.tracking.command(self._motion.position)
        request_replan = self._ask()
        would = max((t.mode for t in learned), default=None) if muted else None
        decision = self._decision(now_s, inputs, answers, command, gripper_m, would, refused, entered)
        return replace(
            decision,
            request_replan=request_replan,
            commit=request_replan and _FORESEEN_TIMEOUT in self._modes.held,
            lift_m=self._lift_m() if request_replan else 0.0,
            second_writer=_SECOND_WRITER in self._modes.held - before.held,
        )

    def _advance(self, ros_time_s: float) -> None:
        """Let the motion in hand go on, and remember what was driven."""
        if self._motion is None:
            return
        self._motion.advance(self._senses.clock.step_s)
        if self._following.plan is not None:
            self._following.advance(ros_time_s, self._motion.advanced_s)
        self._standing.note(self._motion.advanced_s, self._motion.position)

    def _learned(self) -> frozenset[Trigger]:
        """What learned risk asks for; it is about the policy's motion, so a standing arm has none."""
        if self._following.plan is None or self._modes.mode not in FOLLOWING:
            return frozenset()
        found = self._senses.risk.verdict.triggers & LEARNED
        s = self.settings
        if s.when_replans_are_used_up == "go_on" and self._modes.replans >= s.replan_attempts:
            found -= _FORESEEN_MISHAPS
        return found

    def _own_triggers(self, now_s: float) -> frozenset[Trigger]:
        """What follows from the gate's own motion."""
        mode, found = self._modes.mode, set()
        if mode not in FOLLOWING and mode != Mode.HOLD:
            # A replan counts its attempts itself, and a person looks anyway.
            self._following.refused_in_a_row = 0
        elif self._following.refused_in_a_row >= self.settings.refused_plans_to_replan:
            self._following.refused_in_a_row = 0
            found.add(Trigger(Mode.REPLAN, Cause.PLAN_REFUSED))
        if mode not in FOLLOWING or self._motion is None:
            self._idle_since_s = None
            self._stall.reset()
            if self._stall.blocked():
                found.add(_STALL)
            return frozenset(found)
        if self._following.plan is not None:
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now_s
        elif now_s - self._idle_since_s >= self.settings.hold_off_s:
            found.add(Trigger(Mode.HOLD, Cause.PLAN_ENDED))
        if self._stall.stalled(now_s, self._motion.advanced_s):
            found.add(_STALL)
        return frozenset(found)

    def _stands(self) -> bool:
        """Whether the arm stands for the mode machine."""
        if self._motion is None:
            return True
        if self._modes.leaving != Cause.NONE:
            return self._motion.standing or self._standing.lost
        return self._standing.over(self._motion, self._modes.mode)

    def _plan_ready(self, ros_time_s: float) -> bool:
        if self._motion is None or self._modes.mode in FOLLOWING:
            return False
        return self._following.ready(self._motion, ros_time_s)

    def _on_change(self, before: ModeState, now_s: float, inputs: GateInputs) -> None:
        """What a step of the mode machine means for the rest."""
        after = self._modes
        if after.active and not before.active:
            measured = self._senses.measured
            assert measured is not None  # an activation needs fresh joint states
            self._motion = ArmMotion(
                self._limits.inside(measured), self._motion_limits, self._limits, self._entry_rules
            )
            self._following.renew()
            self._following.bar(inputs.ros_time_s)
            self._standing.renew(self._motion.position)
            self._stall.renew()
            self._idle_since_s = None
            self._asked_for = None
            self._counts = dict.fromkeys(Mode, 0)
            self._senses.renew_counters()
            self._senses.arm(now_s)
        elif before.active and not after.active:
            self._senses.disarm()
            self._motion = None
            self._following.give_up()
        elif after.active and before.mode == Mode.EMERGENCY_STOP != after.mode:
            self._senses.arm(now_s)
        if before.mode in FOLLOWING and _NOT_FOLLOWED in after.held - before.held:
            self._stall.hold()

    def _move(
        self, trigger: Trigger, came: frozenset[Trigger], now_s: float, ros_time_s: float
    ) -> float | None:
        """Do what the mode asks for; returns the gripper's opening when it is to change."""
        motion, following, standing = self._motion, self._following, self._standing
        assert motion is not None
        if trigger.mode in FOLLOWING:
            if self._last_mode not in FOLLOWING:
                self._senses.risk.reset(now_s)
            before = following.plan
            opening_m = following.follow(motion, self._speed(), ros_time_s)
            if following.plan is not None and following.plan is not before:
                standing.leave()
            return opening_m
        if following.plan is not None:
            # From here on only a newer plan moves the arm.
            standing.begin(motion.speed > 0.0)
            following.give_up()
        at_measured = not came.isdisjoint(_STOP_AT_MEASURED)
        standing.stand(motion, trigger, at_measured, now_s)
        if not self._stands():
            following.bar(ros_time_s)
        return None

    def _speed(self) -> float:
        """Speed scale at most: learned risk, and what was slowed down for."""
        s, held = self.settings, self._modes.held
        speed = 1.0 if s.shadow_mode else self._senses.risk.verdict.speed
        if Trigger(Mode.SLOW_DOWN, Cause.PREDICTION_LATE) in held:
            speed = min(speed, s.late_prediction_speed)
        if Trigger(Mode.SLOW_DOWN, Cause.TRACKING_ERROR) in held:
            speed = min(speed, s.tracking_speed)
        return speed

    def _ask(self) -> bool:
        """Whether to ask the policy for a fresh plan now: once an attempt, since a policy that is asked again
        begins again, and a slow one would never finish."""
        if not any(trigger.mode == Mode.REPLAN for trigger in self._modes.held):
            self._asked_for = None
            return False
        if self._asked_for == self._modes.replans:
            return False
        self._asked_for = self._modes.replans
        return True

    def _lift_m(self) -> float:
        """How far up the policy is to go before it plans anew."""
        if self._motion is None or self._modes.held.isdisjoint(_LIFTED):
            return 0.0
        room_m = self._limits.room_above_m(self._motion.position)
        return max(min(self.settings.lift_m * self._modes.replans, room_m), 0.0)

    def _checked(self, motion: ArmMotion) -> JointTrajectory | None:
        """The command, if it is inside the limits; otherwise none, and the one before ends in its rest.

        One that cuts a corner may ask for more than the motion does, so the corners are tried as well.
        """
        objection = ""
        for stops in (False, True):
            if stops:
                motion.stop()
            for corners_from_s in _CORNERS_FROM_S:
                command = motion.trajectory(corners_from_s)
                objection = self._limits.objection(motion.position, motion.velocity, command)
                if not objection:
                    return command
        self._fault = f"a command was withheld: {objection}"
        self._standing.lost = True  # the controller goes on along what it was sent last
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
    ) -> Decision:
        trigger = self._modes.trigger
        changed = trigger.mode != self._last_mode
        if changed or math.isnan(self._mode_since_s):
            self._mode_since_s = now_s
        if changed:
            self._counts[trigger.mode] += 1
        stop_driver = trigger.mode == Mode.EMERGENCY_STOP != self._last_mode
        self._last_mode = trigger.mode
        motion = self._motion
        placing = motion is not None and motion.placing
        plan = self._following.plan
        return Decision(
            state=InterventionState(
                stamp_s=inputs.ros_time_s,
                mode=trigger.mode,
                cause=trigger.cause,
                reason=self._why(trigger, entered)
                + (f"; learned risk alone would lead to {would.name}" if would is not None else ""),
                speed_scale=motion.speed if motion is not None and not self._standing.retracing else 0.0,
                sequence=plan.output.sequence if plan is not None else -1,
                path_time_s=motion.path_time_s if plan is not None and motion is not None else math.nan,
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
            stop_driver=stop_driver,
            placing=stop_driver and placing,
            answers=answers,
            risk_would=would,
            refused=refused,
            standing=motion is None or motion.standing or self._standing.lost,
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
