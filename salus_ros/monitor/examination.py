"""A first look at how well a monitor foresees, on episodes that no fit has seen.

The full protocol, with rivals and intervals, is ``salus evaluate``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.scoring import judgements
from salus_ros.types import HORIZONS_S, FailureType, Floats

FORESEEN_S: Final = (0.2, 1.0)
"""An alarm rises this long before an onset, or did not foresee it."""


def examine(checkpoint: Checkpoint, samples: Sequence[Sample]) -> dict[str, Any]:
    """Separation per type and horizon beside a clock's, and what the alarm does per episode."""
    said = [judgements(checkpoint, s) for s in samples]
    probability = [np.array([p.probability for p in row]) for row in said]
    alarms = [np.array([p.alarm for p in row]) & s.judged for row, s in zip(said, samples, strict=True)]
    foreseen: dict[str, list[int]] = {t.name.lower(): [0, 0] for t in FailureType}
    leads: list[float] = []
    for s, alarm in zip(samples, alarms, strict=True):
        for onset_s, kind in s.onsets[:1]:
            lead_s = onset_s - s.time_s[_rising(alarm)]
            hits = lead_s[(lead_s >= FORESEEN_S[0]) & (lead_s <= FORESEEN_S[1])]
            foreseen[kind.name.lower()][0] += len(hits) > 0
            foreseen[kind.name.lower()][1] += 1
            leads += [float(hits.max())] if len(hits) else []
    return {
        "episodes": len(samples),
        "auroc": _table(samples, probability),
        "auroc_clock": _table(samples, [_clock(s) for s in samples]),
        "false_alarms": [
            int(sum(a.any() for s, a in zip(samples, alarms, strict=True) if s.success)),
            sum(s.success for s in samples),
        ],
        "foreseen_first_onsets": foreseen,
        "median_lead_s": float(np.median(leads)) if leads else None,
        "outside_training_data": [
            sum(
                any(p.out_of_distribution and judged for p, judged in zip(row, s.judged, strict=True))
                for row, s in zip(said, samples, strict=True)
            ),
            len(samples),
        ],
    }


def as_text(figures: Mapping[str, Any]) -> str:
    """The figures as a table for people."""
    head = " ".join(f"{h:g} s".rjust(13) for h in HORIZONS_S)
    lines = [f"held-out test: {figures['episodes']} episodes", f"AUROC (clock)  {head}  positive steps"]
    for kind in FailureType:
        ours, clock = figures["auroc"][kind.name.lower()], figures["auroc_clock"][kind.name.lower()]
        cells = [
            f"{_cell(a['value'])} ({_cell(b['value'])})".rjust(13) for a, b in zip(ours, clock, strict=True)
        ]
        lines.append(
            f"{kind.name.lower():14s} {' '.join(cells)}  {ours[-1]['positive']} of {ours[-1]['steps']}"
        )
    caught = ", ".join(
        f"{name} {hit} of {of}" for name, (hit, of) in figures["foreseen_first_onsets"].items()
    )
    false, successes = figures["false_alarms"]
    lead = figures["median_lead_s"]
    lines.append(f"foreseen {FORESEEN_S[0]:g} to {FORESEEN_S[1]:g} s ahead: {caught}")
    lines.append(f"median lead: {'-' if lead is None else f'{lead:.2f} s'}")
    lines.append(f"false alarms: {false} of {successes} successful episodes")
    lines.append(
        "outside the training data at some moment: {} of {} episodes".format(
            *figures["outside_training_data"]
        )
    )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "  -  " if value is None else f"{value:.3f}"


def _clock(sample: Sample) -> Floats:
    """(N, failure types, horizons): the time since the episode began, as a score."""
    return np.broadcast_to(sample.time_s[:, None, None], sample.target.shape)


def _rising(alarm: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rising: NDArray[np.bool_] = alarm & ~np.concatenate([[False], alarm[:-1]])
    return rising


def _table(samples: Sequence[Sample], scores: Sequence[Floats]) -> dict[str, list[dict[str, Any]]]:
    target, valid = np.concatenate([s.target for s in samples]), np.concatenate([s.valid for s in samples])
    score = np.concatenate(scores)

    def one(k: int, h: int) -> dict[str, Any]:
        known = valid[:, k, h]
        y = target[known, k, h]
        both = 0 < y.sum() < len(y)
        value = float(roc_auc_score(y, score[known, k, h])) if both else None
        return {"horizon_s": HORIZONS_S[h], "value": value, "positive": int(y.sum()), "steps": len(y)}

    return {kind.name.lower(): [one(kind, h) for h in range(len(HORIZONS_S))] for kind in FailureType}
