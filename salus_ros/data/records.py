"""What a store knows about an episode beside its arrays: one line of JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from salus_ros.data.episode import EpisodeMeta, Outcome, _Stream
from salus_ros.errors import SalusError
from salus_ros.types import EpisodeEvent, EventKind, FailureType

DIGEST_BYTES: Final = 8
"""Enough against damage and mix-ups; it guards against no adversary."""


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """Meta, events and the digests by which damaged arrays are told from whole ones."""

    meta: EpisodeMeta
    events: tuple[EpisodeEvent, ...]
    reasons: tuple[str, ...]
    point_frame_id: str
    digests: Mapping[str, str]
    """Stream name to digest; streams without rows are not among them."""

    def to_json(self) -> str:
        """One line of JSON."""
        try:
            return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False, default=_scalar)
        except (TypeError, ValueError) as error:
            raise SalusError(
                f"The meta or the events of an episode (seed {self.meta.seed}) cannot be written ({error}); "
                "give text and finite numbers only."
            ) from None

    @classmethod
    def from_json(cls, line: str) -> EpisodeRecord:
        """The record of one line."""
        raw = json.loads(line)
        meta = {f.name: raw["meta"][f.name] for f in fields(EpisodeMeta) if f.name in raw["meta"]}
        meta["outcome"] = Outcome(meta["outcome"])
        meta["joint_names"] = tuple(meta["joint_names"])
        return cls(
            meta=EpisodeMeta(**meta),
            events=tuple(event_from_json(e) for e in raw["events"]),
            reasons=tuple(raw["reasons"]),
            point_frame_id=raw["point_frame_id"],
            digests=raw["digests"],
        )


def read_records(path: Path) -> list[EpisodeRecord]:
    """The records of all whole episodes; the torn last line of an interrupted writer is none.

    Raises:
        SalusError: the file is missing, or a line of it is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SalusError(
            f"{path} cannot be read ({error}); without it the store's episodes are unknown: restore it from "
            "a copy, or collect the store again."
        ) from None
    records = []
    for number, line in enumerate(text.split("\n")[:-1]):
        try:
            records.append(EpisodeRecord.from_json(line))
        except (ValueError, KeyError, TypeError) as error:
            raise SalusError(
                f"Line {number + 1} of {path} is damaged ({error}); restore the file from a copy, or collect "
                "the store again."
            ) from None
    return records


def digest(stream: _Stream) -> str:
    """Hexadecimal digest over names, types, shapes and values of all arrays of a stream."""
    h = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for name, array in sorted(stream.arrays().items()):
        h.update(f"{name}{array.dtype.str}{array.shape}".encode())
        h.update(np.ascontiguousarray(array).data)
    return h.hexdigest()


def events_to_json(events: tuple[EpisodeEvent, ...]) -> str:
    """All that is known of them, as text."""
    return json.dumps([asdict(event) for event in events], separators=(",", ":"), default=_scalar)


def event_from_json(raw: Mapping[str, Any]) -> EpisodeEvent:
    """The event of a JSON object with its fields."""
    failure = raw["failure"]
    others = {name: value for name, value in raw.items() if name not in ("kind", "failure")}
    return EpisodeEvent(
        kind=EventKind(raw["kind"]), failure=None if failure is None else FailureType(failure), **others
    )


def _scalar(value: Any) -> Any:
    """Numpy's scalars as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in an episode's meta or events")
