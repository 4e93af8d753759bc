import numpy as np
import pytest

from salus_ros.errors import SalusError
from salus_ros.evaluation.episode_metrics import (
    ScoreTrace,
    alarm_metrics,
    auroc_over_time,
    begun_within,
    common_length_s,
    conformal_threshold,
    coverage,
    resampled_time_weighted_accuracy,
    time_weighted_accuracy,
)


def _trace(length_s: float, failed: bool, rises_at_s: float = np.inf) -> ScoreTrace:
    time_s = np.arange(0.0, length_s + 1e-9, 0.05)
    return ScoreTrace(time_s, (time_s >= rises_at_s - 1e-9).astype(float), failed)


SUCCESSES = [_trace(4.0, False) for _ in range(8)]


def test_an_alarm_halfway_through_every_failure_earns_half_of_the_failures_share() -> None:
    traces = [*SUCCESSES, *(_trace(4.0, True, rises_at_s=2.0) for _ in range(4))]
    metrics = alarm_metrics(traces, 0.5, 0.05)
    assert metrics.balanced_accuracy == 1.0
    assert metrics.time_weighted_accuracy == pytest.approx(0.5 * (0.5 + 1.0))
    assert metrics.detection_time_s == pytest.approx(2.0)
    # 8 x 81 + 4 x 81 steps of 0.05 s, and one edge in each of the 4 failures
    assert metrics.alarms_per_hour == pytest.approx(4 * 3600 / (12 * 4.05))
    assert metrics.false_alarms_per_hour == 0.0


def test_an_alarm_that_comes_twice_in_an_episode_is_two_alarms_in_an_hour() -> None:
    # Each success is observed for 4 steps of 1 s, and the alarm rises in it at the 1st and at the 3rd.
    traces = [_scores([0.9, 0.0, 0.9, 0.9], False) for _ in range(5)]
    metrics = alarm_metrics(traces, 0.5, 0.05)
    assert metrics.false_alarm_rate.value == 1.0
    assert metrics.alarms_per_hour == metrics.false_alarms_per_hour == pytest.approx(3600 * 2 / 4)


def test_the_alarm_that_is_always_on_has_half_the_accuracy_and_every_success_alarmed() -> None:
    traces = [*SUCCESSES, _trace(4.0, True)]
    metrics = alarm_metrics(traces, -1.0, 0.05)
    assert metrics.balanced_accuracy == pytest.approx(0.5)
    assert metrics.time_weighted_accuracy == pytest.approx(0.5)
    assert metrics.false_alarm_rate.value == 1.0
    both = [metrics.alarms_per_hour, metrics.false_alarms_per_hour]
    assert both == pytest.approx([3600 / 4.05] * 2), "one edge in 81 steps of 0.05 s"


def test_the_alarm_that_is_always_off_has_half_the_accuracy_and_detects_at_the_end() -> None:
    metrics = alarm_metrics([*SUCCESSES, _trace(4.0, True)], 2.0, 0.05)
    assert metrics.balanced_accuracy == pytest.approx(0.5)
    assert metrics.time_weighted_accuracy == pytest.approx(0.5)
    assert metrics.detection_time_s == pytest.approx(4.0)


def test_a_longer_look_at_failures_earns_nothing() -> None:
    # The score is the clock: failures last twice as long, and would be told apart by that alone.
    clock = [
        ScoreTrace(t.time_s, t.time_s, t.failed) for t in [*SUCCESSES, *(_trace(8.0, True) for _ in range(8))]
    ]
    assert common_length_s(clock) == pytest.approx(4.0)
    assert auroc_over_time(clock, np.ones((1, 16)))[1.0].value == pytest.approx(0.5)


def test_auroc_grows_as_failures_show() -> None:
    traces = [*SUCCESSES, *(_trace(8.0, True, rises_at_s=1.5) for _ in range(4))]
    over_time = auroc_over_time(traces, np.ones((1, 12)))
    assert over_time[0.25].value == pytest.approx(0.5)
    assert over_time[0.5].value == 1.0


def test_the_conformal_threshold_takes_the_exact_rank() -> None:
    # n = 19, alpha 0.05: rank ceil(20 * 0.95) = 19, the highest; n = 18: rank 19 exceeds n.
    assert conformal_threshold(list(range(19)), 0.05) == 18
    assert conformal_threshold(list(range(18)), 0.05) == np.inf
    assert conformal_threshold(list(range(99)), 0.10) == 89
    with pytest.raises(SalusError, match=r"rate of 1\.5"):
        conformal_threshold([1.0], 1.5)


def test_the_conformal_threshold_keeps_its_promise_on_exchangeable_scores() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 21))
    alarms = [row[20] > conformal_threshold(list(row[:20]), 0.05) for row in scores]
    assert np.mean(alarms) == pytest.approx(1 / 21, abs=0.012)


def test_time_weighted_accuracy_counts_undetected_failures_as_nothing() -> None:
    assert time_weighted_accuracy([0.5, 0.0], 0.9) == pytest.approx(0.5 * (0.25 + 0.9))


def test_coverage_runs_from_no_alarm_to_every_alarm() -> None:
    traces = [_scores([0.1, 0.2], False), _scores([0.1, 0.5], True), _scores([0.3, 0.1], True)]
    points = coverage(traces, 10.0)
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (1.0, 1.0)
    assert (0.0, 1.0) in points, "a threshold of 0.3 alarms in both failures and in no success"


def test_resampled_time_weighted_accuracy_is_that_of_the_resampled_episodes() -> None:
    ours = [_scores([0.0, 0.9, 0.9], True), _scores([0.0, 0.0, 0.0], False)]
    theirs = [_scores([0.0, 0.0, 0.9], True), _scores([0.9, 0.0, 0.0], False)]
    for traces in (ours, theirs):
        resampled = resampled_time_weighted_accuracy(traces, 0.5, np.array([[1.0, 1.0], [0.0, 2.0]]))
        assert resampled[0] == pytest.approx(alarm_metrics(traces, 0.5, 0.05).time_weighted_accuracy)
        assert np.isnan(resampled[1]), "a resample without a failure has none"


def test_a_failure_counts_as_begun_by_the_common_length_if_its_first_onset_is() -> None:
    traces = [*SUCCESSES, _trace(3.0, True), _trace(8.0, True), _trace(8.0, True)]
    onsets_s = [np.inf] * 8 + [3.0, 8.0, np.inf]  # the last one timed out
    assert begun_within(traces, common_length_s(traces), onsets_s) == 1


def _scores(score: list[float], failed: bool) -> ScoreTrace:
    return ScoreTrace(np.arange(len(score)) + 1.0, np.array(score), failed)
