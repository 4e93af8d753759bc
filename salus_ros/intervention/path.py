"""An action chunk as a smooth path over its own time, and the joint between one chunk and the next.

A path is a function of *path time*: the chunk's own ``time_from_start``. Who follows it decides how
fast path time passes. J joints throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from salus_ros.types import Floats

_CORRECTIONS: Final = 40
"""Passes that pull a spline to its points; each at least halves what is left of the distance."""

_STEP_MIN_S: Final = 0.005
_CHECKS_PER_SEGMENT: Final = 4
_BLEND_LOOKS: Final = np.arange(17) / 16.0


class PathError(ValueError):
    """The points cannot be followed; the text says why."""


@dataclass(frozen=True, slots=True)
class Blend:
    """A difference to a path that fades to nothing, with continuous acceleration."""

    start_s: float
    duration_s: float
    coefficients: Floats
    """(6, J), a polynomial in (time - start) / duration, constant term first."""

    def at(self, time_s: Floats) -> tuple[Floats, Floats, Floats]:
        """(N, J) each: the difference and its first and second derivative, inside the blend."""
        u = ((time_s - self.start_s) / self.duration_s)[:, None]
        c0, c1, c2, c3, c4, c5 = self.coefficients
        value = c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * c5))))
        first = c1 + u * (2.0 * c2 + u * (3.0 * c3 + u * (4.0 * c4 + u * (5.0 * c5))))
        second = 2.0 * c2 + u * (6.0 * c3 + u * (12.0 * c4 + u * (20.0 * c5)))
        return value, first / self.duration_s, second / self.duration_s**2


@dataclass(frozen=True, slots=True)
class JointPath:
    """A twice continuously differentiable joint path over ``[start_s, end_s]``."""

    start_s: float
    end_s: float
    _origin_s: float
    _step_s: float
    _segments: Floats
    """(K, 4, J), a cubic in the fraction of each segment of ``_step_s``, constant term first."""
    _blend: Blend | None = None

    def at(self, time_s: Floats) -> tuple[Floats, Floats, Floats]:
        """Position and its first and second derivative by path time.

        Args:
            time_s: (N,) path times; held at the path's ends.

        Returns:
            Three arrays (N, J) in rad, rad/s and rad/s^2 at nominal speed.
        """
        time = np.minimum(np.maximum(time_s, self.start_s), self.end_s)
        scaled = (time - self._origin_s) / self._step_s
        index = np.minimum(scaled.astype(np.intp), len(self._segments) - 1)
        u = (scaled - index)[:, None]
        a0, a1, a2, a3 = self._segments[index].transpose(1, 0, 2)
        u3a3 = u * a3
        position = a0 + u * (a1 + u * (a2 + u3a3))
        velocity = (a1 + u * (2.0 * a2 + 3.0 * u3a3)) / self._step_s
        acceleration = (2.0 * a2 + 6.0 * u3a3) / self._step_s**2
        blend = self._blend
        if blend is not None:
            inside = np.flatnonzero(time < blend.start_s + blend.duration_s)
            if len(inside):
                offset, first, second = blend.at(time[inside])
                position[inside] += offset
                velocity[inside] += first
                acceleration[inside] += second
        return position, velocity, acceleration

    @property
    def blend_reach_rad(self) -> float:
        """How far the blend leads away from the path's own points, at most; 0 without one."""
        if self._blend is None:
            return 0.0
        offset, _, _ = self._blend.at(self._blend.start_s + self._blend.duration_s * _BLEND_LOOKS)
        return float(np.abs(offset).max())

    def ending_at(self, end_s: float) -> JointPath:
        """The same path, given up after ``end_s``."""
        return JointPath(self.start_s, end_s, self._origin_s, self._step_s, self._segments, self._blend)

    def joined(
        self, entry_s: float, blend_s: float, position: Floats, velocity: Floats, acceleration: Floats
    ) -> JointPath:
        """This path from ``entry_s`` on, starting at the given state and fading into its own points.

        Args:
            entry_s: path time of the entry.
            blend_s: path time after which it is on its own points.
            position, velocity, acceleration: (J,) where the arm is commanded to be, by path time.
        """
        q, v, a = (row[0] for row in self.at(np.array([entry_s])))
        duration = min(blend_s, self.end_s - entry_s)
        blend = Blend(
            entry_s,
            duration,
            _fade(position - q, (velocity - v) * duration, (acceleration - a) * duration**2),
        )
        return JointPath(entry_s, self.end_s, self._origin_s, self._step_s, self._segments, blend)


def spline(time_s: Floats, points_rad: Floats, tolerance_rad: float, points_max: int = 400) -> JointPath:
    """A path along points: a uniform cubic B-spline, whose acceleration is no larger than needed.

    Args:
        time_s: (T,) strictly increasing, T >= 2.
        points_rad: (T, J).
        tolerance_rad: how far the path may lie from the straight lines between the points, per joint.
        points_max: most points after bringing them to equal steps.

    Raises:
        PathError: no smooth path lies that close, or the steps are too uneven.
    """
    step = float(np.min(np.diff(time_s)))
    uniform = np.allclose(np.diff(time_s), step, rtol=0.0, atol=1e-6)
    knots, points = time_s, points_rad
    if not uniform:
        step = max(step, _STEP_MIN_S)
        count = round((float(time_s[-1]) - float(time_s[0])) / step) + 1
        if not 2 <= count <= points_max:
            raise PathError(f"its uneven steps need {count} points, expected at most {points_max}")
        knots = np.asarray(np.linspace(float(time_s[0]), float(time_s[-1]), count))
        step = float(knots[1] - knots[0])
        points = _polyline(time_s, points_rad, knots)
    count = _CHECKS_PER_SEGMENT * (len(knots) - 1)
    checks = knots[0] + (knots[-1] - knots[0]) * np.arange(count + 1) / count
    lines = _polyline(time_s, points_rad, checks)
    control = points.copy()
    for _ in range(_CORRECTIONS):
        path = JointPath(float(knots[0]), float(knots[-1]), float(knots[0]), step, _segments(control))
        if np.abs(path.at(checks)[0] - lines).max() <= tolerance_rad:
            return path
        control[1:-1] += points[1:-1] - (control[:-2] + 4.0 * control[1:-1] + control[2:]) / 6.0
    raise PathError(f"its corners are too sharp for a smooth path within {tolerance_rad} rad")


def _segments(control: Floats) -> Floats:
    """(T, J) control points to (T-1, 4, J) cubics; the ends are met exactly, without acceleration."""
    first = 2.0 * control[:1] - control[1:2]
    last = 2.0 * control[-1:] - control[-2:-1]
    p = np.concatenate([first, control, last])
    p0, p1, p2, p3 = p[:-3], p[1:-2], p[2:-1], p[3:]
    return np.stack(
        [
            (p0 + 4.0 * p1 + p2) / 6.0,
            (p2 - p0) / 2.0,
            (p0 - 2.0 * p1 + p2) / 2.0,
            (p3 - p0 + 3.0 * (p1 - p2)) / 6.0,
        ],
        axis=1,
    )


def _polyline(time_s: Floats, points: Floats, at_s: Floats) -> Floats:
    return np.stack([np.interp(at_s, time_s, column) for column in points.T], axis=1)


def _fade(position: Floats, velocity: Floats, acceleration: Floats) -> Floats:
    """(6, J) quintic on [0, 1] from the given state to nothing."""
    return np.stack(
        [
            position,
            velocity,
            0.5 * acceleration,
            -10.0 * position - 6.0 * velocity - 1.5 * acceleration,
            15.0 * position + 8.0 * velocity + 1.5 * acceleration,
            -6.0 * position - 3.0 * velocity - 0.5 * acceleration,
        ]
    )
