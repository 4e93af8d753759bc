"""Alarms against onsets, with answers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from salus_ros.evaluation.events import (
    EARLIEST_S,
    LATEST_S,
    EventCounts,
    episode_events,
    foreseeable,
    match_alarms,
    mean_f1,
    resampled_f1,
    rising_edges,
    total,
)
from salus_ros.types import FailureType

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


def test_flickering_inside_the_window_is_right_once_at_its_earliest_edge_and_wrong_for_the_rest() -> None:
    counts = match_alarms([4.3, 4.5, 4.7], [5.0])
    assert (counts.true_positives, counts.false_positives, counts.misses) == (1, 2, 0)
    assert counts.lead_time_s == pytest.approx((0.7,))


def test_one_alarm_foresees_one_onset_only() -> None:
    # 4.5 is in time for both (0.5 s and 0.9 s before); the second onset has no alarm left.
    counts = match_alarms([4.5], [5.0, 5.4])
    assert (counts.true_positives, counts.false_positives, counts.misses) == (1, 0, 1)
    assert counts.lead_time_s == pytest.approx((0.5,))


def test_two_alarms_before_two_onsets_are_paired_in_their_order() -> None:
    # 4.2 is 0.8 s before 5.0; 4.7 is 0.7 s before 5.4 (and would be in time for 5.0 as well).
    counts = match_alarms([4.2, 4.7], [5.0, 5.4])
    assert (counts.true_positives, counts.false_positives, counts.misses) == (2, 0, 0)
    assert counts.lead_time_s == pytest.approx((0.8, 0.7))


def test_alarms_are_true_or_false_and_onsets_foreseen_or_missed_and_none_is_lost() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        edges, onsets = np.unique(rng.uniform(0, 8, 9).round(2)), rng.uniform(0, 8, 4)
        counts = match_alarms(edges, onsets)
        assert counts.true_positives + counts.false_positives == len(edges)
        assert counts.true_positives + counts.misses == len(onsets)
        assert counts.true_positives == most_pairs(edges, onsets)


def most_pairs(edges: np.ndarray, onsets: np.ndarray) -> int:
    """By the textbook: a maximum matching of the bipartite graph of alarms in time for onsets."""
    lead = onsets[:, None] - edges[None, :]
    graph = csr_matrix((lead >= LATEST_S) & (lead <= EARLIEST_S))
    return int((maximum_bipartite_matching(graph) >= 0).sum())


def test_an_onset_while_the_episode_is_out_of_order_is_asked_of_nobody() -> None:
    # 5.9 and 6.19 begin 0.9 and 1.19 s after 5.0; 7.39 begins 1.2 s after the last of them.
    assert foreseeable([5.0, 5.9, 6.19, 7.39]).tolist() == [True, False, False, True]
    assert foreseeable([6.19, 5.0]).tolist() == [False, True], "in any order"
    assert foreseeable([5.0, 5.0]).tolist() == [True, True], "neither hides the other"
    assert foreseeable([]).tolist() == []


COLLISION, DROP = FailureType.COLLISION, FailureType.DROP


def test_an_onset_right_after_another_is_in_no_denominator() -> None:
    onsets = [(5.0, COLLISION), (5.6, DROP)]
    silent = episode_events([], onsets, DROP)
    assert (silent.true_positives, silent.false_positives, silent.misses) == (0, 0, 0)
    assert episode_events([], onsets, COLLISION).misses == 1
    assert episode_events([], onsets, None).misses == 1


def test_an_alarm_in_time_for_an_onset_that_is_asked_of_nobody_is_neither_right_nor_wrong() -> None:
    onsets = [(5.0, COLLISION), (5.6, DROP)]
    early = episode_events([4.8], onsets, DROP)  # in order, and 0.8 s before the drop
    assert (early.true_positives, early.false_positives, early.misses) == (0, 0, 0)
    too_early = episode_events([4.5], onsets, DROP)  # 1.1 s before it
    assert (too_early.true_positives, too_early.false_positives, too_early.misses) == (0, 1, 0)


def test_an_alarm_of_another_type_foresees_nothing_and_one_that_names_none_foresees_any() -> None:
    onsets = [(5.0, COLLISION)]
    assert episode_events([4.5], onsets, DROP).false_positives == 1
    assert episode_events([4.5], onsets, None).true_positives == 1
    at_once = episode_events([4.5], [(5.0, COLLISION), (5.0, DROP)], None)
    assert (at_once.true_positives, at_once.misses) == (1, 0), "two onsets at one moment are one to it"


def test_an_alarm_that_rises_while_the_episode_is_out_of_order_does_not_count() -> None:
    # 5.0 to 6.0 is out of order; the edge at 5.9 would be 0.6 s before the second onset, that at 6.0 0.5 s.
    onsets = [(5.0, COLLISION), (6.5, COLLISION)]
    during = episode_events([5.9], onsets, COLLISION)
    assert (during.true_positives, during.false_positives, during.misses) == (0, 0, 2)
    after = episode_events([6.0], onsets, COLLISION)
    assert (after.true_positives, after.false_positives, after.misses) == (1, 0, 1)


def test_over_an_episode_with_two_onsets_always_on_and_always_off_foresee_neither() -> None:
    onsets = [(5.0, COLLISION), (8.0, COLLISION)]
    on = episode_events(rising_edges(TIMES_S, np.ones(TIMES_S.size)), onsets, COLLISION)
    assert (on.true_positives, on.false_positives, on.misses) == (0, 1, 2)
    off = episode_events(rising_edges(TIMES_S, np.zeros(TIMES_S.size)), onsets, COLLISION)
    assert (off.true_positives, off.false_positives, off.misses) == (0, 0, 2)


def test_flickering_without_end_is_right_once_an_onset_and_wrong_for_the_rest() -> None:
    # Rises every 0.1 s from 0.0 to 9.9, 100 times, 10 of them from 5.0 to 5.9, while out of order.
    flicker = np.arange(TIMES_S.size) % 2 == 0
    counts = episode_events(rising_edges(TIMES_S, flicker), [(5.0, COLLISION)], COLLISION)
    assert (counts.true_positives, counts.false_positives, counts.misses) == (1, 89, 0)


def test_scores_over_episodes_are_those_of_the_summed_counts() -> None:
    # 2 foreseen of 3 onsets, 1 false alarm: precision 2/3, recall 2/3, F1 2/3.
    counts = total([match_alarms([4.5], [5.0]), match_alarms([2.0, 4.4], [5.0]), match_alarms([], [3.0])])
    assert (counts.precision, counts.recall, counts.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert counts.median_lead_time_s == pytest.approx(0.55)
    assert counts.share_foreseen_at(0.5) == pytest.approx(2 / 3)
    assert counts.share_foreseen_at(0.55) == pytest.approx(1 / 3)


def test_rising_edges_are_where_the_alarm_goes_up() -> None:
    assert rising_edges([0.0, 0.1, 0.2, 0.3, 0.4], [False, True, True, False, True]).tolist() == [0.1, 0.4]


def test_resampled_f1_is_that_of_the_sums() -> None:
    counts = [EventCounts(1, 0, 1, (0.5,)), EventCounts(1, 2, 0, (0.4,)), EventCounts(0, 0, 0, ())]
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.0, 0.0, 3.0]])
    expected = [total(counts).f1, total([counts[0], counts[0]]).f1]
    assert resampled_f1(counts, weights)[:2] == pytest.approx(expected)
    assert np.isnan(resampled_f1(counts, weights)[2])
    assert mean_f1([counts, [EventCounts(0, 1, 0, ())] * 3], weights).value == pytest.approx(expected[0]), (
        "a type without an onset is left out"
    )
