"""Distance of the policy's latent from those of successful training episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from salus_ros.errors import SalusError
from salus_ros.types import Floats

if TYPE_CHECKING:
    from salus_ros.evaluation.records import Record

KEPT = 5000
"""Latents kept of the training episodes, drawn evenly."""


def successful_latents(records: Sequence[Record]) -> Floats:
    """(P, L) finite latents of the successes, one a policy output.

    Raises:
        SalusError: there are none.
    """
    found = [unique_latents(r) for r in records if not r.failed]
    stacked = np.concatenate(found) if found else np.empty((0, 0))
    if not stacked.size:
        raise SalusError(
            f"The {len(records)} training episodes hold no success whose policy published latents; "
            "collect more, with a policy that fills Uncertainty.latent."
        )
    return stacked[:: max(1, len(stacked) // KEPT)]


def unique_latents(record: Record) -> Floats:
    """(M, L) the finite latents, without the repeats between two outputs."""
    latent: Floats = record.latent[np.isfinite(record.latent).all(axis=1)].astype(np.float64)
    new = np.ones(len(latent), dtype=bool)
    new[1:] = (np.diff(latent, axis=0) != 0.0).any(axis=1)
    distinct: Floats = latent[new]
    return distinct


def on_ticks(record: Record, score_of: Callable[[Floats], Floats]) -> Floats:
    """(N,) a function of latents (P, L) -> (P,), nan where there is no latent; each is looked at once."""
    latent = record.latent
    known = np.isfinite(latent).all(axis=1)
    scores = np.full(len(latent), np.nan)
    if known.any():
        held = latent[known].astype(np.float64)
        new = np.concatenate([[True], (held[1:] != held[:-1]).any(axis=1)])
        scores[known] = score_of(held[new])[np.cumsum(new) - 1]
    return scores


class Mahalanobis:
    """Squared distance with pinv(C + 1e-4 I)."""

    name = "Mahalanobis"

    def fit(self, records: Sequence[Record]) -> None:
        """Mean and covariance of the successes."""
        latent = successful_latents(records)
        self._mean = latent.mean(axis=0)
        self._precision = np.linalg.pinv(np.cov(latent, rowvar=False) + 1e-4 * np.eye(latent.shape[1]))

    def score(self, record: Record) -> Floats:
        """(N,)"""

        def distance(latent: Floats) -> Floats:
            apart = latent - self._mean
            squared: Floats = np.einsum("ij,jk,ik->i", apart, self._precision, apart)
            return squared

        return on_ticks(record, distance)


class KNearestNeighbours:
    """Mean Euclidean distance to the nearest latents of the successes."""

    def __init__(self, neighbours: int) -> None:
        self.name = f"k nearest neighbours {neighbours}"
        self._neighbours = neighbours

    def fit(self, records: Sequence[Record]) -> None:
        """Stores them."""
        latent = successful_latents(records)
        self._index = NearestNeighbors(n_neighbors=min(self._neighbours, len(latent))).fit(latent)

    def score(self, record: Record) -> Floats:
        """(N,)"""
        return on_ticks(record, lambda latent: self._index.kneighbors(latent)[0].mean(axis=1))


class PcaKMeans:
    """Distance to the nearest of the centres into which the successes' principal components fall."""

    def __init__(self, components: int, centres: int, seed: int) -> None:
        self.name = f"PCA and k-means {components} x {centres}"
        self._components, self._centres, self._seed = components, centres, seed

    def fit(self, records: Sequence[Record]) -> None:
        """Components and centres of the successes; the components' mean is subtracted."""
        latent = successful_latents(records)
        self._pca = PCA(min(self._components, *latent.shape), random_state=self._seed).fit(latent)
        self._means = KMeans(min(self._centres, len(latent)), n_init=3, random_state=self._seed)
        self._means.fit(self._pca.transform(latent))

    def score(self, record: Record) -> Floats:
        """(N,)"""
        return on_ticks(record, lambda latent: self._means.transform(self._pca.transform(latent)).min(axis=1))
