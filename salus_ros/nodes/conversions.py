"""From the nouns of :mod:`salus_ros.types` to messages and back.

Structure is checked here (names, lengths, shapes, encodings) and refused with a
:class:`~salus_ros.errors.SalusError`; whether the numbers make sense is for the receiver to judge.
Arrays are handed over as buffers: no loop runs over single numbers. Images and point clouds are in
:mod:`salus_ros.nodes.cameras`, so that a node without cameras imports no OpenCV.
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

from salus_msgs.msg import EpisodeEvent as EpisodeEventMessage
from salus_msgs.msg import FailurePrediction as FailurePredictionMessage
from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_msgs.msg import PolicyOutput as PolicyOutputMessage
from salus_msgs.msg import Uncertainty as UncertaintyMessage
from salus_ros.data.messages import episode_event as episode_event_from_message
from salus_ros.data.messages import intervention_state as intervention_state_from_message
from salus_ros.data.messages import prediction as prediction_from_message
from salus_ros.errors import SalusError
from salus_ros.types import (
    ActionChunk,
    EpisodeEvent,
    FailurePrediction,
    FailureType,
    Floats,
    Floats32,
    InterventionState,
    JointTrajectory,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

__all__ = ["episode_event_from_message", "intervention_state_from_message", "prediction_from_message"]
"""Read alike from a bag and from the graph, so that a replay sees the same to the bit."""

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


def _doubles(values: Floats) -> array.array[float]:
    return array.array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def _singles(values: Floats32) -> array.array[float]:
    return array.array("f", np.ascontiguousarray(values, dtype=np.float32).tobytes())


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
            positions=_doubles(position),
            velocities=_doubles(velocity),
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


def _trajectory_arrays(
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
    times, positions, velocities = _trajectory_arrays(message, joints)
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
    _, positions, _ = _trajectory_arrays(message, finger_joints)
    return float(positions[-1].sum())


# The policy


def policy_output_to_message(
    output: PolicyOutput, joints: Sequence[str], base_frame: str
) -> PolicyOutputMessage:
    """One inference with its action chunk, uncertainty and samples."""
    chunk = output.chunk
    message = PolicyOutputMessage()
    message.header.stamp = stamp_to_message(chunk.stamp_s)
    message.header.frame_id = base_frame
    message.sequence = output.sequence
    message.policy_name = output.policy_name
    message.policy_hash = output.policy_hash
    message.instruction = output.instruction
    message.trajectory.header = message.header
    message.trajectory.joint_names = list(joints)
    message.trajectory.points = [
        JointTrajectoryPoint(positions=_doubles(position), time_from_start=duration_to_message(time_s))
        for time_s, position in zip(chunk.time_from_start_s.tolist(), chunk.joint_position_rad, strict=True)
    ]
    message.gripper = _doubles(chunk.gripper_opening_m)
    message.uncertainty = _uncertainty_to_message(output.uncertainty)
    message.samples = _singles(output.samples.reshape(-1))
    message.samples_shape = np.array(_four(output.samples.shape), dtype=np.uint32)
    message.inference_time = float(output.inference_time_s)
    return message


def _four(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 4:
        raise SalusError(f"The samples have the shape {shape}; expected (members, draws, steps, dimensions).")
    return shape


def policy_output_from_message(message: PolicyOutputMessage, joints: Sequence[str]) -> PolicyOutput:
    """One inference, its trajectory in the order of ``joints``."""
    times, positions, _ = _trajectory_arrays(message.trajectory, joints)
    gripper = np.frombuffer(message.gripper, dtype=np.float64)
    if len(gripper) != len(times):
        raise SalusError(
            f"The policy output holds {len(gripper)} gripper openings for {len(times)} trajectory points; "
            "expected one for each point."
        )
    shape = tuple(int(size) for size in message.samples_shape)
    if math.prod(shape) != len(message.samples):
        raise SalusError(
            f"The policy output holds {len(message.samples)} sample values for the shape {shape}; "
            f"expected {math.prod(shape)}."
        )
    return PolicyOutput(
        sequence=int(message.sequence),
        policy_name=message.policy_name,
        policy_hash=message.policy_hash,
        instruction=message.instruction,
        chunk=ActionChunk(
            stamp_s=stamp_from_message(message.header.stamp),
            time_from_start_s=times,
            joint_position_rad=positions,
            gripper_opening_m=gripper,
        ),
        uncertainty=_uncertainty_from_message(message.uncertainty),
        samples=np.frombuffer(message.samples, dtype=np.float32).reshape(shape),
        inference_time_s=float(message.inference_time),
    )


def _uncertainty_to_message(uncertainty: Uncertainty) -> UncertaintyMessage:
    return UncertaintyMessage(
        ensemble_size=uncertainty.ensemble_size,
        epistemic=float(uncertainty.epistemic),
        aleatoric=float(uncertainty.aleatoric),
        std_per_dimension=_singles(uncertainty.std_per_dimension),
        overlap_divergence=float(uncertainty.overlap_divergence),
        velocity_field_disagreement=float(uncertainty.velocity_field_disagreement),
        latent=_singles(uncertainty.latent),
    )


def _uncertainty_from_message(message: UncertaintyMessage) -> Uncertainty:
    return Uncertainty(
        ensemble_size=int(message.ensemble_size),
        epistemic=float(message.epistemic),
        aleatoric=float(message.aleatoric),
        std_per_dimension=np.frombuffer(message.std_per_dimension, dtype=np.float32),
        overlap_divergence=float(message.overlap_divergence),
        velocity_field_disagreement=float(message.velocity_field_disagreement),
        latent=np.frombuffer(message.latent, dtype=np.float32),
    )


# The monitor


def prediction_to_message(prediction: FailurePrediction) -> FailurePredictionMessage:
    """Probabilities of each failure type inside each horizon."""
    message = FailurePredictionMessage()
    message.header.stamp = stamp_to_message(prediction.stamp_s)
    message.sequence = prediction.sequence
    message.failure_types = array.array("B", [int(failure) for failure in FailureType])
    message.horizons = array.array("d", prediction.horizons_s)
    message.probabilities = _doubles(prediction.probability.reshape(-1))
    message.timeout_probability = float(prediction.timeout_probability)
    message.risk = float(prediction.risk)
    message.risk_type = int(prediction.risk_type)
    message.risk_horizon = float(prediction.risk_horizon_s)
    message.alarm = bool(prediction.alarm)
    message.thresholds = _doubles(prediction.threshold)
    message.out_of_distribution = bool(prediction.out_of_distribution)
    return message


# The gate


def intervention_state_to_message(state: InterventionState) -> InterventionStateMessage:
    """What the gate is doing and why."""
    message = InterventionStateMessage()
    message.header.stamp = stamp_to_message(state.stamp_s)
    message.mode = int(state.mode)
    message.cause = int(state.cause)
    message.reason = state.reason
    message.speed_scale = float(state.speed_scale)
    message.sequence = state.sequence
    message.path_time = float(state.path_time_s)
    message.time_in_mode = float(state.time_in_mode_s)
    message.replan_count = state.replan_count
    message.assist_count = state.assist_count
    message.protective_stop_count = state.protective_stop_count
    message.emergency_stop_count = state.emergency_stop_count
    message.refused_message_count = state.refused_message_count
    message.overrun_count = state.overrun_count
    return message


def episode_event_to_message(event: EpisodeEvent) -> EpisodeEventMessage:
    """Ground truth about an episode."""
    message = EpisodeEventMessage()
    message.header.stamp = stamp_to_message(event.stamp_s)
    message.kind = int(event.kind)
    message.failure_type = EpisodeEventMessage.NO_FAILURE if event.failure is None else int(event.failure)
    message.seed = event.seed
    message.task = event.task
    message.instruction = event.instruction
    message.disturbance = event.disturbance
    message.detail = event.detail
    return message
