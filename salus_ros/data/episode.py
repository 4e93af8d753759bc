"""One episode: what was seen, when it was stamped, and when it arrived.

An episode is a set of streams, each with its own stamps: nothing is resampled, nothing is filled
in. Arrays have one row per message; N is the number of rows, J of arm joints, T of points in an
action chunk. Stamps are seconds of the clock that stamped the messages, counted from the episode's
``time_origin_s``. ``arrival_s`` is when a receiver could first know the message: a policy's answer
arrives its inference time after the observation whose stamp it carries.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from salus_ros.data.images import decode_image
from salus_ros.types import (
    ActionChunk,
    Cause,
    EpisodeEvent,
    FailurePrediction,
    FailureType,
    Floats,
    Floats32,
    Image,
    InterventionState,
    Mode,
    PointCloud,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

Ints: TypeAlias = NDArray[np.int64]
Input: TypeAlias = RobotState | PolicyOutput | PointCloud | FailurePrediction | InterventionState
POINT_RESOLUTION_M: Final = 2.0**-10
"""Points are kept to this grid (about 1 mm, below a depth camera's noise); a power of two, so that
16-bit integers and float32 hold the same numbers."""


class Outcome(str, enum.Enum):
    """How an episode ended."""

    UNKNOWN = "unknown"
    """Nobody said: a bag without an end, or an interrupted recording."""
    SUCCESS = "success"
    TIMEOUT = "timeout"
    FAILURE = "failure"
    """A failure after which the task could not be finished."""
    LOST = "lost"
    """The object is out of the robot's reach."""
    ASSIST = "assist"
    """The gate asked for a person, and nobody came."""
    EMERGENCY_STOP = "emergency_stop"
    """An emergency stop latched, and nobody reset it."""


@dataclass(frozen=True, slots=True)
class EpisodeMeta:
    """What holds for a whole episode."""

    seed: int = -1
    """-1 where there is none: an episode of a real robot."""
    task: str = ""
    instruction: str = ""
    disturbance: str = ""
    """Empty for none."""
    outcome: Outcome = Outcome.UNKNOWN
    policy_name: str = ""
    policy_hash: str = ""
    robot: str = ""
    """Name of the arm's description, e.g. ``salus_arm``."""
    joint_names: tuple[str, ...] = ()
    arm: str = ""
    """Arm of a closed-loop study (``none``, ``random``, ``effort``, ``oracle``, ``salus``)."""
    random_interventions: bool = False
    """Whether the gate intervened at random, for the monitor to learn what that looks like."""
    code_version: str = ""
    source: str = ""
    """``rollout``, or the name of the bag it was converted from."""
    time_origin_s: float = 0.0
    """Clock time that the episode's stamps are counted from."""
    end_s: float = float("nan")
    """Last moment that was observed, on the episode's time; labels beyond it are censored."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Anything else worth keeping, e.g. messages that were dropped."""


@dataclass(frozen=True, slots=True, eq=False)
class _Stream:
    """Arrays with one row per message."""

    flat: ClassVar[str] = ""
    """Name of the array whose rows are shared out among the messages by ``count``, if any."""

    stamp_s: Floats
    """(N,)"""
    arrival_s: Floats
    """(N,), when a receiver could first know it; equals the stamp where that is unknown."""

    def __len__(self) -> int:
        return len(self.stamp_s)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Field name to array."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class RobotStream(_Stream):
    """Joint states, 100 Hz."""

    joint_position_rad: Floats
    """(N, J)"""
    joint_velocity_rad_s: Floats
    """(N, J)"""
    joint_effort_nm: Floats
    """(N, J)"""
    gripper_opening_m: Floats
    """(N,)"""

    def item(self, i: int) -> RobotState:
        """The i-th message."""
        return RobotState(
            float(self.stamp_s[i]),
            self.joint_position_rad[i],
            self.joint_velocity_rad_s[i],
            self.joint_effort_nm[i],
            float(self.gripper_opening_m[i]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PolicyStream(_Stream):
    """Action chunks and the uncertainty about them, one row per inference."""

    sequence: Ints
    time_from_start_s: Floats
    """(N, T)"""
    joint_position_rad: Floats
    """(N, T, J)"""
    gripper_opening_m: Floats
    """(N, T)"""
    ensemble_size: Ints
    epistemic: Floats
    aleatoric: Floats
    std_per_dimension: Floats32
    """(N, D)"""
    overlap_divergence: Floats
    velocity_field_disagreement: Floats
    latent: Floats32
    """(N, L)"""
    samples: Floats32
    """(N, members, draws, T, D), normalised actions"""
    inference_time_s: Floats

    def item(self, i: int, meta: EpisodeMeta) -> PolicyOutput:
        """The i-th message; names and instruction stand in the episode's meta."""
        chunk = ActionChunk(
            float(self.stamp_s[i]),
            self.time_from_start_s[i],
            self.joint_position_rad[i],
            self.gripper_opening_m[i],
        )
        uncertainty = Uncertainty(
            ensemble_size=int(self.ensemble_size[i]),
            epistemic=float(self.epistemic[i]),
            aleatoric=float(self.aleatoric[i]),
            std_per_dimension=self.std_per_dimension[i],
            overlap_divergence=float(self.overlap_divergence[i]),
            velocity_field_disagreement=float(self.velocity_field_disagreement[i]),
            latent=self.latent[i],
        )
        return PolicyOutput(
            sequence=int(self.sequence[i]),
            policy_name=meta.policy_name,
            policy_hash=meta.policy_hash,
            instruction=meta.instruction,
            chunk=chunk,
            uncertainty=uncertainty,
            samples=self.samples[i],
            inference_time_s=float(self.inference_time_s[i]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PointStream(_Stream):
    """Depth points in the camera's optical frame, on a grid of ``POINT_RESOLUTION_M``."""

    flat: ClassVar[str] = "points_m"

    count: Ints
    """(N,), points in each cloud"""
    points_m: Floats32
    """(sum of count, 3)"""

    def item(self, i: int, frame_id: str) -> PointCloud:
        """The i-th message."""
        end = int(self.count[: i + 1].sum())
        return PointCloud(float(self.stamp_s[i]), frame_id, self.points_m[end - int(self.count[i]) : end])


@dataclass(frozen=True, slots=True, eq=False)
class CommandStream(_Stream):
    """What the gate sent: the first point of each command that lies ahead, and the gripper."""

    time_from_start_s: Floats
    """(N,), time to the point; nan for a command to the gripper alone"""
    position_rad: Floats
    """(N, J)"""
    velocity_rad_s: Floats
    """(N, J)"""
    duration_s: Floats
    """(N,), time to the last point, where the arm would rest"""
    gripper_opening_m: Floats
    """(N,), nan where the gripper was not commanded"""


@dataclass(frozen=True, slots=True, eq=False)
class PredictionStream(_Stream):
    """What a monitor said while the episode ran."""

    sequence: Ints
    horizons_s: Floats
    """(N, H)"""
    probability: Floats
    """(N, failure types, H)"""
    timeout_probability: Floats
    risk: Floats
    risk_type: Ints
    risk_horizon_s: Floats
    alarm: NDArray[np.bool_]
    threshold: Floats
    """(N, failure types)"""
    out_of_distribution: NDArray[np.bool_]

    def item(self, i: int) -> FailurePrediction:
        """The i-th message."""
        return FailurePrediction(
            stamp_s=float(self.stamp_s[i]),
            sequence=int(self.sequence[i]),
            horizons_s=tuple(float(h) for h in self.horizons_s[i]),
            probability=self.probability[i],
            timeout_probability=float(self.timeout_probability[i]),
            risk=float(self.risk[i]),
            risk_type=FailureType(int(self.risk_type[i])),
            risk_horizon_s=float(self.risk_horizon_s[i]),
            alarm=bool(self.alarm[i]),
            threshold=self.threshold[i],
            out_of_distribution=bool(self.out_of_distribution[i]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class InterventionStream(_Stream):
    """What the gate did and why, 100 Hz."""

    mode: Ints
    cause: Ints
    reason: Ints
    """(N,), index into ``Episode.reasons``"""
    speed_scale: Floats
    sequence: Ints
    path_time_s: Floats
    time_in_mode_s: Floats
    replan_count: Ints
    assist_count: Ints
    protective_stop_count: Ints
    emergency_stop_count: Ints
    refused_message_count: Ints
    overrun_count: Ints

    def item(self, i: int, reasons: tuple[str, ...]) -> InterventionState:
        """The i-th message."""
        return InterventionState(
            stamp_s=float(self.stamp_s[i]),
            mode=Mode(int(self.mode[i])),
            cause=Cause(int(self.cause[i])),
            reason=reasons[int(self.reason[i])],
            speed_scale=float(self.speed_scale[i]),
            sequence=int(self.sequence[i]),
            path_time_s=float(self.path_time_s[i]),
            time_in_mode_s=float(self.time_in_mode_s[i]),
            replan_count=int(self.replan_count[i]),
            assist_count=int(self.assist_count[i]),
            protective_stop_count=int(self.protective_stop_count[i]),
            emergency_stop_count=int(self.emergency_stop_count[i]),
            refused_message_count=int(self.refused_message_count[i]),
            overrun_count=int(self.overrun_count[i]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class FrameStream(_Stream):
    """Images of one camera, each a compressed file (PNG, WebP or JPEG) in itself."""

    flat: ClassVar[str] = "encoded"

    count: Ints
    """(N,), bytes of each image"""
    encoded: NDArray[np.uint8]
    """(sum of count,)"""

    def file(self, i: int) -> bytes:
        """The i-th image as the bytes of its file."""
        end = int(self.count[: i + 1].sum())
        return self.encoded[end - int(self.count[i]) : end].tobytes()

    def image(self, i: int) -> Image:
        """The i-th image, uint8 RGB (H, W, 3)."""
        return decode_image(self.file(i))


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """All streams of one episode. A stream that was not recorded has no rows."""

    meta: EpisodeMeta
    events: tuple[EpisodeEvent, ...]
    robot: RobotStream
    policy: PolicyStream
    points: PointStream
    commands: CommandStream
    predictions: PredictionStream
    interventions: InterventionStream
    frames: Mapping[str, FrameStream]
    """Camera name to its images."""
    reasons: tuple[str, ...] = ()
    """The sentences that the interventions refer to."""
    point_frame_id: str = ""
    """Frame of all point clouds."""

    def streams(self) -> dict[str, _Stream]:
        """Stream name to stream; cameras are ``frames/<name>``."""
        named: dict[str, _Stream] = {name: getattr(self, name) for name in STREAMS}
        return named | {f"frames/{camera}": s for camera, s in self.frames.items()}

    def inputs(self) -> Iterator[tuple[float, Input]]:
        """Arrival time and message, in the order in which a live receiver would see them.

        Messages that arrive at one instant come as causes before effects: robot, policy output,
        points, prediction, intervention. A monitor is fed all but the predictions, and judges where
        a prediction stands (or at its own rate): so a replay sees what the live one saw.
        """
        reasons, frame = self.reasons, self.point_frame_id
        return heapq.merge(
            _ordered(self.robot, self.robot.item),
            _ordered(self.policy, lambda i: self.policy.item(i, self.meta)),
            _ordered(self.points, lambda i: self.points.item(i, frame)),
            _ordered(self.predictions, self.predictions.item),
            _ordered(self.interventions, lambda i: self.interventions.item(i, reasons)),
            key=lambda pair: pair[0],
        )


STREAMS: Final[Mapping[str, type[_Stream]]] = {
    "robot": RobotStream,
    "policy": PolicyStream,
    "points": PointStream,
    "commands": CommandStream,
    "predictions": PredictionStream,
    "interventions": InterventionStream,
}
"""Every stream but the cameras."""


def _ordered(stream: _Stream, item: Any) -> Iterator[tuple[float, Any]]:
    for i in np.argsort(stream.arrival_s, kind="stable"):
        yield float(stream.arrival_s[i]), item(int(i))
