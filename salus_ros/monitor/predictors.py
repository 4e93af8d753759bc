"""What can stand behind a monitor: one interface, three kinds.

temporal    the causal network of ``predictor``: hazards by type and horizon (the default)
seed        the multi-layer perceptron of the first SALUS, kept as it was, to be compared with
successes   a distance from successes, for robots that have no failures on record yet
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.monitor.novelty import Novelty, window_means
from salus_ros.monitor.predictor import (
    HORIZONS,
    REACH,
    TYPES,
    Logits,
    Predictor,
    TemporalNetwork,
)
from salus_ros.types import Floats, Floats32

Kind: TypeAlias = Literal["temporal", "seed", "successes"]
RECENT_STEPS: Final = 6
"""What ``SuccessDistance`` looks at: 0.3 s."""
NEVER: Final = -30.0
"""Logit of a hazard that adds nothing."""
SEED_SIGNALS: Final = (
    "uncertainty.epistemic",
    "uncertainty.aleatoric",
    "overlap.joint_rms",
    "motion.joint_speed",
    "motion.jerk",
    "execution.tracking_rms",
)
"""The first SALUS fed its predictor six numbers of these kinds."""


def load_predictor(kind: str, members: Sequence[Mapping[str, Floats32]], signals: Sequence[str]) -> Predictor:
    """The predictor of a checkpoint.

    Raises:
        SalusError: the kind is not known, or the weights do not fit each other or the signals.
    """
    if kind == "temporal":
        return TemporalNetwork(members)
    if kind == "seed":
        return SeedPerceptron(members[0], signals)
    if kind == "successes":
        return SuccessDistance(members[0])
    raise SalusError(
        f"the monitor's predictor is of the kind {kind!r}; expected one of {', '.join(get_args(Kind))}: "
        "train the monitor again."
    )


class SeedPerceptron:
    """6-64-64-4 with ReLU: 4,868 parameters; three failure types and the timeout, one horizon for all."""

    def __init__(self, weights: Mapping[str, Floats32], signals: Sequence[str]) -> None:
        """``weights``: ``layer{0,1,2}.{weight,bias}`` as torch keeps them."""
        missing = [name for name in SEED_SIGNALS if name not in signals]
        if missing:
            raise SalusError(
                f"the seed predictor needs the signals {', '.join(missing)}; train it with them."
            )
        self.inputs = 2 * len(signals)
        self._columns = [list(signals).index(name) for name in SEED_SIGNALS]
        self._layers = [(weights[f"layer{i}.weight"].T, weights[f"layer{i}.bias"]) for i in range(3)]

    def sequence(self, inputs: Floats32) -> Logits:
        """The newest row of each window alone; what is not available counts as the mean."""
        x = inputs[REACH - 1 :, self._columns]
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight + bias, 0.0)
        out = (x @ self._layers[-1][0] + self._layers[-1][1]).astype(np.float64)
        return Logits(at_once(out[:, :TYPES]), out[:, TYPES])


class SuccessDistance:
    """Mahalanobis distance of the last 0.3 s from those of successes.

    The log odds rise with the distance; what kind of failure it is, is not known, so all types are alike.
    Of time-outs nothing is known: nan.
    """

    def __init__(self, arrays: Mapping[str, Floats32]) -> None:
        """``arrays``: ``mean`` (2 F,), ``precision`` (2 F, 2 F), ``scale`` (2,): centre and width."""
        self.inputs = len(arrays["mean"])
        mean, precision = (np.asarray(arrays[name], np.float64) for name in ("mean", "precision"))
        self._known = Novelty(mean, precision)
        self._centre, self._width = (float(v) for v in arrays["scale"])

    def sequence(self, inputs: Floats32) -> Logits:
        """Logits of each window."""
        odds = (self.distance(inputs) - self._centre) / self._width
        return Logits(at_once(np.repeat(odds[:, None], TYPES, axis=1)), np.full(len(odds), np.nan))

    def distance(self, inputs: Floats32) -> Floats:
        """(N,), of the newest N steps of inputs (N + REACH - 1, 2 F)."""
        return self._known.distance(recent_means(inputs))


def recent_means(inputs: Floats32) -> Floats:
    """(N, 2 F), means of the last 0.3 s at the newest N steps of inputs (N + REACH - 1, 2 F)."""
    return window_means(inputs[REACH - RECENT_STEPS :], RECENT_STEPS)


def at_once(logits: Floats) -> Floats:
    """(N, types, horizons), hazards of a probability (N, types) that is the same at all horizons."""
    hazard = np.full((*logits.shape, HORIZONS), NEVER)
    hazard[..., 0] = logits
    return hazard
