"""The monitor that must not work, made by the command that makes the one that must."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from salus_ros.cli.main import main
from salus_ros.data.store import Store
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
