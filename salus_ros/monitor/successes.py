"""Fits the distance from successes: nothing here looks at a failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.novelty import Novelty
from salus_ros.monitor.predictor import REACH, Normalisation
from salus_ros.monitor.predictors import SuccessDistance, recent_means
from salus_ros.monitor.preparation import padded
from salus_ros.types import Floats32

USUAL: Final = 0.99
"""Share of the steps of successes whose log odds lie below zero."""


def fit_successes(
    train_set: Sequence[Sample], tune_set: Sequence[Sample], normalisation: Normalisation
) -> dict[str, Floats32]:
    """Arrays of a ``SuccessDistance``.

    Args:
        train_set: its successes are what windows are compared with.
        tune_set: its successes say how far apart windows of successes are.
        normalisation: of the signals.

    Raises:
        SalusError: a set without a success.
    """
    train, tune = (
        [(padded(normalisation.apply(s.frames), REACH), s.judged) for s in group if s.success]
        for group in (train_set, tune_set)
    )
    if not train or not tune:
        raise SalusError(
            f"{len(train)} successes to train on and {len(tune)} to tune on were given; expected one or more "
            "of both: collect more episodes."
        )
    known = Novelty.fit(np.concatenate([recent_means(rows)[judged] for rows, judged in train]))
    arrays = {
        "mean": np.asarray(known.mean, np.float32),
        "precision": np.asarray(known.precision, np.float32),
        "scale": np.array([0.0, 1.0], np.float32),
    }
    distance = SuccessDistance(arrays)
    usual = np.concatenate([distance.distance(rows)[judged] for rows, judged in tune])
    width = max(float(usual.std()), 1e-6)
    return arrays | {"scale": np.array([np.quantile(usual, USUAL), width], np.float32)}
