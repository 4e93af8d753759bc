import numpy as np
import pytest

from salus_ros.evaluation.events import EventCounts, f1_difference, match_alarms, rising_edges, total

TIMES_S = np.arange(0.0, 10.0, 0.05)


def test_an_alarm_half_a_second_before_is_a_true_positive_with_that_lead_time() -> None:
    counts = match_alarms([4.5], [5.0])
    assert (counts.true_positives, counts.false_positives, counts.misses) == (1, 0, 0)
    assert counts.median_lead_time_s == pytest.approx(0.5)


@pytest.mark.parametrize("edge_s", [3.9, 4.9, 5.2])
def test_an_alarm_too_early_too_late_or_afterwards_is_false_and_the_onset_is_missed(edge_s: float) -> None:
    counts = match_alarms([edge_s], [5.0])
    assert (counts.true_positives, counts.false_positives, counts.misses) == (0, 1, 1)


@pytest.mark.parametrize("edge_s", [4.0, 4.8])
def test_both_ends_of_the_window_count(edge_s: float) -> None:
    assert match_alarms([edge_s], [5.0]).true_positives == 1


def test_the_alarm_that_is_always_on_foresees_nothing() -> None:
    edges_s = rising_edges(TIMES_S, np.ones(TIMES_S.size))
    counts = match_alarms(edges_s, [5.0, 8.0])
    assert (counts.true_positives, counts.false_positives, counts.misses) == (0, 1, 2)
    assert counts.f1 == 0.0


def test_the_alarm_that_is_always_off_has_no_precision_and_no_recall() -> None:
    counts = match_alarms(rising_edges(TIMES_S, np.zeros(TIMES_S.size)), [5.0, 8.0])
    assert np.isnan(counts.precision)
    assert counts.recall == 0.0
    assert counts.f1 == 0.0


def test_an_alarm_that_flickers_all_the_time_pays_for_it_in_precision() -> None:
    flicker = np.arange(TIMES_S.size) % 2 == 0
    counts = match_alarms(rising_edges(TIMES_S, flicker), [5.0])
    assert counts.recall == 1.0
    assert counts.precision < 0.02


def test_flickering_inside_the_window_gives_one_true_positive_at_the_earliest_edge() -> None:
    counts = match_alarms([4.3, 4.5, 4.7], [5.0])
    assert (counts.true_positives, counts.false_positives) == (1, 0)
    assert counts.lead_time_s == pytest.approx((0.7,))


def test_scores_over_episodes_are_those_of_the_summed_counts() -> None:
    # 2 foreseen of 3 onsets, 1 false alarm: precision 2/3, recall 2/3, F1 2/3.
    counts = total([match_alarms([4.5], [5.0]), match_alarms([2.0, 4.4], [5.0]), match_alarms([], [3.0])])
    assert (counts.precision, counts.recall, counts.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert counts.median_lead_time_s == pytest.approx(0.55)
    assert counts.share_foreseen_at(0.5) == pytest.approx(2 / 3)
    assert counts.share_foreseen_at(0.55) == pytest.approx(1 / 3)


def test_rising_edges_are_where_the_alarm_goes_up() -> None:
    assert rising_edges([0.0, 0.1, 0.2, 0.3, 0.4], [False, True, True, False, True]).tolist() == [0.1, 0.4]


def test_the_difference_of_f1_is_that_of_the_sums() -> None:
    ours = [EventCounts(1, 0, 0, (0.5,)), EventCounts(1, 0, 1, (0.4,)), EventCounts(0, 0, 0, ())]
    theirs = [EventCounts(0, 1, 1, ()), EventCounts(1, 0, 1, (0.4,)), EventCounts(0, 2, 0, ())]
    difference = f1_difference(ours, theirs, draws=50)
    assert difference.value == pytest.approx(total(ours).f1 - total(theirs).f1)
    assert f1_difference(ours, ours, draws=50).high == 0.0
