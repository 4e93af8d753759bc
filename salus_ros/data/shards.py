"""Rows of a sharded Zarr 3 array, read and written straight from its files.

An episode has some sixty arrays, of which a window needs a few kilobytes each. zarr-python plans every
access as asynchronous tasks, which costs a millisecond an array; here it costs what the bytes cost. The files
are as the Zarr 3 specification lays them out (``sharding_indexed``, ``blosc`` and ``crc32c`` codecs), so that
any Zarr reader opens them:

    shard = chunk, chunk, ..., index    index = offset and size of each chunk (little-endian u64), CRC-32C
    chunk = rows as Blosc compressed them, CRC-32C

A damaged or missing chunk raises; it is never read as zeros.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from salus_ros.data.files import replace_file

OPEN_SHARDS: Final = 4
"""Files that an array keeps open; sixty arrays stay well below the usual limit of 1024."""
_ABSENT: Final = 2**64 - 1
_CRC_BYTES: Final = 4
_ENTRY_BYTES: Final = 16

# A chunk is too small to be shared out among threads, and waking them costs more than it takes.
blosc.use_threads = False


class DamagedRowsError(Exception):
    """A file of an array is missing, cut short or not what was written."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """What ``zarr.json`` says about an array."""

    dtype: np.dtype[Any]
    trailing: tuple[int, ...]
    """Shape of a row."""
    chunk_rows: int
    chunks_per_shard: int
    compressor: dict[str, Any]
    """Settings of the Blosc codec."""
    chunk_checksum: bool
    """Whether chunks end in a CRC-32C; without one, chunks of zeros are left out."""

    @property
    def index_bytes(self) -> int:
        return _ENTRY_BYTES * self.chunks_per_shard + _CRC_BYTES


class ShardedRows:
    """The rows of one array that was created by zarr-python; appends at a time one writer only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._metadata: dict[str, Any] = json.loads((folder / "zarr.json").read_bytes())
        self._layout = _layout(self._metadata)
        self._open: OrderedDict[int, _Shard] = OrderedDict()

    @property
    def trailing(self) -> tuple[int, ...]:
        """Shape of a row."""
        return self._layout.trailing

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the array, as they were when it was opened."""
        attributes: dict[str, Any] = self._metadata.get("attributes", {})
        return attributes

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows from ``start`` up to ``stop``, of shape (stop - start, *trailing).

        Raises:
            DamagedRowsError: they cannot be read as they were written.
            OSError: a file is missing.
        """
        layout, rows = self._layout, self._layout.chunk_rows
        if stop <= start:
            return np.empty((0, *layout.trailing), layout.dtype)
        first, last = start // rows, (stop - 1) // rows
        if first == last:
            return self._chunk(first)[start - first * rows : stop - first * rows]
        chunks = [self._chunk(number) for number in range(first, last + 1)]
        chunks[0] = chunks[0][start - first * rows :]
        chunks[-1] = chunks[-1][: stop - last * rows]
        return np.concatenate(chunks)

    def read_all(self) -> NDArray[Any]:
        """All rows that the array had when it was opened or last written."""
        return self.read(0, self._metadata["shape"][0])

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Puts rows behind the first ``start`` ones and ends the array behind them.

        Each file is replaced as a whole, so that readers see the rows before or after, and rows before
        ``start`` are the same in both.
        """
        layout, stop = self._layout, start + len(values)
        rows_per_shard = layout.chunk_rows * layout.chunks_per_shard
        values = np.ascontiguousarray(values, layout.dtype)
        for number in range(start // rows_per_shard, -(-stop // rows_per_shard)):
            begin = max(start, number * rows_per_shard)
            part = values[begin - start : (number + 1) * rows_per_shard - start]
            if len(part):
                self._write_shard(number, begin - number * rows_per_shard, part)
        if self._metadata["shape"][0] != stop:
            self._metadata["shape"][0] = stop
            replace_file(self._folder / "zarr.json", json.dumps(self._metadata, indent=2).encode())

    def close(self) -> None:
        """Closes the files; the next read opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def _chunk(self, number: int) -> NDArray[Any]:
        """(chunk_rows, *trailing)"""
        layout = self._layout
        shard, inside = divmod(number, layout.chunks_per_shard)
        content = self._shard(shard).chunk(inside)
        if content is None:
            if layout.chunk_checksum:
                raise DamagedRowsError(f"chunk {number} of {self._folder} is missing")
            return np.zeros((layout.chunk_rows, *layout.trailing), layout.dtype)
        return self._decode(content, number)

    def _decode(self, content: bytes, number: int) -> NDArray[Any]:
        layout = self._layout
        if layout.chunk_checksum:
            content = _checked(content, f"chunk {number}", self._folder)
        rows = np.empty((layout.chunk_rows, *layout.trailing), layout.dtype)
        try:
            blosc.decompress(content, rows)
        except (RuntimeError, ValueError) as error:
            raise DamagedRowsError(f"chunk {number} of {self._folder} is damaged ({error})") from None
        return rows

    def _encode(self, rows: NDArray[Any]) -> bytes:
        """A chunk; rows that are not there yet are zeros."""
        settings, missing = self._layout.compressor, self._layout.chunk_rows - len(rows)
        whole = np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)]) if missing else rows
        content: bytes = blosc.compress(
            whole,
            settings["cname"].encode(),
            settings["clevel"],
            _SHUFFLES[settings["shuffle"]],
            settings["blocksize"],
            typesize=settings["typesize"],
        )
        return content + _crc(content) if self._layout.chunk_checksum else content

    def _shard(self, number: int) -> _Shard:
        if number in self._open:
            self._open.move_to_end(number)
        else:
            self._open[number] = _Shard(self._path(number), self._layout)
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        return self._open[number]

    def _path(self, number: int) -> Path:
        return self._folder.joinpath("c", str(number), *("0" for _ in self._layout.trailing))

    def _write_shard(self, number: int, start: int, values: NDArray[Any]) -> None:
        """Replaces the rows of a shard from ``start`` (counted inside it) on."""
        rows = self._layout.chunk_rows
        first, kept = divmod(start, rows)
        contents = [self._shard(number).chunk(i) or b"" for i in range(first)] if first else []
        if kept:
            before = self._chunk(number * self._layout.chunks_per_shard + first)[:kept]
            values = np.concatenate([before, values])
        contents += [self._encode(values[i : i + rows]) for i in range(0, len(values), rows)]
        path = self._path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, b"".join([*contents, self._index(contents)]))
        stale = self._open.pop(number, None)
        if stale is not None:
            stale.close()

    def _index(self, contents: list[bytes]) -> bytes:
        entries = np.full((self._layout.chunks_per_shard, 2), _ABSENT, "<u8")
        sizes = [len(content) for content in contents]
        offset = 0
        for i, size in enumerate(sizes):
            if size:
                entries[i] = offset, size
            offset += size
        return entries.tobytes() + _crc(entries.tobytes())


class _Shard:
    """An open file and where its chunks lie."""

    def __init__(self, path: Path, layout: _Layout) -> None:
        self._path = path
        self._file: int | None = None
        self._size = 0
        self._entries: list[list[int]] = []
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if layout.chunk_checksum:
                raise
            return
        try:
            self._size = os.fstat(self._file).st_size
            index = os.pread(self._file, layout.index_bytes, max(0, self._size - layout.index_bytes))
            if len(index) < layout.index_bytes:
                raise DamagedRowsError(f"{path} is cut short")
            self._entries = np.frombuffer(_checked(index, "the index", path), "<u8").reshape(-1, 2).tolist()
        except BaseException:
            self.close()
            raise

    def chunk(self, i: int) -> bytes | None:
        """Its bytes; ``None`` where it was left out."""
        if self._file is None or self._entries[i][0] == _ABSENT:
            return None
        offset, size = self._entries[i]
        # Also of an index that is none, though its checksum is right: a file may be cut behind a chunk.
        if offset + size > self._size:
            raise DamagedRowsError(f"{self._path} is cut short")
        return os.pread(self._file, size, offset)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    __del__ = close


_SHUFFLES: Final = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}


def _layout(metadata: dict[str, Any]) -> _Layout:
    (sharding,) = metadata["codecs"]
    settings = sharding["configuration"]
    codecs = {codec["name"]: codec.get("configuration", {}) for codec in settings["codecs"]}
    rows, *trailing = settings["chunk_shape"]
    return _Layout(
        dtype=np.dtype(metadata["data_type"]).newbyteorder("<"),
        trailing=tuple(trailing),
        chunk_rows=rows,
        chunks_per_shard=metadata["chunk_grid"]["configuration"]["chunk_shape"][0] // rows,
        compressor=codecs["blosc"],
        chunk_checksum="crc32c" in codecs,
    )


def _crc(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(_CRC_BYTES, "little")


def _checked(content: bytes, what: str, where: Path) -> bytes:
    """The content without the checksum behind it."""
    inside = content[:-_CRC_BYTES]
    if _crc(inside) != content[-_CRC_BYTES:]:
        raise DamagedRowsError(f"{what} of {where} is damaged: its checksum is another")
    return inside
