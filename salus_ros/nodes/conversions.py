"""From the nouns of :mod:`salus_ros.types` to SALUS's own messages and back.

Structure is checked here (names, lengths, shapes) and refused with a :class:`~salus_ros.errors.SalusError`;
whether the numbers make sense is for the receiver to judge. Arrays are handed over as buffers: no loop runs
over single numbers. What any driver speaks is in :mod:`.driver_messages`, images and point clouds are in
:mod:`.cameras`, so that a node without cameras imports no OpenCV.
"""

from __future__ import annotations

import array
import math
from collections.abc import Sequence

import numpy as np
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
from salus_ros.nodes.driver_messages import (
    doubles,
    duration_to_message,
    stamp_from_message,
    stamp_to_message,
    trajectory_arrays,
)
from salus_ros.types import (
    ActionChunk,
    EpisodeEvent,
    FailurePrediction,
    FailureType,
    Floats32,
    InterventionState,
    PolicyOutput,
    Uncertainty,
)

__all__ = ["episode_event_from_message", "intervention_state_from_message", "prediction_from_message"]
"""Read alike from a bag and from the graph, so that a replay sees the same to the bit."""


def _singles(values: Floats32) -> array.array[float]:
    return array.array("f", np.ascontiguousarray(values, dtype=np.float32).tobytes())


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
        JointTrajectoryPoint(positions=doubles(position), time_from_start=duration_to_message(time_s))
        for time_s, position in zip(chunk.time_from_start_s.tolist(), chunk.joint_position_rad, strict=True)
    ]
    message.gripper = doubles(chunk.gripper_opening_m)
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
    times, positions, _ = trajectory_arrays(message.trajectory, joints)
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
    message.probabilities = doubles(prediction.probability.reshape(-1))
    message.timeout_probability = float(prediction.timeout_probability)
    message.risk = float(prediction.risk)
    message.risk_type = int(prediction.risk_type)
    message.risk_horizon = float(prediction.risk_horizon_s)
    message.alarm = bool(prediction.alarm)
    message.thresholds = doubles(prediction.threshold)
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
