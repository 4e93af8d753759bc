"""Rivals of the monitor and sanity checks, each a small class with ``fit`` and ``score``."""

from __future__ import annotations

from salus_ros.evaluation.baselines.base import Detector
from salus_ros.evaluation.baselines.chunks import ChunkScore
from salus_ros.evaluation.baselines.distances import KNearestNeighbours, Mahalanobis
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


def sanity_checks(seed: int) -> list[Detector]:
    """What ours must exceed for its figures to mean anything."""
    return [Clock(), ChunkPhase(), TaskFailureRate(), FirstObservation(), Scenery(), Noise(seed)]


def rivals(seed: int) -> list[Detector]:
    """Published detectors, and what a user would otherwise switch on."""
    return [
        ChunkScore("ensemble variance"),
        ChunkScore("total variance"),
        ChunkScore("overlap divergence"),
        ChunkScore("STAC-MMD"),
        ChunkScore("direction reversals"),
        ChunkScore("chunk entropy"),
        ChunkScore("velocity-field disagreement"),
        EffortThreshold(),
        Mahalanobis(),
        KNearestNeighbours(),
        RandomNetworkDistillation(seed),
        LogpZO(seed),
        SafeMlp(seed),
        SafeLstm(seed),
        SeedPredictor(seed),
    ]
