import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from salus_ros.errors import SalusError
from salus_ros.evaluation.metrics import (
    Steps,
    _Ranks,
    auroc,
    expected_calibration_error,
    mean_auroc,
    mean_over_cells,
    reliability,
    step_metrics,
)
from salus_ros.evaluation.statistics import Estimate, interval, whole_and_resamples


def _steps(episodes: int = 40, length: int = 50, signal: float = 1.0, seed: int = 0) -> Steps:
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(episodes), length)
    label = np.tile(np.arange(length) >= length - 8, episodes) & (episode % 2 == 0)
    score = np.round(rng.normal(0.0, 1.0, label.size) + signal * label, 1)
    return Steps(score, label, episode)


def _whole(episodes: int) -> np.ndarray:
    return np.ones((1, episodes))


def _estimate(steps: Steps, draws: int = 500) -> Estimate:
    return interval(auroc(steps, whole_and_resamples(int(steps.episode.max()) + 1, draws)))


def test_auroc_and_auprc_are_those_of_scikit_learn_ties_included() -> None:
    steps = _steps()
    metrics, aurocs = step_metrics(steps, _whole(40))
    assert aurocs == pytest.approx([roc_auc_score(steps.label, steps.score)])
    assert metrics.auroc.value == aurocs[0]
    assert metrics.auprc.value == pytest.approx(average_precision_score(steps.label, steps.score))
    assert mean_auroc([steps, steps]) == pytest.approx(aurocs[0])


def test_resampled_auroc_and_auprc_are_those_of_the_resampled_episodes() -> None:
    steps = _steps(episodes=6)
    weights = np.array([[1.0] * 6, [2.0, 0.0, 1.0, 3.0, 0.0, 1.0]])
    each = weights[1][steps.episode]
    expected = roc_auc_score(steps.label, steps.score, sample_weight=each)
    assert auroc(steps, weights)[1] == pytest.approx(expected)
    expected = average_precision_score(steps.label, steps.score, sample_weight=each)
    assert _Ranks(steps, 6).auprc(weights)[1] == pytest.approx(expected)


def test_intervals_by_episode_are_wider_than_steps_would_have_it() -> None:
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(30), 100)
    per_episode = np.repeat(rng.normal(0.0, 1.0, 30), 100)
    label = np.repeat(np.arange(30) % 2 == 0, 100)
    by_episode = _estimate(Steps(per_episode + 0.5 * label, label, episode))
    by_step = _estimate(Steps(per_episode + 0.5 * label, label, np.arange(3000)), draws=50)
    assert by_episode.high - by_episode.low > 3 * (by_step.high - by_step.low)


def test_the_interval_of_a_score_that_knows_nothing_contains_one_half() -> None:
    estimate = _estimate(_steps(signal=0.0))
    assert estimate.low < 0.5 < estimate.high


def test_the_difference_of_two_scores_on_the_same_episodes_is_paired() -> None:
    weights = whole_and_resamples(40, 500)
    ours, theirs = (auroc(_steps(signal=signal), weights) for signal in (1.5, 0.5))
    difference = interval(ours - theirs)
    assert difference.value == pytest.approx(ours[0] - theirs[0])
    assert difference.excludes_zero
    alone = interval(ours - np.roll(theirs, 1))
    assert difference.high - difference.low < alone.high - alone.low, "chance that both share falls out"


def test_one_class_alone_has_no_auroc_and_does_not_spoil_the_mean_over_cells() -> None:
    steps = Steps(np.ones(4), np.zeros(4, bool), np.arange(4))
    metrics, aurocs = step_metrics(steps, _whole(4))
    assert np.isnan(aurocs).all()
    assert np.isnan(metrics.auprc.value)
    assert np.isnan(mean_auroc([steps]))
    assert mean_over_cells(np.array([[np.nan], [0.7], [0.9]])) == pytest.approx([0.8])


def test_brier_and_calibration_error_of_a_known_case() -> None:
    # Half the steps say 0.2 and a quarter of them come true; half say 0.8 and all of them do.
    score = np.repeat([0.2, 0.8], 40)
    label = np.concatenate([np.arange(40) % 4 == 0, np.ones(40, bool)])
    steps = Steps(score, label, np.arange(80))
    metrics, _ = step_metrics(steps, _whole(80))
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
    assert np.isnan(step_metrics(_steps(), _whole(40))[0].brier)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(SalusError, match="1 of 2 scores are not finite"):
        Steps(np.array([0.0, np.nan]), np.array([True, False]), np.arange(2))
