"""From deserialized messages of a bag to the nouns of ``salus_ros.types``.

The messages come from other people's robots: whatever does not fit is refused with a ``SalusError``
that says what was given, and the reader counts it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from salus_ros.errors import SalusError
from salus_ros.types import (
    ActionChunk,
    Cause,
    EpisodeEvent,
    EventKind,
    FailurePrediction,
    FailureType,
    Floats,
    Image,
    InterventionState,
    JointTrajectory,
    Mode,
    PointCloud,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

E = TypeVar("E", Mode, Cause, EventKind, FailureType)

FINGER_NAME: Final = re.compile("finger|gripper|knuckle", re.IGNORECASE)
"""Joints with such names are the gripper's, where nobody says which are."""
NO_FAILURE: Final = 255
_POINT_TYPES: Final = {7: "f4", 8: "f8"}


def stamp_s(message: Any) -> float:
    """The stamp of a message with a header; 0.0 where its publisher set none."""
    stamp = message.header.stamp
    return float(stamp.sec + stamp.nanosec / 1e9)


def duration_s(duration: Any) -> float:
    """Seconds of a ``Duration``."""
    return float(duration.sec + duration.nanosec / 1e9)


def split_joints(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arm joints and finger joints, told apart by their names."""
    fingers = tuple(name for name in names if FINGER_NAME.search(name))
    return tuple(name for name in names if name not in fingers), fingers


def robot_state(
    message: Any, arm: Sequence[str], fingers: Sequence[str], stamp: float, opening_m: float
) -> RobotState:
    """A ``JointState``; ``opening_m`` is the last opening known, for drivers that send it apart."""
    order = _order(message.name, arm)
    if fingers and set(fingers) <= set(message.name):
        opening_m = gripper_opening_m(message, fingers)
    return RobotState(
        stamp_s=stamp,
        joint_position_rad=_values(message.position, order, message, "positions"),
        joint_velocity_rad_s=_values(message.velocity, order, message, "velocities"),
        joint_effort_nm=_values(message.effort, order, message, "efforts"),
        gripper_opening_m=opening_m,
    )


def gripper_opening_m(message: Any, fingers: Sequence[str]) -> float:
    """The opening in a ``JointState`` that names all finger joints."""
    return float(_values(message.position, _order(message.name, fingers), message, "positions").sum())


def trajectory(message: Any, joints: Sequence[str]) -> JointTrajectory:
    """A ``JointTrajectory``; velocities are nan where it holds none."""
    times, positions, velocities = _points(message, joints)
    return JointTrajectory(times, positions, velocities)


def policy_output(message: Any, joints: Sequence[str]) -> PolicyOutput:
    """A ``PolicyOutput``."""
    times, positions, _ = _points(message.trajectory, joints)
    if len(message.gripper) != len(times):
        raise SalusError(f"it holds {len(message.gripper)} gripper openings for {len(times)} points")
    shape = tuple(int(n) for n in message.samples_shape)
    if int(np.prod(shape)) != len(message.samples):
        raise SalusError(f"it holds {len(message.samples)} sample values for the shape {shape}")
    u = message.uncertainty
    return PolicyOutput(
        sequence=int(message.sequence),
        policy_name=message.policy_name,
        policy_hash=message.policy_hash,
        instruction=message.instruction,
        chunk=ActionChunk(stamp_s(message), times, positions, np.asarray(message.gripper, np.float64)),
        uncertainty=Uncertainty(
            ensemble_size=int(u.ensemble_size),
            epistemic=float(u.epistemic),
            aleatoric=float(u.aleatoric),
            std_per_dimension=np.asarray(u.std_per_dimension, np.float32),
            overlap_divergence=float(u.overlap_divergence),
            velocity_field_disagreement=float(u.velocity_field_disagreement),
            latent=np.asarray(u.latent, np.float32),
        ),
        samples=np.asarray(message.samples, np.float32).reshape(shape),
        inference_time_s=float(message.inference_time),
    )


def prediction(message: Any) -> FailurePrediction:
    """Probabilities with their rows in the order of ``FailureType``."""
    rows, columns = len(message.failure_types), len(message.horizons)
    kinds = [int(kind) for kind in message.failure_types]
    if sorted(kinds) != sorted(FailureType):
        raise SalusError(
            f"The prediction is about the failure types {kinds}; "
            f"expected each of {[int(failure) for failure in FailureType]} once."
        )
    if len(message.probabilities) != rows * columns or len(message.thresholds) != rows:
        raise SalusError(
            f"The prediction holds {len(message.probabilities)} probabilities and {len(message.thresholds)} "
            f"thresholds for {rows} failure types and {columns} horizons; "
            f"expected {rows * columns} and {rows}."
        )
    order = [kinds.index(int(failure)) for failure in FailureType]
    return FailurePrediction(
        stamp_s=stamp_s(message),
        sequence=int(message.sequence),
        horizons_s=tuple(message.horizons),
        probability=np.array(message.probabilities, dtype=np.float64).reshape(rows, columns)[order],
        timeout_probability=float(message.timeout_probability),
        risk=float(message.risk),
        risk_type=_member(FailureType, message.risk_type, "failure type"),
        risk_horizon_s=float(message.risk_horizon),
        alarm=bool(message.alarm),
        threshold=np.array(message.thresholds, dtype=np.float64)[order],
        out_of_distribution=bool(message.out_of_distribution),
    )


def intervention_state(message: Any) -> InterventionState:
    """What the gate is doing and why."""
    return InterventionState(
        stamp_s=stamp_s(message),
        mode=_member(Mode, message.mode, "mode"),
        cause=_member(Cause, message.cause, "cause"),
        reason=message.reason,
        speed_scale=float(message.speed_scale),
        sequence=int(message.sequence),
        path_time_s=float(message.path_time),
        time_in_mode_s=float(message.time_in_mode),
        replan_count=int(message.replan_count),
        assist_count=int(message.assist_count),
        protective_stop_count=int(message.protective_stop_count),
        emergency_stop_count=int(message.emergency_stop_count),
        refused_message_count=int(message.refused_message_count),
        overrun_count=int(message.overrun_count),
    )


def episode_event(message: Any) -> EpisodeEvent:
    """Ground truth about an episode."""
    none = message.failure_type == NO_FAILURE
    return EpisodeEvent(
        stamp_s=stamp_s(message),
        kind=_member(EventKind, message.kind, "event kind"),
        failure=None if none else _member(FailureType, message.failure_type, "failure type"),
        seed=int(message.seed),
        task=message.task,
        instruction=message.instruction,
        disturbance=message.disturbance,
        detail=message.detail,
    )


def point_cloud(message: Any) -> PointCloud:
    """The finite points of a ``PointCloud2``, whatever other fields, padding or byte order it has."""
    found = {field.name: field for field in message.fields}
    formats = [_POINT_TYPES.get(found[axis].datatype) if axis in found else None for axis in "xyz"]
    if None in formats:
        raise SalusError(
            f"it has the fields {', '.join(found) or 'none'}, not x, y and z as float32 or float64"
        )
    rows, columns, step = int(message.height), int(message.width), int(message.point_step)
    row_step = int(message.row_step) or columns * step
    needed = (rows - 1) * row_step + columns * step if rows * columns else 0
    data = np.ascontiguousarray(message.data, dtype=np.uint8)
    if len(data) < needed:
        raise SalusError(f"it holds {len(data)} bytes, and {rows} x {columns} points need {needed}")
    if needed == 0:
        return PointCloud(stamp_s(message), message.header.frame_id, np.empty((0, 3), np.float32))
    order = ">" if message.is_bigendian else "<"
    dtype = np.dtype(
        {
            "names": list("xyz"),
            "formats": [order + str(code) for code in formats],
            "offsets": [found[axis].offset for axis in "xyz"],
            "itemsize": step,
        }
    )
    grid: NDArray[Any] = np.ndarray(
        (rows, columns), dtype, buffer=data.data, strides=(row_step, step)
    ).reshape(-1)
    points = np.stack([grid[axis] for axis in "xyz"], axis=1).astype(np.float32)
    return PointCloud(stamp_s(message), message.header.frame_id, points[np.isfinite(points).all(axis=1)])


_COLOURS: Final = {
    "rgb8": [0, 1, 2],
    "bgr8": [2, 1, 0],
    "rgba8": [0, 1, 2],
    "bgra8": [2, 1, 0],
    "mono8": [0, 0, 0],
}
_CHANNELS: Final = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
DEPTH_ENCODINGS: Final = ("16UC1", "mono16", "32FC1")


def colour_image(message: Any) -> Image:
    """A raw ``Image`` of 8 bits a channel as RGB (H, W, 3)."""
    encoding = {"8UC3": "bgr8", "8UC1": "mono8", "8UC4": "bgra8"}.get(message.encoding, message.encoding)
    if encoding not in _CHANNELS:
        raise SalusError(f"its encoding is {message.encoding!r}, not one of {', '.join(_CHANNELS)}")
    return np.ascontiguousarray(
        _pixels(message, np.dtype(np.uint8), _CHANNELS[encoding])[:, :, _COLOURS[encoding]]
    )


def depth_image(message: Any) -> NDArray[np.uint16]:
    """A raw depth ``Image`` (H, W) in millimetres; 0 where there is no depth."""
    order = ">" if message.is_bigendian else "<"
    if message.encoding == "32FC1":
        metres = _pixels(message, np.dtype(order + "f4"), 1)[:, :, 0]
        millimetres = np.nan_to_num(metres * 1e3, nan=0.0, posinf=0.0, neginf=0.0)
        return np.clip(np.round(millimetres), 0, 65535).astype(np.uint16)
    return _pixels(message, np.dtype(order + "u2"), 1)[:, :, 0].astype(np.uint16)


def _pixels(message: Any, dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.ascontiguousarray(message.data, dtype=np.uint8)
    row_bytes = width * channels * dtype.itemsize
    if step < row_bytes or len(data) < height * step:
        raise SalusError(f"it holds {len(data)} bytes with a step of {step}, and is {width} x {height}")
    rows = data[: height * step].reshape(height, step)[:, :row_bytes]
    return np.ascontiguousarray(rows).view(dtype).reshape(height, width, channels)


def _order(given: Sequence[str], wanted: Sequence[str]) -> list[int]:
    names = list(given)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise SalusError(f"it names {', '.join(names) or 'no joint'} and lacks {', '.join(missing)}")
    return [names.index(name) for name in wanted]


def _values(values: Any, order: list[int], message: Any, what: str) -> Floats:
    if len(values) == 0:
        return np.full(len(order), np.nan)
    if len(values) != len(message.name):
        raise SalusError(f"it holds {len(values)} {what} for {len(message.name)} joints")
    return np.asarray(values, np.float64)[order]


def _points(message: Any, joints: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    order, count = _order(message.joint_names, joints), len(message.joint_names)
    if not message.points:
        raise SalusError("its trajectory holds no points")
    for point in message.points:
        if len(point.positions) != count or len(point.velocities) not in (0, count):
            raise SalusError(
                f"a point of its trajectory holds {len(point.positions)} values for {count} joints"
            )
    times = np.array([duration_s(point.time_from_start) for point in message.points])
    positions = np.array([point.positions for point in message.points], np.float64)[:, order]
    if any(len(point.velocities) == 0 for point in message.points):
        return times, positions, np.full_like(positions, np.nan)
    return times, positions, np.array([point.velocities for point in message.points], np.float64)[:, order]


def _member(enumeration: Any, value: int, what: str) -> Any:
    try:
        return enumeration(int(value))
    except ValueError as error:
        known = [int(member) for member in enumeration]
        raise SalusError(f"The message holds the unknown {what} {value}; expected one of {known}.") from error
