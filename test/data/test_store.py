"""A store gives back what was written, survives a crash, and says what is wrong with it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from salus_ros.data import files, shards
from salus_ros.data import store as store_module
from salus_ros.data.episode import STREAMS, Episode, EpisodeMeta
from salus_ros.data.records import digest
from salus_ros.data.store import Store, StoreSettings
from salus_ros.errors import SalusError

Make = Callable[..., Episode]


def assert_same(one: Episode, other: Episode) -> None:
    assert one.meta == other.meta
    assert one.events == other.events
    assert one.reasons == other.reasons
    assert one.point_frame_id == other.point_frame_id
    for (name, a), (_, b) in zip(one.streams().items(), other.streams().items(), strict=True):
        for (field, x), y in zip(a.arrays().items(), b.arrays().values(), strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"{name}/{field}")
            assert x.dtype == y.dtype, f"{name}/{field}"


def test_episodes_come_back_exactly(tmp_path: Path, make_episode: Make) -> None:
    episodes = [make_episode(seed, duration_s=0.5 + 0.4 * seed) for seed in range(3)]
    with Store.create(tmp_path / "s") as store:
        for episode in episodes:
            store.append(episode)
    store = Store.open(tmp_path / "s")
    assert len(store) == 3
    assert [meta.seed for meta in store.metas()] == [0, 1, 2]
    for written, read in zip(episodes, store, strict=True):
        assert_same(written, read)


def test_streams_may_be_missing_from_any_episode(tmp_path: Path, make_episode: Make) -> None:
    whole = make_episode(1)
    bare = make_episode(0, frames=False)
    bare = replace(
        bare, predictions=type(bare.predictions)(*(a[:0] for a in bare.predictions.arrays().values()))
    )
    with Store.create(tmp_path / "s") as store:
        for episode in (bare, whole, bare):
            store.append(episode)
    store = Store.open(tmp_path / "s")
    assert [len(e.predictions) > 0 for e in store] == [False, True, False]
    assert [list(e.frames) for e in store] == [[], ["front"], []]
    assert_same(store.episode(1), whole)


def test_arrays_without_values_keep_their_rows(tmp_path: Path, make_episode: Make) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode(latent=0))
        assert store.episode(0).policy.latent.shape == (5, 0)


def test_only_the_streams_asked_for_are_read(tmp_path: Path, make_episode: Make) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode())
        episode = store.episode(0, streams=["robot"])
    assert len(episode.robot) and not len(episode.policy) and not episode.frames


def test_any_zarr_reader_can_open_it(tmp_path: Path, make_episode: Make) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode(0))
        store.append(make_episode(1))
    root = zarr.open_group(str(tmp_path / "s"), mode="r")
    assert root["robot/episode_end"][:].tolist() == [100, 200]
    assert root["robot/joint_position_rad"].shards is not None
    for name, stream in Store.open(tmp_path / "s").episode(1).streams().items():
        for field, values in stream.arrays().items():
            if field == stream.flat:
                continue
            rows = root[f"{name}/{field}"][-len(values) :]
            np.testing.assert_array_equal(rows, values, err_msg=f"{name}/{field}")


@pytest.mark.parametrize("start_s", [-0.5, 0.0, 0.37, 2.6, 5.0])
def test_a_window_holds_the_rows_of_its_time(tmp_path: Path, make_episode: Make, start_s: float) -> None:
    with Store.create(tmp_path / "s") as store:
        for seed in range(3):
            store.append(make_episode(seed, duration_s=3.0))
        window = store.window(1, start_s, 0.9, streams=["frames", *STREAMS])
    whole = make_episode(1, duration_s=3.0)
    assert window.meta == whole.meta and window.events == whole.events
    for name, stream in whole.streams().items():
        inside = (stream.stamp_s >= start_s) & (stream.stamp_s < start_s + 0.9)
        row_of = np.repeat(inside, stream.count) if stream.flat else inside  # type: ignore[attr-defined]
        for field, values in stream.arrays().items():
            expected = values[row_of if field == stream.flat else inside]
            found = window.streams()[name].arrays()[field]
            np.testing.assert_array_equal(found, expected, err_msg=f"{name}/{field}")


def test_a_damaged_chunk_is_told_by_a_window_as_well(tmp_path: Path, make_episode: Make) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode())
    chunk = tmp_path / "s" / "robot" / "joint_position_rad" / "c" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[700] ^= 1
    chunk.write_bytes(content)
    store = Store.open(tmp_path / "s")
    with pytest.raises(SalusError, match=r"Stream robot of episode 0.*checksum is another"):
        store.window(0, 0.0)
    assert len(store.window(0, 0.0, streams=["policy"]).policy) == 5


def test_an_episode_of_another_policy_or_robot_is_refused(tmp_path: Path, make_episode: Make) -> None:
    settings = StoreSettings(policy_hash="0123456789abcdef", robot="salus_arm")
    with Store.create(tmp_path / "s", settings) as store:
        with pytest.raises(SalusError, match=r"policy 'fedc'.*holds '0123456789abcdef'"):
            store.append(make_episode(policy_hash="fedc"))
        with pytest.raises(SalusError, match="robot 'ur5'"):
            store.append(
                replace(make_episode(), meta=EpisodeMeta(policy_hash="0123456789abcdef", robot="ur5"))
            )
        store.append(make_episode())
        assert len(store) == 1


def test_an_episode_of_another_shape_is_refused_and_leaves_the_store_as_it_was(
    tmp_path: Path, make_episode: Make
) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode(0))
        with pytest.raises(SalusError, match=r"policy/latent.*\(9,\).*\(8,\)"):
            store.append(make_episode(1, latent=9))
        store.append(make_episode(2))
    store = Store.open(tmp_path / "s")
    assert [meta.seed for meta in store.metas()] == [0, 2]
    assert_same(store.episode(1), make_episode(2))


def test_create_never_overwrites(tmp_path: Path, make_episode: Make) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode())
    with pytest.raises(SalusError, match="exists already"):
        Store.create(tmp_path / "s")
    assert len(Store.open(tmp_path / "s")) == 1


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    with Store.create(tmp_path / "s"), pytest.raises(SalusError, match="Another process is writing"):
        Store.open(tmp_path / "s", write=True)
    Store.open(tmp_path / "s", write=True).close()


def test_appending_to_a_store_open_for_reading_is_refused(tmp_path: Path, make_episode: Make) -> None:
    Store.create(tmp_path / "s").close()
    with pytest.raises(SalusError, match="opened for reading"):
        Store.open(tmp_path / "s").append(make_episode())


WRITER = """
import runpy, sys
make_episode = runpy.run_path(sys.argv[1])["make_episode"]
from salus_ros.data.store import Store
store = Store.open(sys.argv[2], write=True)
print("ready", flush=True)
for seed in range(len(store), 1000):
    store.append(make_episode(seed))
"""


def test_a_writer_killed_at_any_moment_leaves_whole_episodes_and_can_go_on(
    tmp_path: Path, make_episode: Make
) -> None:
    path = tmp_path / "s"
    Store.create(path).close()
    lengths = [0]
    for delay_s in (0.15, 0.33, 0.6):
        conftest = Path(__file__).with_name("conftest.py")
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(conftest), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 30
        # The moment of the kill has to vary; that something was written first has to be certain.
        while len((path / "episodes.jsonl").read_bytes().splitlines()) <= lengths[-1]:
            assert time.monotonic() < deadline, "the writer wrote nothing"
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        store = Store.open(path)
        assert [meta.seed for meta in store.metas()] == list(range(len(store))), "none lost, none doubled"
        for seed in {0, lengths[-1], len(store) - 1}:
            assert_same(store.episode(seed), make_episode(seed))
        lengths.append(len(store))
    assert lengths == sorted(set(lengths)), "each run added episodes"


def test_half_a_line_and_rows_without_one_are_ignored_and_overwritten(
    tmp_path: Path, make_episode: Make
) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode(0))
        store.append(make_episode(1, duration_s=2.0))
    records = tmp_path / "s" / "episodes.jsonl"
    first, second = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(first + second[:40])
    (tmp_path / "s" / "robot" / "zarr.1234.partial").touch()
    assert len(Store.open(tmp_path / "s")) == 1
    with Store.open(tmp_path / "s", write=True) as store:
        store.append(make_episode(2))
    store = Store.open(tmp_path / "s")
    assert [meta.seed for meta in store.metas()] == [0, 2]
    assert_same(store.episode(1), make_episode(2))
    assert not list((tmp_path / "s").rglob("*.partial"))


def test_what_the_first_episode_left_half_written_does_not_bind_the_next(
    tmp_path: Path, make_episode: Make
) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode(0, latent=9))
    (tmp_path / "s" / "episodes.jsonl").write_bytes(b"")
    with Store.open(tmp_path / "s", write=True) as store:
        store.append(make_episode(0))
        assert_same(store.episode(0), make_episode(0))


@pytest.mark.parametrize("after_writes", [0, 7, 60])
def test_a_disk_that_fills_up_is_one_sentence_and_loses_no_whole_episode(
    tmp_path: Path, make_episode: Make, monkeypatch: pytest.MonkeyPatch, after_writes: int
) -> None:
    real, left = shards.replace_file, after_writes

    def replace_file(path: Path, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    with Store.create(tmp_path / "s") as store:
        store.append(make_episode(0))
        with monkeypatch.context() as patch:
            patch.setattr(shards, "replace_file", replace_file)
            with pytest.raises(SalusError, match=r"No space left on device \(\d+ MiB free\).*make room"):
                store.append(make_episode(1))
        assert len(Store.open(tmp_path / "s")) == 1
        store.append(make_episode(2))
    store = Store.open(tmp_path / "s")
    assert_same(store.episode(0), make_episode(0))
    assert_same(store.episode(1), make_episode(2))


FULL = """
import runpy, sys
make_episode = runpy.run_path(sys.argv[1])["make_episode"]
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
with Store.create(sys.argv[2]) as store:
    try:
        for seed in range(100):
            store.append(make_episode(seed, 1.0))
    except SalusError as error:
        print(error)
store = Store.open(sys.argv[2])
print(len(store), [meta.seed for meta in store.metas()] == list(range(len(store))))
assert store.episode(len(store) - 1).meta.seed == len(store) - 1
"""


def test_a_really_full_disk_leaves_whole_episodes(tmp_path: Path) -> None:
    """On a file system of 2 MB, mounted in a name space of its own."""
    mount = f'mount -t tmpfs -o size=2m tmpfs {tmp_path} && exec "$@"'
    isolated = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system in a name space of its own")
    conftest = Path(__file__).with_name("conftest.py")
    command = [*isolated, sys.executable, "-c", FULL, str(conftest), str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sentence, found = done.stdout.strip().splitlines()
    assert "No space left on device (0 MiB free)" in sentence and "make room" in sentence
    count, in_order = found.split()
    assert int(count) > 3 and in_order == "True"


def die_at(moment: int, path: Path, episode: Episode) -> bool:
    """Appends in a process that dies at a moment between two writes; whether there was such a moment."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    def reach() -> None:
        nonlocal moment
        moment -= 1
        if moment < 0:
            os._exit(9)

    def replace_file(place: Path, content: bytes) -> None:
        place.with_name(place.name + files.PARTIAL).write_bytes(content)
        reach()
        place.with_name(place.name + files.PARTIAL).replace(place)
        reach()

    def append_line(place: Path, line: str) -> None:
        with place.open("a") as file:
            file.write(line[:20])
            file.flush()
            reach()
            file.write(line[20:] + "\n")

    shards.replace_file, store_module.append_line = replace_file, append_line  # type: ignore[assignment]
    with Store.open(path, write=True) as store:
        store.append(episode)
    os._exit(0)


def test_a_writer_that_dies_between_any_two_writes_leaves_the_episodes_before(
    tmp_path: Path, make_episode: Make
) -> None:
    episodes = [make_episode(seed, duration_s=0.3) for seed in range(2)]
    with Store.create(tmp_path / "first") as store:
        store.append(episodes[0])
    for moment in itertools.count(0, 29):
        path = tmp_path / str(moment)
        shutil.copytree(tmp_path / "first", path)
        if not die_at(moment, path, episodes[1]):
            break
        assert [meta.seed for meta in Store.open(path).metas()] == [0], f"after death at moment {moment}"
        with Store.open(path, write=True) as store:
            store.append(episodes[1])
        store = Store.open(path)
        for seed, episode in enumerate(episodes):
            assert_same(store.episode(seed), episode)
    assert moment > 150, "an append consists of many writes"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SalusError, match=r"file/s could not be written: Not a directory"):
        Store.create(tmp_path / "file" / "s")


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip"])
def test_a_damaged_chunk_is_named_and_never_read_as_zeros(
    tmp_path: Path, make_episode: Make, damage: str
) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode())
    chunk = tmp_path / "s" / "robot" / "joint_position_rad" / "c" / "0" / "0"
    content = chunk.read_bytes()
    if damage == "truncate":
        chunk.write_bytes(content[: len(content) // 2])
    elif damage == "remove":
        chunk.unlink()
    else:
        chunk.write_bytes(content[:500] + bytes(255 - b for b in content[500:600]) + content[600:])
    store = Store.open(tmp_path / "s")
    with pytest.raises(SalusError, match=r"(?s)Stream robot of episode 0.*damaged or missing"):
        store.episode(0)
    assert len(store.episode(0, streams=["policy"]).policy) == 5, "what is whole stays readable"


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    Store.create(tmp_path / "s").close()
    attributes = tmp_path / "s" / "zarr.json"
    raw = json.loads(attributes.read_text())
    raw["attributes"]["salus_schema"] = 99
    attributes.write_text(json.dumps(raw))
    with pytest.raises(SalusError, match="schema version 99, and this version of SALUS reads 1"):
        Store.open(tmp_path / "s")


@pytest.mark.parametrize("content", ["", "{}", '{"attributes": {}}', "[1]"])
def test_what_is_no_store_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(SalusError, match="no SALUS store"):
        Store.open(tmp_path)


def test_the_first_salus_layout_is_refused_with_the_reason(tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "old"), zarr_format=2)
    with pytest.raises(SalusError, match=r"Zarr 2 store.*first SALUS.*salus collect"):
        Store.open(tmp_path / "old")


def test_a_missing_store_and_a_missing_episode_are_named(tmp_path: Path) -> None:
    with pytest.raises(SalusError, match="is no folder"):
        Store.open(tmp_path / "nothing")
    with (
        Store.create(tmp_path / "s") as store,
        pytest.raises(SalusError, match=r"Episode 0 was asked for.*holds 0"),
    ):
        store.episode(0)


def test_a_damaged_line_is_named(tmp_path: Path, make_episode: Make) -> None:
    with Store.create(tmp_path / "s") as store:
        store.append(make_episode())
    records = tmp_path / "s" / "episodes.jsonl"
    records.write_bytes(b"{}\n" + records.read_bytes())
    with pytest.raises(SalusError, match=r"Line 1 of .*episodes.jsonl is damaged"):
        Store.open(tmp_path / "s")


def test_a_digest_tells_the_same_arrays_from_others(make_episode: Make) -> None:
    assert digest(make_episode(1).robot) == digest(make_episode(1).robot)
    assert digest(make_episode(1).robot) != digest(make_episode(2).robot)
