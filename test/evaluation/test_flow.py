from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from salus_ros.data.episode import Episode, Outcome
from salus_ros.evaluation.comparison import Arm, ArmSummary, summarise_arm
from salus_ros.evaluation.costs import costs
from salus_ros.evaluation.flow import LINE, flow
from salus_ros.evaluation.outcomes import Result
from salus_ros.evaluation.report import SAVED_IN_DETAIL, arms_in_detail, seeds_in_detail
from salus_ros.types import Cause, FailureType, Mode

Make = Callable[..., Episode]


def _arm(make: Make, name: str, outcomes: str) -> ArmSummary:
    """One seed a letter: s is a success, c a collision, t a timeout."""
    kinds = {"s": (Outcome.SUCCESS, ()), "t": (Outcome.TIMEOUT, ())}
    kinds["c"] = (Outcome.FAILURE, ((1.0, FailureType.COLLISION),))
    return summarise_arm(Arm(name, tuple(make(i, 2.0, *kinds[letter]) for i, letter in enumerate(outcomes))))


def test_every_seed_is_in_one_ribbon_and_in_one_bar_on_each_side(make_episode: Make) -> None:
    drawn = flow(_arm(make_episode, "none", "sscct"), _arm(make_episode, "salus", "scsct"))
    assert drawn is not None
    assert sum(ribbon.count for ribbon in drawn.ribbons) == 5
    assert {bar.result: bar.count for bar in drawn.left} == {
        Result.SUCCESS: 2,
        Result.COLLISION: 2,
        Result.TIMEOUT: 1,
    }
    assert sum(bar.count for bar in drawn.right) == 5
    verdicts = {(r.before, r.after): r.verdict for r in drawn.ribbons}
    assert verdicts[Result.COLLISION, Result.SUCCESS] == "saved"
    assert verdicts[Result.SUCCESS, Result.COLLISION] == "harmed"
    assert verdicts[Result.SUCCESS, Result.SUCCESS] == verdicts[Result.COLLISION, Result.COLLISION] == ""


def test_bars_leave_room_for_their_words(make_episode: Make) -> None:
    drawn = flow(_arm(make_episode, "none", "s" * 40 + "ct"), _arm(make_episode, "salus", "s" * 42))
    assert drawn is not None
    for upper, lower in itertools.pairwise(drawn.left):
        assert lower.y - upper.y >= max(upper.height, LINE)
    assert drawn.height >= drawn.left[-1].y + LINE


def test_arms_without_common_seeds_have_no_flow(make_episode: Make) -> None:
    assert flow(_arm(make_episode, "none", ""), _arm(make_episode, "salus", "s")) is None


def test_all_harmed_and_ten_saved_seeds_are_drawn(make_episode: Make) -> None:
    none = _arm(make_episode, "none", "c" * 15 + "s" * 25)
    salus = _arm(make_episode, "salus", "s" * 15 + "c" * 14 + "s" * 11)
    chosen = seeds_in_detail([none, salus])
    assert chosen[:SAVED_IN_DETAIL] == tuple(range(10))
    assert set(range(15, 29)) <= set(chosen)


def test_of_many_arms_the_first_and_the_last_are_drawn() -> None:
    assert arms_in_detail(["none", "salus"]) == ("none", "salus")
    assert arms_in_detail(["none", "none2", "random", "salus"]) == ("none", "salus")


def test_the_cost_of_each_kind_is_counted_and_timed(make_episode: Make) -> None:
    modes = (
        (1.0, 1.5, Mode.SLOW_DOWN, Cause.RISK, 0.5),
        (2.0, 2.5, Mode.SLOW_DOWN, Cause.RISK, 0.5),
        (3.0, 4.0, Mode.REPLAN, Cause.FORESEEN_DROP, 0.0),
    )
    arm = summarise_arm(Arm("salus", (make_episode(1, 5.0, modes=modes), make_episode(2, 5.0))))
    slow, replan = costs(arm)
    assert (slow.mode, slow.per_episode, replan.per_episode) == (Mode.SLOW_DOWN, 1.0, 0.5)
    assert slow.median_s == pytest.approx(0.5, abs=0.1)
    assert replan.time_per_episode_s == pytest.approx(0.5, abs=0.1)
