"""Whether the arm does what the plan says.

Source: joint states against the followed chunk at the gate's path time; ``InterventionState.speed_scale``.
The effort residual is what departs from the last second's mean: a sudden push or touch. The slow part
(gravity, the load in the hand) needs no model of the arm this way.
"""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import RECENT_S, Motion, View
from salus_ros.types import Floats

FLAT_S = 0.5
"""The opening's change is judged over this time."""


@family(
    "execution",
    Signal("tracking_rms", "rad", 0.0, 3.0, "Root mean square distance of the joints from the plan."),
    Signal("tracking_max", "rad", 0.0, 6.0, "Largest distance of a joint from the plan."),
    Signal("tracking_tool", "m", 0.0, 1.0, "Distance of the tool from the plan."),
    Signal("tracking_height", "m", -1.0, 1.0, "Measured minus planned tool height."),
    Signal("effort", "1", 0.0, 5.0, "Largest effort over its limit, mean of the last 0.1 s."),
    Signal(
        "effort_change",
        "1",
        0.0,
        5.0,
        "Largest departure of the last 0.1 s from the last second's mean effort, over the limit.",
    ),
    Signal("effort_change_rms", "1", 0.0, 5.0, "Root mean square of the same over the joints."),
    Signal(
        "effort_noise",
        "1",
        0.0,
        5.0,
        "Largest standard deviation of the effort within the last 0.2 s, over the limit.",
    ),
    Signal("opening", "m", -0.01, 0.2, "Measured distance between the fingertips."),
    Signal("opening_rate", "m/s", -1.0, 1.0, "Change of it over the last 0.1 s."),
    Signal("opening_trend", "m/s", -1.0, 1.0, "Change of it over the last 0.5 s."),
    Signal("opening_commanded", "m", -0.01, 0.2, "Opening that the plan commands now."),
    Signal("opening_next", "m", -0.01, 0.2, "Opening that the plan commands 0.25 s on."),
    Signal("opening_later", "m", -0.01, 0.2, "Opening that the plan commands 0.5 s on."),
    Signal("opening_excess", "m", -0.2, 0.2, "Measured minus commanded: what a held object keeps apart."),
    Signal("speed_scale", "1", 0.0, 1.0, "Path time per nominal time that the gate allows."),
)
def execution(view: View) -> dict[str, float]:
    """Tracking, effort, gripper and speed scale."""
    values: dict[str, float] = {}
    moved, plan = view.motion, view.followed
    if view.intervention is not None:
        values["speed_scale"] = view.intervention.speed_scale
    if plan is not None:
        values["opening_commanded"] = float(plan.gripper_at(view.path_time_s))
        values["opening_next"] = float(plan.gripper_at(view.path_time_s + 0.25))
        values["opening_later"] = float(plan.gripper_at(view.path_time_s + 0.5))
    if moved is not None:
        values |= _effort(moved, view.body.model.effort_limit_nm) | _opening(moved)
    if moved is not None and plan is not None and view.tool is not None:
        error = moved.position_rad[-1] - plan.joints_at(view.path_time_s)
        apart = view.tool[:3, 3] - plan.tool_at(view.path_time_s)
        values |= {
            "tracking_rms": float(np.sqrt((error**2).mean())),
            "tracking_max": float(np.abs(error).max()),
            "tracking_tool": float(np.linalg.norm(apart)),
            "tracking_height": float(apart[2]),
            "opening_excess": values["opening"] - values["opening_commanded"],
        }
    return values


def _effort(moved: Motion, limit_nm: Floats) -> dict[str, float]:
    share = moved.effort_nm / limit_nm
    recent = share[moved.since(RECENT_S)]
    change = recent.mean(axis=0) - share.mean(axis=0)
    return {
        "effort": float(np.abs(recent.mean(axis=0)).max()),
        "effort_change": float(np.abs(change).max()),
        "effort_change_rms": float(np.sqrt((change**2).mean())),
        "effort_noise": float(share[moved.since(2 * RECENT_S)].std(axis=0).max()),
    }


def _opening(moved: Motion) -> dict[str, float]:
    values = {"opening": float(moved.opening_m[-1])}
    for name, span_s in (("opening_rate", RECENT_S), ("opening_trend", FLAT_S)):
        first = moved.since(span_s).start
        elapsed = moved.stamp_s[-1] - moved.stamp_s[first]
        if elapsed > 0.5 * span_s:
            values[name] = float((moved.opening_m[-1] - moved.opening_m[first]) / elapsed)
    return values
