"""The monitor that must not work, made by the command that makes the one that must."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from salus_ros.cli.datasets import foreign_policies
from salus_ros.cli.main import main
from salus_ros.data.store import Store, StoreSettings
from salus_ros.monitor.checkpoint import Checkpoint


@pytest.fixture(name="data", scope="module")
def fixture_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "monitor"))
    from made_up_episodes import Recipe, make_episode  # type: ignore[import-not-found]

    path: Path = tmp_path_factory.mktemp("data") / "store"
    with Store.create(path) as store:
        for seed in range(100):
            store.append(make_episode(seed, Recipe(length_s=1.0, points=4, robot_period_s=0.1)))
    return path


def test_shuffled_labels_make_a_monitor_that_says_so_and_no_entry_in_the_ledger(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--epochs", "1", "--members", "1", "--alpha", "0.3", "--jobs", "1", "--quiet"]
    output, ledger = tmp_path / "shuffled", tmp_path / "ledger.md"
    command = ["train-monitor", str(data), "--shuffle-labels", *quick, "--ledger", str(ledger)]
    assert main([*command, "--output", str(output)]) == 0
    assert Checkpoint.load(output).report["shuffled_labels"] is True
    assert "must not work" in capsys.readouterr().out
    assert not ledger.exists()


@pytest.mark.parametrize("verb", ["train-monitor", "evaluate"])
def test_a_store_of_another_robot_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    joints = tuple(f"shoulder{i}" for i in range(7))  # as many as ours, so that only their names tell
    Store.create(tmp_path / "data", StoreSettings(robot="other_arm", joint_names=joints)).close()
    written = [tmp_path / "out", tmp_path / "ledger.md"]
    where = ["--output", str(written[0]), "--ledger", str(written[1])]
    assert main([verb, str(tmp_path / "data"), *where]) == 2
    assert "holds episodes of other_arm with the joints shoulder0" in capsys.readouterr().err
    assert not any(path.exists() for path in written)


def test_policies_that_a_monitor_does_not_know_are_named(tmp_path: Path) -> None:
    for name in ("known", "other"):
        Store.create(tmp_path / name, StoreSettings(policy_hash=name)).close()
    Store.create(tmp_path / "any").close()
    stores = [tmp_path / "known", tmp_path / "other", tmp_path / "any"]
    assert foreign_policies(stores, ["known"]) == ["other"]
