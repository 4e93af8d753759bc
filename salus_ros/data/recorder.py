"""Collects the messages of one episode as they come and turns them into an ``Episode``."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from salus_ros.data.episode import (
    POINT_RESOLUTION_M,
    CommandStream,
    Episode,
    EpisodeMeta,
    FrameStream,
    InterventionStream,
    PointStream,
    PolicyStream,
    PredictionStream,
    RobotStream,
    _Stream,
)
from salus_ros.data.images import encode_image
from salus_ros.errors import SalusError
from salus_ros.types import (
    NOT_AVAILABLE,
    EpisodeEvent,
    FailurePrediction,
    Image,
    InterventionState,
    JointTrajectory,
    Observation,
    PointCloud,
    PolicyOutput,
    RobotState,
)

S = TypeVar("S", bound=_Stream)

DTYPES: dict[str, DTypeLike] = {
    "NDArray[np.bool_]": np.bool_,
    "NDArray[np.uint8]": np.uint8,
    "Ints": np.int64,
    "Floats": np.float64,
    "Floats32": np.float32,
}
"""How the fields of a stream are annotated, to what they hold."""


@dataclass(slots=True)
class _Column:
    """Rows of one stream, gathered as lists."""

    stream: type[_Stream]
    rows: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, **row: Any) -> None:
        for name, value in row.items():
            self.rows.setdefault(name, []).append(value)

    def copy(self) -> _Column:
        return _Column(self.stream, {name: list(values) for name, values in self.rows.items()})

    def build(self) -> _Stream:
        return build_stream(self.stream, self.rows)


def build_stream(stream: type[S], rows: dict[str, list[Any]]) -> S:
    """A stream from lists of rows; fields that are missing have no rows.

    Raises:
        SalusError: rows of different shape.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for f in fields(stream):
        dtype, values = DTYPES[str(f.type)], rows.get(f.name, [])
        try:
            if f.name == stream.flat:
                arrays[f.name] = np.concatenate(values, dtype=dtype) if values else np.empty(0, dtype)
            else:
                arrays[f.name] = np.array(values, dtype=dtype)
        except ValueError:
            shapes = sorted({np.shape(v) for v in values})
            raise SalusError(
                f"{stream.__name__}.{f.name} has rows of the shapes {shapes}; expected one shape in an "
                "episode: do not change robot or policy inside an episode."
            ) from None
    return stream(**arrays)


class EpisodeRecorder:
    """Takes the messages of one episode in any order within a stream, and keeps each as it was.

    Args:
        time_origin_s: subtracted from every stamp, so that an episode of a robot, stamped in seconds
            since 1970, counts from its own start.
    """

    def __init__(self, time_origin_s: float = 0.0) -> None:
        self._origin_s = time_origin_s
        self._robot = _Column(RobotStream)
        self._policy = _Column(PolicyStream)
        self._points = _Column(PointStream)
        self._commands = _Column(CommandStream)
        self._predictions = _Column(PredictionStream)
        self._interventions = _Column(InterventionStream)
        self._frames: dict[str, _Column] = {}
        self._reasons: dict[str, int] = {}
        self._point_frame_id = ""
        self._events: list[EpisodeEvent] = []
        self._policy_names: tuple[str, str, str] | None = None
        self._latest_s = float("-inf")

    def copy(self) -> EpisodeRecorder:
        """One that holds the same and goes on alone."""
        other = copy.copy(self)
        other._robot, other._policy, other._points = (
            self._robot.copy(),
            self._policy.copy(),
            self._points.copy(),
        )
        other._commands, other._predictions = self._commands.copy(), self._predictions.copy()
        other._interventions = self._interventions.copy()
        other._frames = {camera: column.copy() for camera, column in self._frames.items()}
        other._reasons, other._events = dict(self._reasons), list(self._events)
        return other

    def _stamps(self, stamp_s: float, arrival_s: float | None) -> dict[str, float]:
        stamp_s -= self._origin_s
        arrival_s = stamp_s if arrival_s is None else arrival_s - self._origin_s
        self._latest_s = max(self._latest_s, stamp_s, arrival_s)
        return {"stamp_s": stamp_s, "arrival_s": arrival_s}

    def robot(self, state: RobotState, arrival_s: float | None = None) -> None:
        """Keep one joint state. ``arrival_s`` defaults to the stamp, here and below."""
        self._robot.add(
            **self._stamps(state.stamp_s, arrival_s),
            joint_position_rad=np.copy(state.joint_position_rad),
            joint_velocity_rad_s=np.copy(state.joint_velocity_rad_s),
            joint_effort_nm=np.copy(state.joint_effort_nm),
            gripper_opening_m=state.gripper_opening_m,
        )

    def policy(self, output: PolicyOutput, arrival_s: float | None = None) -> None:
        """Keep one inference. ``arrival_s`` defaults to the stamp plus the inference time."""
        if arrival_s is None:
            arrival_s = output.stamp_s + output.inference_time_s
        names = (output.policy_name, output.policy_hash, output.instruction)
        if self._policy_names not in (None, names):
            raise SalusError(
                f"An episode holds the policy and instruction {self._policy_names} and was given {names}; "
                "expected one of each: start another episode."
            )
        self._policy_names = names
        u = output.uncertainty
        self._policy.add(
            **self._stamps(output.stamp_s, arrival_s),
            sequence=output.sequence,
            time_from_start_s=output.chunk.time_from_start_s,
            joint_position_rad=output.chunk.joint_position_rad,
            gripper_opening_m=output.chunk.gripper_opening_m,
            ensemble_size=u.ensemble_size,
            epistemic=u.epistemic,
            aleatoric=u.aleatoric,
            std_per_dimension=u.std_per_dimension,
            overlap_divergence=u.overlap_divergence,
            velocity_field_disagreement=u.velocity_field_disagreement,
            latent=u.latent,
            samples=output.samples,
            inference_time_s=output.inference_time_s,
        )

    def points(self, cloud: PointCloud, arrival_s: float | None = None) -> None:
        """Keep one point cloud, rounded to ``POINT_RESOLUTION_M``."""
        if self._point_frame_id not in ("", cloud.frame_id):
            raise SalusError(
                f"Point clouds in the frames {self._point_frame_id} and {cloud.frame_id} were given; "
                "expected one camera: remap the topic to the one whose extrinsics the monitor knows."
            )
        self._point_frame_id = cloud.frame_id
        rounded = round_points(cloud)
        self._points.add(
            **self._stamps(cloud.stamp_s, arrival_s),
            count=len(rounded.points_m),
            points_m=rounded.points_m,
        )

    def command(
        self, stamp_s: float, trajectory: JointTrajectory | None, gripper_opening_m: float | None = None
    ) -> None:
        """Keep what the gate sent at one moment: a trajectory, an opening, or both."""
        if trajectory is None:
            row = {
                "time_from_start_s": NOT_AVAILABLE,
                "position_rad": None,
                "velocity_rad_s": None,
                "duration_s": NOT_AVAILABLE,
            }
        else:
            ahead = np.flatnonzero(trajectory.time_from_start_s > 0.0)
            first = int(ahead[0]) if len(ahead) else len(trajectory.time_from_start_s) - 1
            row = {
                "time_from_start_s": float(trajectory.time_from_start_s[first]),
                "position_rad": trajectory.position_rad[first],
                "velocity_rad_s": trajectory.velocity_rad_s[first],
                "duration_s": float(trajectory.time_from_start_s[-1]),
            }
        gripper = NOT_AVAILABLE if gripper_opening_m is None else gripper_opening_m
        self._commands.add(**self._stamps(stamp_s, None), **row, gripper_opening_m=gripper)

    def prediction(self, prediction: FailurePrediction, arrival_s: float | None = None) -> None:
        """Keep one prediction."""
        self._predictions.add(
            **self._stamps(prediction.stamp_s, arrival_s),
            sequence=prediction.sequence,
            horizons_s=prediction.horizons_s,
            probability=prediction.probability,
            timeout_probability=prediction.timeout_probability,
            risk=prediction.risk,
            risk_type=int(prediction.risk_type),
            risk_horizon_s=prediction.risk_horizon_s,
            alarm=prediction.alarm,
            threshold=prediction.threshold,
            out_of_distribution=prediction.out_of_distribution,
        )

    def intervention(self, state: InterventionState, arrival_s: float | None = None) -> None:
        """Keep one state of the gate."""
        self._interventions.add(
            **self._stamps(state.stamp_s, arrival_s),
            mode=int(state.mode),
            cause=int(state.cause),
            reason=self._reasons.setdefault(state.reason, len(self._reasons)),
            speed_scale=state.speed_scale,
            sequence=state.sequence,
            path_time_s=state.path_time_s,
            time_in_mode_s=state.time_in_mode_s,
            replan_count=state.replan_count,
            assist_count=state.assist_count,
            protective_stop_count=state.protective_stop_count,
            emergency_stop_count=state.emergency_stop_count,
            refused_message_count=state.refused_message_count,
            overrun_count=state.overrun_count,
        )

    def frame(
        self, camera: str, stamp_s: float, image: Image | bytes, arrival_s: float | None = None
    ) -> None:
        """Keep one image: uint8 RGB (H, W, 3), or the bytes of a PNG, WebP or JPEG file as they came."""
        encoded = image if isinstance(image, bytes) else encode_image(image)
        self._frames.setdefault(camera, _Column(FrameStream)).add(
            **self._stamps(stamp_s, arrival_s),
            count=len(encoded),
            encoded=np.frombuffer(encoded, np.uint8),
        )

    def observation(self, observation: Observation) -> None:
        """Keep all images of an observation; its robot state comes through ``robot``."""
        for camera, image in observation.images.items():
            self.frame(camera, observation.stamp_s, image)

    def event(self, event: EpisodeEvent) -> None:
        """Keep one ground-truth event."""
        stamps = self._stamps(event.stamp_s, None)
        self._events.append(replace(event, stamp_s=stamps["stamp_s"]))

    def finish(self, meta: EpisodeMeta) -> Episode:
        """The episode so far. Rows are sorted by stamp; what arrived out of order keeps its arrival.

        Fields of ``meta`` that the messages determine (policy, instruction, time origin and, if unset,
        the end) are taken from them.
        """
        policy_name, policy_hash, instruction = self._policy_names or (
            meta.policy_name,
            meta.policy_hash,
            meta.instruction,
        )
        end_s = meta.end_s if np.isfinite(meta.end_s) else self._latest_s
        meta = replace(
            meta,
            policy_name=policy_name,
            policy_hash=policy_hash,
            instruction=instruction,
            time_origin_s=self._origin_s,
            end_s=end_s if np.isfinite(end_s) else 0.0,
        )
        return Episode(
            meta=meta,
            events=tuple(sorted(self._events, key=lambda e: e.stamp_s)),
            robot=cast(RobotStream, _sorted(self._robot)),
            policy=cast(PolicyStream, _sorted(self._policy)),
            points=cast(PointStream, _sorted(self._points)),
            commands=cast(CommandStream, _sorted(self._with_all_joints(self._commands))),
            predictions=cast(PredictionStream, _sorted(self._predictions)),
            interventions=cast(InterventionStream, _sorted(self._interventions)),
            frames={c: cast(FrameStream, _sorted(self._frames[c])) for c in sorted(self._frames)},
            reasons=tuple(self._reasons),
            point_frame_id=self._point_frame_id,
        )

    def _with_all_joints(self, commands: _Column) -> _Column:
        """Commands to the gripper alone, with nan for each joint of the arm."""
        known = [row for row in commands.rows.get("position_rad", []) if row is not None]
        known += self._robot.rows.get("joint_position_rad", [])[:1]
        nothing = np.full_like(known[0], NOT_AVAILABLE) if known else np.empty(0)
        filled = {
            name: [nothing if value is None else value for value in values]
            for name, values in commands.rows.items()
        }
        return _Column(commands.stream, filled)


def round_points(cloud: PointCloud) -> PointCloud:
    """The cloud as an episode keeps it: on a grid of ``POINT_RESOLUTION_M``, within 32 m."""
    limit = np.float32(np.iinfo(np.int16).max * POINT_RESOLUTION_M)
    rounded = np.round(cloud.points_m / np.float32(POINT_RESOLUTION_M)) * np.float32(POINT_RESOLUTION_M)
    # Adding zero turns -0.0, which 16-bit integers cannot hold, into 0.0.
    return replace(cloud, points_m=(np.clip(rounded, -limit, limit) + 0.0).astype(np.float32).reshape(-1, 3))


def _sorted(column: _Column) -> _Stream:
    stamps: Sequence[float] = column.rows.get("stamp_s", [])
    if any(late < early for early, late in itertools.pairwise(stamps)):
        order = np.argsort(stamps, kind="stable")
        column = _Column(
            column.stream, {name: [values[i] for i in order] for name, values in column.rows.items()}
        )
    return column.build()
