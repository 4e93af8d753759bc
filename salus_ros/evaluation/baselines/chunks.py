"""Scores of action chunks that need no training: one number for each policy output.

M is the number of outputs of an episode, K of chunks sampled at each (members x draws), H of
steps in a chunk, D of action dimensions. How far two chunks overlap is counted on path time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist

from salus_ros.data.episode import PolicyStream
from salus_ros.types import Floats

if TYPE_CHECKING:
    from salus_ros.evaluation.records import Record

ENTROPY_BIN = 0.1
"""Normalised action units; the published method states no width."""
CLUSTER_DISTANCES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Normalised action units, of the published range of 0.01 to 5."""
REVERSAL_STEPS = 20
"""Executed steps looked back on, 1 s."""


class ChunkScore:
    """One of ``CHUNK_SCORES``, as computed when the episode was read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, records: Sequence[Record]) -> None:
        """Nothing to learn."""

    def score(self, record: Record) -> Floats:
        """(N,)"""
        return record.chunk_scores[self.name]


def ensemble_variance(policy: PolicyStream, path_s: Floats) -> Floats:
    """Mean over steps and dimensions of the variance between members' mean chunks; nan for one member."""
    members = _samples(policy).shape[1]
    if members < 2:
        return np.full(len(policy), np.nan)
    variance: Floats = _samples(policy).mean(axis=2).var(axis=1, ddof=1).mean(axis=(1, 2))
    return variance


def total_variance(policy: PolicyStream, path_s: Floats) -> Floats:
    """Trace of the covariance of the flattened sampled chunks; nan for one sample."""
    flat = _flat(policy)
    if flat.shape[1] < 2:
        return np.full(len(policy), np.nan)
    trace: Floats = flat.var(axis=1, ddof=1).sum(axis=-1)
    return trace


def overlap_divergence(policy: PolicyStream, path_s: Floats) -> Floats:
    """Mean squared difference between one chunk and the one before it, over the steps both cover."""
    chunks = policy.joint_position_rad
    scores = np.full(len(policy), np.nan)
    for i, executed in _steps_between(policy, path_s):
        scores[i] = np.mean((chunks[i - 1, executed:] - chunks[i, : chunks.shape[1] - executed]) ** 2)
    return scores


def stac_mmd(policy: PolicyStream, path_s: Floats) -> Floats:
    """Biased squared MMD between the sampled chunks before and now, over the steps both cover.

    Gaussian kernel, its width the median distance.
    """
    samples = _samples(policy)
    samples = samples.reshape(len(policy), -1, *samples.shape[-2:])
    steps = samples.shape[2]
    scores = np.full(len(policy), np.nan)
    for i, executed in _steps_between(policy, path_s):
        before = samples[i - 1][:, executed:].reshape(samples.shape[1], -1)
        now = samples[i][:, : steps - executed].reshape(samples.shape[1], -1)
        scores[i] = mmd_squared(before, now)
    return scores


def mmd_squared(x: Floats, y: Floats) -> float:
    """Biased squared maximum mean discrepancy of two sets of vectors (K, P)."""
    both = np.concatenate([x, y])
    distance = cdist(both, both)
    width = float(np.median(distance[np.triu_indices(len(both), 1)]))
    kernel = np.exp(-(distance**2) / (2.0 * max(width, 1e-12) ** 2))
    n = len(x)
    return float(kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2.0 * kernel[:n, n:].mean())


def direction_reversals(policy: PolicyStream, path_s: Floats) -> Floats:
    """Share of sign changes of the executed joint motion, per joint, over the last second."""
    executed = np.diff(path_s, append=path_s[-1:] + 0.2)
    period_s = _period_s(policy)
    scores = np.full(len(policy), np.nan)
    done: list[Floats] = []
    for i in range(len(policy)):
        if len(done) > 2:
            turns = np.diff(np.sign(np.diff(np.array(done[-REVERSAL_STEPS:]), axis=0)), axis=0)
            scores[i] = float(np.mean(np.abs(turns) == 2.0))
        done.extend(policy.joint_position_rad[i, : max(0, round(executed[i] / period_s))])
    return scores


def chunk_entropy(policy: PolicyStream, path_s: Floats) -> Floats:
    """Entropy of the samples' histogram in each dimension, summed over steps and dimensions; in nats."""
    flat = _flat(policy)
    if flat.shape[1] < 2:
        return np.full(len(policy), np.nan)
    bins = np.floor(flat / ENTROPY_BIN)
    same = (bins[:, :, None, :] == bins[:, None, :, :]).mean(axis=2)
    entropy: Floats = -np.log(same).mean(axis=1).sum(axis=-1)
    return entropy


def cluster_entropy(distance: float) -> Callable[[PolicyStream, Floats], Floats]:
    """Shannon entropy of the clusters that Ward's method finds among the samples at a distance; in nats."""

    def entropy(policy: PolicyStream, path_s: Floats) -> Floats:
        flat = _flat(policy)
        if flat.shape[1] < 2:
            return np.full(len(policy), np.nan)
        scores = np.empty(len(policy))
        for i, chunks in enumerate(flat):
            clusters = fcluster(linkage(chunks, "ward"), distance, "distance")
            share = np.bincount(clusters)[1:] / len(chunks)
            scores[i] = -(share * np.log(share)).sum()
        return scores

    return entropy


def field_disagreement(policy: PolicyStream, path_s: Floats) -> Floats:
    """Disagreement of the members' denoising fields, as the policy published it."""
    return policy.velocity_field_disagreement


CHUNK_SCORES: dict[str, Callable[[PolicyStream, Floats], Floats]] = {
    "ensemble variance": ensemble_variance,
    "total variance": total_variance,
    "overlap divergence": overlap_divergence,
    "STAC-MMD": stac_mmd,
    "direction reversals": direction_reversals,
    "chunk entropy": chunk_entropy,
    "velocity-field disagreement": field_disagreement,
    **{f"cluster entropy {distance:g}": cluster_entropy(distance) for distance in CLUSTER_DISTANCES},
}
"""Name to a function of an episode's outputs and the path time of each (M,); it returns (M,)."""


def _samples(policy: PolicyStream) -> Floats:
    """(M, members, draws, H, D)"""
    return policy.samples.astype(np.float64)


def _flat(policy: PolicyStream) -> Floats:
    """(M, K, H D)"""
    samples = _samples(policy)
    return samples.reshape(len(policy), samples.shape[1] * samples.shape[2], -1)


def _period_s(policy: PolicyStream) -> float:
    """Time between two steps of a chunk."""
    return float(np.median(np.diff(policy.time_from_start_s[0])))


def _steps_between(policy: PolicyStream, path_s: Floats) -> list[tuple[int, int]]:
    """(i, steps executed since output i - 1) wherever the two chunks overlap."""
    steps = policy.time_from_start_s.shape[1]
    executed = np.round(np.diff(path_s) / _period_s(policy)).astype(int)
    return [(i + 1, int(e)) for i, e in enumerate(executed) if 0 <= e < steps]
