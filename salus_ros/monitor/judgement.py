"""From raw logits to a calibrated prediction with its alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from salus_ros.monitor.calibration import Platt
from salus_ros.monitor.predictor import Logits, probabilities, sigmoid
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType, Floats

if TYPE_CHECKING:
    from salus_ros.monitor.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """What the network says about N steps, before calibration."""

    probability: Floats
    """(N, failure types, horizons)"""
    timeout: Floats
    """(N,), logits"""

    @classmethod
    def of(cls, logits: Logits, smoothing: float = 0.0, said: NDArray[np.bool_] | None = None) -> Raw:
        """From a sequence of logits.

        Args:
            logits: of N steps in a row.
            smoothing: see ``Smoother``.
            said: (N,), False where a live monitor would have said nothing, and begins anew after.
        """
        if smoothing == 0.0:
            return cls(probabilities(logits.hazard), logits.timeout)
        smoother = Smoother(smoothing)
        hazard, timeout = np.empty_like(logits.hazard), np.empty_like(logits.timeout)
        for i in range(len(hazard)):
            if said is not None and not said[i]:
                smoother.clear()
            hazard[i], timeout[i] = smoother(logits.hazard[i], float(logits.timeout[i]))
        return cls(probabilities(hazard), timeout)


class Smoother:
    """Exponential mean of logits over time: an alarm that flickers is of no use to a gate."""

    def __init__(self, smoothing: float) -> None:
        """``smoothing``: weight of what was before, from 0 (none) to below 1."""
        self._keep = smoothing
        self._before: tuple[Floats, float] | None = None

    def clear(self) -> None:
        """Forgets what was before."""
        self._before = None

    def __call__(self, hazard: Floats, timeout: float) -> tuple[Floats, float]:
        """The mean up to now, from the newest logits (types, horizons)."""
        if self._before is not None:
            hazard = self._keep * self._before[0] + (1.0 - self._keep) * hazard
            timeout = self._keep * self._before[1] + (1.0 - self._keep) * timeout
        self._before = hazard, timeout
        return self._before


def calibrated(calibration: Sequence[Sequence[Platt]], raw: Floats) -> Floats:
    """Calibrated probabilities, never falling along the horizons, from raw ones (..., types, horizons)."""
    slope = np.array([[p.slope for p in row] for row in calibration])
    offset = np.array([[p.offset for p in row] for row in calibration])
    clipped = np.clip(raw, 1e-7, 1.0 - 1e-7)
    each = sigmoid(slope * (np.log(clipped) - np.log1p(-clipped)) + offset)
    rising: Floats = np.maximum.accumulate(each, axis=-1)
    return rising


def judge(
    checkpoint: Checkpoint,
    raw: Floats,
    timeout_logit: float,
    *,
    distance: float,
    stamp_s: float,
    sequence: int,
) -> FailurePrediction:
    """The prediction from raw probabilities (types, horizons), the timeout logit and the novelty distance.

    Risk is half a type's probability at the longest horizon over its threshold, so 0.5 is the threshold.
    The horizon behind it is the shortest whose probability alone reaches the threshold: how near the
    failure is; the longest while none does.
    """
    probability = calibrated(checkpoint.calibration, raw)
    ratio = probability[:, -1] / checkpoint.threshold
    worst = int(ratio.argmax())
    over = np.flatnonzero(probability[worst] >= checkpoint.threshold[worst])
    timeout = checkpoint.timeout_calibration.apply(sigmoid(timeout_logit))
    return FailurePrediction(
        stamp_s=stamp_s,
        sequence=sequence,
        horizons_s=HORIZONS_S,
        probability=probability,
        timeout_probability=float(timeout),
        risk=float(np.clip(0.5 * ratio[worst], 0.0, 1.0)),
        risk_type=FailureType(worst),
        risk_horizon_s=HORIZONS_S[int(over[0]) if len(over) else -1],
        alarm=bool(ratio[worst] >= 1.0),
        threshold=checkpoint.threshold,
        out_of_distribution=bool(distance > checkpoint.novelty.threshold),
    )
