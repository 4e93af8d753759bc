"""Rosbag2 recordings of a robot, of Gazebo or of the live graph, as episodes.

Times are the messages' own stamps. The times at which messages were received say when they arrived;
where the recorder's clock is another than the stamps' (a bag of a simulation recorded on wall time),
the joint states, which have both, tell how one follows from the other. Nothing is resampled. What
cannot be used is counted and named in the episode's notes, never filled in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rosbags.highlevel import AnyReader

from salus_ros.data import messages
from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.data.images import decode_image, encode_depth
from salus_ros.data.marks import outcome_of, read_marks
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.data.ros_types import typestore
from salus_ros.errors import SalusError
from salus_ros.types import NOT_AVAILABLE, EpisodeEvent, EventKind, Floats

PAUSE_FACTOR: Final = 3.5
"""A pause of so many usual periods is more than jitter: messages are missing."""
LEAST_PERIODS: Final = 5
"""Fewer say nothing about the usual one."""
SAME_CLOCK_S: Final = 5.0
"""Stamps and times of reception that differ by more, in the median, are of different clocks."""
_STARTS_AT_RECEPTION: Final = ("arm_command", "gripper_command")
"""To a controller, a command without a stamp is one that starts when it is received."""
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


@dataclass(slots=True)
class _Message:
    topic: str
    kind: str
    log_s: float
    value: Any
    stamp_s: float = 0.0
    arrival_s: float = 0.0


@dataclass(slots=True)
class _Notes:
    """What was left out or amiss, to be kept with the episodes."""

    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)

    def refuse(self, topic: str, reason: object) -> None:
        self.refused[topic] += 1
        self.reasons.setdefault(topic, str(reason))

    def texts(self) -> dict[str, str]:
        refused = {
            topic: f"{count} messages left out, the first because {self.reasons[topic]}"
            for topic, count in self.refused.items()
        }
        return self.other | refused


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
    path, settings, notes = Path(path), settings or BagSettings(), _Notes()
    with open_bag(path) as reader:
        kinds = _kinds(reader, settings)
        if not kinds:
            topics = ", ".join(sorted({c.topic for c in reader.connections})) or "none"
            raise SalusError(
                f"The bag {path} holds the topics {topics}, and none that SALUS reads; name them with "
                "--topic, e.g. --topic joint_states=/robot/joint_states."
            )
        found = list(_read(reader, kinds, notes))
    for name, topic in settings.model_dump().items():
        if isinstance(topic, str) and name not in kinds.values():
            notes.other[topic] = "not in the bag"
    _set_times(found, notes)
    arm, fingers = _joints(found, settings)
    marks = read_marks(path).get(0, ())
    events = sorted([*_events(found, notes), *marks], key=lambda event: event.stamp_s)
    stamps = [message.stamp_s for message in found]
    spans = _spans([] if whole else events, stamps, notes)
    return [_episode(found, marks, span, path, arm, fingers, notes) for span in spans]


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """A reader of a bag.

    Raises:
        SalusError: there is none, it has no metadata, or it is damaged.
    """
    target = path
    if not path.exists():
        raise SalusError(f"There is no {path}; give the folder of a bag.")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted([*path.glob("*.mcap"), *path.glob("*.db3")])
        if len(files) != 1:
            raise SalusError(
                f"{path} holds no metadata.yaml and {len(files)} bag files; expected a bag: restore its "
                "metadata with `ros2 bag reindex`, or give one of the files."
            )
        target = files[0]
    try:
        reader = AnyReader([target], default_typestore=typestore())
        reader.open()
    except Exception as error:
        raise SalusError(
            f"The bag {path} cannot be opened ({error}); it was not closed, or is damaged: repair it with "
            "`mcap recover`, or record it again."
        ) from error
    try:
        yield reader
    finally:
        reader.close()


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


def _read(reader: AnyReader, kinds: dict[str, str], notes: _Notes) -> Iterator[_Message]:
    wanted = [c for c in reader.connections if c.topic in kinds]
    try:
        for connection, log_ns, raw in reader.messages(wanted):
            try:
                value = _deserialize(reader, raw, connection.msgtype)
            except Exception as error:
                notes.refuse(connection.topic, error)
                continue
            yield _Message(connection.topic, kinds[connection.topic], log_ns * 1e-9, value)
    except SalusError:
        raise
    except Exception as error:
        raise SalusError(
            f"The bag cannot be read to its end ({error}); it is damaged: repair it with `mcap recover`, or "
            "record it again."
        ) from error


def _deserialize(reader: AnyReader, raw: bytes, message_type: str) -> Any:
    """A message. Fast DDS pads what it serializes, which ``AnyReader.deserialize`` takes for an error."""
    if not reader.is2:
        return reader.deserialize(raw, message_type)
    definition = reader.typestore.get_msgdef(message_type)
    little_endian = raw[1] & 1
    read = definition.deserialize_cdr_le if little_endian else definition.deserialize_cdr_be
    value, _ = read(memoryview(raw)[4:], 0, definition.cls, reader.typestore)
    return value


def _set_times(found: list[_Message], notes: _Notes) -> None:
    """Stamps and arrivals, both on the clock of the stamps."""
    for message in found:
        message.stamp_s = messages.stamp_s(message.value)
    to_stamp_clock = _clock(found, notes)
    unstamped: Counter[str] = Counter()
    for message in found:
        message.arrival_s = to_stamp_clock(message.log_s)
        if message.stamp_s == 0.0 and message.kind in _STARTS_AT_RECEPTION:
            message.stamp_s = message.arrival_s
        elif message.stamp_s == 0.0 and message.arrival_s > SAME_CLOCK_S:
            message.stamp_s = message.arrival_s
            unstamped[message.topic] += 1
        message.arrival_s = max(message.arrival_s, message.stamp_s)
    latest: dict[str, float] = {}
    backwards: Counter[str] = Counter()
    for message in found:
        backwards[message.topic] += message.stamp_s < latest.get(message.topic, -np.inf)
        latest[message.topic] = max(message.stamp_s, latest.get(message.topic, -np.inf))
    for topic, count in backwards.items():
        if count:
            notes.other[f"{topic} (order)"] = (
                f"{count} messages came out of order and were sorted by their stamps"
            )
    _note_pauses(found, notes)
    for topic, count in unstamped.items():
        notes.other[f"{topic} (stamps)"] = (
            f"{count} messages without a stamp have the time of their reception"
        )


def _note_pauses(found: Sequence[_Message], notes: _Notes) -> None:
    """Names what looks like dropped messages, among those that come at a steady rate."""
    stamps: dict[str, list[float]] = {}
    for message in found:
        if message.kind == "joint_states" or message.kind.startswith("frames/"):
            stamps.setdefault(message.topic, []).append(message.stamp_s)
    for topic, times in stamps.items():
        periods = np.diff(np.sort(np.array(times)))
        if len(periods) < LEAST_PERIODS:
            continue
        pauses = periods[periods > PAUSE_FACTOR * np.median(periods)]
        if len(pauses):
            notes.other[f"{topic} (pauses)"] = (
                f"{len(pauses)} pauses, the longest of {pauses.max():.3f} s, in what usually comes every "
                f"{np.median(periods):.3f} s: messages were dropped, or not sent"
            )


def _clock(found: Sequence[_Message], notes: _Notes) -> Callable[[float], float]:
    """From the recorder's clock to the clock of the stamps."""
    pairs = [(m.log_s, m.stamp_s) for m in found if m.kind == "joint_states"]
    pairs = pairs or [(m.log_s, m.stamp_s) for m in found]
    if not any(stamp for _, stamp in pairs):
        return lambda log_s: log_s
    log: Floats = np.array([p[0] for p in pairs])
    stamp: Floats = np.array([p[1] for p in pairs])
    if abs(float(np.median(log - stamp))) < SAME_CLOCK_S:
        return lambda log_s: log_s
    notes.other["clock"] = (
        "the recorder's clock is not that of the stamps; arrivals were converted by the joint states"
    )
    order = np.argsort(log, kind="stable")
    log, stamp = log[order], np.maximum.accumulate(stamp[order])
    return lambda log_s: float(np.interp(log_s, log, stamp))


def _joints(found: Sequence[_Message], settings: BagSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
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


def _events(found: Sequence[_Message], notes: _Notes) -> list[EpisodeEvent]:
    events = []
    for message in found:
        if message.kind == "episode_event":
            try:
                events.append(replace(messages.episode_event(message.value), stamp_s=message.stamp_s))
            except SalusError as error:
                notes.refuse(message.topic, error)
    return events


def _spans(events: Sequence[EpisodeEvent], stamps: Sequence[float], notes: _Notes) -> list[_Span]:
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
    found: Sequence[_Message],
    marks: Sequence[EpisodeEvent],
    span: _Span,
    path: Path,
    arm: tuple[str, ...],
    fingers: tuple[str, ...],
    bag_notes: _Notes,
) -> Episode:
    recorder = EpisodeRecorder(time_origin_s=span.start_s)
    notes = _Notes(Counter(bag_notes.refused), dict(bag_notes.reasons), dict(bag_notes.other))
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

    def add(self, message: _Message) -> None:
        """Converts and records one message.

        Raises:
            SalusError: it is malformed.
        """
        if message.kind.startswith("frames/"):
            self._add_image(message)
        else:
            getattr(self, f"_add_{message.kind}")(message)

    def _add_joint_states(self, message: _Message) -> None:
        names = set(message.value.name)
        if self._fingers and set(self._fingers) <= names:
            self._opening_m = messages.gripper_opening_m(message.value, self._fingers)
        if names and names <= set(self._fingers):
            return
        state = messages.robot_state(
            message.value, self._arm, self._fingers, message.stamp_s, self._opening_m
        )
        self._recorder.robot(state, message.arrival_s)

    def _add_policy_output(self, message: _Message) -> None:
        output = messages.policy_output(message.value, self._arm)
        chunk = replace(output.chunk, stamp_s=message.stamp_s)
        self._recorder.policy(replace(output, chunk=chunk), message.arrival_s)

    def _add_failure_prediction(self, message: _Message) -> None:
        prediction = messages.prediction(message.value)
        self._recorder.prediction(replace(prediction, stamp_s=message.stamp_s), message.arrival_s)

    def _add_intervention_state(self, message: _Message) -> None:
        state = messages.intervention_state(message.value)
        self._recorder.intervention(replace(state, stamp_s=message.stamp_s), message.arrival_s)

    def _add_episode_event(self, message: _Message) -> None:
        event = messages.episode_event(message.value)
        self._recorder.event(replace(event, stamp_s=message.stamp_s))

    def _add_arm_command(self, message: _Message) -> None:
        self._recorder.command(message.stamp_s, messages.trajectory(message.value, self._arm), None)

    def _add_gripper_command(self, message: _Message) -> None:
        command = messages.trajectory(message.value, tuple(message.value.joint_names))
        self._recorder.command(message.stamp_s, None, float(command.position_rad[-1].sum()))

    def _add_points(self, message: _Message) -> None:
        cloud = messages.point_cloud(message.value)
        self._recorder.points(replace(cloud, stamp_s=message.stamp_s), message.arrival_s)

    def _add_image(self, message: _Message) -> None:
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
