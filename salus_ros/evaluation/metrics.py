"""How well a score ranks and how well a probability is calibrated, step by step.

Steps of one episode are not independent, so every interval resamples whole episodes: ``weights`` (1 + draws,
E) say how often each of E episodes counts, in the whole (the first row) and in each resample. The same
for two scores make their difference a paired one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from salus_ros.errors import SalusError
from salus_ros.evaluation.statistics import UNDEFINED, Estimate, interval
from salus_ros.types import Floats

CALIBRATION_BINS = 10
"""Bins of equal count: onsets are rare, and bins of equal width would leave all but the first empty."""

AUPRC_DRAWS = 200
"""Each draw costs a sum over all scores; 200 settle a 95 % interval to a few per cent of its width."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Scores and labels of the steps of many episodes, one row a step."""

    score: Floats
    """(N,), higher = a failure is nearer."""
    label: NDArray[np.bool_]
    """(N,), True when an onset lies within the horizon."""
    episode: NDArray[np.int64]
    """(N,), which of the E episodes the step belongs to, counted from 0."""

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


def step_metrics(steps: Steps, weights: Floats) -> tuple[StepMetrics, Floats]:
    """All numbers of one type and horizon, and the AUROC under all weights (1 + draws,).

    Brier and calibration error need scores in [0, 1], else they are nan.
    """
    count = steps.score.size
    is_probability = count > 0 and steps.score.min() >= 0.0 and steps.score.max() <= 1.0
    ranked = _Ranks(steps, weights.shape[1]) if steps.has_both_classes else None
    aurocs = ranked.auroc(weights) if ranked else np.full(len(weights), np.nan)
    metrics = StepMetrics(
        auroc=interval(aurocs),
        auprc=interval(ranked.auprc(weights[: 1 + AUPRC_DRAWS])) if ranked else UNDEFINED,
        prevalence=float(steps.label.mean()) if count else float("nan"),
        brier=float(np.mean((steps.score - steps.label) ** 2)) if is_probability else float("nan"),
        calibration_error=expected_calibration_error(steps) if is_probability else float("nan"),
        positives=int(steps.label.sum()),
        steps=count,
    )
    return metrics, aurocs


def auroc(steps: Steps, weights: Floats) -> Floats:
    """(1 + draws,), area under the ROC curve under each weighting; nan where there is one class only."""
    if not steps.has_both_classes:
        return np.full(len(weights), np.nan)
    return _Ranks(steps, weights.shape[1]).auroc(weights)


def mean_over_cells(values: Floats) -> Floats:
    """(1 + draws,), mean over the cells (cells, 1 + draws) that are defined."""
    defined = np.isfinite(values).sum(axis=0)
    result: Floats = np.where(defined > 0, np.nansum(values, axis=0) / np.maximum(defined, 1), np.nan)
    return result


def mean_auroc(cells: Sequence[Steps]) -> float:
    """Mean over the cells that have both classes; nan without any."""
    values = [float(roc_auc_score(cell.label, cell.score)) for cell in cells if cell.has_both_classes]
    return float(np.mean(values)) if values else float("nan")


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


class _Ranks:
    """Where each episode's scores lie among the S distinct scores of all positive steps.

    AUROC and average precision under any weighting of the episodes are sums over these few numbers, which
    makes thousands of resamples cheap. At equal weights both are those of scikit-learn; that is tested.
    """

    def __init__(self, steps: Steps, episodes: int) -> None:
        scores = np.unique(steps.score[steps.label])

        def counted(chosen: NDArray[np.bool_], side: Literal["left", "right"]) -> Floats:
            """(E, S), an episode's steps below a score (right), or below and at it (left)."""
            place = np.searchsorted(scores, steps.score[chosen], side)
            shape = (episodes, len(scores) + 1)
            cells = np.bincount(steps.episode[chosen] * shape[1] + place, minlength=shape[0] * shape[1])
            return np.cumsum(cells.reshape(shape)[:, :-1], axis=1, dtype=np.float64)

        self._positives_up_to = counted(steps.label, "left")
        self._negatives_below = counted(~steps.label, "right")
        self._negatives_up_to = counted(~steps.label, "left")
        self._positives = np.bincount(steps.episode[steps.label], minlength=episodes).astype(np.float64)
        self._negatives = np.bincount(steps.episode[~steps.label], minlength=episodes).astype(np.float64)

    def auroc(self, weights: Floats) -> Floats:
        """(draws,) under weights (draws, E): the share of pairs in order, ties half; nan without a pair."""
        holds = self._positives > 0
        positives = np.diff(self._positives_up_to[holds], axis=1, prepend=0.0)
        # (E with a positive, E), pairs of a positive of one and a negative of the other in order
        concordant = 0.5 * positives @ (self._negatives_below + self._negatives_up_to).T
        in_order = ((weights[:, holds] @ concordant) * weights).sum(axis=1)
        pairs = (weights @ self._positives) * (weights @ self._negatives)
        result: Floats = np.full(len(weights), np.nan)
        np.divide(in_order, pairs, out=result, where=pairs > 0.0)
        return result

    def auprc(self, weights: Floats) -> Floats:
        """(draws,) average precision under weights (draws, E); nan without a positive."""
        all_positives, all_negatives = weights @ self._positives, weights @ self._negatives
        below = np.concatenate(  # (draws, S), positives below each score
            [np.zeros((len(weights), 1)), (weights @ self._positives_up_to)[:, :-1]], axis=1
        )
        found = all_positives[:, None] - below
        flagged = found + all_negatives[:, None] - weights @ self._negatives_below
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0.0)
        gained = -np.diff(found, axis=1, append=0.0)
        result: Floats = np.full(len(weights), np.nan)
        np.divide((gained * precision).sum(axis=1), all_positives, out=result, where=all_positives > 0.0)
        return result
