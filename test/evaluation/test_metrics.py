import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from salus_ros.errors import SalusError
from salus_ros.evaluation.metrics import (
    Steps,
    _pair_counts,
    _weighted_auroc,
    auprc,
    auroc,
    auroc_difference,
    expected_calibration_error,
    reliability,
    step_metrics,
)


def _steps(episodes: int = 40, length: int = 50, signal: float = 1.0, seed: int = 0) -> Steps:
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(episodes), length)
    label = np.tile(np.arange(length) >= length - 8, episodes) & (episode % 2 == 0)
    score = np.round(rng.normal(0.0, 1.0, label.size) + signal * label, 1)
    return Steps(score, label, episode)


def test_auroc_and_auprc_are_those_of_scikit_learn_ties_included() -> None:
    steps = _steps()
    ones = np.ones((1, 40))
    assert auroc(steps).value == roc_auc_score(steps.label, steps.score)
    assert _weighted_auroc(ones, *_pair_counts(steps))[0] == pytest.approx(
        roc_auc_score(steps.label, steps.score)
    )
    assert auprc(steps, 20).value == pytest.approx(average_precision_score(steps.label, steps.score))


def test_resampled_auroc_is_that_of_the_resampled_episodes() -> None:
    steps = _steps(episodes=6)
    weight = np.array([[2.0, 0.0, 1.0, 3.0, 0.0, 1.0]])
    expected = roc_auc_score(steps.label, steps.score, sample_weight=weight[0][steps.episode])
    assert _weighted_auroc(weight, *_pair_counts(steps))[0] == pytest.approx(expected)


def test_intervals_by_episode_are_wider_than_steps_would_have_it() -> None:
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(30), 100)
    per_episode = np.repeat(rng.normal(0.0, 1.0, 30), 100)
    label = np.repeat(np.arange(30) % 2 == 0, 100)
    by_episode = auroc(Steps(per_episode + 0.5 * label, label, episode))
    by_step = auroc(Steps(per_episode + 0.5 * label, label, np.arange(3000)), draws=50)
    assert by_episode.high - by_episode.low > 3 * (by_step.high - by_step.low)


def test_the_interval_of_a_score_that_knows_nothing_contains_one_half() -> None:
    estimate = auroc(_steps(signal=0.0))
    assert estimate.low < 0.5 < estimate.high


def test_the_difference_of_two_scores_on_the_same_episodes_is_paired() -> None:
    ours, theirs = _steps(signal=1.5), _steps(signal=0.5)
    difference = auroc_difference(ours, theirs)
    assert difference.value == pytest.approx(auroc(ours).value - auroc(theirs).value)
    assert difference.excludes_zero
    assert auroc_difference(ours, ours).value == 0.0


def test_one_class_alone_has_no_auroc() -> None:
    steps = Steps(np.ones(4), np.zeros(4, bool), np.arange(4))
    assert np.isnan(auroc(steps).value)
    assert np.isnan(auprc(steps).value)


def test_brier_and_calibration_error_of_a_known_case() -> None:
    # Half the steps say 0.2 and a quarter of them come true; half say 0.8 and all of them do.
    score = np.repeat([0.2, 0.8], 40)
    label = np.concatenate([np.arange(40) % 4 == 0, np.ones(40, bool)])
    steps = Steps(score, label, np.arange(80))
    metrics = step_metrics(steps, draws=20)
    assert metrics.brier == pytest.approx(0.5 * (0.25 * 0.64 + 0.75 * 0.04) + 0.5 * 0.04)
    assert metrics.calibration_error == pytest.approx(0.5 * 0.05 + 0.5 * 0.2)
    assert metrics.prevalence == pytest.approx(0.625)
    points = reliability(steps)
    assert points.predicted == pytest.approx([0.2, 0.8])
    assert points.observed == pytest.approx([0.25, 1.0])


def test_perfect_probabilities_have_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0.0, 1.0, 40_000)
    steps = Steps(score, rng.uniform(0.0, 1.0, 40_000) < score, np.arange(40_000))
    assert expected_calibration_error(steps) < 0.01


def test_a_score_that_is_no_probability_has_no_brier_score() -> None:
    assert np.isnan(step_metrics(_steps(), draws=10).brier)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(SalusError, match="1 of 2 scores are not finite"):
        Steps(np.array([0.0, np.nan]), np.array([True, False]), np.arange(2))
