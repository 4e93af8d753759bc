from collections.abc import Callable

import numpy as np
import pytest

from salus_ros.data.episode import Episode, Outcome
from salus_ros.evaluation.outcomes import Result, summarise
from salus_ros.types import Cause, FailureType, Mode

Make = Callable[..., Episode]


def test_a_success_has_its_time_and_no_failure(make_episode: Make) -> None:
    summary = summarise(make_episode(duration_s=4.0))
    assert summary.success
    assert summary.completion_time_s == pytest.approx(4.0)
    assert summary.onsets == ()


def test_an_episode_is_named_after_its_first_failure(make_episode: Make) -> None:
    onsets = ((2.0, FailureType.MISS), (3.0, FailureType.COLLISION))
    summary = summarise(make_episode(outcome=Outcome.TIMEOUT, onsets=onsets))
    assert summary.result is Result.MISS
    assert summary.had(FailureType.COLLISION)
    assert np.isnan(summary.completion_time_s)


def test_a_miss_that_was_made_good_is_a_success_with_a_miss(make_episode: Make) -> None:
    summary = summarise(make_episode(onsets=((2.0, FailureType.MISS),)))
    assert summary.result is Result.SUCCESS
    assert summary.had(FailureType.MISS)


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (Outcome.TIMEOUT, Result.TIMEOUT),
        (Outcome.ASSIST, Result.ASSIST),
        (Outcome.EMERGENCY_STOP, Result.EMERGENCY_STOP),
        (Outcome.UNKNOWN, Result.UNKNOWN),
    ],
)
def test_without_an_onset_the_end_gives_the_name(
    make_episode: Make, outcome: Outcome, result: Result
) -> None:
    summary = summarise(make_episode(outcome=outcome))
    assert summary.result is result
    assert not summary.success


def test_one_stretch_through_several_modes_is_one_intervention(make_episode: Make) -> None:
    modes = (
        (1.0, 1.5, Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION, 0.0),
        (1.5, 2.0, Mode.REPLAN, Cause.AFTER_STOP, 0.0),
        (3.0, 3.5, Mode.HOLD, Cause.POLICY_LATE, 0.0),
    )
    summary = summarise(make_episode(modes=modes))
    assert len(summary.interventions) == 2
    first, second = summary.interventions
    assert (first.start_s, first.end_s) == pytest.approx((1.0, 2.0))
    assert first.highest_mode is Mode.PROTECTIVE_STOP
    assert first.from_foresight
    assert not second.from_foresight
    assert summary.mode_entries == {Mode.PROTECTIVE_STOP: 1, Mode.REPLAN: 1, Mode.HOLD: 1}


def test_standing_before_the_first_plan_is_no_intervention(make_episode: Make) -> None:
    modes = ((0.0, 0.4, Mode.HOLD, Cause.STARTUP, 0.0),)
    assert summarise(make_episode(modes=modes)).interventions == ()


def test_asking_for_a_person_is_counted(make_episode: Make) -> None:
    modes = ((1.0, 2.0, Mode.ASSIST, Cause.REPLANS_EXHAUSTED, 0.0),)
    assert summarise(make_episode(modes=modes, outcome=Outcome.ASSIST)).human_requests == 1


def test_an_alarm_is_matched_with_an_onset_of_its_own_type_only(make_episode: Make) -> None:
    onsets = ((4.0, FailureType.DROP),)
    right = summarise(
        make_episode(outcome=Outcome.TIMEOUT, onsets=onsets, alarms=((3.5, 4.0, FailureType.DROP),))
    )
    wrong = summarise(
        make_episode(outcome=Outcome.TIMEOUT, onsets=onsets, alarms=((3.5, 4.0, FailureType.MISS),))
    )
    assert right.all_events.true_positives == 1
    assert right.events[FailureType.DROP].median_lead_time_s == pytest.approx(0.5, abs=1e-6)
    assert wrong.events[FailureType.MISS].false_positives == 1
    assert wrong.events[FailureType.DROP].misses == 1


def test_an_alarm_while_the_failure_is_under_way_is_neither_right_nor_false(make_episode: Make) -> None:
    episode = make_episode(
        outcome=Outcome.TIMEOUT, onsets=((4.0, FailureType.DROP),), alarms=((4.1, 4.4, FailureType.DROP),)
    )
    events = summarise(episode).events[FailureType.DROP]
    assert (events.true_positives, events.false_positives, events.misses) == (0, 0, 1)


def test_without_a_monitor_nothing_counts_as_missed(make_episode: Make) -> None:
    summary = summarise(
        make_episode(monitored=False, onsets=((2.0, FailureType.DROP),), outcome=Outcome.TIMEOUT)
    )
    assert not summary.monitored
    assert summary.all_events.misses == 0
