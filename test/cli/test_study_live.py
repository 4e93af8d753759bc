"""What is run on the graph and what is kept; the graph itself is started in test/integration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from salus_ros.cli import study_live
from salus_ros.cli.study_live import run_live
from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.evaluation.arms import Setup
from salus_ros.mixture import Mixture

SETUP = Setup(policy="p", monitor="m", mixture=Mixture())
Trial = tuple[int, str]


@pytest.fixture(name="sessions")
def fixture_sessions(monkeypatch: pytest.MonkeyPatch) -> list[list[Trial]]:
    """The trials of each session; episodes are made without a graph."""
    sessions: list[list[Trial]] = []

    def session(folder: Path, setup: Setup, trials: Sequence[Trial], progress: Any) -> list[Episode]:
        sessions.append(list(trials))
        meta = EpisodeMeta(task="bin", outcome=Outcome.SUCCESS, joint_names=("a",), robot="r")
        return [EpisodeRecorder().finish(replace(meta, seed=seed, arm=arm)) for seed, arm in trials]

    monkeypatch.setattr(study_live, "_session", session)
    monkeypatch.setattr(study_live, "describe", lambda setup, arm: arm)
    return sessions


def test_every_seed_is_run_in_both_arms_which_take_turns_at_being_first(
    sessions: list[list[Trial]], tmp_path: Path
) -> None:
    assert run_live(tmp_path, SETUP, ["none", "salus"], range(4)) == ("none-live", "salus-live")
    (trials,) = sessions
    assert [arm for seed, arm in trials if trials.index((seed, arm)) % 2 == 0] == [
        "none-live",
        "salus-live",
        "none-live",
        "salus-live",
    ]
    assert len(set(trials)) == 8


def test_the_graph_starts_anew_after_some_seeds_and_goes_on_where_it_was(
    sessions: list[list[Trial]], tmp_path: Path
) -> None:
    run_live(tmp_path, SETUP, ["none", "salus"], range(7))
    assert [len(trials) for trials in sessions] == [10, 4]
    run_live(tmp_path, SETUP, ["none", "salus"], range(8))
    assert {seed for seed, _ in sessions[-1]} == {7}
    metas = Store.open(tmp_path / "salus-live").metas()
    assert sorted(meta.seed for meta in metas) == list(range(8))
    assert {meta.arm for meta in metas} == {"salus-live"}


@pytest.mark.usefixtures("sessions")
def test_only_the_arms_that_are_asked_for_are_run(tmp_path: Path) -> None:
    run_live(tmp_path, SETUP, ["salus"], range(2))
    assert not (tmp_path / "none-live").exists()
    assert {m.arm for m in Store.open(tmp_path / "salus-live").metas()} == {"salus-live"}


def test_the_scene_that_the_simulator_began_with_is_no_trial() -> None:
    trials = [(7, "none-live"), (7, "salus-live")]
    recorded = [EpisodeRecorder().finish(EpisodeMeta(seed=seed, joint_names=("a",))) for seed in (0, 7, 7)]
    assert [e.meta.seed for e in study_live._of_trials(recorded, trials, Path("logs"))] == [7, 7]
    with pytest.raises(SalusError, match=r"holds the seeds \[0, 7\], not \[7, 7\]; see logs"):
        study_live._of_trials(recorded[:2], trials, Path("logs"))
