"""Episodes made ready for scoring: labels, the monitor's signals, and what the rivals look at.

Everything is held on the monitor's ticks, N an episode, and holds what had arrived by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from tqdm import tqdm

from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.labels import nominal_time_s
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.evaluation.baselines.chunks import CHUNK_SCORES
from salus_ros.monitor.dataset import Sample, sample
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.replay import STREAMS
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.types import FailureType, Floats, Floats32

EPISODES_A_JOB = 8


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One episode as detectors are fed."""

    sample: Sample
    """Ticks, signals and labels."""
    task: str
    store: Path
    index: int
    """Where the whole episode lies, for pictures."""
    latent: Floats32
    """(N, L), the newest policy output's; nan before the first."""
    chunk_age_s: Floats
    """(N,), time since the newest policy output's observation."""
    chunk_scores: dict[str, Floats]
    """(N,) each, scores that need no training."""

    @property
    def time_s(self) -> Floats:
        """(N,)"""
        return self.sample.time_s

    @property
    def failed(self) -> bool:
        """A failure began, or the task was not finished."""
        return bool(self.sample.onsets) or self.sample.outcome is not Outcome.SUCCESS

    @property
    def first_onset_s(self) -> float:
        """Infinite without one."""
        return min((time_s for time_s, _ in self.sample.onsets), default=float("inf"))

    @property
    def judged_before_onset(self) -> NDArray[np.bool_]:
        """(N,), ticks that an episode's verdict may rest on."""
        return self.sample.judged & (self.time_s < self.first_onset_s)

    def onsets_s(self, failure: FailureType) -> Floats:
        """Onsets of one type."""
        return np.array([time_s for time_s, kind in self.sample.onsets if kind is failure])


def record(episode: Episode, perception: Perception, store: Path, index: int) -> Record | None:
    """One episode; None when the monitor has nothing to say in it."""
    ticks = sample(episode, perception)
    if ticks is None or not len(episode.policy):
        return None
    policy = episode.policy
    newest = np.searchsorted(policy.arrival_s, ticks.time_s + 1e-9, side="right") - 1
    known = newest >= 0
    taken = np.maximum(newest, 0)
    path_s = nominal_time_s(policy.stamp_s, episode.interventions)
    scores = {name: score(policy, path_s) for name, score in CHUNK_SCORES.items()}
    return Record(
        sample=ticks,
        task=episode.meta.task,
        store=store,
        index=index,
        latent=np.where(known[:, None], policy.latent[taken], np.float32(np.nan)),
        chunk_age_s=np.where(known, ticks.time_s - policy.stamp_s[taken], np.nan),
        chunk_scores={name: np.where(known, values[taken], np.nan) for name, values in scores.items()},
    )


def load_records(
    stores: Sequence[Path], settings: MonitorSettings, *, jobs: int, progress: bool = True
) -> list[Record]:
    """All episodes of the stores, in parallel processes.

    Raises:
        SalusError: no episode in which a monitor could judge anything.
    """
    work = [
        (path, range(first, min(first + EPISODES_A_JOB, count)))
        for path, count in ((path, len(Store.open(path))) for path in stores)
        for first in range(0, count, EPISODES_A_JOB)
    ]
    found: list[Record] = []
    with tqdm(total=sum(len(r) for _, r in work), desc="replay", unit="episode", disable=not progress) as bar:
        parts: Iterator[list[Record | None]] = Parallel(n_jobs=jobs, return_as="generator")(
            delayed(_load_some)(path, indices, settings) for path, indices in work
        )
        for part in parts:
            found += [r for r in part if r is not None]
            bar.update(len(part))
    if not found:
        raise SalusError(
            f"{', '.join(map(str, stores))} hold no episode with joint states and policy outputs; "
            "collect episodes with `salus collect`."
        )
    return found


def _load_some(path: Path, indices: Sequence[int], settings: MonitorSettings) -> list[Record | None]:
    store, perception = Store.open(path), Perception(settings)
    return [record(store.episode(i, streams=STREAMS), perception, path, i) for i in indices]
