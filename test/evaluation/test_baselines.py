"""Every rival on synthetic episodes whose latents and samples change a second before the failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from salus_ros.data.episode import Episode, Outcome
from salus_ros.evaluation.baselines import chunks, rivals, sanity_checks
from salus_ros.evaluation.baselines.base import AGGREGATIONS, Detector, filled
from salus_ros.evaluation.baselines.networks import SeedPredictor
from salus_ros.evaluation.records import Record, record
from salus_ros.monitor.dataset import sample
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.types import FailureType

Make = Callable[..., Episode]
SEES_THE_SHIFT = {
    "ensemble variance",
    "total variance",
    "chunk entropy",
    "Mahalanobis",
    "k nearest neighbours 1",
    "k nearest neighbours 5",
    "k nearest neighbours 10",
    "PCA and k-means 32 x 16",
    "PCA and k-means 32 x 64",
    "PCA and k-means 64 x 64",
    "random network distillation",
    "logpZO",
    "SAFE-MLP",
    "SAFE-LSTM",
    "seed predictor",
}


@pytest.fixture(name="records", scope="module")
def fixture_records(make_episode: Make) -> list[Record]:
    torch.set_num_threads(1)
    perception = Perception(MonitorSettings())
    found = []
    for seed in range(16):
        fails = seed % 2 == 1
        onset_s = 2.5 + 0.1 * (seed % 5)
        episode = make_episode(
            seed,
            duration_s=4.0,
            outcome=Outcome.TIMEOUT if fails else Outcome.SUCCESS,
            onsets=((onset_s, FailureType(seed // 2 % 3)),) if fails else (),
            monitored=False,
            latent_shift=3.0 if fails else 0.0,
        )
        ticks = sample(episode, perception)
        assert ticks is not None
        found.append(record(episode, ticks, Path("store"), seed))
    return found


def _soon_and_later(records: list[Record], scores: list[np.ndarray]) -> float:
    """AUROC of the last half second before an onset against the first second of all episodes."""
    label, value = [], []
    for r, score in zip(records, scores, strict=True):
        flat = score if score.ndim == 1 else score.max(axis=1)
        soon = (r.time_s > r.first_onset_s - 0.6) & (r.time_s < r.first_onset_s)
        early = (r.time_s > 0.3) & (r.time_s < 1.3)
        label += [True] * int(soon.sum()) + [False] * int(early.sum())
        value += [*flat[soon], *flat[early]]
    return float(roc_auc_score(label, value))


VARIANTS = [d for group in (rivals(0), sanity_checks(0)) for variants in group.values() for d in variants]


@pytest.mark.parametrize("detector", VARIANTS, ids=lambda d: d.name)
def test_every_detector_scores_every_tick_and_sees_what_it_should(
    detector: Detector, records: list[Record]
) -> None:
    detector.fit(records[:10])
    scores = [filled(detector.score(r), 0.0) for r in records[10:]]
    for r, score in zip(records[10:], scores, strict=True):
        assert score.shape[0] == len(r.time_s)
        assert np.isfinite(score).all()
    if detector.name in SEES_THE_SHIFT:
        assert _soon_and_later(records[10:], scores) > 0.8, (
            f"{detector.name} does not see a shift of three deviations"
        )
    if detector.name == "random":
        assert 0.3 < _soon_and_later(records[10:], scores) < 0.7


def test_fitting_is_reproducible_by_seed(records: list[Record]) -> None:
    groups = zip(rivals(3).values(), rivals(3).values(), strict=True)
    for first, second in ((a[0], b[0]) for a, b in groups):
        first.fit(records[:8])
        second.fit(records[:8])
        np.testing.assert_array_equal(first.score(records[9]), second.score(records[9]), err_msg=first.name)


def test_shuffled_labels_teach_nothing(records: list[Record]) -> None:
    rng = np.random.default_rng(0)
    shuffled = [
        replace(r, sample=replace(r.sample, target=rng.random(r.sample.target.shape) < 0.05)) for r in records
    ]
    detector = SeedPredictor(0)
    detector.fit(shuffled[:10])
    scores = np.concatenate([detector.score(r)[:, 0] for r in shuffled[10:]])
    labels = np.concatenate([r.sample.target[:, 0, -1] for r in shuffled[10:]])
    assert roc_auc_score(labels, scores) == pytest.approx(0.5, abs=0.15)


def test_the_seed_predictor_has_its_4868_parameters(records: list[Record]) -> None:
    detector = SeedPredictor(0)
    detector.fit(records[:2])
    assert sum(p.numel() for p in detector.network.parameters()) == 4868


def test_an_ensemble_of_one_has_no_variance_rather_than_none(make_episode: Make) -> None:
    policy = make_episode(duration_s=1.0).policy
    alone = replace(policy, samples=policy.samples[:, :1, :1])
    path_s = alone.stamp_s
    assert np.isnan(chunks.ensemble_variance(alone, path_s)).all()
    assert np.isnan(chunks.total_variance(alone, path_s)).all()
    assert np.isnan(chunks.chunk_entropy(alone, path_s)).all()


def test_a_plan_that_is_kept_has_no_overlap_divergence(make_episode: Make) -> None:
    policy = make_episode(duration_s=1.0).policy
    scores = chunks.overlap_divergence(policy, policy.stamp_s)
    assert np.isnan(scores[0])
    assert scores[1:] == pytest.approx(0.0, abs=1e-12)
    standing_still = chunks.overlap_divergence(policy, 0.5 * policy.stamp_s)
    assert (standing_still[1:] > 1e-5).all(), "at half speed only half as many steps were executed"


def test_mmd_of_two_points_is_what_the_formula_gives() -> None:
    # One vector each at distance d: the median distance is d, so the kernel between them is exp(-1/2).
    assert chunks.mmd_squared(np.zeros((1, 2)), np.array([[3.0, 4.0]])) == pytest.approx(
        2.0 - 2.0 * np.exp(-0.5)
    )
    same = np.random.default_rng(0).normal(size=(5, 3))
    assert chunks.mmd_squared(same, same) == pytest.approx(0.0, abs=1e-12)


def test_total_variance_is_the_trace_of_the_covariance(make_episode: Make) -> None:
    policy = make_episode(duration_s=0.4).policy
    flat = policy.samples[0].reshape(8, -1).astype(float)
    expected = np.trace(np.cov(flat, rowvar=False))
    assert chunks.total_variance(policy, policy.stamp_s)[0] == pytest.approx(expected)


def test_chunk_entropy_of_samples_that_agree_is_zero_and_of_all_different_ones_log_of_their_number(
    make_episode: Make,
) -> None:
    policy = make_episode(duration_s=0.4).policy
    agreed = replace(policy, samples=np.zeros((2, 2, 2, 1, 1), np.float32))
    spread = replace(policy, samples=np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1, 1).repeat(2, axis=0))
    assert chunks.chunk_entropy(agreed, policy.stamp_s) == pytest.approx(0.0)
    assert chunks.chunk_entropy(spread, policy.stamp_s) == pytest.approx(np.log(4))


def test_cluster_entropy_counts_the_clusters_at_a_distance(make_episode: Make) -> None:
    policy = make_episode(duration_s=0.4).policy
    pairs = np.array([0.0, 0.01, 5.0, 5.01], np.float32).reshape(1, 2, 2, 1, 1).repeat(2, axis=0)
    two = replace(policy, samples=pairs)
    assert chunks.cluster_entropy(0.5)(two, policy.stamp_s) == pytest.approx(np.log(2))
    assert chunks.cluster_entropy(50.0)(two, policy.stamp_s) == pytest.approx(0.0)


def test_aggregations_of_a_step_are_what_they_say() -> None:
    score = np.concatenate([np.zeros(10), np.ones(200)])
    assert AGGREGATIONS["single"](score) is score
    assert AGGREGATIONS["sliding 1 s"](score)[[9, 10, 29, 60]] == pytest.approx([0, 1, 20, 20])
    assert AGGREGATIONS["sliding 5 s"](score)[-1] == pytest.approx(100)
    assert AGGREGATIONS["cumulative"](score)[-1] == pytest.approx(200)
    assert AGGREGATIONS["exponential"](np.ones(5)) == pytest.approx(1.0)
    for name, aggregate in AGGREGATIONS.items():
        assert aggregate(np.ones((3, 2))).shape == (3, 2), name


def test_gaps_repeat_the_last_score_and_begin_as_unknown() -> None:
    assert filled(np.array([np.nan, 2.0, np.nan, 1.0]), 7.0).tolist() == [7.0, 2.0, 2.0, 1.0]
