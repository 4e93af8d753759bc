"""How far a policy's latent lies from those of successful training episodes, in three ways.

All three look at the latent after a principal component analysis of the successes' latents, scaled to unit
variance: the Mahalanobis distance, the mean distance to the nearest of some kept latents, and random network
distillation (a network that was trained on successes to imitate a frozen random one fails where it never saw
anything like it). Fitted once in training, and kept in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from salus_ros.types import Floats, Floats32

DISTANCES: Final = ("mahalanobis", "nearest", "distillation")
COMPONENTS: Final = 16
KEPT: Final = 400
"""Latents kept for the nearest neighbours."""
NEIGHBOURS: Final = 5
WIDTH: Final = 32
"""Of the hidden layer of both networks."""
OUTPUTS: Final = 16
RIDGE: Final = 1e-2
"""The imitating network's last layer is a ridge regression on random features: convex, and no epochs."""


@dataclass(frozen=True, slots=True, eq=False)
class LatentReference:
    """Fitted on latents of L numbers; D components are kept."""

    mean: Floats32
    """(L,)"""
    axes: Floats32
    """(L, D), principal axes over the standard deviation along each."""
    kept: Floats32
    """(K, D), latents of successes, scaled."""
    frozen_in: Floats32
    """(D + 1, WIDTH), the random network: its first layer, and below it"""
    frozen_out: Floats32
    """(WIDTH + 1, OUTPUTS)"""
    learned_in: Floats32
    """(D + 1, WIDTH), the imitating network, random too"""
    learned_out: Floats32
    """(WIDTH + 1, OUTPUTS), the layer that was fitted"""

    @classmethod
    def fit(cls, latents: Floats32, seed: int = 0) -> LatentReference:
        """From latents of successes (P, L), one a policy output."""
        rng = np.random.default_rng(seed)
        mean = latents.mean(axis=0, dtype=np.float64)
        centred = latents.astype(np.float64) - mean
        _, spread, axes = np.linalg.svd(centred, full_matrices=False)
        count = min(COMPONENTS, int((spread > 1e-6 * spread[0]).sum()))
        deviation = spread[:count] / np.sqrt(max(len(latents) - 1, 1))
        scaled = centred @ (axes[:count].T / deviation)
        kept = scaled[np.sort(rng.permutation(len(scaled))[:KEPT])]

        def layer(inputs: int, outputs: int) -> Floats:
            return rng.normal(0.0, 1.0 / np.sqrt(inputs), (inputs + 1, outputs))

        frozen_in, frozen_out = layer(count, WIDTH), layer(WIDTH, OUTPUTS)
        learned_in = layer(count, WIDTH)
        hidden = _hidden(scaled, learned_in)
        target = _with_one(_hidden(scaled, frozen_in)) @ frozen_out
        features = _with_one(hidden)
        gram = features.T @ features + RIDGE * len(scaled) * np.eye(WIDTH + 1)
        learned_out = np.linalg.solve(gram, features.T @ target)
        arrays = (mean, axes[:count].T / deviation, kept, frozen_in, frozen_out, learned_in, learned_out)
        return cls(*(np.ascontiguousarray(a, np.float32) for a in arrays))

    def measure(self, latents: Floats32, *, apart_from: Floats32 | None = None) -> dict[str, Floats]:
        """(P,) of each distance for latents (P, L); nan where the latent has another length or is missing.

        Args:
            apart_from: (Q, L), latents of the same episode: those among the kept ones are no neighbours, or
                training episodes would look nearer than others ever can.
        """
        if latents.ndim != 2 or latents.shape[1] != len(self.mean):
            return {name: np.full(len(latents), np.nan) for name in DISTANCES}
        scaled = (latents - self.mean) @ self.axes
        kept = self.kept
        if apart_from is not None and len(apart_from):
            own = _distances(kept, (apart_from - self.mean) @ self.axes).min(axis=1) < 1e-3
            kept = kept[~own]
        near = np.sort(_distances(scaled, kept), axis=1)[:, :NEIGHBOURS].mean(axis=1)
        frozen = _with_one(_hidden(scaled, self.frozen_in)) @ self.frozen_out
        learned = _with_one(_hidden(scaled, self.learned_in)) @ self.learned_out
        values = (
            np.sqrt((scaled**2).mean(axis=1)),
            near / np.sqrt(scaled.shape[1]),
            np.sqrt(((frozen - learned) ** 2).mean(axis=1)),
        )
        return {name: value.astype(np.float64) for name, value in zip(DISTANCES, values, strict=True)}

    def tensors(self) -> dict[str, Floats32]:
        """Arrays by field name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[np.float32]]) -> LatentReference | None:
        """From what ``tensors`` gave; ``None`` from nothing."""
        return cls(**{f.name: tensors[f.name] for f in fields(cls)}) if tensors else None


def _with_one(rows: Floats | Floats32) -> Floats:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def _hidden(rows: Floats | Floats32, layer: Floats | Floats32) -> Floats:
    hidden: Floats = np.tanh(_with_one(rows) @ layer)
    return hidden


def _distances(a: Floats | Floats32, b: Floats | Floats32) -> Floats:
    """(P, Q), Euclidean."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T
    distance: Floats = np.sqrt(np.maximum(squared, 0.0))
    return distance
