"""Rosbag2 recordings of a robot, of Gazebo or of the live graph, as episodes.

Times are the messages' own stamps. The times at which messages were received say when they arrived;
where the recorder's clock is another than the stamps' (a bag of a simulation recorded on wall time),
the joint states, which have both, tell how one follows from the other. Nothing is resampled. What
cannot be used is counted and named in the episode's notes, never filled in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rosbags.highlevel import AnyReader

from salus_ros.data import messages
from salus_ros.data.bag_messages import BagMessage, Notes, open_bag, read_messages, set_times
from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.data.images import decode_image, encode_depth
from salus_ros.data.marks import outcome_of, read_marks
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.errors import SalusError
from salus_ros.types import NOT_AVAILABLE, EpisodeEvent, EventKind

_LAST: Final = (EventKind.SUCCESS, EventKind.TIMEOUT, EventKind.EPISODE_END)


class BagSettings(BaseModel):
    """Which topics hold what; a topic is also found under a namespace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    joint_states: str = Field(default="/joint_states", description="sensor_msgs/JointState.")
    policy_output: str = Field(default="/salus/policy_output", description="salus_msgs/PolicyOutput.")
    failure_prediction: str = Field(
        default="/salus/failure_prediction", description="salus_msgs/FailurePrediction."
    )
    intervention_state: str = Field(
        default="/salus/intervention_state", description="salus_msgs/InterventionState."
    )
    episode_event: str = Field(default="/salus/episode_event", description="salus_msgs/EpisodeEvent.")
    arm_command: str = Field(
        default="/arm_controller/joint_trajectory", description="trajectory_msgs/JointTrajectory to the arm."
    )
    gripper_command: str = Field(
        default="/gripper_controller/joint_trajectory",
        description="trajectory_msgs/JointTrajectory to the gripper.",
    )
    points: str = Field(default="/camera/front/points", description="sensor_msgs/PointCloud2.")
    arm_joints: tuple[str, ...] = Field(
        default=(), description="Arm joints in order; by default as the bag names them."
    )
    finger_joints: tuple[str, ...] = Field(
        default=(),
        description="Joints whose positions add up to the opening; by default told by their names.",
    )


def read_bag(path: str | Path, settings: BagSettings | None = None, *, whole: bool = False) -> list[Episode]:
    """The episodes of a bag, split by ``EpisodeEvent``; one of unknown outcome if it holds none.

    Events are those of the bag and those that an operator marked beside it (``marks.py``).

    Args:
        path: folder of the bag, or its ``.mcap`` or ``.db3`` file.
        settings: topics and joints, where they differ from SALUS's own.
        whole: take all that the bag holds as one episode, wherever episodes start in it.

    Raises:
        SalusError: no bag, a damaged one, or none of the topics is in it.
    """
    path, settings, notes = Path(path), settings or BagSettings(), Notes()
    with open_bag(path) as reader:
        kinds = _kinds(reader, settings)
        if not kinds:
            topics = ", ".join(sorted({c.topic for c in reader.connections})) or "none"
            raise SalusError(
                f"The bag {path} holds the topics {topics}, and none that SALUS reads; name them with "
                "--topic, e.g. --topic joint_states=/robot/joint_states."
            )
        found = list(read_messages(reader, kinds, notes))
    for name, topic in settings.model_dump().items():
        if isinstance(topic, str) and name not in kinds.values():
            notes.other[topic] = "not in the bag"
    set_times(found, notes)
    arm, fingers = _joints(found, settings)
    marks = read_marks(path).get(0, ())
    events = sorted([*_events(found, notes), *marks], key=lambda event: event.stamp_s)
    stamps = [message.stamp_s for message in found]
    spans = _spans([] if whole else events, stamps, notes)
    return [_episode(found, marks, span, path, arm, fingers, notes) for span in spans]


def _kinds(reader: AnyReader, settings: BagSettings) -> dict[str, str]:
    """Topic to what it holds: a field of the settings, or ``frames/<camera>``."""
    kinds: dict[str, str] = {}
    for connection in reader.connections:
        topic, kind = connection.topic, connection.msgtype.rsplit("/", 1)[-1]
        if kind in ("Image", "CompressedImage"):
            kinds[topic] = f"frames/{camera_name(topic)}"
        expected = _TYPES.get(kind, ())
        for name in expected:
            wanted = getattr(settings, name)
            if topic == wanted or (topic.endswith(wanted) and wanted not in reader.topics):
                kinds[topic] = name
    return kinds


_TYPES: Final = {
    "JointState": ("joint_states",),
    "PolicyOutput": ("policy_output",),
    "FailurePrediction": ("failure_prediction",),
    "InterventionState": ("intervention_state",),
    "EpisodeEvent": ("episode_event",),
    "JointTrajectory": ("arm_command", "gripper_command"),
    "PointCloud2": ("points",),
}


def camera_name(topic: str) -> str:
    """``front`` for ``/camera/front/image_raw`` and ``/camera/front/image_raw/compressed``."""
    plain = (
        "camera",
        "cameras",
        "image",
        "image_raw",
        "image_rect",
        "compressed",
        "compressedDepth",
        "color",
        "rgb",
    )
    parts = [part for part in topic.split("/") if part and part not in plain]
    return "_".join(parts) or "camera"


def _joints(found: Sequence[BagMessage], settings: BagSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the arm's joints and of the fingers'."""
    by_kind: dict[str, Any] = {}
    for message in found:
        by_kind.setdefault(message.kind, message.value)
    names = [m.value.name for m in found if m.kind == "joint_states"][:20]
    every = tuple(dict.fromkeys(name for message in names for name in message))
    arm, fingers = messages.split_joints(every)
    if "policy_output" in by_kind:
        arm = tuple(by_kind["policy_output"].trajectory.joint_names)
    elif "arm_command" in by_kind:
        arm = tuple(by_kind["arm_command"].joint_names)
    return settings.arm_joints or arm, settings.finger_joints or fingers


@dataclass(frozen=True, slots=True)
class _Span:
    """Where an episode lies on the clock of the stamps."""

    start_s: float
    end_s: float
    first: EpisodeEvent | None
    outcome: Outcome


def _events(found: Sequence[BagMessage], notes: Notes) -> list[EpisodeEvent]:
    events = []
    for message in found:
        if message.kind == "episode_event":
            try:
                events.append(replace(messages.episode_event(message.value), stamp_s=message.stamp_s))
            except SalusError as error:
                notes.refuse(message.topic, error)
    return events


def _spans(events: Sequence[EpisodeEvent], stamps: Sequence[float], notes: Notes) -> list[_Span]:
    """Where episodes lie.

    Args:
        events: sorted by time.
        stamps: of all messages.
        notes: what is amiss is noted.
    """
    starts = [e for e in events if e.kind == EventKind.EPISODE_START]
    if not starts:
        outcome = outcome_of(events)
        notes.other["episodes"] = "no event says where an episode starts; the bag is taken as one, of " + (
            "unknown outcome" if outcome is Outcome.UNKNOWN else f"the outcome {outcome.value}"
        )
        return [_Span(min(stamps), max(stamps), None, outcome)] if stamps else []
    spans = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        limit = following.stamp_s if following is not None else np.inf
        inside = [e for e in events if start.stamp_s <= e.stamp_s < limit]
        ends = [e.stamp_s for e in inside if e.kind in _LAST]
        end = max(ends) if ends else max(s for s in stamps if s < limit)
        spans.append(_Span(start.stamp_s, end, start, outcome_of(inside)))
    return spans


def _episode(
    found: Sequence[BagMessage],
    marks: Sequence[EpisodeEvent],
    span: _Span,
    path: Path,
    arm: tuple[str, ...],
    fingers: tuple[str, ...],
    bag_notes: Notes,
) -> Episode:
    recorder = EpisodeRecorder(time_origin_s=span.start_s)
    notes = Notes(Counter(bag_notes.refused), dict(bag_notes.reasons), dict(bag_notes.other))
    into = _Recording(recorder, arm, fingers)
    for message in found:
        if span.start_s <= message.stamp_s <= span.end_s:
            try:
                into.add(message)
            except SalusError as error:
                notes.refuse(message.topic, error)
    for mark in marks:
        if span.start_s <= mark.stamp_s <= span.end_s:
            recorder.event(mark)
    first = span.first
    return recorder.finish(
        EpisodeMeta(
            seed=first.seed if first else -1,
            task=first.task if first else "",
            instruction=first.instruction if first else "",
            disturbance=first.disturbance if first else "",
            outcome=span.outcome,
            joint_names=arm,
            source=path.name,
            end_s=span.end_s - span.start_s,
            notes=notes.texts(),
        )
    )


class _Recording:
    """Puts messages of a bag into a recorder."""

    def __init__(self, recorder: EpisodeRecorder, arm: tuple[str, ...], fingers: tuple[str, ...]) -> None:
        self._recorder = recorder
        self._arm = arm
        self._fingers = fingers
        self._opening_m = NOT_AVAILABLE

    def add(self, message: BagMessage) -> None:
        """Converts and records one message.

        Raises:
            SalusError: it is malformed.
        """
        if message.kind.startswith("frames/"):
            self._add_image(message)
        else:
            getattr(self, f"_add_{message.kind}")(message)

    def _add_joint_states(self, message: BagMessage) -> None:
        names = set(message.value.name)
        if self._fingers and set(self._fingers) <= names:
            self._opening_m = messages.gripper_opening_m(message.value, self._fingers)
        if names and names <= set(self._fingers):
            return
        state = messages.robot_state(
            message.value, self._arm, self._fingers, message.stamp_s, self._opening_m
        )
        self._recorder.robot(state, message.arrival_s)

    def _add_policy_output(self, message: BagMessage) -> None:
        output = messages.policy_output(message.value, self._arm)
        chunk = replace(output.chunk, stamp_s=message.stamp_s)
        self._recorder.policy(replace(output, chunk=chunk), message.arrival_s)

    def _add_failure_prediction(self, message: BagMessage) -> None:
        prediction = messages.prediction(message.value)
        self._recorder.prediction(replace(prediction, stamp_s=message.stamp_s), message.arrival_s)

    def _add_intervention_state(self, message: BagMessage) -> None:
        state = messages.intervention_state(message.value)
        self._recorder.intervention(replace(state, stamp_s=message.stamp_s), message.arrival_s)

    def _add_episode_event(self, message: BagMessage) -> None:
        event = messages.episode_event(message.value)
        self._recorder.event(replace(event, stamp_s=message.stamp_s))

    def _add_arm_command(self, message: BagMessage) -> None:
        self._recorder.command(message.stamp_s, messages.trajectory(message.value, self._arm), None)

    def _add_gripper_command(self, message: BagMessage) -> None:
        command = messages.trajectory(message.value, tuple(message.value.joint_names))
        self._recorder.command(message.stamp_s, None, float(command.position_rad[-1].sum()))

    def _add_points(self, message: BagMessage) -> None:
        cloud = messages.point_cloud(message.value)
        self._recorder.points(replace(cloud, stamp_s=message.stamp_s), message.arrival_s)

    def _add_image(self, message: BagMessage) -> None:
        camera, value = message.kind.removeprefix("frames/"), message.value
        if hasattr(value, "format"):
            encoded = bytes(value.data)
            decode_image(encoded)
            self._recorder.frame(camera, message.stamp_s, encoded, message.arrival_s)
        elif value.encoding in messages.DEPTH_ENCODINGS:
            depth = encode_depth(messages.depth_image(value))
            self._recorder.frame(camera, message.stamp_s, depth, message.arrival_s)
        else:
            self._recorder.frame(camera, message.stamp_s, messages.colour_image(value), message.arrival_s)
