"""Rows are read and written as zarr-python does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec

from salus_ros.data.shards import DamagedRowsError, ShardedRows


def create(path: Path, dtype: str = "int32", trailing: tuple[int, ...] = (2,), checksum: bool = True) -> Any:
    """An array of 4 rows a chunk and 3 chunks a shard."""
    blosc = BloscCodec(typesize=np.dtype(dtype).itemsize, cname="lz4hc", clevel=5, shuffle="shuffle")
    return zarr.create_array(
        str(path),
        shape=(0, *trailing),
        chunks=(4, *trailing),
        shards=(12, *trailing),
        dtype=dtype,
        compressors=[blosc, Crc32cCodec()] if checksum else [blosc],
        overwrite=True,
    )


def numbered(count: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.arange(2 * count, dtype=np.int32).reshape(count, 2) + 1


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), max_size=5), ends=st.tuples(st.integers(0, 60), st.integers(0, 60))
)
def test_what_is_written_in_pieces_is_what_zarr_reads(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], ends: tuple[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("array")
    create(folder)
    rows, written, expected = ShardedRows(folder), 0, numbered(sum(lengths))
    for length in lengths:
        rows.write(written, expected[written : written + length])
        written += length
    np.testing.assert_array_equal(zarr.open_array(str(folder), mode="r")[:], expected)
    np.testing.assert_array_equal(rows.read_all(), expected)
    start, stop = (min(end, written) for end in sorted(ends))
    np.testing.assert_array_equal(ShardedRows(folder).read(start, stop), expected[start:stop])


def test_what_lies_behind_the_start_is_replaced(tmp_path: Path) -> None:
    create(tmp_path)
    rows = ShardedRows(tmp_path)
    rows.write(0, numbered(30))
    rows.write(6, -numbered(3))
    expected = np.concatenate([numbered(6), -numbered(3)])
    np.testing.assert_array_equal(rows.read_all(), expected)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path), mode="r")[:], expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float32", "float64"])
def test_every_type_of_row_comes_back(tmp_path: Path, dtype: str) -> None:
    create(tmp_path, dtype, ())
    values = (np.arange(17) % 5).astype(dtype)
    rows = ShardedRows(tmp_path)
    rows.write(0, values)
    np.testing.assert_array_equal(rows.read(0, 17), values)
    assert rows.read(3, 5).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path), mode="r")[:], values)


def test_an_array_of_zarr_python_without_checksums_is_read_and_continued(tmp_path: Path) -> None:
    array = create(tmp_path, checksum=False)
    array.resize((10, 2))
    array[4:10] = numbered(6)  # the first chunk is left out, since it holds zeros
    rows = ShardedRows(tmp_path)
    expected = np.concatenate([np.zeros((4, 2), np.int32), numbered(6)])
    np.testing.assert_array_equal(rows.read(0, 10), expected)
    rows.write(10, numbered(9))
    np.testing.assert_array_equal(
        zarr.open_array(str(tmp_path), mode="r")[:], np.concatenate([expected, numbered(9)])
    )


@pytest.mark.parametrize("damage", ["cut", "flip a byte", "flip the index", "remove"])
def test_damage_raises(tmp_path: Path, damage: str) -> None:
    create(tmp_path)
    ShardedRows(tmp_path).write(0, numbered(10))
    shard = tmp_path / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    if damage == "remove":
        shard.unlink()
    else:
        if damage == "cut":
            del content[len(content) // 2 :]
        else:
            content[20 if damage == "flip a byte" else -10] ^= 1
        shard.write_bytes(content)
    with pytest.raises((DamagedRowsError, FileNotFoundError)):
        ShardedRows(tmp_path).read(0, 10)
