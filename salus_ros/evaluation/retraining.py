"""Monitors trained anew for an evaluation: other seeds, other settings, and ablations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.evaluation.detectors import OURS, Answer, Data, ProtocolSettings, Watch
from salus_ros.evaluation.kept import Kept
from salus_ros.evaluation.smaller_ensembles import with_members
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.predictor import REACH
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import LEFT_OUT, SignalSet, families
from salus_ros.monitor.training_settings import TrainingSettings

EPISODES: Final = (50, 150, 500)
"""Numbers of training episodes that are compared, as far as there are so many."""
HISTORY_STEPS: Final = (1, 7, REACH)
"""Steps of the past that the network sees: now alone, 0.35 s, and as far as it can look back."""
NETWORKS: Final = (1, 2, 5)
"""Networks of the monitor's own ensemble."""
POLICY_MEMBERS: Final = (1, 2)
"""Members of the policy's ensemble, besides all that it had."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """A monitor whose training differs from ours in one thing."""

    name: str
    kind: str
    settings: TrainingSettings
    monitor: MonitorSettings
    signals: tuple[str, ...]
    train_episodes: int = 0
    """0 for all."""
    policy_members: int = 0
    """0 for all."""

    def answer(self, data: Data, settings: ProtocolSettings, kept: Kept) -> Answer:
        """Trains, unless that was done before, and scores as it would be deployed."""
        about = json.dumps(
            [
                self.settings.model_dump(),
                self.monitor.model_dump(),
                self.signals,
                self.train_episodes,
                self.policy_members,
            ]
        )
        if self.policy_members:
            data = with_members(data, self.policy_members, self.monitor)
        checkpoint = kept.checkpoint(about, lambda state: self._train(data, state))
        return Watch(self.name, self.kind, checkpoint, about).answer(data, settings, kept)

    def _train(self, data: Data, state: Path | None) -> Checkpoint:
        from salus_ros.monitor.training import train

        if self.train_episodes > len(data.train):
            raise SalusError(f"there are {len(data.train)} training episodes.")
        chosen = data.train
        if self.train_episodes:
            order = np.random.default_rng(self.settings.seed).permutation(len(data.train))
            chosen = [data.train[i] for i in order[: self.train_episodes]]
        samples = [r.sample for part in (chosen, data.tune, data.calibrate) for r in part]
        return train(samples, self.settings, self.monitor, signals=self.signals, progress=False, state=state)


def variants(checkpoint: Checkpoint, seeds: int, *, ablations: bool) -> list[Retrained]:
    """What is trained beside ours: other seeds, successes only, and ablations where they are wanted."""
    ours = TrainingSettings(**checkpoint.report.get("training", {}))
    names = checkpoint.signals

    def setting(name: str, signals: Sequence[str] = names, **changed: object) -> Retrained:
        settings = TrainingSettings(**{**ours.model_dump(), **changed})
        return Retrained(f"{OURS}, {name}", "another setting", settings, checkpoint.settings, tuple(signals))

    found = [
        replace(setting(f"seed {seed}", seed=seed), kind="another seed")
        for seed in range(ours.seed + 1, ours.seed + seeds)
    ]
    found.append(setting("successes only", predictor="successes"))
    if not ablations:
        return found
    for family in (f.name for f in families()):
        rest = [n for n in names if not n.startswith(f"{family}.")]
        if 0 < len(rest) < len(names):
            found.append(setting(f"without {family}", rest))
        elif family in LEFT_OUT:
            every = SignalSet().names
            found.append(
                setting(f"with {family}", [n for n in every if n in names or n.startswith(f"{family}.")])
            )
    for family in ("uncertainty", "motion"):
        alone = [n for n in names if n.startswith(f"{family}.")]
        if alone:
            found.append(setting(f"{family} only", alone))
    found.append(setting("first predictor", predictor="seed"))
    found += [replace(setting(f"{n} of the policy's members"), policy_members=n) for n in POLICY_MEMBERS]
    found += [setting(f"{n} network{'s' * (n > 1)}", members=n) for n in NETWORKS if n != ours.members]
    found += [
        setting(f"{s} steps of history", history_steps=s) for s in HISTORY_STEPS if s != ours.history_steps
    ]
    found += [replace(setting(f"{n} training episodes"), train_episodes=n) for n in EPISODES]
    return found
