"""Recorded episodes as labelled sequences of signals."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.labels import episode_labels
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.monitor.cache import over_episodes
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.replay import SAME_INSTANT_S, STREAMS, replay
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.splits import Split, split_of
from salus_ros.types import EventKind, FailureType, Floats, Floats32

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
    latent: Floats32
    """(N, L), of the newest policy output; L may be 0"""
    task: str = ""
    disturbance: str = ""

    @property
    def success(self) -> bool:
        """Finished, and nothing went wrong on the way."""
        return self.outcome is Outcome.SUCCESS and not self.onsets

    @property
    def judged_at_all(self) -> NDArray[np.bool_]:
        """(N,), where the monitor says something, in order or not."""
        return np.asarray(np.isfinite(self.frames).any(axis=1))

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
        seed=_seed(episode),
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
        latent=_newest_latents(episode, replayed.time_s),
        task=episode.meta.task,
        disturbance=episode.meta.disturbance,
    )


def load_samples(
    stores: Sequence[Path],
    settings: MonitorSettings,
    *,
    jobs: int,
    progress: bool = True,
    fresh: bool = False,
) -> list[Sample]:
    """Replays all episodes of the stores in parallel processes; the order is that of the stores.

    What was replayed before is read from the cache, unless ``fresh``.

    Raises:
        SalusError: no store, or no episode in which a monitor could judge anything.
    """
    found = [
        s for s in replay_all(stores, settings, jobs=jobs, progress=progress, fresh=fresh) if s is not None
    ]
    if not found:
        raise SalusError(
            f"{', '.join(map(str, stores))} hold no episode with joint states and policy outputs that a "
            "monitor could judge; collect episodes with `salus collect`."
        )
    return found


def replay_all(
    stores: Sequence[Path],
    settings: MonitorSettings,
    *,
    jobs: int,
    progress: bool = True,
    fresh: bool = False,
) -> list[Sample | None]:
    """One entry an episode, in the stores' order; ``None`` where a monitor has nothing to say."""
    about = f"samples {settings.model_dump_json()}"
    compute = partial(_replay_some, settings)
    return over_episodes(stores, compute, about, jobs=jobs, progress=progress, fresh=fresh)


def data_hash(stores: Sequence[Path]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over all episodes' records and digests."""
    digest = hashlib.sha256()
    for path in stores:
        for record in Store.open(path).records():
            digest.update(record.to_json().encode())
    return digest.hexdigest()[:16]


def _replay_some(settings: MonitorSettings, path: Path, indices: Sequence[int]) -> list[Sample | None]:
    store, perception = Store.open(path), Perception(settings)
    return [sample(store.episode(i, streams=STREAMS), perception) for i in indices]


def _seed(episode: Episode) -> int:
    """The episode's; a real robot's episode has none, and is told by when it was recorded."""
    meta = episode.meta
    if meta.seed >= 0:
        return meta.seed
    return -1 - zlib.crc32(f"{meta.source} {meta.time_origin_s:.3f} {meta.end_s:.3f}".encode())


def _newest_latents(episode: Episode, times_s: Floats) -> Floats32:
    """(N, L), the latent of the newest policy output that had arrived; nan before the first."""
    policy = episode.policy
    newest = np.searchsorted(policy.arrival_s, times_s + SAME_INSTANT_S, side="right") - 1
    rows: Floats32 = policy.latent[np.maximum(newest, 0)].astype(np.float32)
    rows[newest < 0] = np.nan
    return rows
