"""From labelled signals to a checkpoint: fit, calibrate, set the thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.monitor.calibration import Platt, alarm_thresholds, needed_episodes, usual_heights
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.fitting import Fit, fit, fit_seed_perceptron, timed_out
from salus_ros.monitor.novelty import Novelty, window_means
from salus_ros.monitor.predictor import HORIZONS, REACH, TYPES, Normalisation, sigmoid
from salus_ros.monitor.preparation import latent_reference, padded, prepared
from salus_ros.monitor.scoring import Scored, novelty_threshold, score, success_maxima
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import SignalSet, default_signals
from salus_ros.monitor.splits import Split, stops_early
from salus_ros.monitor.successes import fit_successes
from salus_ros.monitor.training_settings import TrainingSettings
from salus_ros.types import Floats

Calibration = tuple[tuple[Platt, ...], ...]
_IDENTITY: Calibration = tuple(tuple(Platt() for _ in range(HORIZONS)) for _ in range(TYPES))


def train(
    samples: Sequence[Sample],
    settings: TrainingSettings,
    monitor: MonitorSettings,
    *,
    signals: Sequence[str] | None = None,
    data_hash: str = "",
    progress: bool = True,
    state: Path | None = None,
) -> Checkpoint:
    """Fits members on ``TRAIN``, calibrates on ``TUNE``, sets thresholds on ``CALIBRATE``.

    Half of ``TUNE`` ends the fit, the other half calibrates probabilities (``splits.stops_early``). The
    predictor ``successes`` sees successful episodes only, of every split and for everything.

    Args:
        samples: all splits together; the test split is not touched.
        settings: of the fit.
        monitor: settings that the samples were made with.
        signals: those that the network is given; default: ``signals.default_signals``.
        data_hash: of the stores, kept in the checkpoint.
        progress: show a bar.
        state: folder that keeps the newest epoch of each member; an interrupted training goes on from there.

    Raises:
        SalusError: a split is too small for what it is needed for.
    """
    names = SignalSet(default_signals() if signals is None else signals).names
    if monitor.window_steps < REACH:
        raise SalusError(
            f"window_steps is {monitor.window_steps}, but the network looks back over {REACH}; raise it."
        )
    _check_sizes(_by_split(samples), settings)
    if settings.predictor == "successes":
        samples = [s for s in samples if s.success]
    splits = _by_split(samples)
    looked_at = any(name.startswith("latent.") for name in names)
    latents = latent_reference(splits[Split.TRAIN], settings.seed) if looked_at else None
    train_set, tune_set = (
        [prepared(s, names, latents, own=split is Split.TRAIN) for s in splits[split]]
        for split in (Split.TRAIN, Split.TUNE)
    )
    normalisation = Normalisation.fit(np.concatenate([s.frames[s.judged] for s in train_set]))
    fits = _fits(train_set, tune_set, normalisation, names, settings, progress, state)
    novelty = Novelty.fit(
        np.concatenate([_means(s, normalisation, monitor.window_steps)[s.judged] for s in train_set])
    )
    fitted = Checkpoint(
        settings=monitor,
        kind=settings.predictor,
        signals=names,
        members=[f.weights for f in fits],
        normalisation=normalisation,
        calibration=_IDENTITY,
        timeout_calibration=Platt(),
        usual=np.stack([np.zeros(TYPES), np.ones(TYPES)]),
        threshold=np.full(TYPES, np.inf),
        alpha=settings.alpha,
        novelty=novelty,
        novelty_alpha=settings.novelty_alpha,
        smoothing=settings.smoothing,
        latents=latents,
        data_hash=data_hash,
        policy_hashes=tuple(sorted({s.policy_hash for s in samples if s.policy_hash})),
        seed=settings.seed,
        report={
            "training": settings.model_dump(),
            "episodes": {split.value: sum(s.split is split for s in samples) for split in Split},
            "calibration_successes": sum(s.success for s in splits[Split.CALIBRATE]),
            "members": [{"epochs": f.epochs, "tune_loss": f.tune_loss, "curve": f.curve} for f in fits],
            "weights": sum(int(np.size(w)) for f in fits for w in f.weights.values()),
        },
    )
    return _with_thresholds(fitted, *(splits[split] for split in (Split.TRAIN, Split.TUNE, Split.CALIBRATE)))


def _by_split(samples: Sequence[Sample]) -> dict[Split, list[Sample]]:
    return {split: [s for s in samples if s.split is split] for split in Split if split is not Split.TEST}


def _with_thresholds(
    fitted: Checkpoint,
    train_set: Sequence[Sample],
    tune_set: Sequence[Sample],
    calibrate_set: Sequence[Sample],
) -> Checkpoint:
    """Probabilities calibrated on half of the tuning set, thresholds set on the calibration set.

    What is usual for each type comes from training and tuning set: it divides the false alarms among the
    types, and how many there are is up to the calibration set alone.
    """
    trained, tuned, held = (score(fitted, part) for part in (train_set, tune_set, calibrate_set))
    sure = fitted
    if fitted.kind != "successes":  # without failures there is nothing to calibrate probabilities on
        own = [s for s in tuned if not stops_early(s.sample.seed)]
        sure = replace(fitted, calibration=_calibration(own), timeout_calibration=_timeout_calibration(own))
    heights = usual_heights(success_maxima(sure, [*trained, *tuned]))
    return replace(
        sure,
        usual=heights,
        threshold=alarm_thresholds(heights, success_maxima(sure, held), fitted.alpha),
        novelty=replace(fitted.novelty, threshold=novelty_threshold(held, fitted.novelty_alpha)),
    )


def _fits(
    train_set: Sequence[Sample],
    tune_set: Sequence[Sample],
    normalisation: Normalisation,
    names: Sequence[str],
    settings: TrainingSettings,
    progress: bool,
    state: Path | None,
) -> list[Fit]:
    if settings.predictor == "seed":
        return [fit_seed_perceptron(train_set, normalisation, names, settings)]
    if settings.predictor == "successes":
        return [Fit(fit_successes(train_set, tune_set, normalisation), float("nan"), 0, ())]
    if state is not None:
        state.mkdir(parents=True, exist_ok=True)
    return [
        fit(
            train_set,
            [s for s in tune_set if stops_early(s.seed)],
            normalisation,
            names,
            settings,
            member=i,
            progress=progress,
            state=None if state is None else state / f"member{i}.pt",
        )
        for i in range(settings.members)
    ]


def _check_sizes(splits: Mapping[Split, Sequence[Sample]], settings: TrainingSettings) -> None:
    calibrate_set = splits[Split.CALIBRATE]
    successes = sum(s.success for s in calibrate_set)
    needed = needed_episodes(settings.alpha)
    if successes < needed:
        raise SalusError(
            f"the calibration split holds {successes} successful episodes of {len(calibrate_set)}; "
            f"a false-alarm rate of {settings.alpha:g} needs {needed} or more: "
            "collect more episodes or raise --alpha."
        )
    for name, split in (("training", Split.TRAIN), ("tuning", Split.TUNE)):
        if not any(s.success for s in splits[split]):
            raise SalusError(
                f"the {name} split holds {len(splits[split])} episodes, but no success; collect more."
            )
    if settings.predictor == "successes":
        return
    for name, group in (
        ("training split", splits[Split.TRAIN]),
        (
            "half of the tuning split for early stopping",
            [s for s in splits[Split.TUNE] if stops_early(s.seed)],
        ),
        (
            "half of the tuning split for probabilities",
            [s for s in splits[Split.TUNE] if not stops_early(s.seed)],
        ),
    ):
        if not (any(s.success for s in group) and any((s.target & s.valid).any() for s in group)):
            raise SalusError(
                f"the {name} holds {len(group)} episodes, but not both a failure and a success; "
                "collect more episodes, with disturbances among them, or train with --successes-only."
            )


def _means(sample: Sample, normalisation: Normalisation, steps: int) -> Floats:
    """(N, 2 F), mean inputs of the window that ends at each step."""
    return window_means(padded(normalisation.apply(sample.frames), steps), steps)


def _calibration(scored: Sequence[Scored]) -> Calibration:
    """One map for all types and horizons: what it undoes, that failures weigh more in training, all share.

    A map for each was worse on episodes that neither was fitted to, with some tens of onsets in the set.
    """
    valid = [s.sample.valid for s in scored]
    one = Platt.fit(
        np.concatenate([s.raw.probability[v] for s, v in zip(scored, valid, strict=True)]),
        np.concatenate([s.sample.target[v] for s, v in zip(scored, valid, strict=True)]).astype(float),
    )
    return tuple((one,) * HORIZONS for _ in range(TYPES))


def _timeout_calibration(scored: Sequence[Scored]) -> Platt:
    """Each episode weighs as much as any other, whatever its length."""
    judged = [s.sample.judged for s in scored]
    return Platt.fit(
        np.concatenate([sigmoid(s.raw.timeout)[j] for s, j in zip(scored, judged, strict=True)]),
        np.concatenate([timed_out(s.sample)[j] for s, j in zip(scored, judged, strict=True)]),
        np.concatenate([np.full(j.sum(), 1.0 / max(j.sum(), 1)) for j in judged]),
    )
