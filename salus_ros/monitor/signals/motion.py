"""How the arm moves and where the plan takes it.

Source: joint states of the last second, the followed chunk, forward kinematics. Heights are over the arm's
base; the tool frame lies between the fingertips.
"""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import AHEAD_S, RECENT_S, SAME_INSTANT_S, Motion, View
from salus_ros.types import Floats


@family(
    "motion",
    Signal("joint_speed", "1", 0.0, 2.0, "Largest joint speed over its limit, mean of the last 0.1 s."),
    Signal("tool_speed", "m/s", 0.0, 3.0, "Speed of the tool over the last 0.1 s."),
    Signal("tool_rise", "m/s", -3.0, 3.0, "Vertical speed of the tool over the last 0.1 s."),
    Signal("tool_height", "m", -0.5, 1.5, "Height of the tool."),
    Signal("tool_tilt", "1", -1.0, 1.0, "Cosine between the tool's axis and straight down."),
    Signal(
        "jerk", "rad/s^2", 0.0, 100.0, "Root mean square change of joint velocity per second, last 0.2 s."
    ),
    Signal(
        "reversals", "1", 0.0, 1.0, "Share of joints' speeds that changed sign, per 0.1 s of the last second."
    ),
    Signal("limit_margin", "1", -0.1, 0.5, "Smallest distance of a joint to its limits, over its range."),
    Signal("planned_speed", "m/s", 0.0, 3.0, "Tool path length of the plan over the next 0.6 s, per second."),
    Signal("planned_rise", "m", -1.0, 1.0, "Change of tool height along the plan over the next 0.6 s."),
    Signal("planned_lowest", "m", -0.5, 1.5, "Lowest tool height of the plan over the next 0.6 s."),
    Signal(
        "planned_reversals",
        "1",
        0.0,
        1.0,
        "Share of sign changes of the joint steps within the newest chunk.",
    ),
    Signal("planned_jerk", "rad", 0.0, 1.0, "Mean size of the second differences within the newest chunk."),
    Signal("planned_margin", "1", -0.1, 0.5, "Smallest limit margin along the newest chunk."),
)
def motion(view: View) -> dict[str, float]:
    """Speeds, heights, roughness and limits, measured and planned."""
    return _measured(view) | _planned(view)


def _measured(view: View) -> dict[str, float]:
    moved, tool = view.motion, view.tool
    if moved is None or tool is None or view.tool_before_m is None:
        return {}
    values = {
        "tool_height": float(tool[2, 3]),
        "tool_tilt": float(-tool[2, 2]),
        "limit_margin": _margin(view, moved.position_rad[-1]),
    }
    recent = moved.since(RECENT_S)
    limit = view.body.model.velocity_limit_rad_s
    values["joint_speed"] = float((np.abs(moved.velocity_rad_s[recent]).mean(axis=0) / limit).max())
    elapsed = moved.stamp_s[-1] - moved.stamp_s[recent.start]
    if elapsed > 0.0:
        velocity = (tool[:3, 3] - view.tool_before_m) / elapsed
        values["tool_speed"], values["tool_rise"] = float(np.linalg.norm(velocity)), float(velocity[2])
    values["jerk"] = _roughness(moved)
    values["reversals"] = _reversals(_resampled(moved))
    return values


def _planned(view: View) -> dict[str, float]:
    values: dict[str, float] = {}
    if view.links_ahead is not None:
        points = view.links_ahead[:, -1, :3, 3]
        values |= {
            "planned_speed": float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum()) / AHEAD_S[-1],
            "planned_rise": float(points[-1, 2] - points[0, 2]),
            "planned_lowest": float(points[:, 2].min()),
        }
    if view.plan is not None:
        joints = view.plan.output.chunk.joint_position_rad
        values["planned_reversals"] = _reversals(joints)
        values["planned_margin"] = _margin(view, joints)
        if len(joints) > 2:
            values["planned_jerk"] = float(np.abs(np.diff(joints, n=2, axis=0)).mean())
    return values


def _margin(view: View, position_rad: Floats) -> float:
    """Smallest distance of joint positions (..., J) to the limits, over each joint's range."""
    lower, upper = view.body.model.position_lower_rad, view.body.model.position_upper_rad
    return float((np.minimum(position_rad - lower, upper - position_rad) / (upper - lower)).min())


def _roughness(moved: Motion) -> float:
    recent = moved.since(2 * RECENT_S)
    elapsed = np.diff(moved.stamp_s[recent])
    if len(elapsed) == 0:
        return float("nan")
    change = np.diff(moved.velocity_rad_s[recent], axis=0) / elapsed[:, None]
    return float(np.sqrt((change**2).mean()))


def _resampled(moved: Motion) -> Floats:
    """Joint positions every 0.1 s, so that sensor noise does not pass for a change of direction."""
    steps = int((moved.stamp_s[-1] - moved.stamp_s[0]) / RECENT_S + SAME_INSTANT_S)
    return moved.at(moved.stamp_s[-1] - RECENT_S * np.arange(steps, -1, -1))


def _reversals(positions: Floats) -> float:
    """Share of sign changes of the steps of positions (N, J), among steps that are no rounding."""
    steps = np.diff(positions, axis=0)
    if len(steps) < 2:
        return float("nan")
    return float(((steps[1:] * steps[:-1]) < -1e-8).mean())
