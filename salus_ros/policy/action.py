"""TinyVLA's ten numbers, tool poses, and joint trajectories.

An action is (x, y, z, six numbers of rotation, gripper): the rotation is the first two rows
of the rotation matrix, the gripper is the opening between the fingertips in m. A state has
the same form. Relative actions are in the base frame's axes: the translation from the
measured tool position, and the rotation that turns the measured tool into the wanted one.
"""

from __future__ import annotations

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.robot.ik import InverseKinematics
from salus_ros.robot.model import ArmModel
from salus_ros.types import ActionChunk, Floats

ACTION_DIM = 10
GRIPPER = 9
"""Index of the gripper's number."""


def rotation_to_six(rotation: Floats) -> Floats:
    """Rotation matrices (..., 3, 3) to their first two rows, (..., 6)."""
    return np.concatenate([rotation[..., 0, :], rotation[..., 1, :]], axis=-1)


def six_to_rotation(six: Floats) -> Floats:
    """Two rows (..., 6), not necessarily orthonormal, to rotation matrices (..., 3, 3) by Gram-Schmidt."""
    first, second = six[..., :3], six[..., 3:]
    a = first / np.linalg.norm(first, axis=-1, keepdims=True)
    b = second - (a * second).sum(axis=-1, keepdims=True) * a
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.stack([a, b, np.cross(a, b)], axis=-2)


def rotation_to_euler_xyz(rotation: Floats) -> Floats:
    """Intrinsic XYZ Euler angles in rad, (..., 3), as TinyVLA hands them to its arm."""
    pitch = np.arcsin(np.clip(rotation[..., 0, 2], -1, 1))
    roll = np.arctan2(-rotation[..., 1, 2], rotation[..., 2, 2])
    yaw = np.arctan2(-rotation[..., 0, 1], rotation[..., 0, 0])
    return np.stack([roll, pitch, yaw], axis=-1)


def to_ten(pose: Floats, gripper_opening_m: Floats) -> Floats:
    """Poses (..., 4, 4) and openings (...) to numbers (..., 10)."""
    gripper = np.asarray(gripper_opening_m, dtype=np.float64)[..., None]
    return np.concatenate([pose[..., :3, 3], rotation_to_six(pose[..., :3, :3]), gripper], axis=-1)


def tool_state(
    arm: ArmModel, position_rad: Floats, velocity_rad_s: Floats, opening_m: Floats, size: int
) -> Floats:
    """What a policy is told of the robot, (..., size), for joints (..., J) and openings (...).

    7 numbers: position, Euler angles, opening (TinyVLA's). 10: position, six of rotation,
    opening. 13: the tool's linear velocity in m/s besides, nan where the joints' is.
    """
    pose = arm.forward(position_rad)
    ten = to_ten(pose, opening_m)
    if size == 7:
        euler = rotation_to_euler_xyz(pose[..., :3, :3])
        return np.concatenate([ten[..., :3], euler, ten[..., GRIPPER:]], axis=-1)
    if size == 10:
        return ten
    if size == 13:
        span_s = 1e-3
        reach = 0.5 * span_s * np.nan_to_num(velocity_rad_s)
        ahead, behind = arm.forward(position_rad + reach), arm.forward(position_rad - reach)
        velocity = (ahead - behind)[..., :3, 3] / span_s
        velocity[np.isnan(velocity_rad_s).any(axis=-1)] = np.nan
        return np.concatenate([ten, velocity], axis=-1)
    raise SalusError(
        f"The checkpoint wants a state of {size} numbers; only 7 (position, Euler angles, opening), "
        "10 (position, six of rotation, opening) and 13 (velocity besides) are known."
    )


def to_relative(measured: Floats, wanted: Floats, gripper_opening_m: Floats) -> Floats:
    """Actions (T, 10) that lead from the measured pose (4, 4) to the wanted poses (T, 4, 4)."""
    relative = np.tile(np.eye(4), (len(wanted), 1, 1))
    relative[:, :3, 3] = wanted[:, :3, 3] - measured[:3, 3]
    relative[:, :3, :3] = wanted[:, :3, :3] @ measured[:3, :3].T
    return to_ten(relative, gripper_opening_m)


def from_relative(measured: Floats, actions: Floats) -> Floats:
    """The inverse of ``to_relative``: wanted poses (T, 4, 4)."""
    poses = np.tile(np.eye(4), (len(actions), 1, 1))
    poses[:, :3, 3] = actions[:, :3] + measured[:3, 3]
    poses[:, :3, :3] = six_to_rotation(actions[:, 3:9]) @ measured[:3, :3]
    return poses


def from_absolute(actions: Floats) -> Floats:
    """Actions (T, 10) in the base frame to wanted poses (T, 4, 4)."""
    poses = np.tile(np.eye(4), (len(actions), 1, 1))
    poses[:, :3, 3] = actions[:, :3]
    poses[:, :3, :3] = six_to_rotation(actions[:, 3:9])
    return poses


def to_chunk(
    stamp_s: float,
    start_rad: Floats,
    poses: Floats,
    gripper_m: Floats,
    period_s: float,
    ik: InverseKinematics,
) -> ActionChunk:
    """Tool poses (T, 4, 4) and openings (T,) to a joint trajectory that begins one period ahead."""
    return ActionChunk(
        stamp_s=stamp_s,
        time_from_start_s=period_s * np.arange(1, len(poses) + 1, dtype=np.float64),
        joint_position_rad=ik.path(start_rad, poses),
        gripper_opening_m=np.asarray(gripper_m, dtype=np.float64),
    )
