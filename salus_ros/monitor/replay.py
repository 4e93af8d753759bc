"""A recorded episode through the very code that runs live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus_ros.data.episode import Episode
from salus_ros.monitor.inputs import Inputs
from salus_ros.monitor.perception import Perception
from salus_ros.types import (
    FailurePrediction,
    Floats,
    InterventionState,
    PointCloud,
    PolicyOutput,
    RobotState,
)

SAME_INSTANT_S = 1e-6
"""Times closer than this are one instant: they are sums of control periods."""
STREAMS = ("robot", "policy", "points", "interventions")
"""What a monitor is fed; the cameras' frames need not be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """Signals of one episode at the monitor's rate."""

    time_s: Floats
    """(N,), on the episode's time"""
    frames: Floats
    """(N, F), nan where not available"""
    judged: NDArray[np.bool_]
    """(N,), False where the monitor would have said nothing"""


def ticks(episode: Episode, period_s: float) -> Floats:
    """(N,), when a monitor that starts with the episode judges: every ``period_s`` up to the end."""
    stamps = episode.robot.stamp_s
    if len(stamps) == 0:
        return np.empty(0)
    return np.arange(float(stamps[0]), episode.meta.end_s + SAME_INSTANT_S, period_s, dtype=np.float64)


def feed(episode: Episode, inputs: Inputs, times_s: ArrayLike, look: Callable[[float], None]) -> None:
    """Hands over every message at its arrival, and calls ``look`` at the times given (N,), rising.

    What arrives at the very instant of a look is seen by it, save the gate's state: the gate decides
    after the monitor has judged.
    """
    accept: dict[type[Any], Callable[[Any], None]] = {
        RobotState: inputs.robot,
        PolicyOutput: inputs.policy,
        PointCloud: inputs.points,
        InterventionState: inputs.intervention,
    }
    times = iter(np.asarray(times_s, float).tolist())
    next_s = next(times, np.inf)
    for arrival_s, message in episode.inputs():
        if isinstance(message, FailurePrediction):
            continue
        early = SAME_INSTANT_S if isinstance(message, InterventionState) else -SAME_INSTANT_S
        while next_s <= arrival_s + early:
            look(next_s)
            next_s = next(times, np.inf)
        accept[type(message)](message)
    while next_s < np.inf:
        look(next_s)
        next_s = next(times, np.inf)


def replay(episode: Episode, perception: Perception) -> Replayed:
    """Signals of an episode from its first judged tick on; ticks without a judgement in between are nan."""
    perception.reset()
    times: list[float] = []
    frames: list[Floats] = []
    nothing = np.full(len(perception.signals.names), np.nan)

    def look(now_s: float) -> None:
        seen = perception.look(now_s)
        if seen is not None or times:
            times.append(now_s)
            frames.append(nothing if seen is None else seen[1][-1])

    feed(episode, perception.inputs, ticks(episode, perception.settings.period_s), look)
    stacked = np.array(frames, np.float64).reshape(-1, len(perception.signals.names))
    return Replayed(np.array(times), stacked, np.atleast_1d(np.isfinite(stacked).any(axis=1)))
