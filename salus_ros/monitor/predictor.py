"""The temporal network: a window of signals to hazards, in numpy.

    inputs   normalised signals and a mask of those that are available, (steps, 2 F)
    stem     linear, 2 F -> C, then SiLU
    blocks   x += W2 SiLU(W1 * x), with * a causal convolution of width 3 and the block's dilation
    head     of the newest step: C -> failure types x horizons hazards, and one timeout logit
    members  several such networks, whose logits are averaged

A hazard is the probability that the failure begins between one horizon and the next, given that it has
not begun before; so the probability of its having begun never falls with the horizon.
The same weights are trained by ``network.Network`` in torch; that both give the same is tested. At this
size numpy answers in a fraction of a millisecond and spares the node the import of torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.types import HORIZONS_S, FailureType, Floats, Floats32

TYPES = len(FailureType)
HORIZONS = len(HORIZONS_S)
WIDTH = 3
"""Steps that a convolution spans."""
DILATIONS = (1, 2, 6)
"""Of the blocks: together they reach over 19 steps, so the newest step of a window of 20 sees nothing of the
padding, and training may run over whole episodes at once."""
REACH = 1 + (WIDTH - 1) * sum(DILATIONS)
"""Steps that the newest output depends on."""
CLIP = 6.0
"""Normalised signals are cut off here, in standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Normalisation:
    """Mean and standard deviation of each signal (F,) over the training steps where it was available."""

    mean: Floats
    std: Floats

    @classmethod
    def fit(cls, frames: Floats) -> Normalisation:
        """From frames (N, F). A signal that never changed gets a standard deviation of 1."""
        available = np.isfinite(frames)
        count = np.maximum(available.sum(axis=0), 1)
        mean = np.where(available, frames, 0.0).sum(axis=0) / count
        variance = np.where(available, (frames - mean) ** 2, 0.0).sum(axis=0) / count
        std = np.sqrt(variance)
        return cls(mean, np.where(std > 1e-6, std, 1.0))

    def apply(self, frames: Floats) -> Floats32:
        """(..., 2 F): signals in standard deviations, 0 where not available, then 1 where available."""
        available = np.isfinite(frames)
        scaled = np.clip((np.where(available, frames, self.mean) - self.mean) / self.std, -CLIP, CLIP)
        return np.concatenate([scaled, available], axis=-1, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """What the network says, before calibration."""

    hazard: Floats
    """(N, failure types, horizons)"""
    timeout: Floats
    """(N,)"""


class Predictor(Protocol):
    """What turns windows of normalised inputs into logits."""

    inputs: int
    """Width of a row of inputs, 2 F."""

    def sequence(self, inputs: Floats32) -> Logits:
        """Logits (N, ...) of the newest N steps of inputs (N + REACH - 1, 2 F)."""


class TemporalNetwork:
    """The forward pass of all members in numpy."""

    def __init__(self, members: Sequence[Mapping[str, Floats32]]) -> None:
        """``members``: the weights of each, as ``network.Network.state_dict`` names them.

        Raises:
            SalusError: there is none, or weights are missing or do not fit each other.
        """
        try:
            self._members = [_Member(weights) for weights in members]
            self.inputs = self._members[0].inputs
            self.sequence(np.zeros((REACH, self.inputs), np.float32))
        except (KeyError, ValueError, IndexError) as error:
            raise SalusError(
                f"the monitor's {len(members)} networks hold weights that do not fit each other ({error!r}); "
                "train the monitor again."
            ) from error

    def sequence(self, inputs: Floats32) -> Logits:
        """Mean logits of the members."""
        out = np.stack([member(inputs) for member in self._members]).astype(np.float64).mean(axis=0)
        return Logits(out[:, : TYPES * HORIZONS].reshape(-1, TYPES, HORIZONS), out[:, TYPES * HORIZONS])


class _Member:
    """One network."""

    def __init__(self, weights: Mapping[str, Floats32]) -> None:
        w = {name: np.asarray(value, np.float32) for name, value in weights.items()}
        self.inputs = int(w["stem.weight"].shape[1])
        self._stem = w["stem.weight"].T.copy(), w["stem.bias"]
        self._head = w["head.weight"].T.copy(), w["head.bias"]
        self._blocks = []
        for i in range(len(DILATIONS)):
            # (C, C, width) -> (width * C, C): a convolution as one matrix product
            kernel = w[f"blocks.{i}.conv.weight"].transpose(2, 1, 0)
            kernel = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[2]))
            out = w[f"blocks.{i}.out.weight"][:, :, 0].T.copy(), w[f"blocks.{i}.out.bias"]
            self._blocks.append((kernel, w[f"blocks.{i}.conv.bias"], *out))

    def __call__(self, inputs: Floats32) -> Floats32:
        """(N, types * horizons + 1), logits of the newest N of N + REACH - 1 steps."""
        x = _silu(inputs @ self._stem[0] + self._stem[1])
        for dilation, (kernel, bias, out, out_bias) in zip(DILATIONS, self._blocks, strict=True):
            # Only steps with their whole past are kept: nothing is padded, nothing is computed for naught.
            steps = len(x) - (WIDTH - 1) * dilation
            taps = np.concatenate([x[k * dilation : k * dilation + steps] for k in range(WIDTH)], axis=1)
            x = x[-steps:] + _silu(taps @ kernel + bias) @ out + out_bias
        result: Floats32 = x @ self._head[0] + self._head[1]
        return result


def probabilities(hazard_logits: Floats) -> Floats:
    """(..., horizons), probability of having begun by each horizon, from hazard logits (..., horizons)."""
    # log(1 - sigmoid(z)) = -softplus(z); summed, no product of small numbers loses digits
    survival: Floats = np.exp(-np.cumsum(np.logaddexp(0.0, hazard_logits), axis=-1))
    return 1.0 - survival


def sigmoid(logit: Floats | float) -> Floats:
    """Logistic function, safe for any size; nan stays nan."""
    with np.errstate(invalid="ignore"):
        result: Floats = np.exp(-np.logaddexp(0.0, -np.asarray(logit, float)))
    return result


def _silu(x: Floats32) -> Floats32:
    result: Floats32 = np.divide(x, 1.0 + np.exp(-np.clip(x, -60.0, 60.0)), dtype=np.float32)
    return result
