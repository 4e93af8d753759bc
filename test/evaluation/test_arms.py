from __future__ import annotations

import json
from pathlib import Path

import pytest

from salus_ros.errors import SalusError
from salus_ros.evaluation import arms
from salus_ros.evaluation.arms import ARMS, LIVE, REMEDIES, Setup, gate_settings
from salus_ros.evaluation.study import describe
from salus_ros.intervention.settings import GateSettings
from salus_ros.mixture import Mixture

ROOT = Path(__file__).resolve().parents[2]
SETUP = Setup(
    policy=str(ROOT / "models/tinyvla-small"), monitor=str(ROOT / "models/monitor"), mixture=Mixture()
)


def test_only_the_two_arms_without_intervention_mute_learned_risk() -> None:
    muted = {arm for arm in ARMS if arm not in LIVE and gate_settings(arm, GateSettings()).shadow_mode}
    assert muted == {"none", "none2"}


def test_every_arm_has_the_studys_gate_but_for_what_makes_it_the_arm() -> None:
    asked = GateSettings(retrace_path_s=0.7, replan_attempts=5)
    for arm in ARMS:
        given = gate_settings(arm, asked)
        assert (given.retrace_path_s, given.replan_attempts) == (0.7, 5)
        assert given.replan_grace_s == (0.0 if arm in REMEDIES else asked.replan_grace_s)


def test_a_true_monitor_is_not_taken_for_a_shuffled_one() -> None:
    with pytest.raises(SalusError, match="trained on true labels"):
        arms._monitor(SETUP.monitor, shuffled=True)


def test_an_arm_is_described_by_what_it_depends_on_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus_ros.evaluation.study.policy_hash", lambda spec: "0123456789abcdef")
    other = SETUP.model_copy(update={"placebo": SETUP.placebo.model_copy(update={"alarm_rate_per_s": 9.0})})
    assert describe(SETUP, "random") != describe(other, "random")
    assert describe(SETUP, "salus") == describe(other, "salus")
    assert "monitor" in json.loads(describe(SETUP, "salus"))
    assert "monitor" not in json.loads(describe(SETUP, "effort"))


def test_an_error_in_an_episode_is_returned_and_one_of_the_user_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(error: Exception) -> object:
        def workplace(policy: str) -> object:
            raise error

        return workplace

    monkeypatch.setattr(arms, "_workplace", fail(ValueError("broken physics")))
    failed = arms.run_arm("salus", SETUP, 7)
    assert isinstance(failed, arms.FailedEpisode)
    assert (failed.seed, failed.error) == (7, "ValueError: broken physics")
    monkeypatch.setattr(arms, "_workplace", fail(SalusError("no such policy")))
    with pytest.raises(SalusError):
        arms.run_arm("salus", SETUP, 7)
