"""Episodes made ready for scoring: labels, the monitor's signals, and what the rivals look at.

Everything is held on the monitor's ticks, N an episode, and holds what had arrived by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.labels import nominal_time_s
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.evaluation.baselines.chunks import CHUNK_SCORES
from salus_ros.monitor.cache import over_episodes
from salus_ros.monitor.dataset import Sample, replay_all
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.types import FailureType, Floats, Floats32


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One episode as detectors are fed."""

    sample: Sample
    """Ticks, signals and labels."""
    store: Path
    index: int
    """Where the whole episode lies, for pictures."""
    chunk_age_s: Floats
    """(N,), time since the newest policy output's observation."""
    chunk_scores: dict[str, Floats]
    """(N,) each, scores that need no training."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.sample.task

    @property
    def latent(self) -> Floats32:
        """(N, L), the newest policy output's; nan before the first."""
        return self.sample.latent

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


def record(episode: Episode, ticks: Sample, store: Path, index: int) -> Record:
    """One episode, from its sample and its policy and intervention streams."""
    return _joined(ticks, _rivals_inputs(episode), store, index)


def load_records(
    stores: Sequence[Path],
    settings: MonitorSettings,
    *,
    jobs: int,
    progress: bool = True,
    fresh: bool = False,
) -> list[Record]:
    """All episodes of the stores, in parallel processes; what was replayed before comes from the cache.

    Raises:
        SalusError: no episode in which a monitor could judge anything.
    """
    samples = replay_all(stores, settings, jobs=jobs, progress=progress, fresh=fresh)
    inputs = over_episodes(stores, _load_some, "rivals", jobs=jobs, progress=progress, fresh=fresh)
    places = [(path, i) for path in stores for i in range(len(Store.open(path)))]
    found = [
        _joined(ticks, given, path, i)
        for ticks, given, (path, i) in zip(samples, inputs, places, strict=True)
        if ticks is not None and len(given.stamp_s)
    ]
    if not found:
        raise SalusError(
            f"{', '.join(map(str, stores))} hold no episode with joint states and policy outputs; "
            "collect episodes with `salus collect`."
        )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _RivalsInputs:
    """What rivals see of the policy's M outputs."""

    stamp_s: Floats
    """(M,)"""
    arrival_s: Floats
    """(M,)"""
    scores: dict[str, Floats]
    """(M,) each"""


def _load_some(path: Path, indices: Sequence[int]) -> list[_RivalsInputs]:
    store = Store.open(path)
    return [_rivals_inputs(store.episode(i, streams=("policy", "interventions"))) for i in indices]


def _rivals_inputs(episode: Episode) -> _RivalsInputs:
    policy = episode.policy
    path_s = nominal_time_s(policy.stamp_s, episode.interventions)
    scores = {name: score(policy, path_s) for name, score in CHUNK_SCORES.items()} if len(policy) else {}
    return _RivalsInputs(policy.stamp_s, policy.arrival_s, scores)


def _joined(ticks: Sample, given: _RivalsInputs, store: Path, index: int) -> Record:
    newest = np.searchsorted(given.arrival_s, ticks.time_s + 1e-9, side="right") - 1
    known, taken = newest >= 0, np.maximum(newest, 0)
    return Record(
        sample=ticks,
        store=store,
        index=index,
        chunk_age_s=np.where(known, ticks.time_s - given.stamp_s[taken], np.nan),
        chunk_scores={name: np.where(known, v[taken], np.nan) for name, v in given.scores.items()},
    )
