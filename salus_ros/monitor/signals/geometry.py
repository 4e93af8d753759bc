"""How near the robot is to what it could hit, now and along its plan.

Source: the depth cloud in the base frame without table, robot and grasped object (``scenery``), and the
robot's capsules by forward kinematics. Clearances are surface to point, negative inside, and cut off at
``clearance_cap_m``; with a cloud that shows no obstacle they are that cap. Along the plan the arm is taken to
stay as far from it as it is now, and what will lie between the fingers is no obstacle to them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from salus_ros.monitor.body import Capsules
from salus_ros.monitor.scenery import GRASP_X_M, GRASP_Z_M
from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import AHEAD_S, Scenery, View
from salus_ros.types import Floats

LOAD_M: Final = 0.045
"""What lies nearer to the middle of the held points is taken as part of what is held."""
MIN_LOAD_POINTS: Final = 3
SAME_PLACE_M: Final = 1e-3
ALONG: Final = tuple(range(1, len(AHEAD_S)))
"""Steps of the plan whose clearances are signals of their own."""


@family(
    "geometry",
    Signal("clearance_gripper", "m", -0.1, 1.0, "Clearance of hand and fingers."),
    Signal("clearance_arm", "m", -0.1, 1.0, "Clearance of all moving links, hand included."),
    Signal("planned_clearance", "m", -0.1, 1.0, "Smallest clearance of hand and fingers along the plan."),
    Signal("planned_clearance_arm", "m", -0.1, 1.0, "Smallest clearance of all links along the plan."),
    Signal("planned_approach", "m", -1.0, 1.0, "Clearance now minus the smallest planned one."),
    *(
        Signal(f"clearance_{a}", "m", -0.1, 1.0, f"Clearance of hand and fingers {AHEAD_S[a]:g} s on.")
        for a in ALONG
    ),
    Signal(
        "time_to_contact",
        "s",
        0.0,
        1.0,
        "Path time until the planned clearance falls below contact; 1 without contact.",
    ),
    Signal("floor", "m", -0.2, 1.0, "Lowest height of hand and fingers over the arm's base along the plan."),
    Signal("floor_in", "s", 0.0, 1.0, "Path time at which that height is reached."),
    Signal("load_clearance", "m", 0.0, 1.0, "Smallest distance of what is held to obstacles along the plan."),
    Signal("load_contact_in", "s", 0.0, 1.0, "Path time at which that distance is reached."),
    Signal("load_floor", "m", -0.2, 1.0, "Lowest height of what is held along the plan."),
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
    """Clearances, times to contact, and what lies in the grasp."""
    seen, moved, tool = view.scenery, view.motion, view.tool
    if seen is None or moved is None or tool is None or view.links is None:
        return {}
    cap, points = view.settings.clearance_cap_m, seen.obstacles_m
    opening = float(moved.opening_m[-1])
    now = _distances(view.body.capsules(view.links, opening), points, cap)
    clearance = float(now[view.body.is_gripper].min(initial=cap))
    values = {
        "clearance_gripper": clearance,
        "clearance_arm": float(now.min(initial=cap)),
        "beside": _beside(points, tool, cap),
        "between_fingers": float(np.log10(1.0 + seen.between_fingers)),
        "below_fingers": float(np.log10(1.0 + seen.below_fingers)),
        "visible": float(np.log10(1.0 + seen.visible)),
    }
    if view.links_ahead is not None:
        values |= _along(view, view.links_ahead, points, opening, clearance)
        values |= _load(seen, tool, view.links_ahead[:, -1], cap)
    return values


def _along(view: View, links: Floats, points_m: Floats, opening_m: float, now_m: float) -> dict[str, float]:
    """Of hand, fingers and arm along the plan, for link poses (A, L, 4, 4) and points (N, 3)."""
    cap = view.settings.clearance_cap_m
    capsules = view.body.capsules(links, opening_m)
    distances = _distances(capsules, points_m, cap)
    arm = distances.min(axis=(-1, -2), initial=cap)
    gripper = distances[:, view.body.is_gripper].min(axis=1, initial=cap)
    clear = np.where(_between(points_m, links[:, -1], opening_m), cap, gripper).min(axis=-1, initial=cap)
    touching = np.flatnonzero(clear < view.settings.contact_distance_m)
    lowest = np.minimum(capsules.start_m[..., 2], capsules.end_m[..., 2]) - capsules.radius_m
    floor = lowest[:, view.body.is_gripper].min(axis=1, initial=cap)
    values = {
        "planned_clearance": float(clear.min()),
        "planned_clearance_arm": float(arm.min()),
        "planned_approach": now_m - float(clear.min()),
        "time_to_contact": AHEAD_S[touching[0]] if len(touching) else 1.0,
        "floor": float(floor.min()),
        "floor_in": _soonest(floor),
    }
    return values | {f"clearance_{a}": float(clear[a]) for a in ALONG}


def _between(points_m: Floats, tools: Floats, opening_m: float) -> NDArray[np.bool_]:
    """(A, N), which points lie between the open fingers at tool poses (A, 4, 4)."""
    local = np.einsum("anj,ajk->ank", points_m - tools[:, None, :3, 3], tools[:, :3, :3])
    half = (opening_m if np.isfinite(opening_m) else 0.08) / 2.0
    inside: NDArray[np.bool_] = (
        (np.abs(local[..., 0]) < 2 * GRASP_X_M)
        & (np.abs(local[..., 1]) < half)
        & (local[..., 2] > GRASP_Z_M[0])
        & (local[..., 2] < GRASP_Z_M[1])
    )
    return inside


def _load(seen: Scenery, tool: Floats, tools: Floats, cap_m: float) -> dict[str, float]:
    """Of the points in the grasp, moved with the tool along its planned poses (A, 4, 4)."""
    if seen.between_fingers < MIN_LOAD_POINTS or not len(seen.near_tool_m):
        return {}
    held = seen.near_tool_m
    middle = held.mean(axis=0)
    held = held[np.linalg.norm(held - middle, axis=1) < LOAD_M]
    if not len(held):
        return {}
    moved = np.einsum("aij,nj->ani", tools[:, :3, :3], held) + tools[:, None, :3, 3]
    lowest = moved[..., 2].min(axis=1)
    values = {"load_floor": float(lowest.min())}
    apart = np.linalg.norm(seen.obstacles_m - (tool[:3, :3] @ middle + tool[:3, 3]), axis=1)
    others = seen.obstacles_m[(apart > 1.5 * LOAD_M) & (apart < 2.0 * cap_m)]
    if not len(others):
        return values | {"load_clearance": cap_m, "load_contact_in": 1.0}
    squared = (
        (moved**2).sum(-1)[..., None] - 2.0 * moved @ others.T + (others**2).sum(-1)
    )  # (A, held, others)
    nearest = np.sqrt(np.maximum(squared.min(axis=(1, 2)), 0.0))
    return values | {
        "load_clearance": float(min(nearest.min(), cap_m)),
        "load_contact_in": _soonest(nearest),
    }


def _soonest(along_m: Floats) -> float:
    """Path time at which the smallest of lengths (A,) along the plan is reached, to the millimetre: where the
    arm is to stand for a while, rounding does not decide."""
    return AHEAD_S[int(np.argmax(along_m <= along_m.min() + SAME_PLACE_M))]


def _distances(capsules: Capsules, points_m: Floats, cap_m: float) -> Floats:
    """(..., C, N), at most ``cap_m``."""
    return np.minimum(capsules.distance(points_m), cap_m)


def _beside(points_m: Floats, tool: Floats, cap_m: float) -> float:
    """What the hand would meet if it moved sideways at its height."""
    level = points_m[points_m[:, 2] > tool[2, 3] + 0.005]
    if len(level) == 0:
        return cap_m
    return float(min(np.hypot(level[:, 0] - tool[0, 3], level[:, 1] - tool[1, 3]).min(), cap_m))
