"""What makes a message acceptable. Each function returns why it is not, or an empty text.

Comparisons are written so that nan fails them.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from salus_ros.types import FailurePrediction, FailureType, Floats, PolicyOutput, RobotState

_ROUNDING: Final = 1e-9


def robot_state(state: RobotState, joints: int) -> str:
    """Positions of every joint, finite; velocity and effort may be missing."""
    if not math.isfinite(state.stamp_s):
        return "joint states: the stamp is not finite"
    shapes = {
        "positions": state.joint_position_rad.shape,
        "velocities": state.joint_velocity_rad_s.shape,
        "efforts": state.joint_effort_nm.shape,
    }
    for name, shape in shapes.items():
        if shape != (joints,):
            return f"joint states: {name} of shape {shape}, expected ({joints},)"
    if not np.isfinite(state.joint_position_rad).all():
        return "joint states: positions are not finite"
    return ""


def plan(output: PolicyOutput, joints: int, points_max: int) -> str:
    """A chunk that describes a path: shapes, finite values, increasing times."""
    chunk = output.chunk
    count = len(chunk.time_from_start_s)
    if not 2 <= count <= points_max:
        return f"policy output: {count} points, expected 2 to {points_max}"
    if chunk.time_from_start_s.shape != (count,) or chunk.joint_position_rad.shape != (count, joints):
        shape = chunk.joint_position_rad.shape
        return f"policy output: positions of shape {shape}, expected ({count}, {joints})"
    if chunk.gripper_opening_m.shape != (count,):
        return f"policy output: gripper of shape {chunk.gripper_opening_m.shape}, expected ({count},)"
    finite = all(
        np.isfinite(values).all()
        for values in (chunk.time_from_start_s, chunk.joint_position_rad, chunk.gripper_opening_m)
    )
    if not (finite and math.isfinite(chunk.stamp_s)):
        return "policy output: values are not finite"
    if not (np.diff(chunk.time_from_start_s) > 1e-4).all():
        return "policy output: times do not increase"
    if not (chunk.time_from_start_s[0] >= 0.0 and chunk.time_from_start_s[-1] <= 3600.0):
        return "policy output: times lie outside 0 to one hour"
    return ""


def prediction(value: FailurePrediction) -> str:
    """Probabilities that are probabilities, for every failure type and horizon."""
    rows, columns = len(FailureType), len(value.horizons_s)
    if value.probability.shape != (rows, columns) or columns == 0:
        return f"prediction: probabilities of shape {value.probability.shape}, expected ({rows}, {columns})"
    if value.threshold.shape != (rows,):
        return f"prediction: thresholds of shape {value.threshold.shape}, expected ({rows},)"
    numbers = (value.stamp_s, *value.horizons_s)
    if not all(map(math.isfinite, numbers)):
        return "prediction: stamp or horizons are not finite"
    if not (_within_one(value.probability) and _within_one(value.threshold)):
        return "prediction: probabilities or thresholds are not within 0 and 1"
    if not (math.isnan(value.timeout_probability) or 0.0 <= value.timeout_probability <= 1.0):
        return "prediction: the probability of a time-out is neither within 0 and 1 nor left out (NaN)"
    if not 0.0 <= value.risk <= 1.0:
        return "prediction: the risk is not within 0 and 1"
    return ""


def stamp(name: str, stamp_s: float, now_s: float, ahead_max_s: float, age_max_s: float) -> str:
    """A stamp that is neither ahead of the clock nor too old."""
    if not stamp_s <= now_s + ahead_max_s:
        return f"{name}: stamped {stamp_s - now_s:.3f} s ahead of the clock"
    if not now_s - stamp_s <= age_max_s + _ROUNDING:
        return f"{name}: {now_s - stamp_s:.3f} s old, at most {age_max_s} s are accepted"
    return ""


def _within_one(values: Floats) -> bool:
    return bool(((values >= 0.0) & (values <= 1.0)).all())
