"""Scores that know nothing of the policy's state of mind. Whoever cannot beat them has learned scenery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from salus_ros.evaluation.baselines.signal import column
from salus_ros.types import FailureType, Floats

if TYPE_CHECKING:
    from salus_ros.evaluation.records import Record


class Clock:
    """Time since the episode began."""

    name = "clock"

    def fit(self, records: Sequence[Record]) -> None:
        """Nothing to learn."""

    def score(self, record: Record) -> Floats:
        """(N,)"""
        return record.time_s


class ChunkPhase:
    """Time since the newest policy output's observation."""

    name = "phase within a chunk"

    def fit(self, records: Sequence[Record]) -> None:
        """Nothing to learn."""

    def score(self, record: Record) -> Floats:
        """(N,)"""
        return record.chunk_age_s


class TaskFailureRate:
    """How often each failure began in the training episodes of this task."""

    name = "task failure rate"

    def __init__(self) -> None:
        self._rate: dict[str, Floats] = {}

    def fit(self, records: Sequence[Record]) -> None:
        """Counts."""
        episodes = Counter(r.task for r in records)
        self._rate = {
            task: np.array(
                [sum(r.task == task and bool(len(r.onsets_s(f))) for r in records) / n for f in FailureType]
            )
            for task, n in episodes.items()
        }

    def score(self, record: Record) -> Floats:
        """(N, types)"""
        rate = self._rate.get(record.task, np.zeros(len(FailureType)))
        return np.tile(rate, (len(record.time_s), 1))


class Noise:
    """Random numbers: what the first SALUS called its dummy policy's uncertainty."""

    name = "random"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, records: Sequence[Record]) -> None:
        """Nothing to learn."""

    def score(self, record: Record) -> Floats:
        """(N,)"""
        return np.random.default_rng([self._seed, abs(record.sample.seed)]).random(len(record.time_s))


class FirstObservation:
    """Logistic regression from the first latent of an episode to whether each failure will begin."""

    name = "first observation"

    def __init__(self) -> None:
        self._models: list[Pipeline | None] = []

    def fit(self, records: Sequence[Record]) -> None:
        """One model a type; a type that always or never occurs gets none."""
        first = np.array([_first_latent(r) for r in records])
        self._models = []
        for failure in FailureType:
            occurs = np.array([bool(len(r.onsets_s(failure))) for r in records])
            usable = first.size > 0 and 0 < occurs.sum() < len(occurs)
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
            self._models.append(model.fit(first, occurs) if usable else None)

    def score(self, record: Record) -> Floats:
        """(N, types), constant over the episode."""
        first = _first_latent(record)[None]
        now = [0.0 if m is None else float(m.predict_proba(first)[0, 1]) for m in self._models]
        return np.tile(np.array(now), (len(record.time_s), 1))


class Scenery:
    """Logistic regression on gripper opening and hand height: drops follow grasps."""

    name = "aperture and height"

    def __init__(self) -> None:
        self._models: list[Pipeline | None] = []

    def fit(self, records: Sequence[Record]) -> None:
        """One model a type, quadratic in both, on the labels of the longest horizon."""
        inputs = np.concatenate([_scenery(r) for r in records])
        self._models = []
        for failure in FailureType:
            target = np.concatenate([r.sample.target[:, failure, -1] for r in records])
            valid = np.concatenate([r.sample.valid[:, failure, -1] for r in records])
            usable = 0 < target[valid].sum() < valid.sum()
            model = make_pipeline(
                StandardScaler(),
                PolynomialFeatures(2),
                LogisticRegression(max_iter=1000, class_weight="balanced"),
            )
            self._models.append(model.fit(inputs[valid], target[valid]) if usable else None)

    def score(self, record: Record) -> Floats:
        """(N, types)"""
        inputs = _scenery(record)
        zeros = np.zeros(len(inputs))
        return np.stack([zeros if m is None else m.predict_proba(inputs)[:, 1] for m in self._models], axis=1)


def _first_latent(record: Record) -> Floats:
    known = np.isfinite(record.latent).all(axis=1) if record.latent.size else np.zeros(0, bool)
    return (
        record.latent[np.argmax(known)].astype(np.float64)
        if known.any()
        else np.zeros(record.latent.shape[1])
    )


def _scenery(record: Record) -> Floats:
    """(N, 2), gaps as zero: the scaler has moved nothing yet."""
    opening, height = column(record, "execution.opening"), column(record, "motion.tool_height")
    return np.nan_to_num(np.stack([opening, height], axis=1))
