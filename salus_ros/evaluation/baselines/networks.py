"""Small networks on the policy's latent, trained from the published formulae."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salus_ros.evaluation.baselines.distances import on_ticks, successful_latents, unique_latents
from salus_ros.evaluation.baselines.signal import column
from salus_ros.types import FailureType, Floats

if TYPE_CHECKING:
    from salus_ros.evaluation.records import Record

EPOCHS = 60
"""Enough for every network here to level off on the tune episodes; logpZO takes the published 200."""
BATCH = 512
SEED_SIGNALS = (
    "uncertainty.epistemic",
    "uncertainty.aleatoric",
    "overlap.joint_rms",
    "motion.joint_speed",
    "motion.jerk",
    "execution.tracking_rms",
)
"""The first SALUS fed its predictor six numbers of these kinds."""


class _Scaler:
    """Zero mean and unit deviation of the training latents."""

    def __init__(self, latent: Floats) -> None:
        self._mean, self._std = latent.mean(axis=0), latent.std(axis=0) + 1e-6

    def __call__(self, latent: Floats) -> Tensor:
        return torch.as_tensor(np.clip((latent - self._mean) / self._std, -10.0, 10.0), dtype=torch.float32)


def _mlp(inputs: int, width: int, layers: int, outputs: int) -> nn.Sequential:
    sizes = [inputs, *[width] * (layers - 1), outputs]
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _batches(count: int, seed: int, epochs: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [b for _ in range(epochs) for b in torch.split(torch.randperm(count, generator=generator), BATCH)]


class RandomNetworkDistillation:
    """Distance between a frozen random network and one trained to imitate it on successes."""

    name = "random network distillation"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, records: Sequence[Record]) -> None:
        """Trains the imitator, 6 layers, after the frozen one, 4 layers."""
        latent = successful_latents(records)
        self._scale = _Scaler(latent)
        torch.manual_seed(self._seed)
        data = self._scale(latent)
        self._frozen = _mlp(data.shape[1], 64, 4, 32).requires_grad_(False)
        self._imitator = _mlp(data.shape[1], 64, 6, 32)
        optimiser = torch.optim.Adam(self._imitator.parameters(), lr=1e-3)
        for batch in _batches(len(data), self._seed, EPOCHS):
            loss = (self._imitator(data[batch]) - self._frozen(data[batch])).square().mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    @torch.no_grad()
    def score(self, record: Record) -> Floats:
        """(N,)"""

        def distance(latent: Floats) -> Floats:
            x = self._scale(latent)
            return (self._imitator(x) - self._frozen(x)).norm(dim=1).double().numpy()  # type: ignore[no-any-return]

        return on_ticks(record, distance)


class LogpZO:
    """Flow matching from latents to noise; the squared norm of where one Euler step leads."""

    name = "logpZO"
    epochs = 200

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, records: Sequence[Record]) -> None:
        """Learns the field v(x, t) that carries a latent at t = 0 to noise at t = 1."""
        latent = successful_latents(records)
        self._scale = _Scaler(latent)
        torch.manual_seed(self._seed)
        data = self._scale(latent)
        self._field = _mlp(data.shape[1] + 1, 128, 4, data.shape[1])
        optimiser = torch.optim.Adam(self._field.parameters(), lr=1e-4)
        for batch in _batches(len(data), self._seed, self.epochs):
            start, noise, t = data[batch], torch.randn_like(data[batch]), torch.rand(len(batch), 1)
            between = (1.0 - t) * start + t * noise
            loss = (self._field(torch.cat([between, t], dim=1)) - (noise - start)).square().mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    @torch.no_grad()
    def score(self, record: Record) -> Floats:
        """(N,)"""

        def improbability(latent: Floats) -> Floats:
            x = self._scale(latent)
            end = x + self._field(torch.cat([x, torch.zeros(len(x), 1)], dim=1))
            return end.square().sum(dim=1).double().numpy()  # type: ignore[no-any-return]

        return on_ticks(record, improbability)


class SafeMlp:
    """Running sum of sigmoid(g(latent)), kept at zero on successes and raised on failures."""

    name = "SAFE-MLP"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, records: Sequence[Record]) -> None:
        """Loss: the running sum on successes, its negative on failures, both classes weighing the same."""
        self._scale, episodes = _labelled_episodes(records)
        torch.manual_seed(self._seed)
        self._net = _mlp(episodes[0][0].shape[1], 256, 3, 1)
        optimiser = torch.optim.AdamW(self._net.parameters(), lr=1e-4, weight_decay=1e-2)
        weight = _class_weights([failed for _, failed in episodes])
        for order in _episode_batches(len(episodes), self._seed):
            loss = torch.zeros(())
            for i in order:
                x, failed = episodes[i]
                total = torch.sigmoid(self._net(x)).cumsum(dim=0).mean() / len(x)
                loss = loss + weight[failed] * (-total if failed else total)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    @torch.no_grad()
    def score(self, record: Record) -> Floats:
        """(N,) each step's share; the running sum is among the aggregations that are tried."""

        def share(latent: Floats) -> Floats:
            return torch.sigmoid(self._net(self._scale(latent)))[:, 0].double().numpy()  # type: ignore[no-any-return]

        return on_ticks(record, share)


class SafeLstm:
    """An LSTM over the latents, told at every step whether the episode fails."""

    name = "SAFE-LSTM"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, records: Sequence[Record]) -> None:
        """Binary cross-entropy at every step with the episode's label."""
        self._scale, episodes = _labelled_episodes(records)
        torch.manual_seed(self._seed)
        self._lstm = nn.LSTM(episodes[0][0].shape[1], 256, batch_first=True)
        self._head = nn.Linear(256, 1)
        parameters = [*self._lstm.parameters(), *self._head.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=3e-4, weight_decay=1e-2)
        weight = _class_weights([failed for _, failed in episodes])
        lengths = torch.tensor([len(x) for x, _ in episodes])
        padded = nn.utils.rnn.pad_sequence([x for x, _ in episodes], batch_first=True)
        failed = torch.tensor([float(f) for _, f in episodes])
        importance = torch.tensor([weight[f] for _, f in episodes])
        for order in _episode_batches(len(episodes), self._seed):
            hidden, _ = self._lstm(padded[order])
            logits = self._head(hidden)[..., 0]
            target = failed[order][:, None].expand_as(logits)
            each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            inside = torch.arange(logits.shape[1])[None] < lengths[order][:, None]
            loss = (each * inside * importance[order][:, None]).sum() / inside.sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    @torch.no_grad()
    def score(self, record: Record) -> Floats:
        """(N,)"""
        latent = unique_latents(record)
        if not len(latent):
            return np.full(len(record.time_s), np.nan)
        hidden, _ = self._lstm(self._scale(latent)[None])
        logit = self._head(hidden)[0, :, 0].double().numpy()
        return logit[_output_of_tick(record)] if len(logit) else np.full(len(record.time_s), np.nan)


class SeedPredictor:
    """The first SALUS's network: 6-64-64-4, ReLU, dropout 0.1, positive weight 2; 4,868 parameters."""

    name = "seed predictor"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, records: Sequence[Record]) -> None:
        """On the labels of the longest horizon; the fourth output, the timeout, has the episode's label."""
        raw = np.concatenate([_six(r) for r in records])
        self._scale = _Scaler(raw)
        inputs = self._scale(raw)
        target, valid = (np.concatenate(parts) for parts in zip(*map(_four_labels, records), strict=True))
        torch.manual_seed(self._seed)
        self.network = nn.Sequential(
            nn.Linear(6, 64),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(64, 4),
        )
        optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        y, known = torch.as_tensor(target, dtype=torch.float32), torch.as_tensor(valid, dtype=torch.float32)
        for batch in _batches(len(inputs), self._seed, EPOCHS // 6):
            each = nn.functional.binary_cross_entropy_with_logits(
                self.network(inputs[batch]), y[batch], pos_weight=torch.tensor(2.0), reduction="none"
            )
            loss = (each * known[batch]).sum() / known[batch].sum().clamp(min=1.0)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        self.network.eval()

    @torch.no_grad()
    def score(self, record: Record) -> Floats:
        """(N, types), probabilities."""
        logits: Floats = (
            self.network(self._scale(_six(record)))[:, : len(FailureType)].double().sigmoid().numpy()
        )
        return logits


def _labelled_episodes(records: Sequence[Record]) -> tuple[_Scaler, list[tuple[Tensor, bool]]]:
    """Latents (M, L) of each episode and whether it failed."""
    raw = [(unique_latents(r), r.failed) for r in records]
    kept = [(latent, failed) for latent, failed in raw if len(latent)]
    scale = _Scaler(np.concatenate([latent for latent, _ in kept]))
    return scale, [(scale(latent), failed) for latent, failed in kept]


def _class_weights(failed: Sequence[bool]) -> dict[bool, float]:
    return {kind: len(failed) / (2.0 * max(1, sum(f is kind for f in failed))) for kind in (True, False)}


def _episode_batches(count: int, seed: int, size: int = 32) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        list(map(int, b))
        for _ in range(EPOCHS)
        for b in torch.split(torch.randperm(count, generator=generator), size)
    ]


def _output_of_tick(record: Record) -> NDArray[np.int64]:
    """(N,) which of ``unique_latents`` a tick has seen last; the first where it has seen none."""
    known = np.asarray(np.isfinite(record.latent).all(axis=1))
    changed = np.zeros(len(known), dtype=np.bool_)
    changed[1:] = known[1:] & known[:-1] & (np.diff(record.latent, axis=0) != 0.0).any(axis=1)
    changed[int(np.argmax(known))] = True
    seen: NDArray[np.int64] = np.maximum(np.cumsum(changed) - 1, 0)
    return seen


def _six(record: Record) -> Floats:
    """(N, 6), gaps as zero, which is what the first SALUS made of them."""
    return np.nan_to_num(np.stack([column(record, name) for name in SEED_SIGNALS], axis=1))


def _four_labels(record: Record) -> tuple[Floats, Floats]:
    """Targets and weights (N, 4)."""
    sample = record.sample
    fails = np.full((len(sample.time_s), 1), record.failed)
    target = np.concatenate([sample.target[:, :, -1], fails], axis=1)
    valid = np.concatenate([sample.valid[:, :, -1], sample.judged[:, None]], axis=1)
    return target.astype(np.float64), valid.astype(np.float64)
