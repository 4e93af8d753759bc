"""Following a path by scaling its time: between standing (0) and the path's own timing (1).

Bending around the path's curves may take only a part of the joints' acceleration; the rest brakes, so that
from every point the arm can stop on what is left of the path. The speed limits say how fast it may be where.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from salus_ros.intervention.path import JointPath
from salus_ros.intervention.settings import GateSettings
from salus_ros.intervention.stop import SpeedProfile, brake, rest_due_s
from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats, JointTrajectory

_GRID_S: Final = 0.01
_GRID_MAX: Final = 800
_FINE_S: Final = 0.02
"""Between points this near a cubic keeps to any path that may be followed."""
_FRACTIONS: Final = np.arange(9) / 8.0
_LOOKS: Final = np.arange(4) / 3.0
_STILL: Final = 1e-3
"""A speed scale below this is rest."""
_ROUNDING: Final = 1e-9
"""The limits of the speed are sums and differences: without this a path that may be entered at its own timing
could be refused by the last bit."""


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """What commands may ask of the joints."""

    velocity_rad_s: Floats
    """(J,)"""
    acceleration_rad_s2: Floats
    """(J,)"""
    braking_share: float
    braking_rate_max_s: float
    speeding_up_rate_s: float
    period_s: float
    lead_s: float

    @classmethod
    def of(cls, arm: ArmModel, settings: GateSettings) -> MotionLimits:
        """The shares of the arm's limits that the settings allow."""
        s = settings
        return cls(
            arm.velocity_limit_rad_s * s.velocity_fraction,
            arm.acceleration_limit_rad_s2 * s.acceleration_fraction,
            s.braking_share,
            s.braking_rate_max_s,
            s.speeding_up_rate_s,
            s.period_s,
            s.lead_s,
        )


@dataclass(frozen=True, slots=True)
class SpeedLimits:
    """How fast a path may be followed where, so that it can be stopped on at any time."""

    grid_s: Floats
    """(K,) path times."""
    speed_squared: Floats
    """(K,), zero at the end."""
    braking: Floats
    """(K,) twice the braking rate, integrated from the path's start."""

    @classmethod
    def of(cls, path: JointPath, limits: MotionLimits) -> SpeedLimits:
        """Walk the path backwards from its end, where it must rest."""
        length = path.end_s - path.start_s
        count = min(max(round(length / _GRID_S), 2), _GRID_MAX) + 1
        grid = np.asarray(np.linspace(path.start_s, path.end_s, count), dtype=np.float64)
        _, velocity, acceleration = path.at(grid)
        tiny = 1e-9
        bend = limits.acceleration_rad_s2 * (1.0 - limits.braking_share)
        cap = np.minimum(
            ((limits.velocity_rad_s / (np.abs(velocity) + tiny)) ** 2).min(axis=1),
            (bend / (np.abs(acceleration) + tiny)).min(axis=1),
        )
        cap = np.minimum(cap, 1.0)
        left = limits.acceleration_rad_s2 - np.abs(acceleration) * cap[:, None]
        rate = np.minimum((left / (np.abs(velocity) + tiny)).min(axis=1), limits.braking_rate_max_s)
        steps = np.diff(grid)
        removable = 2.0 * np.minimum(rate[:-1], rate[1:]) * steps
        braking = np.concatenate([[0.0], np.cumsum(removable)])
        # u_k = min over l >= k of (cap_l + braking_l) - braking_k: the backward pass in closed form.
        reach = cap + braking
        reach[-1] = braking[-1]
        squared = np.minimum.accumulate(reach[::-1])[::-1] - braking
        return cls(grid, np.maximum(squared, 0.0), braking)

    def squared_at(self, path_time_s: Floats) -> Floats:
        """Square of the speed allowed at each path time."""
        return np.interp(path_time_s, self.grid_s, self.speed_squared)


class Follower:
    """A path, and how far along it the command is.

    Call :meth:`advance` with the time that passed, then :meth:`follow` or :meth:`stop` to set how it goes
    on; :meth:`trajectory` is what the controller is sent.
    """

    def __init__(self, path: JointPath, limits: MotionLimits, speed: float = 0.0) -> None:
        self.path = path
        self.speed_limits = SpeedLimits.of(path, limits)
        self.path_time_s = path.start_s
        self.speed = speed
        self._limits = limits
        self._set_braking()

    def advance(self, step_s: float) -> None:
        """Time has passed: go on along what was set last; longer silence ends in its rest."""
        self._elapsed_s += step_s
        self.path_time_s, self.speed = self._profile.at(self._elapsed_s)
        if self.speed < _STILL:
            self.speed = 0.0

    def follow(self, speed: float) -> None:
        """Go on at this speed scale at most; slow down as fast as the limits allow, speed up gently."""
        dt, lead = self._limits.period_s, self._limits.lead_s
        rate = self._rate()
        top = min(speed, self.speed + min(self._limits.speeding_up_rate_s, rate) * dt, 1.0)
        slowest = max(self.speed - rate * dt, 0.0)
        if top < slowest or (top <= 0.0 and self.speed <= 0.0):
            self.stop()
            return
        trials = top - (top - slowest) * _FRACTIONS
        ramp_end = self.path_time_s + 0.5 * dt * (self.speed + trials)
        lead_end = ramp_end + (lead - dt) * trials
        ahead = ramp_end[:, None] + (lead_end - ramp_end)[:, None] * _LOOKS
        lowest = self.speed_limits.squared_at(ahead).min(axis=1)
        allowed = np.flatnonzero(trials * trials <= lowest + _ROUNDING)
        chosen = float(trials[allowed[0]]) if len(allowed) else 0.0
        if chosen < _STILL:
            self.stop()
            return
        i = int(allowed[0])
        tail = brake(float(lead_end[i]), chosen, self.speed_limits.grid_s, self.speed_limits.braking, 0.0)
        self._profile = SpeedProfile(
            [0.0, dt, *(lead + t for t in tail.time_s)],
            [self.path_time_s, float(ramp_end[i]), *tail.path_time_s],
            [self.speed, chosen, *tail.speed],
        )
        self._elapsed_s, self._braking = 0.0, False

    def stop(self) -> None:
        """Come to rest on the path, as soon as the limits allow; a stop in hand goes on."""
        if not self._braking:
            self._set_braking()

    def allows(self, speed: float) -> bool:
        """Whether the path can be followed from here at this speed scale."""
        ahead = np.array([self.path_time_s, self.path_time_s + self._limits.lead_s * speed])
        return bool((speed * speed <= self.speed_limits.squared_at(ahead) + _ROUNDING).all())

    @property
    def entry_speed(self) -> float:
        """Speed scale at which the path can be entered."""
        near = self.speed_limits.grid_s <= self.path.start_s + self._limits.lead_s + _GRID_S
        return math.sqrt(float(self.speed_limits.speed_squared[near].min()))

    @property
    def standing(self) -> bool:
        """Whether the command rests."""
        return self._braking and self.speed <= 0.0

    @property
    def ended(self) -> bool:
        """Whether there is no path left to follow."""
        return self.path.end_s - self.path_time_s < _GRID_S

    def state(self) -> tuple[Floats, Floats, Floats]:
        """(J,) commanded position, and its first and second derivative by path time."""
        position, velocity, acceleration = self.path.at(np.array([self.path_time_s]))
        return position[0], velocity[0], acceleration[0]

    def trajectory(self, corners_from_s: float | None = None) -> JointTrajectory:
        """The profile as points.

        Args:
            corners_from_s: as many points as the path's curves need, from this far ahead on. Without it the
                first is ``lead_s`` ahead, since nearer ones would turn a message's delay into a jerk; the
                controller cuts the corners before it.
        """
        profile, first_s = self._profile, self._limits.lead_s - 1e-9
        if corners_from_s is not None:
            profile, first_s = profile.with_spans(_FINE_S), corners_from_s
        times = np.array(profile.time_s) - self._elapsed_s
        keep = times >= min(first_s, times[-1])
        times = times[keep]
        times[-1] = rest_due_s(float(times[-1]), self._limits.period_s)
        position, velocity, _ = self.path.at(np.array(profile.path_time_s)[keep])
        velocity = velocity * np.array(profile.speed)[keep, None]
        velocity[-1] = 0.0
        return JointTrajectory(times, position, velocity)

    @property
    def rest_in_s(self) -> float:
        """Time until the command in hand rests by itself."""
        return 0.0 if self.standing else max(self._profile.time_s[-1] - self._elapsed_s, 0.0)

    def _rate(self) -> float:
        """How fast the speed scale may change here."""
        grid, braking = self.speed_limits.grid_s, self.speed_limits.braking
        i = min(max(int(np.searchsorted(grid, self.path_time_s)) - 1, 0), len(grid) - 2)
        return float(0.5 * (braking[i + 1] - braking[i]) / (grid[i + 1] - grid[i]))

    def _set_braking(self) -> None:
        self._profile = brake(
            self.path_time_s,
            self.speed,
            self.speed_limits.grid_s,
            self.speed_limits.braking,
            self._limits.lead_s,
        )
        self._elapsed_s, self._braking = 0.0, True
