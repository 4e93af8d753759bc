"""The Zarr arrays of one stream: the rows of all episodes, one after the other."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from salus_ros.data.episode import POINT_RESOLUTION_M, _Stream
from salus_ros.data.shards import ShardedRows
from salus_ros.errors import SalusError

CHUNK_BYTES: Final = 8 * 1024
"""Uncompressed size of what is read at once: some seconds of most arrays, so that a window costs little."""
CHUNKS_PER_SHARD: Final = 256
"""Chunks in a file: about two megabytes, so that a dataset is some hundred files and an append rewrites
little."""
ROWS_END: Final = "episode_end"
FLAT_ROWS_END: Final = "episode_flat_end"
"""Like ``episode_end``, for the flat array of a ragged stream (points, bytes of images)."""

S = TypeVar("S", bound=_Stream)


class StreamArrays(Generic[S]):
    """Reads and writes whole episodes of one stream, and reads parts of them, in the folder of its group."""

    def __init__(self, folder: Path, stream: type[S]) -> None:
        self._stream = stream
        attributes = json.loads((folder / "zarr.json").read_bytes())["attributes"]
        self._empty: dict[str, list[int]] = attributes["without_values"]
        ends = (ROWS_END, FLAT_ROWS_END) if stream.flat else (ROWS_END,)
        stored = [f.name for f in fields(stream) if f.name not in self._empty]
        self._arrays = {name: ShardedRows(folder / name) for name in (*stored, *ends)}
        self._resolution = {name: rows.attributes.get("resolution_m") for name, rows in self._arrays.items()}
        self._ends: dict[str, NDArray[np.int64]] = {}

    @classmethod
    def create(cls, root: Any, name: str, first: S, episode: int) -> StreamArrays[S]:
        """Empty arrays in the shapes of a stream that has rows; the episodes before this one had none.

        Args:
            root: the store's group.
            name: of the stream; what an interrupted write left there is replaced.
            first: its shapes are those of all episodes.
            episode: number of episodes before.
        """
        group = root.create_group(name, overwrite=True)
        without_values: dict[str, list[int]] = {}
        for field, value in first.arrays().items():
            trailing = value.shape[1:]
            if 0 in trailing:
                without_values[field] = list(trailing)
            elif field == "points_m":
                _create_array(group, field, trailing, np.dtype(np.int16), resolution_m=POINT_RESOLUTION_M)
            else:
                _create_array(group, field, trailing, value.dtype)
        group.attrs["without_values"] = without_values
        created = (ROWS_END, FLAT_ROWS_END) if first.flat else (ROWS_END,)
        for end in created:
            _create_array(group, end, (), np.dtype(np.int64))
        arrays = cls(Path(str(group.store.root), group.path), type(first))
        for end in created:
            arrays._arrays[end].write(0, np.zeros(episode, np.int64))
        return arrays

    def read(self, episode: int) -> S:
        """The rows of one episode."""
        rows = slice(self._end(ROWS_END, episode - 1), self._end(ROWS_END, episode))
        if not self._stream.flat:
            return self._rows(rows, rows)
        flat = slice(self._end(FLAT_ROWS_END, episode - 1), self._end(FLAT_ROWS_END, episode))
        return self._rows(rows, flat)

    def read_window(self, episode: int, start_s: float, stop_s: float) -> S:
        """The rows of one episode with ``start_s <= stamp_s < stop_s``."""
        first, end = self._end(ROWS_END, episode - 1), self._end(ROWS_END, episode)
        stamps = self._arrays["stamp_s"].read(first, end)
        begin, stop = (first + int(i) for i in np.searchsorted(stamps, (start_s, stop_s)))
        rows = slice(begin, stop)
        if not self._stream.flat:
            return self._rows(rows, rows)
        counts = self._arrays["count"].read(first, stop)
        offset = self._end(FLAT_ROWS_END, episode - 1) + int(counts[: begin - first].sum())
        return self._rows(rows, slice(offset, offset + int(counts[begin - first :].sum())))

    def write(self, episode: int, stream: S | None, where: str) -> None:
        """Writes the rows of one episode behind those of the ones before; ``None`` for no rows.

        Args:
            episode: its index; arrays may hold rows of an interrupted write from there on.
            stream: what to write.
            where: how to call this stream in errors.

        Raises:
            SalusError: its shapes are not those of the episodes before.
        """
        values = stream.arrays() if stream is not None else {}
        for name, value in values.items():
            stored = tuple(self._empty[name]) if name in self._empty else self._arrays[name].trailing
            if value.shape[1:] != stored:
                raise SalusError(
                    f"{where}/{name} has rows of shape {value.shape[1:]}, and the episodes before have "
                    f"{stored}; write episodes of another policy or robot to a store of their own."
                )
        for key in (ROWS_END, FLAT_ROWS_END) if self._stream.flat else (ROWS_END,):
            start = self._end(key, episode - 1)
            is_flat = key == FLAT_ROWS_END
            length = 0
            for name, value in values.items():
                if (name == self._stream.flat) == is_flat:
                    length = len(value)
                    if name not in self._empty:
                        self._arrays[name].write(start, self._encoded(name, value))
            self._arrays[key].write(episode, np.array([start + length]))
            self._ends[key] = np.append(self._ends[key][:episode], start + length)

    def _rows(self, rows: slice, flat: slice) -> S:
        values: dict[str, NDArray[Any]] = {}
        for f in fields(self._stream):
            if f.name in self._empty:
                values[f.name] = np.empty((rows.stop - rows.start, *self._empty[f.name]), np.float32)
            else:
                taken = flat if f.name == self._stream.flat else rows
                values[f.name] = self._decoded(f.name, self._arrays[f.name].read(taken.start, taken.stop))
        return self._stream(**values)

    def _end(self, key: str, episode: int) -> int:
        """Where the rows of an episode end; 0 for the one before the first."""
        if key not in self._ends:
            self._ends[key] = self._arrays[key].read_all()
        return int(self._ends[key][episode]) if episode >= 0 else 0

    def _encoded(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        resolution = self._resolution[name]
        return value if resolution is None else np.round(value / resolution).astype(np.int16)

    def _decoded(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        resolution = self._resolution[name]
        return value if resolution is None else value.astype(np.float32) * np.float32(resolution)


def _create_array(
    group: Any, name: str, trailing: tuple[int, ...], dtype: np.dtype[Any], **attributes: float
) -> None:
    row_bytes = dtype.itemsize * int(np.prod(trailing, initial=1))
    rows = 2 ** int(np.log2(max(1, CHUNK_BYTES // row_bytes)))
    shuffle = "shuffle" if dtype.itemsize > 1 else "noshuffle"
    # Twice as fast to read as zstd, at 6 % more bytes: half of them are sampled chunks, which are noise.
    compressor = BloscCodec(typesize=dtype.itemsize, cname="lz4hc", clevel=5, shuffle=shuffle)
    group.create_array(
        name,
        shape=(0, *trailing),
        chunks=(rows, *trailing),
        shards=(rows * CHUNKS_PER_SHARD, *trailing),
        dtype=dtype,
        compressors=[compressor, Crc32cCodec()],
        attributes=attributes,
    )
