"""Episodes in a Zarr 3 store that a crash cannot spoil.

    store/zarr.json            attributes: schema, settings (policy, robot, mixture, ...)
    store/robot/stamp_s        one array a field, the rows of all episodes one after the other, sharded
    store/robot/episode_end    where each episode's rows end
    store/frames/front/...     one group a camera; ``encoded`` holds the bytes of all image files
    store/episodes.jsonl       one line an episode: meta, events, digests; written last
    store/marks.json           events that an operator marked afterwards, see ``marks.py``

An episode exists once its line stands in ``episodes.jsonl``. Rows without a line are what a crash left
behind; readers never look at them and the next episode overwrites them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import zarr
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salus_ros.data.episode import STREAMS, Episode, EpisodeMeta, FrameStream, Outcome, _Stream
from salus_ros.data.files import PARTIAL, append_line, drop_half_line, lock_for_writing, reading, writing
from salus_ros.data.marks import outcome_of, read_marks
from salus_ros.data.recorder import build_stream
from salus_ros.data.records import EpisodeRecord, digest, read_records
from salus_ros.data.stream_arrays import StreamArrays
from salus_ros.errors import SalusError
from salus_ros.types import EpisodeEvent

SCHEMA: Final = 1
"""Version of this layout. A store of another one is refused, never converted in place."""
RECORDS: Final = "episodes.jsonl"
FRAMES: Final = "frames/"
_EMPTY: Final = {name: build_stream(stream, {}) for name, stream in STREAMS.items()}


class StoreSettings(BaseModel):
    """What all episodes of a store have in common; a store refuses episodes that differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy_hash: str = Field(default="", description="Policy that acted; empty for any.")
    robot: str = Field(default="", description="Name of the arm's description; empty for any.")
    joint_names: tuple[str, ...] = Field(default=(), description="Arm joints, in the order of all arrays.")
    mixture: str = Field(
        default="", description="What the episodes were drawn from: tasks, disturbances, shares."
    )
    code_version: str = Field(default="", description="Version of salus_ros that created the store.")


class Store:
    """Reads episodes, and appends to them when opened with ``write=True``.

    One process at a time may write; any number may read meanwhile, and see the episodes that were
    whole when they opened it.
    """

    def __init__(self, path: Path, settings: StoreSettings, lock: int | None) -> None:
        self.path = path
        self.settings = settings
        self._lock = lock
        marks = read_marks(path)
        records = read_records(path / RECORDS)
        self._records = [_with_marks(record, marks.get(i, ())) for i, record in enumerate(records)]
        self._streams: dict[str, StreamArrays[Any]] = {}

    @classmethod
    def create(cls, path: str | Path, settings: StoreSettings | None = None) -> Store:
        """A new, empty store, opened for writing.

        Raises:
            SalusError: something is there already, or the folder cannot be written.
        """
        path, settings = Path(path), settings or StoreSettings()
        with writing(path):
            # An interrupted create leaves an empty list of episodes and nothing else.
            taken = path.exists() and any(f.name != RECORDS or f.stat().st_size for f in path.iterdir())
        if taken:
            raise SalusError(f"{path} exists already; give another folder, or remove it first.")
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            (path / RECORDS).touch()
            attributes = {"salus_schema": SCHEMA, "settings": settings.model_dump(mode="json")}
            zarr.create_group(str(path), zarr_format=3, attributes=attributes)
        return cls.open(path, write=True)

    @classmethod
    def open(cls, path: str | Path, write: bool = False) -> Store:
        """An existing store.

        Raises:
            SalusError: no store, one of another schema, or another process is writing to it.
        """
        path = Path(path)
        settings = read_settings(path)
        lock = lock_for_writing(path) if write else None
        if write:
            with writing(path):
                drop_half_line(path / RECORDS)
                for partial in path.rglob("*" + PARTIAL):
                    partial.unlink()
        return cls(path, settings, lock)

    def close(self) -> None:
        """Lets another process write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(i) for i in range(len(self)))

    def metas(self) -> list[EpisodeMeta]:
        """What each episode was; reads no array."""
        return [record.meta for record in self._records]

    def records(self) -> list[EpisodeRecord]:
        """Meta, events and digests of each episode; reads no array."""
        return list(self._records)

    def episode(self, i: int, streams: Collection[str] | None = None) -> Episode:
        """The i-th episode, checked against its digests.

        Args:
            i: from 0 to ``len(self) - 1``.
            streams: names of the streams to read (``frames`` stands for all cameras, ``frames/front``
                for one); the others come back empty. All by default.

        Raises:
            SalusError: there is none, or its arrays are damaged.
        """
        return self._episode(i, streams, lambda name: self._read(name, i))

    def _episode(self, i: int, streams: Collection[str] | None, read: Callable[[str], _Stream]) -> Episode:
        if not 0 <= i < len(self):
            raise SalusError(f"Episode {i} was asked for; {self.path} holds {len(self)}, counted from 0.")
        record, found = self._records[i], dict[str, Any]()
        for name in record.digests:
            if streams is None or name in streams or name.split("/")[0] in streams:
                with reading(self.path, f"Stream {name} of episode {i}"):
                    found[name] = read(name)
        named: dict[str, Any] = {n: found.get(n, _EMPTY[n]) for n in STREAMS}
        return Episode(
            meta=record.meta,
            events=record.events,
            frames={n.removeprefix(FRAMES): s for n, s in found.items() if n.startswith(FRAMES)},
            reasons=record.reasons,
            point_frame_id=record.point_frame_id,
            **named,
        )

    def window(
        self, i: int, start_s: float, length_s: float = 1.0, streams: Collection[str] | None = None
    ) -> Episode:
        """What was stamped in ``start_s <= stamp < start_s + length_s`` of the i-th episode.

        Made for training and for pages that look at many short moments: it reads only the files' parts that
        it needs, each checked against its own checksum. Meta and events are those of the whole episode.

        Args:
            i: from 0 to ``len(self) - 1``.
            start_s: on the episode's time.
            length_s: of the window.
            streams: as in ``episode``, but by default all except the frames.

        Raises:
            SalusError: there is none, or its arrays are damaged.
        """
        chosen = STREAMS if streams is None else streams
        return self._episode(
            i, chosen, lambda name: self._stream(name).read_window(i, start_s, start_s + length_s)
        )

    def append(self, episode: Episode) -> None:
        """Adds one episode; after any failure the store is as it was.

        Raises:
            SalusError: the store is open for reading only, the episode is of another policy, robot or
                shape, or it could not be written.
        """
        if self._lock is None:
            raise SalusError(f"{self.path} was opened for reading; open it with write=True to append.")
        self._check(episode.meta)
        streams = {name: stream for name, stream in episode.streams().items() if len(stream)}
        digests = {name: digest(stream) for name, stream in streams.items()}
        record = EpisodeRecord(episode.meta, episode.events, episode.reasons, episode.point_frame_id, digests)
        line = record.to_json()
        with writing(self.path):
            for name in sorted({*streams, *self.streams()}):
                self._write(name, streams.get(name))
            append_line(self.path / RECORDS, line)
        self._records.append(record)

    def _check(self, meta: EpisodeMeta) -> None:
        for what, given, expected in (
            ("policy", meta.policy_hash, self.settings.policy_hash),
            ("robot", meta.robot, self.settings.robot),
            ("joints", meta.joint_names, self.settings.joint_names),
        ):
            if expected and given != expected:
                raise SalusError(
                    f"An episode with the {what} {given!r} was given to {self.path}, which holds "
                    f"{expected!r}; write it to a store of its own."
                )

    def streams(self) -> set[str]:
        """Names of the streams of which any episode has rows, e.g. ``robot``, ``frames/front``."""
        return {name for record in self._records for name in record.digests}

    def _stream(self, name: str) -> StreamArrays[Any]:
        if name not in self._streams:
            self._streams[name] = StreamArrays(self.path / name, _stream_type(name))
        return self._streams[name]

    def _read(self, name: str, i: int) -> _Stream:
        stream: _Stream = self._stream(name).read(i)
        if digest(stream) != self._records[i].digests[name]:
            raise SalusError(
                f"Stream {name} of episode {i} in {self.path} is not what was written; files are damaged or "
                "missing: restore them from a copy, or collect the store again."
            )
        return stream

    def _write(self, name: str, stream: _Stream | None) -> None:
        if stream is not None and name not in self.streams():
            # What an interrupted write of the first episode with this stream left has its shapes.
            root = zarr.open_group(str(self.path), mode="r+", zarr_format=3)
            self._streams[name] = StreamArrays.create(root, name, stream, len(self))
        self._stream(name).write(len(self), stream, name)


def read_settings(path: str | Path) -> StoreSettings:
    """The settings of a store, after making sure that it is one.

    Raises:
        SalusError: it is none, or one of another schema.
    """
    path = Path(path)
    if not path.is_dir():
        raise SalusError(f"{path} is no folder; give the folder of a store that `salus collect` wrote.")
    if (path / ".zgroup").exists() or (path / ".zarray").exists():
        raise SalusError(
            f"{path} is a Zarr 2 store, the layout of the first SALUS, which labelled the last steps of each "
            "episode as a failure; it cannot be used: collect episodes again with `salus collect`."
        )
    try:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
        schema = attributes["salus_schema"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SalusError(
            f"{path} is no SALUS store: its zarr.json is missing, damaged or of another program; give the "
            "folder that `salus collect` wrote."
        ) from None
    if schema != SCHEMA:
        raise SalusError(
            f"{path} has the schema version {schema}, and this version of SALUS reads {SCHEMA}; "
            "collect it again, or use the version that wrote it."
        )
    try:
        return StoreSettings.model_validate(attributes["settings"])
    except (ValidationError, KeyError) as error:
        raise SalusError(
            f"The settings in {path / 'zarr.json'} are damaged ({error}); restore the file from a copy."
        ) from None


def _with_marks(record: EpisodeRecord, marks: tuple[EpisodeEvent, ...]) -> EpisodeRecord:
    """The marks among the events; they decide the outcome where nobody else did."""
    if not marks:
        return record
    events = tuple(sorted((*record.events, *marks), key=lambda event: event.stamp_s))
    unknown = record.meta.outcome is Outcome.UNKNOWN
    meta = replace(record.meta, outcome=outcome_of(events)) if unknown else record.meta
    return replace(record, meta=meta, events=events)


def _stream_type(name: str) -> type[_Stream]:
    return FrameStream if name.startswith(FRAMES) else STREAMS[name]
