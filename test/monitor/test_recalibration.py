"""Thresholds from one's own successes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_episodes import Recipe, make_episode, make_sample

from salus_ros.cli.main import main
from salus_ros.data.episode import Outcome
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.monitor.checkpoint import FILE_NAME, Checkpoint
from salus_ros.monitor.dataset import Sample, data_hash
from salus_ros.monitor.recalibration import recalibrate
from salus_ros.monitor.scoring import judgements
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import SignalSet
from salus_ros.monitor.splits import Split, split_of
from salus_ros.monitor.training import train
from salus_ros.monitor.training_settings import TrainingSettings

NAMES = SignalSet().names


def successes(first: int, count: int) -> list[Sample]:
    found = (make_sample(seed, NAMES, length_s=3.0) for seed in range(first, first + 10 * count))
    return [s for s in found if s.success][:count]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    settings = TrainingSettings(predictor="successes", alpha=0.2, novelty_alpha=0.2)
    samples = [make_sample(seed, NAMES, length_s=3.0) for seed in range(80)]
    return train(samples, settings, MonitorSettings(), progress=False)


def test_a_further_success_is_alarmed_in_about_as_often_as_promised(checkpoint: Checkpoint) -> None:
    found = recalibrate(checkpoint, successes(1000, 39), 0.1)
    fresh = successes(5000, 100)
    alarmed = sum(any(p.alarm for p in judgements(found.checkpoint, s)) for s in fresh)
    assert 1 <= alarmed <= 22, f"{alarmed} of 100 where 10 were promised"
    assert found.checkpoint.alpha == 0.1
    np.testing.assert_array_equal(found.checkpoint.members[0]["mean"], checkpoint.members[0]["mean"])


def test_too_few_episodes_are_refused_and_the_number_needed_is_said(checkpoint: Checkpoint) -> None:
    with pytest.raises(SalusError, match=r"18 successful episodes .* needs 19"):
        recalibrate(checkpoint, successes(0, 18), 0.05)


def test_the_verb_reads_a_store_and_leaves_the_monitor_it_was_given_as_it_was(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path / "monitor" / FILE_NAME)
    before = (tmp_path / "monitor" / FILE_NAME).read_bytes()
    recipe = Recipe(length_s=1.2, points=4, robot_period_s=0.05)
    with Store.create(tmp_path / "store") as store:
        for seed in range(9):
            store.append(make_episode(seed, recipe))
    arguments = ["calibrate", str(tmp_path / "store"), "--monitor", str(tmp_path / "monitor"), "--jobs", "1"]
    arguments += ["--output", str(tmp_path / "own"), "--quiet"]
    assert main([*arguments, "--alpha", "0.05"]) == 2
    assert "needs 19 or more" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()
    assert main([*arguments, "--alpha", "0.4"]) == 0
    said = capsys.readouterr().out
    assert "are no successes and were left out" in said
    assert (tmp_path / "monitor" / FILE_NAME).read_bytes() == before
    own = Checkpoint.load(tmp_path / "own")
    assert own.alpha == 0.4
    assert own.report["recalibrated"]["episodes"] >= 2


def test_episodes_that_nobody_marked_count_where_all_are_said_to_be_successful(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path / "monitor" / FILE_NAME)
    with Store.create(tmp_path / "store") as store:
        for seed in range(9):
            episode = make_episode(seed, Recipe(length_s=1.2, points=4, robot_period_s=0.05))
            store.append(replace(episode, meta=replace(episode.meta, outcome=Outcome.UNKNOWN), events=()))
    arguments = ["calibrate", str(tmp_path / "store"), "--monitor", str(tmp_path / "monitor"), "--jobs", "1"]
    arguments += ["--output", str(tmp_path / "own"), "--quiet", "--alpha", "0.4"]
    assert main(arguments) == 2
    assert "0 successful" in capsys.readouterr().err
    assert main([*arguments, "--all-successful"]) == 0
    assert Checkpoint.load(tmp_path / "own").report["recalibrated"]["episodes"] == 9


def test_of_the_episodes_it_was_trained_on_only_those_for_calibration_are_used(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = range(40)
    with Store.create(tmp_path / "store") as store:
        for seed in seeds:
            store.append(make_episode(seed, Recipe(length_s=1.2, points=4, robot_period_s=0.05)))
    known = replace(checkpoint, data_hash=data_hash([tmp_path / "store"]))
    known.save(tmp_path / "monitor" / FILE_NAME)
    arguments = ["calibrate", str(tmp_path / "store"), "--monitor", str(tmp_path / "monitor"), "--jobs", "1"]
    assert main([*arguments, "--output", str(tmp_path / "own"), "--quiet", "--alpha", "0.5"]) == 0
    assert "those kept for its calibration are used" in capsys.readouterr().out
    kept = sum(split_of(seed) is Split.CALIBRATE for seed in seeds)
    assert 1 <= Checkpoint.load(tmp_path / "own").report["recalibrated"]["episodes"] <= kept


@pytest.mark.parametrize("alpha", ["0", "1", "-3"])
def test_a_share_that_is_none_is_refused(alpha: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "nowhere", "--output", "nowhere", "--alpha", alpha]) == 2
    assert "between 0 and 1" in capsys.readouterr().err
