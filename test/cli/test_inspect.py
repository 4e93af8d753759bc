"""``salus inspect`` says what lies there, and what is wrong with it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import zarr

from salus_ros.cli.main import main
from salus_ros.data.bag_writer import BagWriter
from salus_ros.data.store import Store
from salus_ros.monitor.monitor import Monitor

make_episode: Any = runpy.run_path(str(Path(__file__).parents[1] / "data" / "conftest.py"))["make_episode"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "s") as opened:
        for seed in range(3):
            opened.append(make_episode(seed))
    return tmp_path / "s"


def inspect(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["inspect", str(path)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_store_is_told_in_figures(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # as in a pipe: no name may be cut short
    _, printed = inspect(store, capsys)
    assert "3 of 3 episodes" in printed
    assert "0-2" in printed, "seeds"
    assert "nudge" in printed and "collision" in printed and "disturbance" in printed
    assert "100.0 Hz" in printed and "frames/front" in printed
    assert "No joint efforts (seeds or numbers 0-2)" in printed


def test_damage_is_named_and_ends_in_code_2(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "robot" / "joint_position_rad" / "c" / "0" / "0").unlink()
    code, printed = inspect(store, capsys)
    assert code == 2
    assert "Stream robot of episode 2" in printed and "damaged or missing" in printed


def test_a_seed_stored_twice_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(store, write=True) as opened:
        opened.append(make_episode(1))
    code, printed = inspect(store, capsys)
    assert code == 2 and "stored more than once: 1." in printed


def test_the_first_salus_data_and_predictor_are_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zarr.create_group(str(tmp_path / "old.zarr"), zarr_format=2)
    (tmp_path / "best_f1.pth").write_bytes(b"\x80\x02}q\x00.")
    code, printed = inspect(tmp_path / "old.zarr", capsys)
    assert code == 2 and "first SALUS" in printed and "salus collect" in printed
    code, printed = inspect(tmp_path / "best_f1.pth", capsys)
    assert code == 2 and "last 16 steps" in printed and "salus train-monitor" in printed


def test_a_bag_without_messages_that_matter_and_unknown_things_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BagWriter(tmp_path / "bag").close()
    code, printed = inspect(tmp_path / "bag", capsys)
    assert code == 2 and "none that SALUS reads" in printed
    (tmp_path / "notes.txt").touch()
    code, printed = inspect(tmp_path / "notes.txt", capsys)
    assert code == 2 and "nothing that SALUS knows" in printed
    code, printed = inspect(tmp_path / "absent", capsys)
    assert code == 2 and "There is no" in printed


def test_a_monitor_is_told_in_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    code, printed = inspect(Path("models/monitor"), capsys)
    monitor = Monitor.load("models/monitor").checkpoint
    assert code == 0
    assert f"{len(monitor.members)} members" in printed and monitor.data_hash in printed
    assert all(word in printed for word in ("COLLISION", "DROP", "MISS", *monitor.policy_hashes))
    assert len(printed.splitlines()) < 20, printed
