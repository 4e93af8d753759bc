"""Coming to a stand: settle where the arm is, drive back before a new plan, find an arm that was lost."""

from __future__ import annotations

from typing import Final

import numpy as np

from salus_ros.intervention.limits import Limits
from salus_ros.intervention.motion import ArmMotion
from salus_ros.intervention.retrace import DrivenPath
from salus_ros.intervention.rules import Trigger
from salus_ros.intervention.senses import Senses
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause, Floats, Mode

_RETRACED: Final = frozenset({Cause.FORESEEN_DROP, Cause.FORESEEN_MISS, Cause.AFTER_STOP})
"""Replans that first drive a little of the path back."""


class Standing:
    """What the arm does while it follows no plan."""

    def __init__(self, settings: GateSettings, senses: Senses, limits: Limits) -> None:
        self._settings = settings
        self._senses = senses
        self._limits = limits
        self._driven = DrivenPath()
        self.renew()

    def renew(self, position: Floats | None = None) -> None:
        """The arm stands and is held where it was measured, (J,), and what it drove before is forgotten."""
        self.settled = True
        """Whether it is settled where the arm is held: where it was measured, if that can be."""
        self.lost = False
        """Where the controller is by now is unknown: the clock stood, or an update failed. What it was sent
        last ends in rest; until it is found there it gets nothing more."""
        self.retracing = False
        """Whether the motion in hand leads back."""
        self._retrace_due = False
        self._rest_since_s: float | None = None
        self._held_at = position
        """(J,) where this standstill first held the arm. What is measured moves it no farther from there than
        ``held_within_rad``: an arm that seems to be ahead of each place it is held at would walk away."""
        self._driven.clear()

    def begin(self, moving: bool) -> None:
        """The plan was given up, with the arm in motion or not."""
        self.settled = False
        self._retrace_due = moving
        self._rest_since_s = self._held_at = None

    def leave(self) -> None:
        """A plan was entered."""
        self.settled = self.retracing = self._retrace_due = False
        self._held_at = None

    def note(self, advanced_s: float, position: Floats) -> None:
        """Remember the way: the command has come here along the plan's path, in so much path time."""
        if self._senses.contact.contact:
            self._driven.clear()
        elif advanced_s > 0.0 and not self.retracing:
            self._driven.note(advanced_s, position)

    def over(self, motion: ArmMotion, mode: Mode) -> bool:
        """Whether the arm rests, settled, with nothing left to retrace."""
        to_retrace = mode == Mode.REPLAN and (self._retrace_due or self.retracing)
        return motion.standing and self.settled and not self.lost and not to_retrace

    def stand(self, motion: ArmMotion, trigger: Trigger, at_measured: bool, now_s: float) -> None:
        """Go on coming to a stand.

        Args:
            motion: the motion in hand.
            trigger: mode and cause of the stand.
            at_measured: stop at the place measured at once.
            now_s: steady time.
        """
        if self.lost:
            self._find(motion, now_s)
            return
        senses = self._senses
        if at_measured and not (senses.robot_silent(now_s) or senses.doubted):
            assert senses.measured is not None
            self.settled = self._rest_at(motion, senses.measured)
            self._driven.clear()
            self._retrace_due = self.retracing = False
            self._rest_since_s = None
        if trigger.mode == Mode.REPLAN and self._retrace(motion, trigger.cause):
            return
        if trigger.mode not in (Mode.REPLAN, Mode.PROTECTIVE_STOP):
            self._retrace_due = self.retracing = False
        motion.stop()
        if motion.standing and not self.settled:
            self._settle(motion, now_s)

    def waits_for_a_person(self, motion: ArmMotion, now_s: float) -> bool:
        """Whether an arm that was lost is measured where it cannot be, so that only a person takes it up."""
        heard = self._measured(now_s) is not None
        return self.lost and motion.rest_in_s <= 0.0 and heard and not self._findable(motion, now_s)

    def place(self, motion: ArmMotion, now_s: float) -> None:
        """Hold where the arm is, whatever was commanded before."""
        if self._senses.robot_silent(now_s):
            return
        measured = self._senses.measured
        assert measured is not None
        motion.place(self._limits.inside(measured))
        self._held_at = motion.position
        self._driven.clear()
        self._senses.tracking.reset()
        self.settled, self.lost, self._retrace_due, self.retracing = True, False, False, False

    def _retrace(self, motion: ArmMotion, cause: Cause) -> bool:
        """Drive back; true while the motion belongs to it."""
        s = self._settings
        if self.retracing:
            motion.follow(s.retrace_speed)
            if motion.ended and motion.standing:
                self.retracing, self.settled, self._rest_since_s = False, False, None
            return self.retracing
        if not self._retrace_due or not motion.standing or not self.settled:
            return False
        self._retrace_due = False
        if cause not in _RETRACED or s.retrace_path_s <= 0.0:
            return False
        path = self._driven.back(motion.position, s.retrace_path_s, s.path_tolerance_rad, s.tracking_slow_rad)
        if path is None:
            return False
        self.retracing = motion.enter(path, path.start_s, path.end_s, anywhere=False).entered
        if self.retracing:
            self._held_at = None
        return self.retracing

    def _settle(self, motion: ArmMotion, now_s: float) -> None:
        """Hold a position measured once, when the arm stands, so that it races to no target."""
        senses = self._senses
        if self._rest_since_s is None:
            self._rest_since_s = now_s
        unknown = senses.robot_silent(now_s) or senses.doubted or senses.robot is None
        waited = now_s - self._rest_since_s >= self._settings.settle_timeout_s
        if unknown:
            self.settled = waited
            return
        assert senses.measured is not None
        if senses.still or waited:
            self._rest_at(motion, senses.measured)
            self.settled = True

    def _rest_at(self, motion: ArmMotion, measured: Floats) -> bool:
        """Hold the arm where it is measured; its command stays, and it is false, where that cannot be.

        So it is for an arm that hangs out of the box a little, or that is measured where it is most likely
        not.
        """
        first = self._held_at if self._held_at is not None else measured
        walks = float(np.abs(measured - first).max()) > self._settings.held_within_rad
        if walks or not self._limits.in_box(measured) or not self._near(measured, motion.position):
            motion.stop()
            return False
        if not motion.rest_at(measured):
            return False
        self._held_at = first
        return True

    def _near(self, measured: Floats, *places: Floats) -> bool:
        """Whether the arm is measured near one of these places or of its recent commands."""
        off = [float(np.abs(measured - place).max()) for place in places]
        return min(self._senses.tracking.distance_rad(measured), *off) <= self._settings.held_within_rad

    def _measured(self, now_s: float) -> Floats | None:
        """Where the arm is measured while the clock goes."""
        gone = self._senses.clock.stands or self._senses.robot_silent(now_s)
        return None if gone else self._senses.measured

    def _findable(self, motion: ArmMotion, now_s: float) -> bool:
        measured = self._measured(now_s)
        if measured is None or self._senses.doubted:
            return False
        # Whether the controller went on along its last command while it was lost, nobody knows.
        return self._near(measured, motion.position, motion.end)

    def _find(self, motion: ArmMotion, now_s: float) -> None:
        """Take up an arm that was lost, where it stands."""
        if not self._findable(motion, now_s):
            self._rest_since_s = None
            return
        if self._rest_since_s is None:
            self._rest_since_s = now_s
        if self._senses.still or now_s - self._rest_since_s >= self._settings.settle_timeout_s:
            self.place(motion, now_s)
