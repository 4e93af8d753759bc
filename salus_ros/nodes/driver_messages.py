"""What any arm's driver speaks: times, joint states, trajectories and the gripper, from and to the nouns of
:mod:`salus_ros.types`.

Structure is checked here (names, lengths, shapes) and refused with a :class:`~salus_ros.errors.SalusError`;
whether the numbers make sense is for the receiver to judge. Arrays are handed over as buffers: no loop runs
over single numbers.
"""

from __future__ import annotations

import array
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from builtin_interfaces.msg import Duration as DurationMessage
from builtin_interfaces.msg import Time as TimeMessage
from sensor_msgs.msg import JointState as JointStateMessage
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage
from trajectory_msgs.msg import JointTrajectoryPoint

from salus_ros.errors import SalusError
from salus_ros.types import Floats, JointTrajectory, RobotState

NANOSECONDS: Final = 1_000_000_000

# Time


def stamp_to_message(stamp_s: float) -> TimeMessage:
    """Seconds as a ROS stamp; a time that is not available (nan) is the zero stamp, as usual in ROS."""
    if not math.isfinite(stamp_s):
        return TimeMessage()
    total = max(0, round(stamp_s * NANOSECONDS))
    return TimeMessage(sec=total // NANOSECONDS, nanosec=total % NANOSECONDS)


def stamp_from_message(stamp: TimeMessage) -> float:
    """A ROS stamp in seconds."""
    return float(stamp.sec + stamp.nanosec / NANOSECONDS)


def duration_to_message(duration_s: float) -> DurationMessage:
    """Seconds as a ROS duration."""
    total = round(duration_s * NANOSECONDS)
    return DurationMessage(sec=total // NANOSECONDS, nanosec=total % NANOSECONDS)


def duration_from_message(duration: DurationMessage) -> float:
    """A ROS duration in seconds."""
    return float(duration.sec + duration.nanosec / NANOSECONDS)


# Joints


@lru_cache(maxsize=64)
def _order(given: tuple[str, ...], wanted: tuple[str, ...], extra_allowed: bool) -> tuple[int, ...]:
    if len(set(given)) != len(given):
        twice = sorted({name for name in given if given.count(name) > 1})
        raise SalusError(
            f"The message names the joint {', '.join(twice)} more than once; name each joint once."
        )
    missing = [name for name in wanted if name not in given]
    if missing:
        raise SalusError(
            f"The message lacks the joint {', '.join(missing)} (it names {', '.join(given) or 'none'}); "
            f"expected {', '.join(wanted)}."
        )
    unknown = [name for name in given if name not in wanted]
    if unknown and not extra_allowed:
        raise SalusError(
            f"The message names the unknown joint {', '.join(unknown)}; expected {', '.join(wanted)}."
        )
    return tuple(given.index(name) for name in wanted)


def joint_order(
    given: Iterable[str], wanted: Iterable[str], *, extra_allowed: bool = False
) -> tuple[int, ...]:
    """Where each wanted joint stands in a message. Refuses missing, duplicate and unknown joints.

    ``extra_allowed`` is for joint states, which on a real robot also carry other joints.
    """
    return _order(tuple(given), tuple(wanted), extra_allowed)


def _joint_values(values: Sequence[float], count: int, what: str, order: tuple[int, ...]) -> Floats:
    """Values in the wanted order, nan where the message holds none of this kind."""
    if len(values) == 0:
        return np.full(len(order), np.nan)
    if len(values) != count:
        raise SalusError(
            f"The message holds {len(values)} {what} for {count} joints; give one for each joint or none."
        )
    return np.asarray(values, dtype=np.float64)[list(order)]


def robot_state_from_message(
    message: JointStateMessage, arm_joints: Sequence[str], finger_joints: Sequence[str] = ()
) -> RobotState:
    """Joint states by name, in the order of ``arm_joints``; other joints are ignored.

    The gripper's opening is the sum of the finger joints' positions, nan without fingers.
    """
    names = tuple(message.name)
    arm = joint_order(names, tuple(arm_joints), extra_allowed=True)
    if len(message.position) != len(names):
        raise SalusError(
            f"The joint state names {len(names)} joints and holds {len(message.position)} positions."
        )
    opening = math.nan
    if finger_joints:
        fingers = joint_order(names, tuple(finger_joints), extra_allowed=True)
        opening = float(sum(message.position[index] for index in fingers))
    return RobotState(
        stamp_s=stamp_from_message(message.header.stamp),
        joint_position_rad=_joint_values(message.position, len(names), "positions", arm),
        joint_velocity_rad_s=_joint_values(message.velocity, len(names), "velocities", arm),
        joint_effort_nm=_joint_values(message.effort, len(names), "efforts", arm),
        gripper_opening_m=opening,
    )


def robot_state_to_message(
    state: RobotState, arm_joints: Sequence[str], finger_joints: Sequence[str] = ()
) -> JointStateMessage:
    """Joint states as a driver reports them: the arm, then the fingers, each with half of the opening."""
    fingers = len(finger_joints)
    share = [state.gripper_opening_m / fingers] * fingers if fingers else []
    unknown = [math.nan] * fingers
    message = JointStateMessage()
    message.header.stamp = stamp_to_message(state.stamp_s)
    message.name = [*arm_joints, *finger_joints]
    message.position = array.array("d", [*state.joint_position_rad.tolist(), *share])
    message.velocity = array.array("d", [*state.joint_velocity_rad_s.tolist(), *unknown])
    message.effort = array.array("d", [*state.joint_effort_nm.tolist(), *unknown])
    return message


# Trajectories


def doubles(values: Floats) -> array.array[float]:
    """Any array as the buffer of a ``float64[]`` field."""
    return array.array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def trajectory_to_message(
    trajectory: JointTrajectory, joints: Sequence[str], *, stamp_s: float | None = None
) -> JointTrajectoryMessage:
    """A command for ros2_control's joint trajectory controller.

    Without ``stamp_s`` the header's stamp is zero: the controller starts when it receives it.
    """
    message = JointTrajectoryMessage()
    if stamp_s is not None:
        message.header.stamp = stamp_to_message(stamp_s)
    message.joint_names = list(joints)
    message.points = [
        JointTrajectoryPoint(
            positions=doubles(position),
            velocities=doubles(velocity),
            time_from_start=duration_to_message(time_s),
        )
        for time_s, position, velocity in zip(
            trajectory.time_from_start_s.tolist(),
            trajectory.position_rad,
            trajectory.velocity_rad_s,
            strict=True,
        )
    ]
    return message


def trajectory_arrays(
    message: JointTrajectoryMessage, joints: Sequence[str]
) -> tuple[Floats, Floats, Floats | None]:
    """Times (N,), positions (N, J) and velocities (N, J) or None, joints in the wanted order."""
    count = len(message.joint_names)
    order = list(joint_order(message.joint_names, joints))
    points = message.points
    if not points:
        raise SalusError("The trajectory holds no points; expected at least one.")
    for index, point in enumerate(points):
        if len(point.positions) != count or len(point.velocities) not in (0, count):
            raise SalusError(
                f"Point {index} of the trajectory holds {len(point.positions)} positions and "
                f"{len(point.velocities)} velocities for {count} joints; expected {count} positions and "
                f"{count} velocities or none."
            )
    times = np.array([duration_from_message(point.time_from_start) for point in points])
    positions = np.array([point.positions for point in points], dtype=np.float64)[:, order]
    given = [len(point.velocities) > 0 for point in points]
    if not any(given):
        return times, positions, None
    if not all(given):
        raise SalusError(
            "Some points of the trajectory have velocities and some have none; give all or none."
        )
    return times, positions, np.array([point.velocities for point in points], dtype=np.float64)[:, order]


def trajectory_from_message(message: JointTrajectoryMessage, joints: Sequence[str]) -> JointTrajectory:
    """A command with its joints in the order of ``joints``; velocities are nan where it holds none."""
    times, positions, velocities = trajectory_arrays(message, joints)
    if velocities is None:
        velocities = np.full_like(positions, np.nan)
    return JointTrajectory(time_from_start_s=times, position_rad=positions, velocity_rad_s=velocities)


def gripper_to_message(
    opening_m: float, finger_joints: Sequence[str], *, duration_s: float = 0.0
) -> JointTrajectoryMessage:
    """A gripper command: each finger moves by its share of the opening."""
    message = JointTrajectoryMessage()
    message.joint_names = list(finger_joints)
    share = opening_m / len(finger_joints)
    message.points = [
        JointTrajectoryPoint(
            positions=array.array("d", [share] * len(finger_joints)),
            time_from_start=duration_to_message(duration_s),
        )
    ]
    return message


def gripper_from_message(message: JointTrajectoryMessage, finger_joints: Sequence[str]) -> float:
    """The opening that a gripper command ends with, in m."""
    _, positions, _ = trajectory_arrays(message, finger_joints)
    return float(positions[-1].sum())
