"""How far the newest chunk departs from the one that was being followed when it was asked for.

The two are compared at the same points of the path: the older chunk is entered at the path time that the
gate had reached at the newer one's observation, so slowing down or holding does not look like a change of
mind. Source: the two chunks, the gate's path time, forward kinematics.
"""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import Plan, View
from salus_ros.types import Floats


@family(
    "overlap",
    Signal("joint_rms", "rad", 0.0, 3.0, "Root mean square joint difference over the common part."),
    Signal("joint_max", "rad", 0.0, 6.0, "Largest joint difference over the common part."),
    Signal("tool_mean", "m", 0.0, 1.0, "Mean distance between the two tool paths."),
    Signal("tool_end", "m", 0.0, 1.0, "Distance between the tool paths where the older one ends."),
    Signal("turn", "1", -1.0, 1.0, "Cosine between the tool displacements of the two over the common part."),
    Signal("gripper", "m", 0.0, 0.1, "Mean difference of the commanded openings."),
    Signal("mmd", "1", 0.0, 2.0, "Squared maximum mean discrepancy of the two sets of samples (STAC)."),
    Signal("said", "decades", 0.0, 9.0, "log10 of the divergence that the policy itself reports, over 1e-6."),
)
def overlap(view: View) -> dict[str, float]:
    """Divergence of the newest plan from its reference."""
    plan = view.plan
    if plan is None:
        return {}
    said = plan.output.uncertainty.overlap_divergence
    values = {"said": float(np.log10(said + 1e-6)) + 6.0 if said >= 0.0 else float("nan")}
    reference = plan.reference
    if reference is None:
        return values
    times = plan.time_s
    common = plan.reference_path_time_s + times <= reference.time_s[-1] + 1e-6
    if common.sum() < 2:
        return values
    at = plan.reference_path_time_s + times[common]
    joints = plan.output.chunk.joint_position_rad[common] - reference.joints_at(at)
    new, old = plan.tool[common, :3, 3], reference.tool_at(at)
    apart = np.linalg.norm(new - old, axis=1)
    values |= {
        "joint_rms": float(np.sqrt((joints**2).mean())),
        "joint_max": float(np.abs(joints).max()),
        "tool_mean": float(apart.mean()),
        "tool_end": float(apart[-1]),
        "turn": _cosine(new[-1] - new[0], old[-1] - old[0]),
        "gripper": float(
            np.abs(plan.output.chunk.gripper_opening_m[common] - reference.gripper_at(at)).mean()
        ),
    }
    if plan.output.samples.ndim == 4:
        values["mmd"] = plan.once("mmd", _mmd)
    return values


def _mmd(plan: Plan) -> float:
    """Of the samples' common steps; biased, Gaussian kernel, its width the median distance."""
    now, reference = np.asarray(plan.output.samples, float), plan.reference
    if reference is None or reference.output.samples.shape != now.shape or now.shape[0] * now.shape[1] < 2:
        return float("nan")
    steps, period_s = now.shape[2], float(np.median(np.diff(plan.time_s)))
    executed = round(plan.reference_path_time_s / period_s) if period_s > 0.0 else steps
    if not 0 <= executed < steps:
        return float("nan")
    count = now.shape[0] * now.shape[1]
    x = np.asarray(reference.output.samples, float)[:, :, executed:].reshape(count, -1)
    y = now[:, :, : steps - executed].reshape(count, -1)
    both = np.concatenate([x, y])
    square = (both**2).sum(axis=1)
    distance2 = np.maximum(square[:, None] + square - 2.0 * both @ both.T, 0.0)
    width2 = float(np.median(distance2[np.triu_indices(2 * count, 1)]))
    kernel = np.exp(-distance2 / (2.0 * max(width2, 1e-12)))
    same = kernel[:count, :count].mean() + kernel[count:, count:].mean()
    return float(same - 2.0 * kernel[:count, count:].mean())


def _cosine(a: Floats, b: Floats) -> float:
    """Cosine of the angle between two displacements (3,); 1 where both stand still."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 1e-8 else 1.0
