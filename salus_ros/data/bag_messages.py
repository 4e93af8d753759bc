"""The messages of a bag as they lie in it, with stamp and arrival on one clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rosbags.highlevel import AnyReader

from salus_ros.data import messages
from salus_ros.data.ros_types import typestore
from salus_ros.errors import SalusError
from salus_ros.types import Floats

PAUSE_FACTOR: Final = 3.5
"""A pause of so many usual periods is more than jitter: messages are missing."""
LEAST_PERIODS: Final = 5
"""Fewer say nothing about the usual one."""
SAME_CLOCK_S: Final = 5.0
"""Stamps and times of reception that differ by more, in the median, are of different clocks."""
_STARTS_AT_RECEPTION: Final = ("arm_command", "gripper_command")
"""To a controller, a command without a stamp is one that starts when it is received."""


@dataclass(slots=True)
class BagMessage:
    """One message; its times are set by :func:`set_times`."""

    topic: str
    kind: str
    """What the topic holds: a field of ``BagSettings``, or ``frames/<camera>``."""
    log_s: float
    """When it was received, on the recorder's clock [s]."""
    value: Any
    stamp_s: float = 0.0
    """On the clock of the stamps [s], as all that follows."""
    arrival_s: float = 0.0


@dataclass(slots=True)
class Notes:
    """What was left out or amiss, to be kept with the episodes."""

    refused: Counter[str] = field(default_factory=Counter)
    """Messages left out, by topic."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why the first of each topic was."""
    other: dict[str, str] = field(default_factory=dict)
    """Everything else, by what it is about."""

    def refuse(self, topic: str, reason: object) -> None:
        """A message of this topic is left out."""
        self.refused[topic] += 1
        self.reasons.setdefault(topic, str(reason))

    def texts(self) -> dict[str, str]:
        """All of it, in sentences."""
        refused = {
            topic: f"{count} messages left out, the first because {self.reasons[topic]}"
            for topic, count in self.refused.items()
        }
        return self.other | refused


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


def read_messages(reader: AnyReader, kinds: dict[str, str], notes: Notes) -> Iterator[BagMessage]:
    """The messages of the topics in ``kinds``, in the order of their reception; their times are not set yet.

    Raises:
        SalusError: the bag cannot be read to its end.
    """
    wanted = [c for c in reader.connections if c.topic in kinds]
    try:
        for connection, log_ns, raw in reader.messages(wanted):
            try:
                value = _deserialize(reader, raw, connection.msgtype)
            except Exception as error:
                notes.refuse(connection.topic, error)
                continue
            yield BagMessage(connection.topic, kinds[connection.topic], log_ns * 1e-9, value)
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


def set_times(found: list[BagMessage], notes: Notes) -> None:
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


def _note_pauses(found: Sequence[BagMessage], notes: Notes) -> None:
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


def _clock(found: Sequence[BagMessage], notes: Notes) -> Callable[[float], float]:
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
