"""The plan in hand: when a newer one takes over, and how far along its path the arm is."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from salus_ros.intervention.motion import ArmMotion
from salus_ros.intervention.senses import Plan, Senses
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause

_GRIPPER_STEP_M: Final = 5e-4
_HISTORY: Final = 150


class Following:
    """Goes over to each newer plan as soon as it can be joined, and follows it at the speed allowed."""

    def __init__(self, settings: GateSettings, senses: Senses) -> None:
        self._settings = settings
        self._senses = senses
        self.renew()

    def renew(self) -> None:
        """Forget all plans: at activation."""
        self.plan: Plan | None = None
        """The plan being executed."""
        self.progress_s = 0.0
        """Path time followed since the activation."""
        self.refused_in_a_row = 0
        """Plans that could not be joined since the last that could."""
        self._tried: Plan | None = None
        self._bar_s = -math.inf
        self._entry_speed = 1.0
        self._entered_at_s = 0.0
        self._history: deque[tuple[float, float]] = deque(maxlen=_HISTORY)
        self._gripper_sent_m = math.nan

    def bar(self, ros_time_s: float) -> None:
        """From here on only a plan newer than this moves the arm."""
        self._bar_s = ros_time_s

    def forget_times(self) -> None:
        """The clock was set: when what was followed is known no more."""
        self._history.clear()

    def give_up(self) -> None:
        """Execute no plan."""
        self.plan = None

    def advance(self, ros_time_s: float, advanced_s: float) -> None:
        """So much path time was followed up to now."""
        self.progress_s += advanced_s
        if math.isfinite(ros_time_s):
            self._history.append((ros_time_s, self.progress_s))

    def ready(self, motion: ArmMotion, ros_time_s: float) -> bool:
        """Whether a plan is there that a standing arm may begin."""
        plan = self._newer(ros_time_s)
        if plan is None:
            return False
        objection = motion.entry(plan.path, self._due_s(plan), plan.end_s).objection
        if objection:
            self._refuse(plan, objection)
        elif plan is self._tried:
            self._tried = None
        return objection == ""

    def follow(self, motion: ArmMotion, speed: float, ros_time_s: float) -> float | None:
        """Go on at this speed scale at most; returns the gripper's opening when it is to change."""
        self._enter_newer(motion, ros_time_s)
        if self.plan is None:
            motion.stop()
            return None
        motion.follow(min(speed, self._entry_speed))
        if motion.standing and self.progress_s > self._entered_at_s:
            # A standstill like any other: only a newer plan ends it.
            self.give_up()
            self.bar(ros_time_s)
            return None
        return self._gripper(self.plan, motion.path_time_s)

    def _newer(self, ros_time_s: float) -> Plan | None:
        """The newest plan, if it may move the arm: newer than the standstill and than the one in hand."""
        plan = self._senses.plan
        if plan is None or plan.output.stamp_s <= self._bar_s:
            return None
        if ros_time_s - plan.output.stamp_s > self._settings.plan_age_max_s:
            return None
        if self.plan is not None and plan.output.stamp_s <= self.plan.output.stamp_s:
            return None
        return plan

    def _enter_newer(self, motion: ArmMotion, ros_time_s: float) -> None:
        plan = self._newer(ros_time_s)
        if plan is None or plan is self._tried:
            return
        entry = motion.enter(plan.path, self._due_s(plan), plan.end_s)
        if entry.entered:
            self.plan = plan
            self._entered_at_s = self.progress_s
            self._entry_speed = 1.0
            self.refused_in_a_row = 0
        elif entry.objection:
            self._entry_speed = 1.0
            self._refuse(plan, entry.objection)
        else:
            self._entry_speed = entry.speed

    def _refuse(self, plan: Plan, objection: str) -> None:
        """Count a plan that cannot be joined, once."""
        self._senses.details[Cause.PLAN_REFUSED] = objection
        if plan is self._tried:
            return
        self._tried = plan
        self.refused_in_a_row += 1
        self._senses.refused_count += 1

    def _due_s(self, plan: Plan) -> float:
        """Path time followed since the plan's observation."""
        if not self._history:
            return 0.0
        times, progress = np.array(self._history).T
        return self.progress_s - float(np.interp(plan.output.stamp_s, times, progress))

    def _gripper(self, plan: Plan, path_time_s: float) -> float | None:
        """The gripper's opening at this path time, when it differs from what was sent last."""
        chunk = plan.output.chunk
        opening = float(np.interp(path_time_s, chunk.time_from_start_s, chunk.gripper_opening_m))
        opening = min(max(opening, 0.0), self._settings.gripper_opening_max_m)
        if abs(opening - self._gripper_sent_m) < _GRIPPER_STEP_M:
            return None
        self._gripper_sent_m = opening
        return opening
