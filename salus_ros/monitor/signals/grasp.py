"""Where the object lies when the fingers close, and whether what they hold stays in place.

Source: the depth cloud without table and robot, moved into the tool frame of two poses: the one that the plan
reaches while the fingers close, and the present one. In the tool frame x points across the fingers' closing
motion, y along it, z from the hand to the fingertips. A grip that will miss shows before the fingers close,
as an object off the middle; an object that slips shows as one that moves in the tool frame. The hand hides
what it is about to grip, so the coming grip is judged on the clouds of the last second together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from salus_ros.monitor.scenery import near_tool
from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import AHEAD_S, SAME_INSTANT_S, Plan, Scenery, View
from salus_ros.types import Floats

CLOSING_M: Final = 0.01
"""A commanded opening this much under the measured one makes the fingers close."""
CLOSES_FOR_S: Final = 0.3
"""From the command until the fingers are near the object, at a gripper's 0.1 m/s."""
STEP_S: Final = 0.05
"""At this spacing the plan is asked for its opening."""
SLIP_S: Final = 0.35
"""An object's motion in the hand is taken over this time: four clouds of a 10 Hz camera."""
MIN_POINTS: Final = 3
"""Fewer points are no object."""
FINGER_HALF_M: Final = 0.01
"""Half width of a finger across the closing motion."""


def _object(prefix: str, where: str) -> tuple[Signal, ...]:
    def signal(name: str, meaning: str) -> Signal:
        return Signal(f"{prefix}_{name}", "m", -0.1, 0.1, f"{meaning}, {where}.")

    return (
        Signal(f"{prefix}_points", "1", 0.0, 4.0, f"log10 of one plus the points there, {where}."),
        signal("x", "Mean of those points across the closing motion"),
        signal("y", "Mean of those points along the closing motion"),
        signal("z", "Mean of those points along the approach"),
        signal("x_low", "Smallest of those points across the closing motion"),
        signal("x_high", "Largest of those points across the closing motion"),
        signal("y_low", "Smallest of those points along the closing motion"),
        signal("y_high", "Largest of those points along the closing motion"),
        signal("top", "Smallest of those points along the approach"),
        signal("bottom", "Largest of those points along the approach"),
        signal("overlap", "What fingers and points have in common across the closing motion"),
        signal("room", "Room between the fingers' inner faces and those points"),
    )


@family(
    "grasp",
    Signal("closing_in", "s", 0.0, 1.0, "Path time until the plan closes the fingers; 1 when it does not."),
    Signal("opening_in", "s", 0.0, 1.0, "Path time until the plan opens the fingers; 1 when it does not."),
    *_object("planned", "in the tool frame of the pose in which the fingers will close"),
    *_object("now", "in the present tool frame"),
    Signal("slip_x", "m/s", -0.5, 0.5, "Motion of those points across the fingers in the hand, 0.35 s."),
    Signal("slip_z", "m/s", -0.5, 0.5, "Motion of those points out of the hand, 0.35 s."),
    Signal("slip", "m/s", 0.0, 0.5, "Speed of those points in the hand, 0.35 s."),
    Signal("empty", "1", 0.0, 3.0, "Closings that met nothing since the episode began."),
    Signal("lost", "1", 0.0, 3.0, "Times that the fingers went on closing after something had stopped them."),
)
def grasp(view: View) -> dict[str, float]:
    """The coming grip, the present one, and those before."""
    values = {"empty": float(view.grips.empty), "lost": float(view.grips.lost)}
    closing_s, opening_m = 1.0, float("nan")
    if view.followed is not None and view.motion is not None:
        opening_m = float(view.motion.opening_m[-1])
        closing_s = _first(view.followed, view.path_time_s, opening_m - CLOSING_M, below=True)
        values["closing_in"] = closing_s
        values["opening_in"] = _first(view.followed, view.path_time_s, opening_m + CLOSING_M, below=False)
    if view.scenery is None:
        return values
    if view.links_ahead is not None:
        # Once they close, an object that moves with the hand would be taken for one left behind.
        at_s = min(closing_s + CLOSES_FOR_S, AHEAD_S[-1]) if closing_s > 0.0 else 0.0
        step = int(np.searchsorted(AHEAD_S, at_s - SAME_INSTANT_S))
        clouds = view.sceneries if closing_s > 0.0 else (view.scenery,)
        seen = np.concatenate([cloud.things_m for cloud in clouds])
        values |= _extent("planned", near_tool(seen, view.links_ahead[step, -1]), opening_m)
    if view.tool is not None:
        values |= _extent("now", near_tool(view.scenery.things_m, view.tool), opening_m)
    return values | _slip(view.sceneries)


def _first(plan: Plan, path_time_s: float, opening_m: float, *, below: bool) -> float:
    """Path time until the commanded opening passes a value; 1 where it does not."""
    ahead: Floats = np.arange(0.0, AHEAD_S[-1] + SAME_INSTANT_S, STEP_S, dtype=np.float64)
    commanded = plan.gripper_at(path_time_s + ahead)
    passed = np.flatnonzero(commanded < opening_m if below else commanded > opening_m)
    return float(ahead[passed[0]]) if len(passed) else 1.0


def _extent(prefix: str, points_m: Floats, opening_m: float) -> dict[str, float]:
    values = {f"{prefix}_points": float(np.log10(1.0 + len(points_m)))}
    if len(points_m) >= MIN_POINTS:
        low, high, mean = points_m.min(axis=0), points_m.max(axis=0), points_m.mean(axis=0)
        values |= {
            f"{prefix}_x": float(mean[0]),
            f"{prefix}_y": float(mean[1]),
            f"{prefix}_z": float(mean[2]),
            f"{prefix}_x_low": float(low[0]),
            f"{prefix}_x_high": float(high[0]),
            f"{prefix}_y_low": float(low[1]),
            f"{prefix}_y_high": float(high[1]),
            f"{prefix}_top": float(low[2]),
            f"{prefix}_bottom": float(high[2]),
            f"{prefix}_overlap": float(min(high[0], FINGER_HALF_M) - max(low[0], -FINGER_HALF_M)),
            f"{prefix}_room": opening_m / 2.0 - float(max(high[1], -low[1])),
        }
    return values


def _slip(sceneries: Sequence[Scenery]) -> dict[str, float]:
    """Slope of a line through the means of the points near the fingertips."""
    recent = [
        s
        for s in sceneries
        if s.stamp_s >= sceneries[-1].stamp_s - SLIP_S and len(s.near_tool_m) >= MIN_POINTS
    ]
    if len(recent) < 3:
        return {}
    stamps = np.array([s.stamp_s for s in recent])
    means = np.array([s.near_tool_m.mean(axis=0) for s in recent])
    centred = stamps - stamps.mean()
    speed = centred @ means / (centred @ centred)
    return {"slip_x": float(speed[0]), "slip_z": float(speed[2]), "slip": float(np.linalg.norm(speed))}
