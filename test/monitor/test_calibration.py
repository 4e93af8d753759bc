"""Probabilities that mean what they say; thresholds that keep their promise."""

from __future__ import annotations

import numpy as np
import pytest

from salus_ros.errors import SalusError
from salus_ros.monitor.calibration import (
    Platt,
    alarm_thresholds,
    conformal_quantile,
    logit,
    needed_episodes,
    usual_heights,
)
from salus_ros.monitor.novelty import Novelty, window_means
from salus_ros.monitor.predictor import sigmoid


def test_platt_undoes_a_distortion() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.02, 0.9, 20_000)
    happened = rng.random(len(true)) < true
    fitted = Platt.fit(sigmoid(2.0 * logit(true) + 1.0), happened.astype(float))
    np.testing.assert_allclose([fitted.slope, fitted.offset], [0.5, -0.5], atol=0.05)


def test_platt_without_a_single_failure_changes_nothing() -> None:
    assert Platt.fit(np.full(100, 0.1), np.zeros(100)) == Platt()
    assert Platt.fit(np.empty(0), np.empty(0)) == Platt()


def test_platt_keeps_the_order_even_when_the_data_are_upside_down() -> None:
    score = np.linspace(0.1, 0.9, 200)
    fitted = Platt.fit(score, (score < 0.3).astype(float))
    assert (np.diff(fitted.apply(score)) > 0).all()
    np.testing.assert_allclose(fitted.apply(score).mean(), (score < 0.3).mean(), atol=0.02)


@pytest.mark.parametrize(
    ("n", "alpha", "rank"), [(19, 0.05, 19), (20, 0.05, 20), (39, 0.05, 38), (9, 0.1, 9), (200, 0.05, 191)]
)
def test_the_quantile_has_the_exact_rank(n: int, alpha: float, rank: int) -> None:
    scores = np.random.default_rng(n).permutation(np.arange(1, n + 1)).astype(float)
    assert conformal_quantile(scores, alpha) == rank


@pytest.mark.parametrize(("n", "alpha"), [(18, 0.05), (8, 0.1), (0, 0.5)])
def test_too_few_scores_give_an_infinite_quantile(n: int, alpha: float) -> None:
    assert conformal_quantile(np.arange(n, dtype=float), alpha) == np.inf
    assert needed_episodes(alpha) == n + 1


def test_thresholds_from_too_few_episodes_are_an_error_that_says_how_many() -> None:
    few = np.random.default_rng(0).uniform(size=(18, 3))
    with pytest.raises(SalusError, match=r"18 successful .* needs 19 or more"):
        alarm_thresholds(usual_heights(few), few, 0.05)


def test_the_types_together_raise_no_more_false_alarms_than_promised() -> None:
    rng = np.random.default_rng(0)
    heights = np.array([-6.0, -2.0, 0.5])

    def episodes(n: int) -> np.ndarray:
        return sigmoid(heights + rng.normal(size=(n, 3)))

    rates = []
    for _ in range(300):
        threshold = alarm_thresholds(usual_heights(episodes(30)), episodes(39), 0.1)
        rates.append((episodes(200) >= threshold).any(axis=1).mean())
    assert 0.08 < np.mean(rates) < 0.105, "promised 0.1; with 39 episodes the exact rate is 0.1"


def test_each_type_gets_a_threshold_at_its_own_height() -> None:
    rng = np.random.default_rng(0)
    maxima = sigmoid(np.array([-6.0, -2.0, 0.5]) + 0.1 * rng.normal(size=(50, 3)))
    threshold = alarm_thresholds(usual_heights(maxima), maxima, 0.1)
    assert (np.diff(threshold) > 0.05).all(), f"{threshold} do not follow the types' usual heights"


def test_a_type_with_a_long_tail_takes_no_threshold_of_the_others_up_with_it() -> None:
    rng = np.random.default_rng(0)

    def episodes(n: int) -> np.ndarray:
        return sigmoid(
            np.array([-3.0, -3.0, -3.0]) + np.array([3.0, 0.3, 0.3]) * rng.exponential(size=(n, 3))
        )

    threshold = alarm_thresholds(usual_heights(episodes(300)), episodes(99), 0.05)
    false_alarms = (episodes(5000) >= threshold).mean(axis=0)
    assert threshold[0] > 0.9 > 0.3 > threshold[1], f"{threshold}"
    assert false_alarms.max() < 3 * false_alarms.min(), f"shares of false alarms are {false_alarms}"


def test_novelty_is_far_for_what_was_not_in_training() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(500, 6))
    novelty = Novelty.fit(seen)
    assert novelty.distance(seen).mean() < 4
    assert novelty.distance(np.full(6, 8.0)) > 10


def test_window_means_are_the_means_of_the_windows() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    means = window_means(rows, 20)
    assert means.shape == (11, 2)
    np.testing.assert_allclose(means[3], rows[3:23].mean(axis=0), atol=1e-6)
