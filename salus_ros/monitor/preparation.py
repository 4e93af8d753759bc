"""From replayed samples to what a network is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.latents import LatentReference
from salus_ros.monitor.signals import SignalSet
from salus_ros.monitor.splits import Split
from salus_ros.types import Floats32

MIN_LATENTS: Final = 100
"""Fewer latents of successes are no reference."""


def latent_reference(samples: Sequence[Sample], seed: int = 0) -> LatentReference | None:
    """Fitted on the latents of successful samples; ``None`` where the policy publishes none."""
    rows = [distinct_latents(s) for s in samples if s.success and s.latent.shape[1]]
    widths = {r.shape[1] for r in rows}
    if len(widths) != 1 or sum(map(len, rows)) < MIN_LATENTS:
        return None
    return LatentReference.fit(np.concatenate(rows), seed)


def prepared(
    sample: Sample, names: Sequence[str], reference: LatentReference | None, *, own: bool = False
) -> Sample:
    """The sample with the signals that a network is given, those that need a latent reference among them.

    Args:
        sample: as replayed: all registered signals, without a reference.
        names: the signals wanted, in this order.
        reference: fitted on training episodes.
        own: the sample is one of those; its own latents are no neighbours then.
    """
    position = {name: i for i, name in enumerate(SignalSet().names)}
    frames = sample.frames[:, [position[name] for name in names]]
    if reference is not None and sample.latent.shape[1] and any(n.startswith("latent.") for n in names):
        rows, index = np.unique(sample.latent, axis=0, return_inverse=True)
        found = reference.measure(rows, apart_from=rows[np.isfinite(rows).all(axis=1)] if own else None)
        for column, (name, signal) in enumerate(zip(names, SignalSet(names).signals, strict=True)):
            family, _, short = name.partition(".")
            if family == "latent" and short in found:
                on_ticks = np.clip(found[short][index.ravel()], signal.low, signal.high)
                # Ticks on which the monitor says nothing have no signals at all.
                frames[:, column] = np.where(sample.judged_at_all, on_ticks, np.nan)
    return replace(sample, frames=frames)


def distinct_latents(sample: Sample) -> Floats32:
    """(P, L), the latents without the repeats between two outputs."""
    latent = sample.latent[np.isfinite(sample.latent).all(axis=1)]
    new = np.ones(len(latent), bool)
    new[1:] = (latent[1:] != latent[:-1]).any(axis=1)
    kept: Floats32 = latent[new]
    return kept


def padded(rows: Floats32, reach: int) -> Floats32:
    """Rows (N, K) with the first one repeated before them, as a window that begins with the episode."""
    return np.concatenate([np.repeat(rows[:1], reach - 1, axis=0), rows])


def shuffle_labels(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The same signals with the labels of other steps: whatever is learned from them is worthless.

    How episodes ended is shuffled as well, since time-outs are learned from it, save in the calibration set:
    false alarms are promised for true successes.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(sum(len(s.time_s) for s in samples))
    target = np.concatenate([s.target for s in samples])[order]
    valid = np.concatenate([s.valid for s in samples])[order]
    ends = np.cumsum([len(s.time_s) for s in samples])
    moved = [index for index, s in enumerate(samples) if s.split is not Split.CALIBRATE]
    outcomes = [s.outcome for s in samples]
    for index, other in zip(moved, rng.permutation(moved), strict=True):
        outcomes[index] = samples[other].outcome
    return [
        replace(
            s,
            target=target[end - len(s.time_s) : end],
            valid=valid[end - len(s.time_s) : end],
            outcome=outcome,
        )
        for s, end, outcome in zip(samples, ends, outcomes, strict=True)
    ]
