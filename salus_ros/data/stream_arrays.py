"""The Zarr arrays of one stream: the rows of all episodes, one after the other."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from salus_ros.data.episode import POINT_RESOLUTION_M, _Stream
from salus_ros.errors import SalusError

CHUNK_BYTES: Final = 32 * 1024
"""Uncompressed size of what is read at once: about a second of the widest stream."""
CHUNKS_PER_SHARD: Final = 32
"""Chunks in a file: about a megabyte, so that a dataset is a few thousand files and an append
rewrites little."""
ROWS_END: Final = "episode_end"
FLAT_ROWS_END: Final = "episode_flat_end"
"""Like ``episode_end``, for the flat array of a ragged stream (points, bytes of images)."""

S = TypeVar("S", bound=_Stream)


class StreamArrays(Generic[S]):
    """Reads and writes whole episodes of one stream in a Zarr group."""

    def __init__(self, group: Any, stream: type[S]) -> None:
        self._stream = stream
        self._arrays: dict[str, Any] = dict(group.arrays())
        self._empty: dict[str, list[int]] = group.attrs["without_values"]
        self._ends: dict[str, NDArray[np.int64]] = {}

    @classmethod
    def create(cls, group: Any, first: S, episode: int) -> StreamArrays[S]:
        """Empty arrays in the shapes of a stream that has rows; the episodes before this one had none."""
        without_values: dict[str, list[int]] = {}
        for name, value in first.arrays().items():
            trailing = value.shape[1:]
            if 0 in trailing:
                without_values[name] = list(trailing)
            elif name == "points_m":
                _create_array(group, name, trailing, np.dtype(np.int16))
                group[name].attrs["resolution_m"] = POINT_RESOLUTION_M
            else:
                _create_array(group, name, trailing, value.dtype)
        group.attrs["without_values"] = without_values
        for name in (ROWS_END, FLAT_ROWS_END) if first.flat else (ROWS_END,):
            _create_array(group, name, (), np.dtype(np.int64))
            group[name].resize((episode,))
        return cls(group, type(first))

    def read(self, episode: int) -> S:
        """The rows of one episode."""
        rows = self._range(ROWS_END, episode)
        values: dict[str, NDArray[Any]] = {}
        for f in fields(self._stream):
            if f.name in self._empty:
                values[f.name] = np.empty((rows.stop - rows.start, *self._empty[f.name]), np.float32)
            else:
                taken = self._range(FLAT_ROWS_END, episode) if f.name == self._stream.flat else rows
                values[f.name] = _decoded(self._arrays[f.name], self._arrays[f.name][taken])
        return self._stream(**values)

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
            stored = tuple(self._empty[name] if name in self._empty else self._arrays[name].shape[1:])
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
                        _put(self._arrays[name], start, _encoded(self._arrays[name], value))
            _put(self._arrays[key], episode, np.array([start + length]))
            self._ends.pop(key, None)

    def _range(self, key: str, episode: int) -> slice:
        return slice(self._end(key, episode - 1), self._end(key, episode))

    def _end(self, key: str, episode: int) -> int:
        """Where the rows of an episode end; 0 for the one before the first."""
        if key not in self._ends:
            self._ends[key] = np.asarray(self._arrays[key][:], np.int64)
        return int(self._ends[key][episode]) if episode >= 0 else 0


def _create_array(group: Any, name: str, trailing: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    row_bytes = dtype.itemsize * int(np.prod(trailing, initial=1))
    rows = 2 ** int(np.log2(max(1, CHUNK_BYTES // row_bytes)))
    shuffle = "shuffle" if dtype.itemsize > 1 else "noshuffle"
    group.create_array(
        name,
        shape=(0, *trailing),
        chunks=(rows, *trailing),
        shards=(rows * CHUNKS_PER_SHARD, *trailing),
        dtype=dtype,
        compressors=[BloscCodec(cname="zstd", clevel=5, shuffle=shuffle)],
        config={"write_empty_chunks": True},
    )


def _put(array: Any, start: int, rows: NDArray[Any]) -> None:
    """Writes rows from ``start`` on and ends the array behind them."""
    end = start + len(rows)
    if array.shape[0] != end:
        array.resize((end, *array.shape[1:]))
    if len(rows):
        array[start:end] = rows


def _encoded(array: Any, value: NDArray[Any]) -> NDArray[Any]:
    resolution = array.attrs.get("resolution_m")
    return value if resolution is None else np.round(value / resolution).astype(np.int16)


def _decoded(array: Any, value: NDArray[Any]) -> NDArray[Any]:
    resolution = array.attrs.get("resolution_m")
    return value if resolution is None else value.astype(np.float32) * np.float32(resolution)
