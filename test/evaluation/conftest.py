"""Synthetic episodes with the shape of real ones: streams at their own rates, one story each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.data.store import Store
from salus_ros.evaluation.records import Record, load_records
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.splits import Split, split_of, stops_early
from salus_ros.types import (
    HORIZONS_S,
    ActionChunk,
    Cause,
    EpisodeEvent,
    EventKind,
    FailurePrediction,
    FailureType,
    InterventionState,
    Mode,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

THRESHOLD = np.array([0.3, 0.4, 0.35])
JOINTS = 7


def make_episode(
    seed: int = 0,
    duration_s: float = 6.0,
    outcome: Outcome = Outcome.SUCCESS,
    onsets: tuple[tuple[float, FailureType], ...] = (),
    alarms: tuple[tuple[float, float, FailureType], ...] = (),
    modes: tuple[tuple[float, float, Mode, Cause, float], ...] = (),
    monitored: bool = True,
    image_size: int = 0,
    latent_shift: float = 0.0,
) -> Episode:
    """One episode.

    Args:
        onsets: (time, type) of failures.
        alarms: (from, to, type), where the probability exceeds its threshold.
        modes: (from, to, mode, cause, speed scale) of the gate; nominal elsewhere.
        image_size: edge of the camera images, 0 for none.
        latent_shift: added to the policy's latent from the last second on of a failed episode.
    """
    rng = np.random.default_rng(seed)
    recorder = EpisodeRecorder()
    recorder.event(EpisodeEvent(0.0, EventKind.EPISODE_START, seed=seed))
    for time_s, failure in onsets:
        recorder.event(EpisodeEvent(time_s, EventKind.FAILURE_ONSET, failure=failure))
    if outcome is Outcome.SUCCESS:
        recorder.event(EpisodeEvent(duration_s, EventKind.SUCCESS))
    elif outcome is Outcome.TIMEOUT:
        recorder.event(EpisodeEvent(duration_s, EventKind.TIMEOUT))
    recorder.event(EpisodeEvent(duration_s, EventKind.EPISODE_END))
    for i in range(round(duration_s * 100) + 1):
        _robot(recorder, 0.01 * i, rng)
        _gate(recorder, 0.01 * i, modes)
    end_of_order_s = onsets[0][0] - 1.0 if onsets else duration_s
    for i in range(round(duration_s * 5)):
        _policy(recorder, i, 0.2 * i, rng, latent_shift if 0.2 * i >= end_of_order_s else 0.0)
        if image_size:
            _frames(recorder, 0.2 * i, duration_s, image_size, rng)
    if monitored:
        wander = np.zeros(len(FailureType))
        for i in range(1, round(duration_s * 20) + 1):
            wander = 0.92 * wander + rng.normal(0.0, 0.02, len(FailureType))
            _prediction(recorder, 0.05 * i, alarms, np.abs(wander))
    return recorder.finish(
        EpisodeMeta(
            seed=seed,
            task="bin",
            outcome=outcome,
            instruction="put the red cube in the bin",
            end_s=duration_s,
        )
    )


def _robot(recorder: EpisodeRecorder, time_s: float, rng: np.random.Generator) -> None:
    position = 0.4 * np.sin(0.8 * time_s + np.arange(JOINTS))
    effort = rng.normal(0.0, 0.5, JOINTS)
    recorder.robot(RobotState(time_s, position, np.zeros(JOINTS), effort, 0.08 if time_s < 3.0 else 0.04))


def _gate(
    recorder: EpisodeRecorder, time_s: float, modes: tuple[tuple[float, float, Mode, Cause, float], ...]
) -> None:
    mode, cause, scale = Mode.NOMINAL, Cause.NONE, 1.0
    for start_s, stop_s, other, why, speed in modes:
        if start_s - 1e-9 <= time_s < stop_s - 1e-9:
            mode, cause, scale = other, why, speed
    recorder.intervention(InterventionState(time_s, mode, cause, cause.name.lower(), scale, 0, time_s, 0.0))


def _policy(recorder: EpisodeRecorder, i: int, time_s: float, rng: np.random.Generator, shift: float) -> None:
    steps = 0.05 * np.arange(1, 17)
    path = 0.4 * np.sin(0.8 * (time_s + steps)[:, None] + np.arange(JOINTS))
    samples = rng.normal(0.0, 0.1 + 0.2 * (shift > 0), (2, 4, 16, 10)).astype(np.float32)
    uncertainty = Uncertainty(
        ensemble_size=2,
        epistemic=float(0.01 + 0.02 * rng.random() + 0.05 * (shift > 0)),
        aleatoric=float(0.01 + 0.01 * rng.random()),
        std_per_dimension=np.full(10, 0.1, np.float32),
        overlap_divergence=float("nan") if i == 0 else float(0.001 * rng.random()),
        velocity_field_disagreement=float(rng.random()),
        latent=(rng.normal(0.0, 1.0, 12) + shift).astype(np.float32),
    )
    recorder.policy(
        PolicyOutput(
            sequence=i,
            policy_name="synthetic",
            policy_hash="0" * 16,
            instruction="put the red cube in the bin",
            chunk=ActionChunk(time_s, steps, path, np.full(16, 0.08)),
            uncertainty=uncertainty,
            samples=samples,
            inference_time_s=float(rng.uniform(0.06, 0.1)),
        )
    )


def _prediction(
    recorder: EpisodeRecorder,
    time_s: float,
    alarms: tuple[tuple[float, float, FailureType], ...],
    floor: np.ndarray,
) -> None:
    longest = np.minimum(0.08 + floor, 0.9 * THRESHOLD)
    for start_s, stop_s, failure in alarms:
        if start_s - 1e-9 <= time_s < stop_s - 1e-9:
            longest[failure] = min(1.0, 1.4 * THRESHOLD[failure] + floor[failure])
        elif start_s - 0.4 <= time_s < start_s:
            longest[failure] = 0.9 * THRESHOLD[failure] * (1.0 - (start_s - time_s))
    probability = longest[:, None] * np.array([0.5, 0.7, 0.85, 1.0])
    relative = 0.5 * longest / THRESHOLD
    worst = int(np.argmax(relative))
    recorder.prediction(
        FailurePrediction(
            stamp_s=time_s,
            sequence=0,
            horizons_s=HORIZONS_S,
            probability=probability,
            timeout_probability=0.1,
            risk=float(min(1.0, relative[worst])),
            risk_type=FailureType(worst),
            risk_horizon_s=HORIZONS_S[-1],
            alarm=bool((longest >= THRESHOLD).any()),
            threshold=THRESHOLD,
            out_of_distribution=False,
        )
    )


def _frames(
    recorder: EpisodeRecorder, time_s: float, duration_s: float, size: int, rng: np.random.Generator
) -> None:
    y, x = np.mgrid[0:size, 0:size] / size
    centre = 0.2 + 0.6 * time_s / duration_s
    for camera, tint in (("front", (205, 190, 170)), ("wrist", (170, 190, 205))):
        image = np.empty((size, size, 3), np.uint8)
        image[:] = tint
        image[y > 0.6] = (120, 105, 90)
        image[(np.abs(x - centre) < 0.08) & (np.abs(y - 0.55) < 0.08)] = (190, 40, 40)
        image[(np.abs(x - 0.8) < 0.1) & (np.abs(y - 0.7) < 0.1)] = (60, 70, 90)
        noise = rng.integers(0, 12, image.shape, dtype=np.uint8)
        recorder.frame(camera, time_s, image - noise)


@pytest.fixture(name="make_episode", scope="session")
def fixture_make_episode() -> Callable[..., Episode]:
    return make_episode


COUNTS = {
    (Split.TRAIN, None): 4,
    (Split.TUNE, True): 2,
    (Split.TUNE, False): 2,
    (Split.CALIBRATE, None): 20,
    (Split.TEST, None): 6,
}
"""Episodes of ``small_store`` in each split; of tune, in the half that stops training early and the other."""


def _seeds() -> list[int]:
    found: dict[tuple[Split, bool | None], list[int]] = {group: [] for group in COUNTS}
    seed = 0
    while any(len(found[group]) < count for group, count in COUNTS.items()):
        split = split_of(seed)
        found[split, stops_early(seed) if split is Split.TUNE else None].append(seed)
        seed += 1
    return [seed for group, count in COUNTS.items() for seed in found[group][:count]]


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every second episode fails, announced by latents and samples, save those of the calibrate split."""
    path: Path = tmp_path_factory.mktemp("store") / "episodes"
    with Store.create(path) as store:
        for i, seed in enumerate(_seeds()):
            fails = i % 2 == 0 and split_of(seed) is not Split.CALIBRATE
            store.append(
                make_episode(
                    seed,
                    duration_s=2.4,
                    outcome=Outcome.TIMEOUT if fails else Outcome.SUCCESS,
                    onsets=((1.4 + 0.1 * (i % 5), FailureType(i // 2 % 3)),) if fails else (),
                    monitored=False,
                    latent_shift=3.0 if fails else 0.0,
                    image_size=16 if split_of(seed) is Split.TEST else 0,
                )
            )
    return path


@pytest.fixture(scope="session")
def small_records(small_store: Path) -> list[Record]:
    """The same, made ready for scoring."""
    return load_records([small_store], MonitorSettings(), jobs=1, progress=False)
