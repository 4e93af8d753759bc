"""How near the robot is to what it could hit, now and along its plan.

Source: the depth cloud in the base frame without table, robot and grasped object (``scenery``), and the
robot's capsules by forward kinematics. Clearances are surface to point, negative inside, and cut off at
``clearance_cap_m``; with a cloud that shows no obstacle they are that cap.
"""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.body import Capsules
from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import AHEAD_S, View
from salus_ros.types import Floats


@family(
    "geometry",
    Signal("clearance_gripper", "m", -0.1, 1.0, "Clearance of hand and fingers."),
    Signal("clearance_arm", "m", -0.1, 1.0, "Clearance of all moving links, hand included."),
    Signal(
        "planned_clearance",
        "m",
        -0.1,
        1.0,
        "Smallest clearance of hand and fingers along the next 0.5 s of the plan.",
    ),
    Signal("planned_approach", "m", -1.0, 1.0, "Clearance now minus the smallest planned one."),
    Signal(
        "time_to_contact",
        "s",
        0.0,
        1.0,
        "Path time until the planned clearance falls below contact; 1 without contact.",
    ),
    Signal(
        "beside",
        "m",
        0.0,
        1.0,
        "Horizontal distance from the tool to the nearest obstacle point above its fingertips.",
    ),
    Signal("between_fingers", "1", 0.0, 4.0, "log10 of one plus the points between the fingers."),
    Signal("below_fingers", "1", 0.0, 4.0, "log10 of one plus the points in the column under the grasp."),
    Signal("visible", "1", 0.0, 4.0, "log10 of one plus the points that are neither robot nor table."),
)
def geometry(view: View) -> dict[str, float]:
    """Clearances, time to contact, and what lies in the grasp."""
    seen, moved, tool = view.scenery, view.motion, view.tool
    if seen is None or moved is None or tool is None or view.links is None:
        return {}
    cap = view.settings.clearance_cap_m
    points = seen.obstacles_m
    opening = float(moved.opening_m[-1])
    gripper = _clearance(view.body.capsules(view.links, opening, gripper_only=True), points, cap)
    values = {
        "clearance_gripper": float(gripper),
        "clearance_arm": float(_clearance(view.body.capsules(view.links, opening), points, cap)),
        "beside": _beside(points, tool, cap),
        "between_fingers": float(np.log10(1.0 + seen.between_fingers)),
        "below_fingers": float(np.log10(1.0 + seen.below_fingers)),
        "visible": float(np.log10(1.0 + seen.visible)),
    }
    if view.links_ahead is not None:
        along = view.body.capsules(view.links_ahead, opening, gripper_only=True)
        clear = _clearance(along, points, cap)
        touching = np.flatnonzero(clear < view.settings.contact_distance_m)
        values |= {
            "planned_clearance": float(clear.min()),
            "planned_approach": float(gripper - clear.min()),
            "time_to_contact": AHEAD_S[touching[0]] if len(touching) else 1.0,
        }
    return values


def _clearance(capsules: Capsules, points_m: Floats, cap_m: float) -> Floats:
    """(...,), smallest distance over capsules and points, at most ``cap_m``."""
    if len(points_m) == 0:
        return np.full(capsules.start_m.shape[:-2], cap_m)
    nearest: Floats = np.minimum(capsules.distance(points_m).min(axis=(-1, -2)), cap_m)
    return nearest


def _beside(points_m: Floats, tool: Floats, cap_m: float) -> float:
    """What the hand would meet if it moved sideways at its height."""
    level = points_m[points_m[:, 2] > tool[2, 3] + 0.005]
    if len(level) == 0:
        return cap_m
    return float(min(np.hypot(level[:, 0] - tool[0, 3], level[:, 1] - tool[1, 3]).min(), cap_m))
