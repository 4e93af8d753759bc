"""Recorded episodes as labelled sequences of signals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from tqdm import tqdm

from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.labels import episode_labels
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.replay import STREAMS, replay
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.splits import Split, split_of
from salus_ros.types import EventKind, FailureType, Floats

EPISODES_PER_JOB = 8
MIN_TICKS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One episode: N steps at the monitor's rate."""

    seed: int
    time_s: Floats
    """(N,), for the clock baseline and for metrics; no input"""
    frames: Floats
    """(N, F), signals"""
    target: NDArray[np.bool_]
    """(N, failure types, horizons)"""
    valid: NDArray[np.bool_]
    """(N, failure types, horizons), what may enter training and metrics"""
    judged: NDArray[np.bool_]
    """(N,), where the monitor says something and the episode is in order"""
    onsets: tuple[tuple[float, FailureType], ...]
    """Time and type of each failure."""
    outcome: Outcome
    policy_hash: str

    @property
    def success(self) -> bool:
        """Finished, and nothing went wrong on the way."""
        return self.outcome is Outcome.SUCCESS and not self.onsets

    @property
    def split(self) -> Split:
        """The set that it belongs to."""
        return split_of(self.seed)


def sample(episode: Episode, perception: Perception) -> Sample | None:
    """The labelled signals of one episode; ``None`` when the monitor has nothing to say in it."""
    replayed = replay(episode, perception)
    if len(replayed.time_s) < MIN_TICKS:
        return None
    labels = episode_labels(episode, replayed.time_s)
    return Sample(
        seed=episode.meta.seed,
        time_s=replayed.time_s,
        frames=replayed.frames,
        target=labels.target,
        valid=labels.valid & replayed.judged[:, None, None],
        judged=labels.in_order & replayed.judged,
        onsets=tuple(
            (e.stamp_s, e.failure)
            for e in episode.events
            if e.kind == EventKind.FAILURE_ONSET and e.failure is not None
        ),
        outcome=episode.meta.outcome,
        policy_hash=episode.meta.policy_hash,
    )


def load_samples(
    stores: Sequence[Path], settings: MonitorSettings, *, jobs: int, progress: bool = True
) -> list[Sample]:
    """Replays all episodes of the stores in parallel processes; the order is that of the stores.

    Raises:
        SalusError: no store, or no episode in which a monitor could judge anything.
    """
    work = [
        (path, range(first, min(first + EPISODES_PER_JOB, count)))
        for path, count in ((path, len(Store.open(path))) for path in stores)
        for first in range(0, count, EPISODES_PER_JOB)
    ]
    total = sum(len(indices) for _, indices in work)
    found: list[Sample] = []
    with tqdm(total=total, desc="replay", unit="episode", disable=not progress) as bar:
        parts: Iterator[list[Sample | None]] = Parallel(n_jobs=jobs, return_as="generator")(
            delayed(_replay_some)(path, indices, settings) for path, indices in work
        )
        for part in parts:
            found += [s for s in part if s is not None]
            bar.update(len(part))
    if not found:
        raise SalusError(
            f"{', '.join(map(str, stores))} hold {total} episodes, none with joint states and policy outputs "
            "that a monitor could judge; collect episodes with `salus collect`."
        )
    return found


def data_hash(stores: Sequence[Path]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over all episodes' records and digests."""
    digest = hashlib.sha256()
    for path in stores:
        for record in Store.open(path).records():
            digest.update(record.to_json().encode())
    return digest.hexdigest()[:16]


def shuffle_labels(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The same signals with the labels of other steps: whatever is learned from them is worthless."""
    order = np.random.default_rng(seed).permutation(sum(len(s.time_s) for s in samples))
    target = np.concatenate([s.target for s in samples])[order]
    valid = np.concatenate([s.valid for s in samples])[order]
    ends = np.cumsum([len(s.time_s) for s in samples])
    return [
        replace(s, target=target[end - len(s.time_s) : end], valid=valid[end - len(s.time_s) : end])
        for s, end in zip(samples, ends, strict=True)
    ]


def _replay_some(path: Path, indices: Sequence[int], settings: MonitorSettings) -> list[Sample | None]:
    store, perception = Store.open(path), Perception(settings)
    return [sample(store.episode(i, streams=STREAMS), perception) for i in indices]
