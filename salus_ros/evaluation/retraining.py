"""Monitors trained anew for an evaluation: other seeds, other settings, and ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from salus_ros.errors import SalusError
from salus_ros.evaluation.protocol import OURS, Watch
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.predictor import REACH
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import families
from salus_ros.monitor.splits import Split
from salus_ros.monitor.training_settings import TrainingSettings

EPISODES: Final = (50, 150, 500)
"""Numbers of training episodes that are compared, as far as there are so many."""
HISTORY_STEPS: Final = (1, 7, REACH)
"""Steps of the past that the network sees: now alone, 0.35 s, and as far as it can look back."""
MEMBERS: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Ablation:
    """One training that differs from ours."""

    name: str
    kind: str
    settings: TrainingSettings
    signals: tuple[str, ...]
    train_episodes: int = 0
    """0 for all."""


def variants(checkpoint: Checkpoint, seeds: int, *, ablations: bool) -> list[Ablation]:
    """What is trained beside ours: other seeds, successes only, and ablations where they are wanted."""
    ours = TrainingSettings(**checkpoint.report.get("training", {}))
    names = checkpoint.signals

    def setting(name: str, signals: Sequence[str] = names, **changed: object) -> Ablation:
        settings = TrainingSettings(**{**ours.model_dump(), **changed})
        return Ablation(f"{OURS}, {name}", "another setting", settings, tuple(signals))

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
    for family in ("uncertainty", "motion"):
        alone = [n for n in names if n.startswith(f"{family}.")]
        if alone:
            found.append(setting(f"{family} only", alone))
    found.append(setting("first predictor", predictor="seed"))
    found += [setting(f"{n} members", members=n) for n in MEMBERS if n != ours.members]
    found += [
        setting(f"{s} steps of history", history_steps=s) for s in HISTORY_STEPS if s != ours.history_steps
    ]
    found += [replace(setting(f"{n} training episodes"), train_episodes=n) for n in EPISODES]
    return found


def watches(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    trained: Sequence[Ablation],
    jobs: int,
    *,
    progress: bool = True,
) -> list[Watch]:
    """Ours, then each of the others, trained in parallel; one that cannot be trained is left out."""
    rest = [s for s in samples if s.split is not Split.TEST]
    count = sum(s.split is Split.TRAIN for s in rest)
    able = [a for a in trained if a.train_episodes <= count]
    parts = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_train)(a, _chosen(rest, a), checkpoint.settings) for a in able
    )
    bar = tqdm(parts, total=len(able), desc="train", unit="monitor", disable=not progress)
    return [Watch(OURS, "ours", checkpoint)] + [
        Watch(ablation.name, ablation.kind, result)
        for ablation, result in zip(able, bar, strict=True)
        if result is not None
    ]


def _chosen(samples: Sequence[Sample], ablation: Ablation) -> list[Sample]:
    """Fewer training episodes where that is asked for."""
    train = [s for s in samples if s.split is Split.TRAIN]
    if not ablation.train_episodes:
        return list(samples)
    order = np.random.default_rng(ablation.settings.seed).permutation(len(train))
    kept = [train[i] for i in order[: ablation.train_episodes]]
    return kept + [s for s in samples if s.split is not Split.TRAIN]


def _train(ablation: Ablation, samples: Sequence[Sample], monitor: MonitorSettings) -> Checkpoint | None:
    import torch

    from salus_ros.monitor.training import train

    torch.set_num_threads(1)
    try:
        return train(samples, ablation.settings, monitor, signals=ablation.signals, progress=False)
    except SalusError:
        return None
