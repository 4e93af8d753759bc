"""Which episodes may be used for what: by the episode's seed alone, the same for ever."""

from __future__ import annotations

import enum
import hashlib
from typing import Final


class Split(enum.Enum):
    """Disjoint sets of episode seeds."""

    TRAIN = "train"
    """Weights, normalisation, and what counts as inside the training data."""
    TUNE = "tune"
    """Early stopping (one half), calibration of probabilities (the other), what is usual for each type."""
    CALIBRATE = "calibrate"
    """The conformal thresholds, and nothing else."""
    TEST = "test"
    """Never seen by any fit."""


SHARES: Final = ((Split.TRAIN, 0.58), (Split.TUNE, 0.12), (Split.CALIBRATE, 0.18), (Split.TEST, 0.12))


def split_of(seed: int) -> Split:
    """The set that an episode seed belongs to; episodes of one scene always share it."""
    digest = hashlib.sha256(f"salus episode {seed}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2.0**64
    reached = 0.0
    for split, share in SHARES:
        reached += share
        if position < reached:
            return split
    return Split.TEST


def stops_early(seed: int) -> bool:
    """Which half a ``TUNE`` seed is of: the one that early stopping looks at, or the one that it does not.

    The epoch is chosen to fit the first half, so probabilities are calibrated on the second.
    """
    return hashlib.sha256(f"salus early stopping {seed}".encode()).digest()[0] < 128
