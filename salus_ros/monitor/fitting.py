"""Fits the networks: batches of whole episodes, augmentation, early stopping, and going on after a stop."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from salus_ros.data.episode import Outcome
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.network import Network, hazard_loss
from salus_ros.monitor.predictor import HORIZONS, REACH, TYPES, Normalisation
from salus_ros.monitor.predictors import SEED_SIGNALS
from salus_ros.monitor.preparation import padded
from salus_ros.monitor.training_settings import TrainingSettings
from salus_ros.types import Floats32


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained member and how it got there."""

    weights: dict[str, Floats32]
    tune_loss: float
    epochs: int
    curve: tuple[tuple[float, float], ...]
    """Training and tuning loss after each epoch."""


def fit(
    train_set: Sequence[Sample],
    tune_set: Sequence[Sample],
    normalisation: Normalisation,
    names: Sequence[str],
    settings: TrainingSettings,
    *,
    member: int = 0,
    progress: bool = True,
    state: Path | None = None,
) -> Fit:
    """Trains one member with early stopping on the tuning set's loss.

    Args:
        train_set, tune_set: labelled episodes.
        normalisation: of the signals.
        names: the signals.
        settings: of the fit.
        member: which one; it decides the seed.
        progress: show a bar.
        state: file that keeps the newest epoch; if there is one of this very fit, it goes on from there.
    """
    run = _Run(names, settings, member)
    if state is not None:
        run.resume(state)
    weight = _positive_weight(train_set, settings.max_positive_weight)
    groups = _family_columns(names)
    inputs = [normalisation.apply(s.frames) for s in train_set]
    tune_batch = _batch(tune_set, [normalisation.apply(s.frames) for s in tune_set])

    with tqdm(
        total=settings.epochs,
        initial=len(run.curve),
        desc=f"member {member + 1}/{settings.members}",
        disable=not progress,
    ) as bar:
        while not run.finished:
            run.network.train()
            order = run.rng.permutation(len(train_set))
            losses = []
            for first in range(0, len(order), settings.batch_episodes):
                chosen = order[first : first + settings.batch_episodes]
                shown = [_augmented(inputs[i], groups, settings, run.rng) for i in chosen]
                loss = _loss(run.network, _batch([train_set[i] for i in chosen], shown), weight, settings)
                run.optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
                run.optimiser.step()
                run.network.forget(settings.history_steps)
                losses.append(float(loss.detach()))
            run.network.eval()
            with torch.no_grad():
                tune_loss = float(_loss(run.network, tune_batch, weight, settings))
            run.end_epoch(float(np.mean(losses)), tune_loss)
            if state is not None:
                run.save(state)
            bar.set_postfix(
                loss=f"{run.curve[-1][0]:.4f}", tune=f"{tune_loss:.4f}", best=f"{run.best_loss:.4f}"
            )
            bar.update()
    return Fit(
        {name: value.numpy().astype(np.float32) for name, value in run.best.items()},
        run.best_loss,
        len(run.curve),
        tuple(run.curve),
    )


class _Run:
    """Everything that changes during a fit."""

    def __init__(self, names: Sequence[str], settings: TrainingSettings, member: int) -> None:
        seed = settings.seed * 1000 + member
        torch.manual_seed(seed)
        self._settings = settings
        self._about = f"{settings.model_dump_json()} {' '.join(names)} {member}"
        self.rng = np.random.default_rng(seed)
        self.network = Network(2 * len(names), settings.channels, settings.dropout)
        self.network.forget(settings.history_steps)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.decay = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, settings.epochs, settings.learning_rate / 20
        )
        self.best = copy.deepcopy(self.network.state_dict())
        self.best_loss, self.best_epoch = math.inf, -1
        self.curve: list[tuple[float, float]] = []

    @property
    def finished(self) -> bool:
        epochs = len(self.curve)
        return epochs >= self._settings.epochs or epochs - 1 - self.best_epoch >= self._settings.patience

    def end_epoch(self, loss: float, tune_loss: float) -> None:
        self.decay.step()
        self.curve.append((round(loss, 5), round(tune_loss, 5)))
        if tune_loss < self.best_loss:
            self.best, self.best_loss = copy.deepcopy(self.network.state_dict()), tune_loss
            self.best_epoch = len(self.curve) - 1

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        kept = {name: getattr(self, name) for name in ("best", "best_loss", "best_epoch", "curve")}
        torch.save(
            kept
            | {
                "about": self._about,
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "decay": self.decay.state_dict(),
                "numpy": self.rng.bit_generator.state,
                "torch": torch.get_rng_state(),
            },
            partial,
        )
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Goes on from a file, if it is one of the same fit."""
        if not path.is_file():
            return
        kept = torch.load(path, weights_only=True)
        if kept["about"] != self._about:
            return
        self.network.load_state_dict(kept["network"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.decay.load_state_dict(kept["decay"])
        self.rng.bit_generator.state = kept["numpy"]
        torch.set_rng_state(kept["torch"])
        self.best, self.best_loss, self.best_epoch = kept["best"], kept["best_loss"], kept["best_epoch"]
        self.curve = [(float(a), float(b)) for a, b in kept["curve"]]


def fit_seed_perceptron(
    train_set: Sequence[Sample],
    normalisation: Normalisation,
    names: Sequence[str],
    settings: TrainingSettings,
) -> Fit:
    """The first SALUS's predictor: dropout 0.1, binary cross-entropy with positive weight 2, Adam 1e-3.

    Its fourth output, the timeout, has the episode's label; the others those of the longest horizon.
    """
    columns = [list(names).index(name) for name in SEED_SIGNALS]
    inputs = torch.from_numpy(np.concatenate([normalisation.apply(s.frames)[:, columns] for s in train_set]))
    target = torch.from_numpy(
        np.concatenate([np.column_stack([s.target[:, :, -1], timed_out(s)]) for s in train_set])
    ).float()
    known = torch.from_numpy(
        np.concatenate([np.column_stack([s.valid[:, :, -1], s.judged]) for s in train_set])
    ).float()
    torch.manual_seed(settings.seed)
    network = nn.Sequential(
        nn.Linear(6, 64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, TYPES + 1),
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    curve = []
    for _ in range(SEED_EPOCHS):
        losses = []
        for batch in torch.split(torch.randperm(len(inputs)), SEED_BATCH):
            each = nn.functional.binary_cross_entropy_with_logits(
                network(inputs[batch]), target[batch], pos_weight=torch.tensor(2.0), reduction="none"
            )
            loss = (each * known[batch]).sum() / known[batch].sum().clamp_min(1.0)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
        curve.append((round(float(np.mean(losses)), 5), math.nan))
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    weights = {
        f"layer{i}.{name}": value.detach().numpy().astype(np.float32)
        for i, layer in enumerate(layers)
        for name, value in layer.named_parameters()
    }
    return Fit(weights, math.nan, len(curve), tuple(curve))


SEED_EPOCHS = 10
SEED_BATCH = 512


def _family_columns(names: Sequence[str]) -> list[list[int]]:
    """For each signal family, the columns of its signals and of their masks."""
    families = sorted({name.split(".", 1)[0] for name in names})
    return [
        [i + shift for i, name in enumerate(names) if name.startswith(f"{f}.") for shift in (0, len(names))]
        for f in families
    ]


def _augmented(
    inputs: Floats32, groups: Sequence[Sequence[int]], settings: TrainingSettings, rng: np.random.Generator
) -> Floats32:
    """Inputs (N, 2 F) with noise, and now and then without a family."""
    signals = inputs.shape[1] // 2
    shown = inputs.copy()
    noise = rng.standard_normal((len(inputs), signals), np.float32) * np.float32(settings.noise)
    shown[:, :signals] += noise * inputs[:, signals:]
    left_out = np.flatnonzero(rng.random(signals) < settings.signal_dropout)
    shown[:, np.concatenate([left_out, left_out + signals])] = 0.0
    for columns in groups:
        if rng.random() < settings.family_dropout:
            shown[:, columns] = 0.0
    return shown


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """B episodes, padded to the longest, as tensors."""

    inputs: Tensor
    target: Tensor
    valid: Tensor
    timed_out: Tensor
    judged: Tensor


def _batch(samples: Sequence[Sample], inputs: Sequence[Floats32]) -> _Batch:
    longest = max(len(s.time_s) for s in samples)

    def stacked(rows: Sequence[NDArray[Any]]) -> Tensor:
        out = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
        for i, row in enumerate(rows):
            out[i, : len(row)] = row
        return torch.from_numpy(out)

    windows = [padded(rows, REACH) for rows in inputs]
    out = np.zeros((len(windows), longest + REACH - 1, windows[0].shape[1]), np.float32)
    for i, row in enumerate(windows):
        out[i, : len(row)] = row
    return _Batch(
        inputs=torch.from_numpy(out),
        target=stacked([s.target for s in samples]),
        valid=stacked([s.valid for s in samples]),
        timed_out=stacked([timed_out(s) for s in samples]),
        judged=stacked([s.judged for s in samples]),
    )


def _loss(network: Network, batch: _Batch, weight: Tensor, settings: TrainingSettings) -> Tensor:
    hazard, timeout = network(batch.inputs)
    loss = hazard_loss(hazard[:, REACH - 1 :], batch.target, batch.valid, weight)
    judged = batch.judged.float()
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        timeout[:, REACH - 1 :], batch.timed_out, reduction="none"
    )
    return loss + settings.timeout_weight * (each * judged).sum() / judged.sum().clamp_min(1.0)


def timed_out(sample: Sample) -> Floats32:
    """(N,), 1 at every step of an episode that ran out of time."""
    return np.full(len(sample.time_s), sample.outcome is Outcome.TIMEOUT, np.float32)


def _positive_weight(samples: Sequence[Sample], most: float) -> Tensor:
    """(failure types, horizons): the root of negatives per positive among the steps at risk."""
    positive, negative = np.zeros((TYPES, HORIZONS)), np.zeros((TYPES, HORIZONS))
    for s in samples:
        begun = np.concatenate([np.zeros_like(s.target[..., :1]), s.target[..., :-1]], axis=-1)
        at_risk = s.valid & ~begun
        positive += (s.target & at_risk).sum(axis=0)
        negative += (~s.target & at_risk).sum(axis=0)
    weight = np.clip(np.sqrt(negative / np.maximum(positive, 1.0)), 1.0, most)
    return torch.from_numpy(weight.astype(np.float32))
