"""Episodes as a policy of fewer ensemble members would have judged itself in them.

An episode keeps every member's draws, so what fewer of them disagree on can be computed anew: the variances,
and all signals that look at the draws. Three things stay as they were, or are not known: the chunk that the
arm followed and the latent are the whole ensemble's, and the members' velocity fields are not recorded, so
their disagreement is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from salus_ros.data.episode import Episode
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.evaluation.detectors import Data
from salus_ros.evaluation.records import Record
from salus_ros.monitor.cache import over_episodes, source_hash
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.replay import replay
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import SignalSet
from salus_ros.policy.uncertainty import of_samples
from salus_ros.types import Floats

_FROM_MEMBERS: Final = ("overlap", "uncertainty")
"""Signal families that look at what the members say. They are measured anew; all others are as they were."""
_STREAMS: Final = ("robot", "policy", "interventions")
"""What those families look at."""
_SOURCES: Final = ("evaluation/smaller_ensembles.py", "policy/uncertainty.py")
"""Relative to the package, besides what every replay depends on."""


def of_members(episode: Episode, members: int) -> Episode:
    """The episode with the first ``members`` of the policy's ensemble alone.

    Raises:
        SalusError: the policy had no more members than that, or its draws were not recorded.
    """
    policy = episode.policy
    had = policy.samples.shape[1] if policy.samples.ndim == 5 else 0
    if len(policy) and had <= members:
        raise SalusError(f"the policy had {had} members; expected more than {members}.")
    draws = policy.samples[:, :members]
    said = [of_samples(drawn) for drawn in draws]
    unknown = np.full(len(policy), np.nan)
    return replace(
        episode,
        policy=replace(
            policy,
            samples=draws,
            ensemble_size=np.full(len(policy), members),
            epistemic=np.array([u.epistemic for u in said]),
            aleatoric=np.array([u.aleatoric for u in said]),
            std_per_dimension=np.array([u.std_per_dimension for u in said]).reshape(
                policy.std_per_dimension.shape
            ),
            velocity_field_disagreement=unknown,
        ),
    )


def with_members(data: Data, members: int, settings: MonitorSettings) -> Data:
    """The same episodes in the same splits, as with so many members; kept in the replay's cache."""
    parts = [data.train, data.tune, data.calibrate, *data.tests.values()]
    stores = sorted({r.store for part in parts for r in part})
    compute = partial(_replay_some, settings, members)
    about = f"members {members} {settings.model_dump_json()} {source_hash(_SOURCES)}"
    found: dict[tuple[Path, int], Floats] = {}
    for store in stores:
        said = over_episodes([store], compute, about, jobs=1, progress=False)
        found |= {(store, i): frames for i, frames in enumerate(said)}
    names = SignalSet().names
    columns = [names.index(name) for name in _names_from_members()]

    def anew(records: Sequence[Record]) -> list[Record]:
        return [replace(r, sample=_changed(r.sample, columns, found[r.store, r.index])) for r in records]

    return Data(
        anew(data.train),
        anew(data.tune),
        anew(data.calibrate),
        {name: anew(test) for name, test in data.tests.items()},
    )


def _names_from_members() -> list[str]:
    return [name for name in SignalSet().names if name.split(".", 1)[0] in _FROM_MEMBERS]


def _changed(sample: Sample, columns: Sequence[int], said: Floats) -> Sample:
    frames = sample.frames.copy()
    frames[:, columns] = said
    return replace(sample, frames=frames)


def _replay_some(settings: MonitorSettings, members: int, path: Path, indices: Sequence[int]) -> list[Floats]:
    store, perception = Store.open(path), Perception(settings, _names_from_members())
    episodes = (store.episode(i, streams=_STREAMS) for i in indices)
    return [replay(of_members(episode, members), perception).frames for episode in episodes]
