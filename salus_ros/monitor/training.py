"""From labelled signals to a checkpoint: fit, calibrate, set the thresholds."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from salus_ros.data.episode import Outcome
from salus_ros.errors import SalusError
from salus_ros.monitor.calibration import Platt, alarm_thresholds, conformal_quantile, needed_episodes
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.judgement import calibrated
from salus_ros.monitor.network import Network, hazard_loss
from salus_ros.monitor.novelty import Novelty, window_means
from salus_ros.monitor.predictor import HORIZONS, REACH, TYPES, Normalisation, probabilities, sigmoid
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import SignalSet
from salus_ros.monitor.splits import Split
from salus_ros.types import Floats, Floats32


class TrainingSettings(BaseModel):
    """How the network is fitted and the alarm is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Of weights, batches and augmentation.")
    members: int = Field(3, ge=1, le=5, description="Networks whose logits are averaged.")
    channels: int = Field(
        64, ge=4, le=96, description="Width of the network; 3 x 64 stays under 200,000 weights."
    )
    dropout: float = Field(0.15, ge=0, lt=1, description="Share of hidden units left out.")
    family_dropout: float = Field(
        0.08,
        ge=0,
        lt=1,
        description="Chance that an episode is shown without one signal family, as if its sensor failed.",
    )
    noise: float = Field(
        0.05, ge=0, description="Noise added to the normalised signals, in standard deviations."
    )
    learning_rate: float = Field(2e-3, gt=0, description="Of AdamW, decayed by a cosine over the epochs.")
    weight_decay: float = Field(0.02, ge=0, description="Of AdamW.")
    batch_episodes: int = Field(16, ge=1, description="Episodes in a step.")
    epochs: int = Field(50, ge=1, description="Passes over the training episodes at most.")
    patience: int = Field(10, ge=1, description="Passes without a better tuning loss before training stops.")
    timeout_weight: float = Field(0.1, ge=0, description="Weight of the timeout's loss beside the hazards'.")
    max_positive_weight: float = Field(
        8.0, ge=1, description="A failure counts at most this much more than its absence."
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="False alarms per successful episode.")
    novelty_alpha: float = Field(
        0.05, gt=0, lt=1, description="Episodes wrongly said to lie outside the training data."
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained member and how it got there."""

    network: Network
    tune_loss: float
    epochs: int
    curve: tuple[tuple[float, float], ...]
    """Training and tuning loss after each epoch."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the network says about one episode, before calibration."""

    probability: Floats
    """(N, failure types, horizons)"""
    timeout: Floats
    """(N,)"""
    novelty: Floats
    """(N,), distance from the training data"""


def train(
    samples: Sequence[Sample],
    settings: TrainingSettings,
    monitor: MonitorSettings,
    *,
    signals: Sequence[str] | None = None,
    data_hash: str = "",
    progress: bool = True,
) -> Checkpoint:
    """Fits members on ``TRAIN``, calibrates on ``TUNE``, sets thresholds on ``CALIBRATE``.

    Args:
        samples: all splits together; the test split is not touched.
        settings: of the fit.
        monitor: settings that the samples were made with.
        signals: their signals; default: all that are registered.
        data_hash: of the stores, kept in the checkpoint.
        progress: show a bar.

    Raises:
        SalusError: a split is too small for what it is needed for.
    """
    names = SignalSet(signals).names
    if monitor.window_steps < REACH:
        raise SalusError(
            f"window_steps is {monitor.window_steps}, but the network looks back over {REACH}; raise it."
        )
    train_set, tune_set, calibrate_set = (
        [s for s in samples if s.split is split] for split in (Split.TRAIN, Split.TUNE, Split.CALIBRATE)
    )
    _check_sizes(train_set, tune_set, calibrate_set, settings)

    normalisation = Normalisation.fit(np.concatenate([s.frames[s.judged] for s in train_set]))
    fits = [
        fit(train_set, tune_set, normalisation, names, settings, member=i, progress=progress)
        for i in range(settings.members)
    ]
    novelty = Novelty.fit(
        np.concatenate([_means(s, normalisation, monitor.window_steps)[s.judged] for s in train_set])
    )
    networks = [f.network for f in fits]

    def scored(group: Sequence[Sample]) -> list[Scores]:
        return [score(s, networks, normalisation, novelty, monitor.window_steps) for s in group]

    tuned, held = scored(tune_set), scored(calibrate_set)
    calibration = _calibration(tune_set, tuned)
    timeout = Platt.fit(
        np.concatenate([sigmoid(p.timeout)[s.judged] for s, p in zip(tune_set, tuned, strict=True)]),
        np.concatenate([_timed_out(s)[s.judged] for s in tune_set]),
        np.concatenate([np.full(s.judged.sum(), 1.0 / max(s.judged.sum(), 1)) for s in tune_set]),
    )
    threshold = alarm_thresholds(
        _maxima(tune_set, tuned, calibration), _maxima(calibrate_set, held, calibration), settings.alpha
    )
    strangest = np.array(
        [p.novelty[s.judged].max(initial=0.0) for s, p in zip(calibrate_set, held, strict=True)]
    )
    return Checkpoint(
        settings=monitor,
        signals=names,
        members=[{k: v.numpy().astype(np.float32) for k, v in n.state_dict().items()} for n in networks],
        normalisation=normalisation,
        calibration=calibration,
        timeout_calibration=timeout,
        threshold=threshold,
        alpha=settings.alpha,
        novelty=Novelty(
            novelty.mean, novelty.precision, conformal_quantile(strangest, settings.novelty_alpha)
        ),
        novelty_alpha=settings.novelty_alpha,
        data_hash=data_hash,
        policy_hashes=tuple(sorted({s.policy_hash for s in samples if s.policy_hash})),
        seed=settings.seed,
        report={
            "training": settings.model_dump(),
            "episodes": {split.value: sum(s.split is split for s in samples) for split in Split},
            "calibration_successes": sum(s.success for s in calibrate_set),
            "members": [{"epochs": f.epochs, "tune_loss": f.tune_loss, "curve": f.curve} for f in fits],
            "weights": sum(p.numel() for n in networks for p in n.parameters()),
        },
    )


def fit(
    train_set: Sequence[Sample],
    tune_set: Sequence[Sample],
    normalisation: Normalisation,
    names: Sequence[str],
    settings: TrainingSettings,
    *,
    member: int = 0,
    progress: bool = True,
) -> Fit:
    """Trains one member with early stopping on the tuning set's loss."""
    seed = settings.seed * 1000 + member
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = Network(2 * len(names), settings.channels, settings.dropout)
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, settings.epochs, settings.learning_rate / 20
    )
    weight = _positive_weight(train_set, settings.max_positive_weight)
    groups = _family_columns(names)
    inputs = [normalisation.apply(s.frames) for s in train_set]
    tune_batch = _batch(tune_set, [normalisation.apply(s.frames) for s in tune_set])
    best, best_loss, best_epoch = copy.deepcopy(network.state_dict()), math.inf, 0
    curve: list[tuple[float, float]] = []

    with tqdm(
        total=settings.epochs, desc=f"member {member + 1}/{settings.members}", disable=not progress
    ) as bar:
        for epoch in range(settings.epochs):
            network.train()
            order = rng.permutation(len(train_set))
            losses = []
            for first in range(0, len(order), settings.batch_episodes):
                chosen = order[first : first + settings.batch_episodes]
                shown = [_augmented(inputs[i], groups, settings, rng) for i in chosen]
                loss = _loss(network, _batch([train_set[i] for i in chosen], shown), weight, settings)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                losses.append(float(loss.detach()))
            decay.step()
            network.eval()
            with torch.no_grad():
                tune_loss = float(_loss(network, tune_batch, weight, settings))
            curve.append((round(float(np.mean(losses)), 5), round(tune_loss, 5)))
            if tune_loss < best_loss:
                best, best_loss, best_epoch = copy.deepcopy(network.state_dict()), tune_loss, epoch
            bar.set_postfix(loss=f"{curve[-1][0]:.4f}", tune=f"{tune_loss:.4f}", best=f"{best_loss:.4f}")
            bar.update()
            if epoch - best_epoch >= settings.patience:
                break
    network.load_state_dict(best)
    network.eval()
    return Fit(network, best_loss, len(curve), tuple(curve))


def score(
    sample: Sample,
    networks: Sequence[Network],
    normalisation: Normalisation,
    novelty: Novelty,
    window_steps: int,
) -> Scores:
    """What the members together say about each step of an episode."""
    inputs = torch.from_numpy(_padded(normalisation.apply(sample.frames), REACH))[None]
    with torch.no_grad():
        outputs = [network(inputs) for network in networks]
    hazard = np.stack([h[0, REACH - 1 :].numpy() for h, _ in outputs]).astype(np.float64).mean(axis=0)
    timeout = np.stack([t[0, REACH - 1 :].numpy() for _, t in outputs]).astype(np.float64).mean(axis=0)
    distance = novelty.distance(_means(sample, normalisation, window_steps))
    return Scores(probabilities(hazard), timeout, distance)


def _check_sizes(
    train_set: Sequence[Sample],
    tune_set: Sequence[Sample],
    calibrate_set: Sequence[Sample],
    settings: TrainingSettings,
) -> None:
    successes = sum(s.success for s in calibrate_set)
    needed = needed_episodes(settings.alpha)
    if successes < needed:
        raise SalusError(
            f"the calibration split holds {successes} successful episodes of {len(calibrate_set)}; "
            f"a false-alarm rate of {settings.alpha:g} needs {needed} or more: "
            "collect more episodes or raise --alpha."
        )
    for name, group in (("training", train_set), ("tuning", tune_set)):
        if not any((s.target & s.valid).any() for s in group) or not any(s.success for s in group):
            raise SalusError(
                f"the {name} split holds {len(group)} episodes, but not both a failure and a success; "
                "collect more episodes, with disturbances among them."
            )


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
    for columns in groups:
        if rng.random() < settings.family_dropout:
            shown[:, columns] = 0.0
    return shown


def _padded(rows: Floats32, reach: int) -> Floats32:
    """Rows (N, K) with the first one repeated before them, as a window that begins with the episode."""
    return np.concatenate([np.repeat(rows[:1], reach - 1, axis=0), rows])


def _means(sample: Sample, normalisation: Normalisation, steps: int) -> Floats:
    """(N, 2 F), mean inputs of the window that ends at each step."""
    return window_means(_padded(normalisation.apply(sample.frames), steps), steps)


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

    padded = [_padded(rows, REACH) for rows in inputs]
    out = np.zeros((len(padded), longest + REACH - 1, padded[0].shape[1]), np.float32)
    for i, row in enumerate(padded):
        out[i, : len(row)] = row
    return _Batch(
        inputs=torch.from_numpy(out),
        target=stacked([s.target for s in samples]),
        valid=stacked([s.valid for s in samples]),
        timed_out=stacked([_timed_out(s) for s in samples]),
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


def _timed_out(sample: Sample) -> Floats32:
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


def _calibration(samples: Sequence[Sample], scores: Sequence[Scores]) -> tuple[tuple[Platt, ...], ...]:
    target, valid = np.concatenate([s.target for s in samples]), np.concatenate([s.valid for s in samples])
    raw = np.concatenate([p.probability for p in scores])

    def one(k: int, h: int) -> Platt:
        known = valid[:, k, h]
        return Platt.fit(raw[known, k, h], target[known, k, h].astype(float))

    return tuple(tuple(one(k, h) for h in range(HORIZONS)) for k in range(TYPES))


def _maxima(
    samples: Sequence[Sample], scores: Sequence[Scores], calibration: tuple[tuple[Platt, ...], ...]
) -> Floats:
    """(M, failure types), highest probability at the longest horizon in each successful episode."""
    rows = [
        calibrated(calibration, p.probability)[s.judged, :, -1].max(axis=0, initial=0.0)
        for s, p in zip(samples, scores, strict=True)
        if s.success
    ]
    return np.array(rows).reshape(-1, TYPES)
