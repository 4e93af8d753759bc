from __future__ import annotations

from collections.abc import Callable

import numpy as np

from salus_ros.data.episode import Episode, Outcome
from salus_ros.evaluation.outcomes import summarise
from salus_ros.evaluation.second_attempts import second_attempts
from salus_ros.types import Cause, FailureType, Mode

Make = Callable[..., Episode]
REPLAN = (2.0, 3.0, Mode.REPLAN, Cause.FORESEEN_MISS, 0.0)


def _share(make: Make, failure: FailureType = FailureType.MISS, **story: object) -> float:
    return second_attempts([summarise(make(1, 9.0, **story))], failure).value


def test_an_attempt_without_another_failure_went_well(make_episode: Make) -> None:
    assert _share(make_episode, modes=(REPLAN,)) == 1.0


def test_a_failure_during_or_soon_after_the_intervention_counts_against_it(make_episode: Make) -> None:
    for onset_s in (2.5, 5.5):
        onsets = ((onset_s, FailureType.MISS),)
        assert _share(make_episode, modes=(REPLAN,), onsets=onsets) == 0.0, f"onset at {onset_s} s"


def test_a_failure_before_it_or_long_after_does_not(make_episode: Make) -> None:
    onsets = ((1.0, FailureType.MISS), (7.0, FailureType.DROP))
    assert _share(make_episode, modes=(REPLAN,), onsets=onsets) == 1.0


def test_a_replan_that_needs_another_one_did_not_go_well(make_episode: Make) -> None:
    again = (4.0, 5.0, Mode.REPLAN, Cause.FORESEEN_MISS, 0.0)
    assert _share(make_episode, modes=(REPLAN, again)) == 0.5, "the second one did"


def test_a_time_out_foreseen_after_it_is_another_matter(make_episode: Make) -> None:
    late = (4.0, 4.5, Mode.REPLAN, Cause.FORESEEN_TIMEOUT, 0.0)
    assert _share(make_episode, modes=(REPLAN, late)) == 1.0


def test_a_call_for_a_person_is_no_success(make_episode: Make) -> None:
    assist = (4.0, 5.5, Mode.ASSIST, Cause.REPLANS_EXHAUSTED, 0.0)
    story = {"modes": (REPLAN, assist), "outcome": Outcome.ASSIST}
    assert second_attempts([summarise(make_episode(1, 5.5, **story))], FailureType.MISS).value == 0.0


def test_other_failures_and_slowing_down_are_other_matters(make_episode: Make) -> None:
    slow = (2.0, 3.0, Mode.SLOW_DOWN, Cause.RISK, 0.5)
    assert np.isnan(_share(make_episode, FailureType.DROP, modes=(REPLAN,)))
    assert np.isnan(_share(make_episode, modes=(slow,)))
