"""Where the arm is commanded to be, and the motion in hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from salus_ros.intervention.follower import Follower, MotionLimits
from salus_ros.intervention.limits import Limits
from salus_ros.intervention.path import JointPath
from salus_ros.intervention.settings import GateSettings
from salus_ros.intervention.stop import RestMove, rest_move
from salus_ros.types import Floats, JointTrajectory

_ENTRY_STEP_S: Final = 0.01
_SHORTEST_PATH_S: Final = 0.03
_ROUNDING_S: Final = 1e-6
"""Elapsed time is a sum of differences, which round otherwise at a large time than near zero; without this a
rest may end a period later there."""
_REST_LOOKS: Final = 50
"""Places at which the way to a place of rest must be in the workspace box. A command has fewer, and those of
the next command are others."""
_PLACING_S: Final = 0.3
"""What a controller may take at least to come from where it holds the arm to where the arm is."""


@dataclass(frozen=True, slots=True)
class EntryRules:
    """How a path may be entered; see ``GateSettings`` for each."""

    blend_s: float
    blend_rad: float
    window_s: float
    time_weight_rad_s: float

    @classmethod
    def of(cls, settings: GateSettings) -> EntryRules:
        """Those of the settings."""
        s = settings
        return cls(s.blend_s, s.blend_rad, s.entry_window_s, s.entry_time_weight_rad_s)


@dataclass(frozen=True, slots=True)
class Entry:
    """What came of trying to enter a path."""

    entered: bool
    objection: str = ""
    """Why it cannot be entered at all; empty if it can, now or at less speed."""
    speed: float = 1.0
    """Speed scale at which it can be entered, when it could not be at the present one."""


@dataclass(frozen=True, slots=True)
class _Place:
    time_s: float = float("nan")
    objection: str = ""


class ArmMotion:
    """Holds, follows a path by scaling its time, or moves to a place of rest; never anything else."""

    def __init__(self, position: Floats, motion: MotionLimits, limits: Limits, entry: EntryRules) -> None:
        self._motion = motion
        self._limits = limits
        self._entry = entry
        self.advanced_s = 0.0
        """Path time that the last :meth:`advance` was worth."""
        self.position: Floats = position
        """(J,) commanded now."""
        self._follower: Follower | None = None
        self._rest = RestMove(position, np.zeros_like(position), position, _PLACING_S)
        self._rest_elapsed_s = 0.0
        self._placing = False
        self.place(position)

    def place(self, position: Floats) -> None:
        """Take the arm to be here, at rest, whatever was commanded before: (J,), inside the limits.

        What the controller holds is not known then, so it gets time to come here, as much as it needs from
        where it was commanded to be, or from the end of its command.
        """
        still = np.zeros_like(position)
        limits = self._motion.velocity_rad_s, self._motion.acceleration_rad_s2
        takes_s = max(
            rest_move(start, still, position, *limits, _PLACING_S).duration_s
            for start in (self.position, self.end)
        )
        if self._placing:
            takes_s += self.rest_in_s
        self._placing = True
        self.position = position
        self.velocity: Floats = still
        """(J,) commanded now."""
        self._follower = None
        self._rest = RestMove(position, still, position, takes_s)
        self._rest_elapsed_s = 0.0

    def advance(self, step_s: float) -> None:
        """Time has passed, in which the controller went along what it was sent last."""
        self.advanced_s = 0.0
        if self._follower is not None:
            before_s = self._follower.path_time_s
            self._follower.advance(step_s)
            self.advanced_s = self._follower.path_time_s - before_s
            self.position, by_path_time, _ = self._follower.state()
            self.velocity = by_path_time * self._follower.speed
        else:
            self._rest_elapsed_s += step_s
            self.position, self.velocity = self._rest.at(self._rest_elapsed_s)

    @property
    def standing(self) -> bool:
        """Whether the command rests now and what is in hand does not move it."""
        if self._follower is not None:
            return self._follower.standing
        return self._rest_elapsed_s >= self._rest.duration_s - _ROUNDING_S

    @property
    def rest_in_s(self) -> float:
        """Time until the command in hand rests by itself."""
        if self._follower is not None:
            return self._follower.rest_in_s
        return max(self._rest.duration_s - self._rest_elapsed_s, 0.0)

    @property
    def end(self) -> Floats:
        """(J,) where the command in hand rests."""
        end: Floats = self.trajectory().position_rad[-1]
        return end

    @property
    def placing(self) -> bool:
        """Whether the controller may be on its way to a place, so that no command could end that."""
        return self._placing and not self.standing

    @property
    def speed(self) -> float:
        """Speed scale on the path being followed; 0 without one."""
        return self._follower.speed if self._follower is not None else 0.0

    @property
    def path_time_s(self) -> float:
        """Path time on the path being followed; nan without one."""
        return self._follower.path_time_s if self._follower is not None else float("nan")

    @property
    def ended(self) -> bool:
        """Whether there is no path left to follow."""
        return self._follower is None or self._follower.ended

    def entry(self, path: JointPath, due_s: float, end_s: float, anywhere: bool = True) -> _Place:
        """The nearest admissible point of a path, or why there is none.

        Args:
            path: inside the limits up to ``end_s``.
            due_s: path time that the path itself would be at by now.
            end_s: path time up to which it may be followed.
            anywhere: search around ``due_s``; else only there.
        """
        last_s = min(path.end_s, end_s) - _SHORTEST_PATH_S
        if last_s < path.start_s:
            return _Place(objection="it leaves the joint limits or the workspace box at once")
        window_s = self._entry.window_s if anywhere else 0.0
        if due_s - window_s > last_s:
            return _Place(objection=f"it was over {due_s - path.end_s:.3f} s ago")
        first = min(max(due_s - window_s, path.start_s), last_s)
        latest = max(min(due_s + window_s, last_s), first)
        cells = max(round((latest - first) / _ENTRY_STEP_S), 1)
        times = first + (latest - first) * np.arange(cells + 1) / cells
        places, _, _ = path.at(times)
        gaps = np.abs(places - self.position).max(axis=1)
        costs = gaps + self._entry.time_weight_rad_s * np.abs(times - due_s)
        costs[gaps > self._entry.blend_rad] = np.inf
        best = int(np.argmin(costs))
        if not np.isfinite(costs[best]):
            return _Place(
                objection=f"it lies {float(gaps.min()):.3f} rad from where the arm is commanded to be"
            )
        return _Place(float(times[best]))

    def enter(self, path: JointPath, due_s: float, end_s: float, anywhere: bool = True) -> Entry:
        """Go over to a path where :meth:`entry` says, blending into it."""
        place = self.entry(path, due_s, end_s, anywhere)
        if place.objection:
            return Entry(False, place.objection)
        joined = path.ending_at(min(path.end_s, end_s)).joined(
            place.time_s, self._entry.blend_s, self.position, *self._derivatives(path, place.time_s)
        )
        if joined.blend_reach_rad > self._entry.blend_rad:
            return Entry(False, f"the way to it leads {joined.blend_reach_rad:.3f} rad away from it")
        joined = joined.ending_at(min(joined.end_s, self._limits.admissible_end_s(joined, margin=False)))
        if joined.end_s < place.time_s + 0.5 * _SHORTEST_PATH_S:
            return Entry(False, "the way to it leaves the joint limits or the workspace box")
        follower = Follower(joined, self._motion, self.speed)
        if not follower.allows(self.speed):
            return Entry(False, speed=follower.entry_speed)
        self._follower, self._placing = follower, False
        return Entry(True)

    def _derivatives(self, path: JointPath, entry_s: float) -> tuple[Floats, Floats]:
        """First and second derivative by path time of what is commanded now; at rest those of the path."""
        if self._follower is not None and self._follower.speed > 0.0:
            _, velocity, acceleration = self._follower.state()
            return velocity, acceleration
        _, velocities, accelerations = path.at(np.array([entry_s]))
        return velocities[0], accelerations[0]

    def follow(self, speed: float) -> None:
        """Go on along the path at this speed scale at most."""
        if self._follower is not None:
            self._follower.follow(speed)

    def stop(self) -> None:
        """Come to rest on the path, as soon as the limits allow."""
        if self._follower is not None:
            self._follower.stop()

    def rest_at(self, target: Floats) -> bool:
        """Leave the path and come to rest at a place, as soon as the limits allow.

        False, and a stop on the path instead, if no such move stays inside them: one that is fast near the
        edge of the workspace box swings out of it, where the path would have turned away.
        """
        target = self._limits.inside(target)
        if self.placing:
            self.place(target)
            return True
        lead_s = self._motion.lead_s
        limits = self._motion.velocity_rad_s, self._motion.acceleration_rad_s2
        rest = rest_move(self.position, self.velocity, target, *limits, lead_s)
        way = rest.along(_REST_LOOKS)
        swings = np.ptp(way, axis=0).any() and not self._limits.in_box(way).all()
        command = rest.trajectory_from(0.0, lead_s)
        if swings or self._limits.objection(self.position, self.velocity, command):
            self.stop()
            return False
        self._rest = rest
        self._rest_elapsed_s = 0.0
        self._follower, self._placing = None, False
        return True

    def trajectory(self, corners_from_s: float | None = None) -> JointTrajectory:
        """What the controller is sent; see :meth:`Follower.trajectory`."""
        if self._follower is not None:
            return self._follower.trajectory(corners_from_s)
        return self._rest.trajectory_from(self._rest_elapsed_s, self._motion.lead_s)
