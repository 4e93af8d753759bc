from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from salus_ros.cli import study_live
from salus_ros.cli.main import main
from salus_ros.cli.study_live import apart
from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.store import Store, StoreSettings
from salus_ros.errors import SalusError
from salus_ros.evaluation import arms, study
from salus_ros.evaluation.arms import OtherNoise
from salus_ros.evaluation.comparison import Arm, ArmSummary, summarise_arm
from salus_ros.evaluation.study import matched_placebo, parse_arms, parse_seeds, results
from salus_ros.mixture import Mixture
from salus_ros.types import Cause, FailureType, Mode

Make = Callable[..., Episode]


def test_seeds_are_a_range_whose_end_is_left_out() -> None:
    assert list(parse_seeds("5:8")) == [5, 6, 7]


@pytest.mark.parametrize("text", ["5", "8:5", "5:5", "a:b", "-3:4"])
def test_seeds_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(SalusError, match="FIRST:END"):
        parse_seeds(text)


def test_arms_come_in_the_order_of_the_table() -> None:
    assert parse_arms("salus,none") == ("none", "salus")


@pytest.mark.parametrize("text", ["", "none,alus", "random,none"])
def test_arms_that_do_not_exist_or_lack_their_match_are_refused(text: str) -> None:
    with pytest.raises(SalusError):
        parse_arms(text)


def test_the_placebo_intervenes_as_often_and_in_the_same_kinds(make_episode: Make) -> None:
    modes = (
        (1.0, 1.4, Mode.SLOW_DOWN, Cause.RISK, 0.5),
        (2.0, 2.4, Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION, 0.0),
        (3.0, 3.4, Mode.REPLAN, Cause.FORESEEN_DROP, 0.0),
        (4.0, 4.4, Mode.HOLD, Cause.POLICY_LATE, 0.0),
        (4.5, 4.9, Mode.REPLAN, Cause.FORESEEN_TIMEOUT, 0.0),
    )
    arm = summarise_arm(Arm("salus", (make_episode(1, 5.0, modes=modes), make_episode(2, 5.0))))
    placebo = matched_placebo(arm)
    assert placebo.slow_rate_per_s == pytest.approx(1 / 10)
    assert placebo.alarm_rate_per_s == pytest.approx(2 / 10), "a late policy is no foresight"
    assert placebo.collision_share == pytest.approx(0.5)
    assert placebo.timeout_rate_per_s == pytest.approx(1 / 10)


def test_a_salus_that_never_intervened_has_a_placebo_that_never_does(make_episode: Make) -> None:
    placebo = matched_placebo(summarise_arm(Arm("salus", (make_episode(1, 2.0),))))
    assert (placebo.slow_rate_per_s, placebo.alarm_rate_per_s) == (0.0, 0.0)


def test_the_second_none_has_other_noise_and_nothing_else() -> None:
    seeds: list[int | None] = []
    policy: Any = SimpleNamespace(
        name="p", hash="h", action_period_s=0.05, reset=seeds.append, act=lambda o: o
    )
    other = OtherNoise(policy)
    other.reset(seed=7)
    other.reset()
    assert seeds == [7 + arms.OTHER_NOISE, None]
    assert (other.name, other.hash) == ("p", "h")


def _episode_of(make_episode: Make, arm: str, seed: int) -> Episode:
    """Every second seed collides, in salus none does; ``none2`` flips the first seed by luck."""
    collides = (seed % 2 == 1 and arm != "salus") or (arm == "none2" and seed == 10)
    episode = make_episode(
        seed,
        2.0,
        Outcome.FAILURE if collides else Outcome.SUCCESS,
        ((1.5, FailureType.COLLISION),) if collides else (),
        image_size=16,
    )
    return replace(episode, meta=replace(episode.meta, arm=arm))


def test_the_numbers_of_a_study_are_those_of_its_arms(make_episode: Make) -> None:
    arms = {
        name: summarise_arm(Arm(name, tuple(_episode_of(make_episode, name, s) for s in range(10, 20))))
        for name in ("none", "none2", "salus")
    }
    found = results(arms)
    assert found["arms"]["none"]["success"]["value"] == 0.5
    assert found["arms"]["none2"]["success"]["value"] == pytest.approx(0.4)
    assert found["arms"]["salus"]["failures"]["collision"]["value"] == 0.0
    against_none = next(c for c in found["comparisons"] if (c["first"], c["second"]) == ("none", "salus"))
    assert against_none["success_difference"]["value"] == 0.5
    assert against_none["saved_seeds"] == (11, 13, 15, 17, 19)
    assert against_none["mcnemar_p"] == pytest.approx(2 * 0.5**5)
    assert found["harm_beyond_luck"]["salus"]["value"] == pytest.approx(-0.1), "luck harmed one seed"
    assert against_none["failure_changes"]["collision"]["value"] == -1.0
    assert against_none["failure_changes"]["drop"]["value"] is None, "no drops to be cut"
    assert against_none["by_task"]["bin"]["value"] == 0.5
    json.dumps(found, allow_nan=False)


def test_onsets_and_what_was_foreseen_of_them_are_counted_by_type(make_episode: Make) -> None:
    onsets = ((1.0, FailureType.COLLISION), (3.0, FailureType.DROP), (5.0, FailureType.DROP))
    alarms = ((2.5, 2.9, FailureType.DROP), (4.5, 4.9, FailureType.MISS))
    heard, alone = (
        summarise_arm(
            Arm(name, (make_episode(1, 7.0, Outcome.TIMEOUT, onsets, alarms, monitored=monitored),))
        )
        for name, monitored in (("none", True), ("effort", False))
    )
    found = results({"none": heard, "effort": alone})["arms"]
    assert found["none"]["onsets"] == {"collision": 1, "drop": 2, "miss": 0}
    assert found["none"]["foreseen"]["by_type"] == {
        "collision": {"foreseen": 0, "onsets": 1, "false_alarms": 0},
        "drop": {"foreseen": 1, "onsets": 2, "false_alarms": 0},
        "miss": {"foreseen": 0, "onsets": 0, "false_alarms": 1},
    }, "an alarm of another type foresees nothing"
    assert found["effort"]["onsets"] == found["none"]["onsets"], "they are counted without a monitor too"
    assert found["effort"]["foreseen"] is None


def test_both_live_arms_are_told_beside_their_twins(make_episode: Make) -> None:
    def arm(name: str, collisions: int) -> ArmSummary:
        collision = ((1.0, FailureType.COLLISION),)
        return summarise_arm(
            Arm(
                name,
                tuple(
                    make_episode(i, 2.0, Outcome.FAILURE, collision)
                    if i < collisions
                    else make_episode(i, 2.0)
                    for i in range(10)
                ),
            )
        )

    names = {"none": 5, "none-live": 6, "salus": 1, "salus-live": 3}
    summaries = {name: arm(name, collisions) for name, collisions in names.items()}
    none, salus = apart(summaries)
    assert none.startswith("none: success 40 % on the ROS graph, 50 % in one process, −10 points (")
    assert salus.startswith("salus: success 70 % on the ROS graph, 90 % in one process, −20 points (")
    assert apart({"none": summaries["none"]}) == []
    pairs = [(c["first"], c["second"]) for c in results(summaries)["comparisons"]]
    assert {("none", "none-live"), ("salus", "salus-live"), ("none-live", "salus-live")} <= set(pairs)


@pytest.fixture(name="study_command")
def fixture_study_command(make_episode: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The verb with episodes that are made up, in this process."""

    def run_arm(arm: str, *rest: Any) -> Episode:
        ran.append((arm, rest[-1]))
        return _episode_of(make_episode, arm, rest[-1])

    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(arms, "run_arm", run_arm)
    monkeypatch.setattr(arms, "ran", ran, raising=False)
    monkeypatch.setattr(study, "policy_hash", lambda spec: "0123456789abcdef")
    for name in ("policy", "monitor"):
        (tmp_path / name).mkdir()
    (tmp_path / "monitor" / "monitor.safetensors").write_bytes(b"weights")
    return [
        *("study", "--workers", "1", "--output", str(tmp_path / "out"), "--arms", "none,none2,random,salus"),
        *("--policy", str(tmp_path / "policy"), "--monitor", str(tmp_path / "monitor")),
    ]


def test_the_verb_compares_all_arms_and_goes_on_where_it_was(
    study_command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study_command, "--seeds", "10:12"]) == 0
    assert main([*study_command, "--seeds", "10:13"]) == 0
    ran: list[tuple[str, int]] = arms.ran  # type: ignore[attr-defined]
    assert len(ran) == len(set(ran)) == 12, "a seed was run twice, or left out"
    assert ran.index(("salus", 10)) < ran.index(("random", 10)), "the placebo is matched to salus"
    found = json.loads((tmp_path / "out" / "study.json").read_text())
    assert {name: arm["episodes"] for name, arm in found["arms"].items()} == dict.fromkeys(
        ("none", "none2", "random", "salus"), 3
    )
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/webp") == 12, (
        "none and salus are drawn"
    )
    assert "paired seeds" in capsys.readouterr().out


def test_live_arms_are_told_beside_their_twins_by_the_verb(
    study_command: list[str],
    make_episode: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The graph, which runs in real time, is left out: its stores are there already."""

    def run_live(output: Path, setup: Any, names: list[str], seeds: range) -> tuple[str, ...]:
        for name in names:
            with Store.create(output / f"{name}-live", StoreSettings(mixture="live")) as store:
                for seed in seeds:
                    store.append(_episode_of(make_episode, name, seed))
        return tuple(f"{name}-live" for name in names)

    monkeypatch.setattr(study_live, "run_live", run_live)
    assert main([*study_command, "--arms", "none,salus", "--seeds", "10:12", "--live"]) == 0
    said = capsys.readouterr().out
    assert "none: success 50 % on the ROS graph, 50 % in one process, 0 points (0 to 0) on 2 seeds." in said
    assert "salus: success 100 % on the ROS graph, 100 % in one process" in said
    assert set(json.loads((tmp_path / "out" / "study.json").read_text())["arms"]) == {
        *("none", "none-live", "salus", "salus-live")
    }


def test_an_oracle_takes_over_what_does_not_fail_and_runs_the_rest(
    study_command: list[str], tmp_path: Path
) -> None:
    command = [*study_command, "--seeds", "10:14", "--arms", "none,oracle,salus"]
    assert main(command) == 0
    ran: list[tuple[str, int]] = arms.ran  # type: ignore[attr-defined]
    assert sorted(seed for arm, seed in ran if arm == "oracle") == [11, 13], "the odd seeds collide"
    store = Store.open(tmp_path / "out" / "oracle")
    assert sorted(meta.seed for meta in store.metas()) == [10, 11, 12, 13]
    assert {meta.arm for meta in store.metas()} == {"oracle"}
    assert len(store.episode(0).predictions) == 0, "these are the monitor's, whom nobody heard"


def test_a_look_at_seeds_kept_for_results_is_entered_in_the_ledger_and_one_at_others_is_not(
    study_command: list[str], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.md"
    command = [*study_command, "--arms", "none,salus", "--ledger", str(ledger)]
    assert main([*command, "--seeds", "10:12"]) == 0
    assert not ledger.exists()
    assert main([*command, "--seeds", "699999:700001", "--output", str(tmp_path / "other")]) == 0
    rows = [line for line in ledger.read_text().splitlines() if "closed loop" in line]
    assert len(rows) == 1 and "699999:700001" in rows[0] and "| 4 |" in rows[0]


def test_an_oracle_is_asked_about_an_episode_that_only_runs_out_of_time(
    study_command: list[str], make_episode: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(arm: str, *rest: Any) -> Episode:
        ran.append((arm, rest[-1]))
        episode = _episode_of(make_episode, "salus", rest[-1])
        return replace(episode, meta=replace(episode.meta, arm=arm, outcome=Outcome.TIMEOUT))

    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(arms, "run_arm", late)
    assert main([*study_command, "--seeds", "10:12", "--arms", "none,oracle"]) == 0
    assert sorted(seed for arm, seed in ran if arm == "oracle") == [10, 11]


def test_a_store_of_another_mixture_is_not_mixed_in(
    study_command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study_command, "--seeds", "10:11"]) == 0
    assert main([*study_command, "--seeds", "10:11", "--disturbance", "none"]) == 2
    assert "give another --output" in capsys.readouterr().err


def test_a_gate_setting_that_does_not_exist_is_one_sentence(
    study_command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study_command, "--seeds", "10:11", "--gate", "retrace_s=1"]) == 2
    assert "retrace_s is 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_gate_is_another_study(study_command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*study_command, "--seeds", "10:11"]) == 0
    assert main([*study_command, "--seeds", "10:11", "--gate", "retrace_path_s=0.6"]) == 2
    assert "give another --output" in capsys.readouterr().err


def test_arms_that_need_tune_seeds_say_so_before_anything_runs(
    study_command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study_command, "--seeds", "10:11", "--arms", "none,effort"]) == 2
    assert "--control-data" in capsys.readouterr().err
    assert main([*study_command, "--seeds", "10:11", "--arms", "none,shuffled"]) == 2
    assert "--shuffle-labels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_monitor_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy").mkdir()
    arguments = ["study", "--policy", str(tmp_path / "policy"), "--monitor", str(tmp_path / "none")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert "salus train-monitor" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_mixture_file_says_what_is_run(
    study_command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Path(__file__).resolve().parents[2] / "config" / "mixtures" / "seen.yaml"
    assert main([*study_command, "--seeds", "10:11", "--arms", "none,salus", "--mixture", str(seen)]) == 0
    manifest = json.loads((tmp_path / "out" / "study.json").read_text())["manifest"]
    assert manifest["mixture_hash"] == Mixture.read(seen).hash
    assert main([*study_command, "--seeds", "10:11", "--mixture", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml cannot be read" in capsys.readouterr().err
