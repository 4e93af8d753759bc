"""From scores to probabilities that mean what they say, and to an alarm with a stated false-alarm rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.monitor.predictor import sigmoid
from salus_ros.types import Floats

EPSILON = 1e-7
MIN_SLOPE, MAX_SLOPE = 0.2, 3.0
"""Beyond these the calibration set was too small to be believed."""


def logit(probability: Floats | float) -> Floats:
    """Log odds; 0 and 1 are moved inside by ``EPSILON``."""
    p = np.clip(np.asarray(probability, float), EPSILON, 1.0 - EPSILON)
    result: Floats = np.log(p) - np.log1p(-p)
    return result


@dataclass(frozen=True, slots=True)
class Platt:
    """A logistic map of log odds: p -> sigmoid(slope logit(p) + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    @classmethod
    def fit(cls, probability: Floats, target: Floats, weight: Floats | None = None) -> Platt:
        """Newton's method on the log loss of N steps (N,), held near slope 1 by a weak prior.

        With fewer than two positive or negative steps only the offset moves, and without any nothing does.
        """
        z, y = logit(probability), np.asarray(target, float)
        w = np.ones_like(z) if weight is None else np.asarray(weight, float)
        if len(z) == 0 or y.sum() < 1:
            return cls()
        prior = np.array([1.0, 0.01])  # pseudo-observations: about one step's worth on the slope
        theta = np.array([1.0, 0.0])
        features = np.stack([z, np.ones_like(z)], axis=1)
        for _ in range(50):
            p = sigmoid(features @ theta)
            gradient = features.T @ (w * (p - y)) + prior * (theta - [1.0, 0.0])
            curvature = features.T @ (features * (w * p * (1.0 - p))[:, None]) + np.diag(prior)
            step = np.linalg.solve(curvature, gradient)
            theta -= np.clip(step, -1.0, 1.0)
            if np.abs(step).max() < 1e-8:
                break
        slope = float(np.clip(theta[0], MIN_SLOPE, MAX_SLOPE))
        if slope != theta[0]:
            theta[1] = _offset_only(z * slope, y, w)
        return cls(slope, float(theta[1]))

    def apply(self, probability: Floats) -> Floats:
        """Calibrated probabilities, in the same order as the given ones."""
        return sigmoid(self.slope * logit(probability) + self.offset)


def _offset_only(z: Floats, y: Floats, w: Floats) -> float:
    """Offset at which the mean probability is the observed rate."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if (w * sigmoid(z + middle)).sum() < (w * y).sum() else (low, middle)
    return (low + high) / 2.0


def conformal_rank(count: int, alpha: float) -> int:
    """Rank ceil((n + 1) (1 - alpha)), among n, of a score that a fresh one exceeds with ``alpha`` at most."""
    return math.ceil((count + 1) * (1.0 - alpha) - 1e-9)


def conformal_quantile(scores: Floats, alpha: float) -> float:
    """Score that a fresh, exchangeable one exceeds with probability ``alpha`` at most.

    The score of that rank; infinite when the rank exceeds n.
    """
    rank = conformal_rank(len(scores), alpha)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def needed_episodes(alpha: float) -> int:
    """Smallest n for which the conformal quantile is finite."""
    return math.ceil(1.0 / alpha - 1.0 - 1e-9)


SMALLEST_SPREAD: Final = 0.25
"""Log odds; so that a type which is hardly ever judged gets a threshold all the same."""


def usual_heights(maxima: Floats) -> Floats:
    """(2, K), the median of each type's maximum in successes (M, K) and the spread above it, in log odds.

    The spread reaches to the height that one success in twenty passes: a long tail is a wide one.
    """
    if not len(maxima):
        return np.stack([np.zeros(maxima.shape[1]), np.ones(maxima.shape[1])])
    median, high = logit(np.quantile(maxima, [0.5, 0.95], axis=0))
    return np.stack([median, np.maximum(high - median, SMALLEST_SPREAD)])


def alarm_thresholds(usual: Floats, maxima: Floats, alpha: float) -> Floats:
    """(K,), one probability per failure type; an alarm is any type above its own.

    One number is conformal: the largest excess over the types of an episode's maximum log odds over the
    type's median, in spreads of that type. So the types together raise a false alarm in a share ``alpha`` of
    successful episodes at most, and none that is seldom high in successes pays for one that often is.

    Args:
        usual: (2, K), what ``usual_heights`` says of other episodes.
        maxima: (N, K), highest probability of each type in successful episodes that nothing else has seen.
        alpha: false alarms per successful episode.

    Raises:
        SalusError: too few calibration episodes for ``alpha``.
    """
    median, spread = usual
    excess = ((logit(maxima) - median) / spread).max(axis=1) if len(maxima) else np.empty(0)
    margin = conformal_quantile(excess, alpha)
    if math.isinf(margin):
        raise SalusError(
            f"{len(maxima)} successful calibration episodes were given; a false-alarm rate of "
            f"{alpha:g} needs {needed_episodes(alpha)} or more: collect more episodes or raise --alpha."
        )
    return sigmoid(median + margin * spread)
