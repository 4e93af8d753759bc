"""Rivals of the monitor and sanity checks, each a small class with ``fit`` and ``score``."""

from __future__ import annotations

from salus_ros.evaluation.baselines.base import Detector
from salus_ros.evaluation.baselines.chunks import CLUSTER_DISTANCES, ChunkScore
from salus_ros.evaluation.baselines.distances import KNearestNeighbours, Mahalanobis, PcaKMeans
from salus_ros.evaluation.baselines.networks import (
    LogpZO,
    RandomNetworkDistillation,
    SafeLstm,
    SafeMlp,
    SeedPredictor,
)
from salus_ros.evaluation.baselines.sanity import (
    ChunkPhase,
    Clock,
    FirstObservation,
    Noise,
    Scenery,
    TaskFailureRate,
)
from salus_ros.evaluation.baselines.signal import EffortThreshold

__all__ = ["Detector", "rivals", "sanity_checks"]


def sanity_checks(seed: int) -> dict[str, tuple[Detector, ...]]:
    """What ours must exceed for its figures to mean anything, by name."""
    checks = (Clock(), ChunkPhase(), TaskFailureRate(), FirstObservation(), Scenery(), Noise(seed))
    return {check.name: (check,) for check in checks}


def rivals(seed: int) -> dict[str, tuple[Detector, ...]]:
    """Published detectors, and what a user would otherwise switch on: name to the variants to be tried."""
    return {
        **{
            name: (ChunkScore(name),)
            for name in (
                "ensemble variance",
                "total variance",
                "overlap divergence",
                "STAC-MMD",
                "direction reversals",
                "chunk entropy",
                "velocity-field disagreement",
            )
        },
        "cluster entropy": tuple(ChunkScore(f"cluster entropy {d:g}") for d in CLUSTER_DISTANCES),
        "effort threshold": (EffortThreshold(),),
        "Mahalanobis": (Mahalanobis(),),
        "k nearest neighbours": tuple(KNearestNeighbours(k) for k in (1, 5, 10)),
        "PCA and k-means": tuple(PcaKMeans(c, k, seed) for c, k in ((32, 16), (32, 64), (64, 64))),
        "random network distillation": (RandomNetworkDistillation(seed),),
        "logpZO": (LogpZO(seed),),
        "SAFE-MLP": (SafeMlp(seed),),
        "SAFE-LSTM": (SafeLstm(seed),),
        "seed predictor": (SeedPredictor(seed),),
    }
