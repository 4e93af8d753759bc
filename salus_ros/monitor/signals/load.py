"""What the arm carries besides itself.

Source: measured efforts against what holds the arm's own weight, by the masses in the robot description
(``weight.py``), as one force at the tool. A heavy object, and one that leaves the hand, change it; a payload
that nobody declared is there from the start.
"""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import RECENT_S, SAME_INSTANT_S, View


@family(
    "load",
    Signal("down", "N", -50.0, 50.0, "Vertical force that the tool carries, mean of the last 0.1 s."),
    Signal("aside", "N", 0.0, 100.0, "Horizontal force at the tool, mean of the last 0.1 s."),
    Signal("change", "N", -50.0, 50.0, "The vertical force against that of up to a second ago."),
    Signal("unexplained", "Nm", 0.0, 50.0, "Torques that no force at the tool explains, root mean square."),
)
def load(view: View) -> dict[str, float]:
    """Forces at the tool now, and against the second before."""
    moved, weight = view.motion, view.body.weight
    if moved is None or view.links is None or view.links_before is None or not weight.known:
        return {}
    recent = moved.effort_nm[moved.since(RECENT_S)].mean(axis=0)
    if not np.isfinite(recent).all():
        return {}
    force, unexplained = weight.tool_force(view.links, recent)
    values = {
        "down": float(force[2]),
        "aside": float(np.hypot(force[0], force[1])),
        "unexplained": unexplained,
    }
    early = moved.stamp_s <= moved.stamp_s[0] + RECENT_S + SAME_INSTANT_S
    first = moved.effort_nm[early].mean(axis=0)
    if np.isfinite(first).all():
        values["change"] = float(force[2] - weight.tool_force(view.links_before, first)[0][2])
    return values
