"""What is now the case, as the page draws it: plain numbers and words, ``None`` for what is not available."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from salus_ros.console.scene import horizon_levels, path_levels
from salus_ros.types import ActionChunk, FailurePrediction, FailureType, Floats, InterventionState

Condition = Literal["fresh", "late", "silent", "never"]


@dataclass(frozen=True, slots=True)
class Source:
    """How one of the inputs comes in."""

    name: str
    topic: str
    age_s: float
    """Since the newest message came; inf before the first."""
    rate_hz: float
    late_after_s: float
    """Silence from which it counts as late; four times of it as silent."""

    @property
    def condition(self) -> Condition:
        """In one word."""
        if math.isinf(self.age_s):
            return "never"
        if self.age_s <= self.late_after_s:
            return "fresh"
        return "late" if self.age_s <= 4 * self.late_after_s else "silent"


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What a node said last on ``/diagnostics``."""

    name: str
    level: int
    """0 well, 1 warning, from 2 on error."""
    message: str
    age_s: float


def describe_gate(state: InterventionState | None) -> dict[str, Any] | None:
    """Mode, cause and counters; None before the gate has spoken."""
    if state is None:
        return None
    return {
        "mode": state.mode.name,
        "cause": state.cause.name,
        "reason": state.reason,
        "speed": number(state.speed_scale),
        "since": number(state.time_in_mode_s, 1),
        "replans": state.replan_count,
        "assists": state.assist_count,
        "stops": state.protective_stop_count + state.emergency_stop_count,
        "refused": state.refused_message_count,
    }


def describe_risk(prediction: FailurePrediction | None) -> dict[str, Any] | None:
    """Probabilities by type and horizon, and how far each is from its alarm."""
    if prediction is None:
        return None
    return {
        "types": [kind.name.lower() for kind in FailureType],
        "horizons": list(prediction.horizons_s),
        "probability": numbers(prediction.probability, 3),
        "level": numbers(horizon_levels(prediction), 3),
        "threshold": numbers(prediction.threshold, 3),
        "timeout": number(prediction.timeout_probability),
        "risk": number(prediction.risk),
        "worst": prediction.risk_type.name.lower(),
        "horizon": number(prediction.risk_horizon_s, 2),
        "alarm": prediction.alarm,
        "foreign": prediction.out_of_distribution,
    }


def describe_path(
    chunk: ActionChunk | None,
    tool_path_m: Floats | None,
    prediction: FailurePrediction | None,
    *,
    tool_m: Floats | None,
    now_s: float,
    pixels: Floats | None,
) -> dict[str, Any]:
    """Where the tool is and where it is to go.

    Args:
        chunk: the newest action chunk.
        tool_path_m: (T, 3), the tool's position at each of its points, in the base frame.
        prediction: the newest prediction, which colours the path.
        tool_m: (3,), where the tool is now.
        now_s: the time of that, on the clock of the stamps; points before it are past.
        pixels: (T + 1, 2), the tool and then the points as shares of the image's width and height.
    """
    if chunk is None or tool_path_m is None:
        return {"tool": numbers(tool_m, 4), "points": [], "levels": [], "past": 0, "pixels": []}
    times = chunk.stamp_s + chunk.time_from_start_s
    return {
        "tool": numbers(tool_m, 4),
        "points": numbers(tool_path_m, 4),
        "levels": numbers(path_levels(times, prediction), 2),
        "past": int(np.searchsorted(times, now_s)),
        "pixels": numbers(pixels, 4) if pixels is not None else [],
    }


def describe_sources(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Each input with its condition."""
    return [
        {
            "name": source.name,
            "topic": source.topic,
            "condition": source.condition,
            "age": number(source.age_s),
            "rate": number(source.rate_hz, 1),
        }
        for source in sources
    ]


def describe_nodes(nodes: Sequence[NodeHealth]) -> list[dict[str, Any]]:
    """Each node with what it said; one that has said nothing for five seconds has gone."""
    return [
        {"name": node.name, "level": node.level, "message": node.message, "gone": node.age_s > 5.0}
        for node in nodes
    ]


def number(value: float, digits: int = 3) -> float | None:
    """Rounded; None for what is not finite, since JSON has no word for it."""
    return round(float(value), digits) if math.isfinite(value) else None


def numbers(values: ArrayLike | None, digits: int = 3) -> Any:
    """Nested lists of :func:`number`; None for None."""
    if values is None:
        return None
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        return number(float(array), digits)
    return [numbers(row, digits) for row in array]
