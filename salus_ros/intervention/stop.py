"""Coming to rest: along a path, or at a given place.

Whatever moves the arm ends in rest by itself, so that the controller which has received it stands at its
end even if nobody sends another one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np

from salus_ros.types import Floats, JointTrajectory

_TAIL_POINTS: Final = 8
_LONG_STOP_S: Final = 0.6
_LONG_STOP_SPAN_S: Final = 0.03
_LONG_STOP_POINTS_MAX: Final = 64
"""A stop that takes longer, of an arm with low accelerations, gets points this near one another: between two
of them it brakes evenly, and over a tenth of a second the path's curves may leave it less to brake with."""
_FRACTIONS: Final = np.arange(8) / 7.0
_DURATIONS_S: Final = np.concatenate([np.geomspace(0.03, 4.0, 40), np.geomspace(4.5, 30.0, 16)])
SOONEST_S: Final = 1e-3
"""No point is nearer than this."""
_STRETCH: Final = 2.5
"""A cubic to rest that takes half as long again as the motion in hand brakes a third harder at its beginning;
one that takes so much longer brakes less than a fifth harder, which the limits' reserve covers."""


def rest_due_s(left_s: float, after_s: float) -> float:
    """When the rest that is ``left_s`` away is due; ``after_s`` when the motion has as good as ended."""
    return left_s if left_s >= SOONEST_S else max(_STRETCH * left_s, after_s)


@dataclass(frozen=True, slots=True)
class SpeedProfile:
    """Path time and speed scale over time, with constant acceleration between its points."""

    time_s: list[float]
    path_time_s: list[float]
    speed: list[float]

    def at(self, elapsed_s: float) -> tuple[float, float]:
        """Path time and speed scale ``elapsed_s`` after the start; at rest after the end."""
        if elapsed_s >= self.time_s[-1]:
            return self.path_time_s[-1], self.speed[-1]
        i = bisect_right(self.time_s, max(elapsed_s, 0.0)) - 1
        span = self.time_s[i + 1] - self.time_s[i]
        since = max(elapsed_s, 0.0) - self.time_s[i]
        gain = (self.speed[i + 1] - self.speed[i]) / span
        return (
            self.path_time_s[i] + since * (self.speed[i] + 0.5 * gain * since),
            self.speed[i] + gain * since,
        )

    def with_spans(self, longest_s: float) -> SpeedProfile:
        """The same, with more points, so that none are further apart than this."""
        times = [self.time_s[0]]
        for end in self.time_s[1:]:
            begin, parts = times[-1], max(math.ceil((end - times[-1]) / longest_s), 1)
            times += [begin + (end - begin) * k / parts for k in range(1, parts + 1)]
        path_times, speeds = zip(*map(self.at, times), strict=True)
        return SpeedProfile(times, list(path_times), list(speeds))


def brake(
    path_time_s: float, speed: float, grid_s: Floats, braking: Floats, shortest_s: float
) -> SpeedProfile:
    """The profile that stops on a path as soon as its limits allow.

    Args:
        path_time_s, speed: where it starts.
        grid_s: (K,) path times.
        braking: (K,) twice the braking rate integrated along the path: the square of the speed that
            braking from there to the start would have removed.
        shortest_s: braking takes at least this long, so that a controller can resolve it.
    """
    if speed <= 0.0:
        return SpeedProfile([0.0, shortest_s], [path_time_s, path_time_s], [0.0, 0.0])
    profile = _brake(path_time_s, speed, grid_s, braking, _TAIL_POINTS)
    takes_s = profile.time_s[-1]
    if takes_s < shortest_s:
        rest = path_time_s + 0.5 * speed * shortest_s
        return SpeedProfile([0.0, shortest_s], [path_time_s, rest], [speed, 0.0])
    if takes_s > _LONG_STOP_S:
        points = min(math.ceil(takes_s / _LONG_STOP_SPAN_S), _LONG_STOP_POINTS_MAX)
        return _brake(path_time_s, speed, grid_s, braking, points)
    return profile


def _brake(path_time_s: float, speed: float, grid_s: Floats, braking: Floats, points: int) -> SpeedProfile:
    """In so many steps of speed, each with the rate that the path allows over it on average."""
    speeds = speed * np.linspace(1.0, 0.0, points + 1)
    done = float(np.interp(path_time_s, grid_s, braking))
    places = np.interp(done + speed * speed - speeds * speeds, braking, grid_s)
    places[0] = path_time_s
    spans = 2.0 * np.maximum(np.diff(places), 0.0) / (speeds[:-1] + speeds[1:])
    times = np.concatenate([[0.0], np.cumsum(spans)])
    return SpeedProfile(times.tolist(), places.tolist(), speeds.tolist())


@dataclass(frozen=True, slots=True)
class RestMove:
    """A short move to a place of rest, cubic in time: it takes away what velocity there is."""

    start_rad: Floats
    """(J,)"""
    start_velocity_rad_s: Floats
    """(J,)"""
    target_rad: Floats
    """(J,)"""
    duration_s: float

    def at(self, elapsed_s: float) -> tuple[Floats, Floats]:
        """(J,) position and velocity ``elapsed_s`` after the start."""
        u = min(max(elapsed_s / self.duration_s, 0.0), 1.0)
        position, velocity = self._at(np.array([u]))
        return position[0], velocity[0]

    def along(self, count: int) -> Floats:
        """(count, J) places from its start to its end."""
        return self._at(np.arange(count) / (count - 1))[0]

    def trajectory_from(self, elapsed_s: float, first_s: float) -> JointTrajectory:
        """What is left of it after ``elapsed_s``: its first point ``first_s`` ahead, or its end alone.

        Its end is enough once it is that near: the cubic to it is what is left of the move. A move that leads
        nowhere is its end alone: how the controller comes there is up to it.
        """
        left = self.duration_s - elapsed_s
        if left < first_s + SOONEST_S or (
            self.start_rad is self.target_rad and not self.start_velocity_rad_s.any()
        ):
            still = np.zeros_like(self.target_rad)[None]
            due = np.array([rest_due_s(left, first_s)])
            return JointTrajectory(due, self.target_rad[None].copy(), still)
        times = first_s + (left - first_s) * _FRACTIONS
        position, velocity = self._at((elapsed_s + times) / self.duration_s)
        velocity[-1] = 0.0
        return JointTrajectory(times, position, velocity)

    def _at(self, u: Floats) -> tuple[Floats, Floats]:
        u = u[:, None]
        gap = self.target_rad - self.start_rad
        v = self.start_velocity_rad_s * self.duration_s
        c2, c3 = 3.0 * gap - 2.0 * v, v - 2.0 * gap
        position = self.start_rad + u * (v + u * (c2 + u * c3))
        velocity = (v + u * (2.0 * c2 + u * (3.0 * c3))) / self.duration_s
        return position, velocity


def rest_move(
    position: Floats,
    velocity: Floats,
    target: Floats,
    velocity_limit: Floats,
    acceleration_limit: Floats,
    shortest_s: float,
) -> RestMove:
    """The quickest cubic move to ``target`` that respects the limits; all arrays (J,).

    If no duration does, because the arm moves faster than its limits, the gentlest is taken.
    """
    duration = np.maximum(_DURATIONS_S, shortest_s)[:, None]
    gap = target - position
    begin = np.abs(6.0 * gap / duration**2 - 4.0 * velocity / duration)
    end = np.abs(2.0 * velocity / duration - 6.0 * gap / duration**2)
    middle = np.abs(1.5 * gap / duration - 0.25 * velocity)
    excess = np.maximum(
        np.maximum(begin, end) / acceleration_limit,
        np.maximum(middle, np.abs(velocity)) / velocity_limit,
    ).max(axis=1)
    allowed = np.flatnonzero(excess <= 1.0)
    best = int(allowed[0]) if len(allowed) else int(np.argmin(excess))
    return RestMove(position, velocity, target, float(duration[best, 0]))
