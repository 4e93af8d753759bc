"""How well a score ranks and how well a probability is calibrated, step by step.

Steps of one episode are not independent, so every interval resamples whole episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from salus_ros.errors import SalusError
from salus_ros.evaluation.statistics import CONFIDENCE, UNDEFINED, Estimate, bootstrap
from salus_ros.types import Floats

CALIBRATION_BINS = 10
"""Bins of equal count: onsets are rare, and bins of equal width would leave all but the first empty."""

AUPRC_DRAWS = 200
"""Each draw walks over every step; 200 settle a 95 % interval to a few per cent of its width."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Scores and labels of the steps of many episodes, one row a step."""

    score: Floats
    """(N,), higher = a failure is nearer."""
    label: NDArray[np.bool_]
    """(N,), True when an onset lies within the horizon."""
    episode: NDArray[np.int64]
    """(N,), which episode the step belongs to."""

    def __post_init__(self) -> None:
        shapes = (self.score.shape, self.label.shape, self.episode.shape)
        if len(set(shapes)) != 1 or self.score.ndim != 1:
            raise SalusError(
                f"scores, labels and episodes have shapes {shapes}; give three vectors of one length."
            )
        if not np.isfinite(self.score).all():
            raise SalusError(
                f"{int((~np.isfinite(self.score)).sum())} of {self.score.size} scores are not finite; "
                "leave steps without a score out, or give them the score that stands for unknown."
            )

    @property
    def has_both_classes(self) -> bool:
        """True when there is something to tell apart."""
        return bool(self.label.any() and not self.label.all())


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One type and one horizon."""

    auroc: Estimate
    auprc: Estimate
    prevalence: float
    brier: float
    calibration_error: float
    positives: int
    steps: int


def step_metrics(steps: Steps, draws: int = 2000, seed: int = 0) -> StepMetrics:
    """All numbers of one type and horizon; Brier and calibration error need scores in [0, 1], else nan."""
    count = steps.score.size
    is_probability = count > 0 and steps.score.min() >= 0.0 and steps.score.max() <= 1.0
    return StepMetrics(
        auroc=auroc(steps, draws, seed),
        auprc=auprc(steps, min(draws, AUPRC_DRAWS), seed),
        prevalence=float(steps.label.mean()) if count else float("nan"),
        brier=float(np.mean((steps.score - steps.label) ** 2)) if is_probability else float("nan"),
        calibration_error=expected_calibration_error(steps) if is_probability else float("nan"),
        positives=int(steps.label.sum()),
        steps=count,
    )


def auroc(steps: Steps, draws: int = 2000, seed: int = 0) -> Estimate:
    """Area under the ROC curve with an interval by episode; nan with one class only."""
    if not steps.has_both_classes:
        return UNDEFINED
    concordant, pairs = _pair_counts(steps)
    estimate = bootstrap(lambda w: _weighted_auroc(w, concordant, pairs), len(pairs), draws, CONFIDENCE, seed)
    value = float(roc_auc_score(steps.label, steps.score))
    return Estimate(value, estimate.low, estimate.high)


def auroc_difference(ours: Steps, theirs: Steps, draws: int = 2000, seed: int = 0) -> Estimate:
    """AUROC of ``ours`` minus that of ``theirs``, paired: both are resampled by the same episodes."""
    if not (ours.has_both_classes and theirs.has_both_classes):
        return UNDEFINED
    episodes = np.union1d(ours.episode, theirs.episode)
    first, second = _pair_counts(ours, episodes), _pair_counts(theirs, episodes)
    return bootstrap(
        lambda w: _weighted_auroc(w, *first) - _weighted_auroc(w, *second),
        len(episodes),
        draws,
        CONFIDENCE,
        seed,
    )


def mean_auroc(cells: Sequence[Steps], draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean of the AUROC over cells that have both classes, all resampled by the same episodes.

    Args:
        draws: 0 for the value without an interval.
    """
    statistic = _mean_auroc_statistic(cells, _episodes(cells))
    if statistic is None:
        return UNDEFINED
    if draws == 0:
        value = float(statistic(np.ones((1, _episodes(cells).size)))[0])
        return Estimate(value, float("nan"), float("nan"))
    return bootstrap(statistic, _episodes(cells).size, draws, CONFIDENCE, seed)


def mean_auroc_difference(
    ours: Sequence[Steps], theirs: Sequence[Steps], draws: int = 2000, seed: int = 0
) -> Estimate:
    """Mean AUROC of ``ours`` minus that of ``theirs`` over the same cells, paired by episode."""
    episodes = _episodes([*ours, *theirs])
    first, second = _mean_auroc_statistic(ours, episodes), _mean_auroc_statistic(theirs, episodes)
    if first is None or second is None:
        return UNDEFINED
    return bootstrap(lambda w: first(w) - second(w), episodes.size, draws, CONFIDENCE, seed)


def _episodes(cells: Sequence[Steps]) -> NDArray[np.int64]:
    episodes: NDArray[np.int64] = np.unique(np.concatenate([cell.episode for cell in cells]))
    return episodes


def _mean_auroc_statistic(
    cells: Sequence[Steps], episodes: NDArray[np.int64]
) -> Callable[[Floats], Floats] | None:
    """Weights (draws, E) to the mean over the cells that are defined under them."""
    counts = [_pair_counts(cell, episodes) for cell in cells if cell.has_both_classes]
    if not counts:
        return None

    def mean(weights: Floats) -> Floats:
        values = np.stack([_weighted_auroc(weights, *count) for count in counts])
        defined = np.isfinite(values).sum(axis=0)
        result: Floats = np.where(defined > 0, np.nansum(values, axis=0) / np.maximum(defined, 1), np.nan)
        return result

    return mean


def auprc(steps: Steps, draws: int = AUPRC_DRAWS, seed: int = 0) -> Estimate:
    """Average precision with an interval by episode; compare it with the prevalence, which is chance."""
    if not steps.has_both_classes:
        return UNDEFINED
    order = np.argsort(-steps.score, kind="stable")
    label = steps.label[order]
    last_of_tie = np.append(np.diff(steps.score[order]) != 0.0, True)
    episodes, index = np.unique(steps.episode[order], return_inverse=True)

    def average_precision(weights: Floats) -> Floats:
        values = np.empty(len(weights))
        for row, episode_weight in enumerate(weights):
            weight = episode_weight[index]
            true = np.cumsum(weight * label)[last_of_tie]
            flagged = np.cumsum(weight)[last_of_tie]
            precision = np.divide(true, flagged, out=np.zeros_like(true), where=flagged > 0.0)
            values[row] = np.diff(true, prepend=0.0) @ precision / true[-1] if true[-1] > 0.0 else np.nan
        return values

    estimate = bootstrap(average_precision, len(episodes), draws, CONFIDENCE, seed)
    value = float(average_precision_score(steps.label, steps.score))
    return Estimate(value, estimate.low, estimate.high)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Points of a reliability plot, one a bin."""

    predicted: Floats
    """(B,), mean predicted probability."""
    observed: Floats
    """(B,), share of positives."""
    count: NDArray[np.int64]
    """(B,)"""


def reliability(steps: Steps, bins: int = CALIBRATION_BINS) -> Reliability:
    """Bins of equal count over the predicted probability; steps of equal score share a bin."""
    edges = np.unique(np.quantile(steps.score, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    index = np.searchsorted(edges, steps.score, side="left")
    count = np.bincount(index, minlength=len(edges) + 1)
    kept = count > 0
    predicted = np.bincount(index, steps.score, len(edges) + 1)[kept] / count[kept]
    observed = np.bincount(index, steps.label, len(edges) + 1)[kept] / count[kept]
    return Reliability(predicted, observed, count[kept])


def expected_calibration_error(steps: Steps, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance between predicted probability and observed share, weighted by the bins' counts."""
    points = reliability(steps, bins)
    return float(np.average(np.abs(points.predicted - points.observed), weights=points.count))


def _pair_counts(steps: Steps, episodes: NDArray[np.int64] | None = None) -> tuple[Floats, Floats]:
    """For each two episodes: concordant pairs (positive of i above negative of j, ties half), and all pairs.

    AUROC under any weighting of the episodes is a ratio of two quadratic forms in these
    (E, E) matrices, which makes thousands of resamples cheap.
    """
    if episodes is None:
        episodes = np.unique(steps.episode)
    index = np.searchsorted(episodes, steps.episode)
    positive = steps.score[steps.label]
    positive_episode = index[steps.label]
    order = np.argsort(index[~steps.label], kind="stable")
    negative = steps.score[~steps.label][order]
    bounds = np.searchsorted(index[~steps.label][order], np.arange(len(episodes) + 1))
    concordant = np.zeros((len(episodes), len(episodes)))
    for j in range(len(episodes)):
        values = np.sort(negative[bounds[j] : bounds[j + 1]])
        below = 0.5 * (np.searchsorted(values, positive, "left") + np.searchsorted(values, positive, "right"))
        concordant[:, j] = np.bincount(positive_episode, below, len(episodes))
    pairs = np.outer(np.bincount(positive_episode, minlength=len(episodes)), np.diff(bounds)).astype(
        np.float64
    )
    return concordant, pairs


def _weighted_auroc(weights: Floats, concordant: Floats, pairs: Floats) -> Floats:
    numerator = np.einsum("be,be->b", weights @ concordant, weights)
    denominator = np.einsum("be,be->b", weights @ pairs, weights)
    result: Floats = np.full(len(weights), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0.0)
    return result
