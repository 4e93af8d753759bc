"""What a monitor says about a whole recorded episode, at once: the same as live, tick by tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus_ros.monitor.calibration import conformal_quantile
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.judgement import Raw, calibrated, judge
from salus_ros.monitor.novelty import window_means
from salus_ros.monitor.predictor import REACH, TYPES, sigmoid
from salus_ros.monitor.predictors import load_predictor
from salus_ros.monitor.preparation import padded, prepared
from salus_ros.types import FailurePrediction, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One episode of N steps."""

    sample: Sample
    raw: Raw
    """Before calibration."""
    distance: Floats
    """(N,), from the training data."""


def score(checkpoint: Checkpoint, samples: Sequence[Sample]) -> list[Scored]:
    """What the checkpoint's predictor says about episodes."""
    predictor = load_predictor(checkpoint.kind, checkpoint.members, checkpoint.signals)
    steps = max(checkpoint.settings.window_steps, REACH)
    found = []
    for sample in samples:
        seen = prepared(sample, checkpoint.signals, checkpoint.latents)
        rows = padded(checkpoint.normalisation.apply(seen.frames), steps)
        logits = predictor.sequence(rows[steps - REACH :])
        raw = Raw.of(logits, checkpoint.smoothing, seen.judged_at_all)
        found.append(Scored(seen, raw, checkpoint.novelty.distance(window_means(rows, steps))))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What the deployed monitor says at the N steps of an episode, as arrays."""

    probability: Floats
    """(N, failure types, horizons), calibrated"""
    timeout: Floats
    """(N,), probability of a time-out; nan where nothing is known about it"""
    out_of_distribution: NDArray[np.bool_]
    """(N,)"""


def series(checkpoint: Checkpoint, samples: Sequence[Sample]) -> list[Series]:
    """What ``judgements`` says, for many episodes and without an object for each step."""
    return [
        Series(
            calibrated(checkpoint.calibration, s.raw.probability),
            checkpoint.timeout_calibration.apply(sigmoid(s.raw.timeout)),
            np.asarray(s.distance > checkpoint.novelty.threshold),
        )
        for s in score(checkpoint, samples)
    ]


def judgements(checkpoint: Checkpoint, sample: Sample) -> list[FailurePrediction]:
    """What the deployed monitor says at each step of an episode."""
    (scored,) = score(checkpoint, [sample])
    return [
        judge(
            checkpoint,
            scored.raw.probability[i],
            float(scored.raw.timeout[i]),
            distance=float(scored.distance[i]),
            stamp_s=float(now_s),
            sequence=0,
        )
        for i, now_s in enumerate(sample.time_s)
    ]


def success_maxima(checkpoint: Checkpoint, scored: Sequence[Scored]) -> Floats:
    """(M, failure types), highest calibrated probability at the longest horizon in each success."""
    rows = [
        calibrated(checkpoint.calibration, s.raw.probability)[s.sample.judged, :, -1].max(axis=0, initial=0.0)
        for s in scored
        if s.sample.success
    ]
    return np.array(rows).reshape(-1, TYPES)


def novelty_threshold(scored: Sequence[Scored], alpha: float) -> float:
    """Distance that an episode like these exceeds at some moment with probability ``alpha`` at most."""
    strangest = np.array([s.distance[s.sample.judged].max(initial=0.0) for s in scored])
    return conformal_quantile(strangest, alpha)
