"""What a page shows of an episode: signals, events, modes and the moments of its frames, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from salus_ros.data.episode import Episode, EpisodeMeta
from salus_ros.types import EpisodeEvent, EventKind, FailureType, Floats, Mode

POINTS: Final = 600
"""A curve with more points than these, which is what a screen can show, is drawn by its extremes."""


def episode_view(episode: Episode, index: int) -> dict[str, Any]:
    """An episode as JSON can hold it. Times are seconds of the episode, ``null`` stands for nan."""
    meta = episode.meta
    return {
        "index": index,
        "title": title(meta, index),
        "instruction": meta.instruction,
        "outcome": meta.outcome.value,
        "source": meta.source,
        "notes": dict(meta.notes),
        "end_s": meta.end_s,
        "frames": {camera: _rounded(stream.stamp_s) for camera, stream in episode.frames.items()},
        "signals": [_curve(name, unit, t, y) for name, unit, t, y in signals(episode)],
        "modes": _modes(episode),
        "events": [event_view(event) for event in episode.events],
    }


def title(meta: EpisodeMeta, index: int) -> str:
    """E.g. ``seed 12, bin, nudge``."""
    first = f"seed {meta.seed}" if meta.seed >= 0 else f"episode {index}"
    return ", ".join(filter(None, (first, meta.task, meta.disturbance)))


def event_view(event: EpisodeEvent) -> dict[str, Any]:
    """An event by the names of its kind and failure."""
    return {
        "stamp_s": event.stamp_s,
        "kind": event.kind.name,
        "failure": event.failure.name if event.failure is not None else None,
        "detail": event.detail,
    }


def signals(episode: Episode) -> Iterator[tuple[str, str, Floats, Floats]]:
    """Name, unit, times and values of all curves that the episode has any number of."""
    robot, policy = episode.robot, episode.policy
    predictions, interventions = episode.predictions, episode.interventions
    curves: list[tuple[str, str, Floats, Callable[[], NDArray[Any]]]] = [
        ("gripper opening", "mm", robot.stamp_s, lambda: 1e3 * robot.gripper_opening_m),
        ("fastest joint", "rad/s", robot.stamp_s, lambda: np.abs(robot.joint_velocity_rad_s).max(axis=1)),
        ("largest effort", "Nm", robot.stamp_s, lambda: np.abs(robot.joint_effort_nm).max(axis=1)),
        ("epistemic uncertainty", "", policy.stamp_s, lambda: policy.epistemic),
        ("aleatoric uncertainty", "", policy.stamp_s, lambda: policy.aleatoric),
        ("overlap divergence", "rad²", policy.stamp_s, lambda: policy.overlap_divergence),
        ("velocity-field disagreement", "", policy.stamp_s, lambda: policy.velocity_field_disagreement),
        ("points in the cloud", "", episode.points.stamp_s, lambda: episode.points.count),
        ("speed scale", "", interventions.stamp_s, lambda: interventions.speed_scale),
        ("risk", "", predictions.stamp_s, lambda: predictions.risk),
    ]
    if len(predictions):
        curves += [
            (
                f"probability of a {failure.name.lower()}",
                "",
                predictions.stamp_s,
                lambda failure=failure: predictions.probability[:, failure, -1],  # type: ignore[misc]
            )
            for failure in FailureType
        ]
    for name, unit, times, values in curves:
        if len(times) and np.isfinite(curve := np.asarray(values(), np.float64)).any():
            yield name, unit, times, curve


def thinned(times: Floats, values: Floats, points: int = POINTS) -> tuple[Floats, Floats]:
    """The extremes of each of ``points / 2`` stretches; the curve itself when it has no more points."""
    if len(times) <= points:
        return times, values
    kept: list[int] = []
    for stretch in np.array_split(np.arange(len(times)), points // 2):
        known = stretch[np.isfinite(values[stretch])]
        extremes = (
            {known[values[known].argmin()], known[values[known].argmax()]} if len(known) else {stretch[0]}
        )
        kept += sorted(int(i) for i in extremes)
    return times[kept], values[kept]


def _curve(name: str, unit: str, times: Floats, values: Floats) -> dict[str, Any]:
    t, y = thinned(times, values)
    significant = [None if not np.isfinite(value) else float(f"{value:.4g}") for value in y]
    return {"name": name, "unit": unit, "t": _rounded(t), "y": significant}


def _modes(episode: Episode) -> list[dict[str, Any]]:
    """Where each mode of the gate begins."""
    stream = episode.interventions
    if not len(stream):
        return []
    changes = np.flatnonzero(np.diff(stream.mode, prepend=stream.mode[0] - 1))
    return [
        {
            "stamp_s": round(float(stream.stamp_s[i]), 3),
            "mode": Mode(int(stream.mode[i])).name,
            "reason": episode.reasons[int(stream.reason[i])],
        }
        for i in changes
    ]


def _rounded(times: Floats) -> list[float]:
    return [round(float(time), 3) for time in times]


MARKABLE: Final = tuple(
    [(EventKind.FAILURE_ONSET.name, failure.name) for failure in FailureType]
    + [(kind.name, None) for kind in (EventKind.SUCCESS, EventKind.TIMEOUT, EventKind.EPISODE_END)]
)
"""Kinds and failures that an operator may mark in an episode; in a bag also where an episode starts."""
