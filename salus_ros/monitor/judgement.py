"""From raw scores to a calibrated prediction with its alarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from salus_ros.monitor.calibration import Platt
from salus_ros.monitor.predictor import sigmoid
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType, Floats

if TYPE_CHECKING:
    from salus_ros.monitor.checkpoint import Checkpoint


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
