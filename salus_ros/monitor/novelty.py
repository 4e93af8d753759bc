"""Whether a window looks like the ones the monitor was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from salus_ros.types import Floats, Floats32

SHRINKAGE = 0.1
"""Share of the identity in the covariance of normalised signals: rank and outliers are no trouble then."""


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """Mahalanobis distance of the window's mean signals from the training data."""

    mean: Floats
    """(2 F,), of the normalised inputs, masks included: a sensor that is missing is novel too"""
    precision: Floats
    """(2 F, 2 F)"""
    threshold: float = float("inf")
    """Distance above which a window counts as outside; conformal over episodes of the calibration set"""

    @classmethod
    def fit(cls, means: Floats) -> Novelty:
        """From windows' mean inputs (N, 2 F)."""
        covariance = np.atleast_2d(np.cov(means, rowvar=False)) if len(means) > 1 else np.eye(means.shape[1])
        shrunk = (1.0 - SHRINKAGE) * covariance + SHRINKAGE * np.eye(len(covariance))
        return cls(np.asarray(means.mean(axis=0)), np.asarray(np.linalg.inv(shrunk), np.float64))

    def distance(self, means: Floats) -> Floats:
        """(...,), of windows' mean inputs (..., 2 F)."""
        apart = means - self.mean
        result: Floats = np.sqrt(np.maximum(((apart @ self.precision) * apart).sum(axis=-1), 0.0))
        return result


def window_means(inputs: Floats32, steps: int) -> Floats:
    """(N - steps + 1, 2 F), mean of each window of that many steps over normalised inputs (N, 2 F)."""
    total = np.cumsum(np.concatenate([np.zeros((1, inputs.shape[1])), inputs]), axis=0)
    means: Floats = (total[steps:] - total[:-steps]) / steps
    return means
