"""A small episode with every stream, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.types import (
    ActionChunk,
    Cause,
    EpisodeEvent,
    EventKind,
    FailurePrediction,
    FailureType,
    InterventionState,
    JointTrajectory,
    Mode,
    PointCloud,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))


def make_episode(
    seed: int = 0,
    duration_s: float = 1.0,
    *,
    policy_hash: str = "0123456789abcdef",
    latent: int = 8,
    frames: bool = True,
    time_origin_s: float = 0.0,
) -> Episode:
    """Every stream at its own rate, with arrivals later than stamps, and one collision."""
    rng = np.random.default_rng(seed)
    recorder = EpisodeRecorder(time_origin_s)
    for tick in range(round(duration_s * 100)):
        now = time_origin_s + tick / 100
        recorder.robot(
            RobotState(now, rng.normal(size=7), rng.normal(size=7), np.full(7, np.nan), 0.08 * rng.random())
        )
        recorder.command(
            now,
            JointTrajectory(np.array([0.0, 0.01, 0.1]), rng.normal(size=(3, 7)), rng.normal(size=(3, 7))),
            0.04 if tick % 10 == 0 else None,
        )
        if tick % 10 == 0:
            cloud = PointCloud(
                now, "front_optical_frame", (rng.normal(size=(tick % 7, 3)) * 1e-3).astype(np.float32)
            )
            recorder.points(cloud, now + 0.005)
            recorder.intervention(
                InterventionState(
                    now, Mode.SLOW_DOWN, Cause.RISK, f"risk {tick // 50}", 0.5, tick // 20, 0.1, 0.2
                )
            )
        if tick % 20 == 0:
            recorder.policy(_output(rng, now, tick // 20, policy_hash, latent), now + 0.083)
            if frames:
                recorder.frame("front", now, rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        if tick % 5 == 0 and tick > 20:
            recorder.prediction(_prediction(rng, now, tick // 20))
    recorder.event(EpisodeEvent(time_origin_s, EventKind.EPISODE_START, seed=seed, task="bin"))
    recorder.event(
        EpisodeEvent(
            time_origin_s + 0.7, EventKind.FAILURE_ONSET, FailureType.COLLISION, detail="hand, table"
        )
    )
    recorder.event(EpisodeEvent(time_origin_s + duration_s, EventKind.SUCCESS, seed=seed))
    return recorder.finish(
        EpisodeMeta(
            seed=seed,
            task="bin",
            disturbance="nudge",
            outcome=Outcome.SUCCESS,
            robot="salus_arm",
            joint_names=JOINTS,
            notes={"strength": "0.5"},
        )
    )


def _output(
    rng: np.random.Generator, now: float, sequence: int, policy_hash: str, latent: int
) -> PolicyOutput:
    return PolicyOutput(
        sequence=sequence,
        policy_name="tinyvla",
        policy_hash=policy_hash,
        instruction="put the red cube in the bin",
        chunk=ActionChunk(now, np.arange(1, 17) * 0.05, rng.normal(size=(16, 7)), rng.random(16)),
        uncertainty=Uncertainty(
            ensemble_size=3,
            epistemic=rng.random(),
            aleatoric=rng.random(),
            std_per_dimension=rng.random(10, dtype=np.float32),
            overlap_divergence=float("nan") if sequence == 0 else rng.random(),
            latent=rng.random(latent, dtype=np.float32),
        ),
        samples=rng.random((3, 2, 16, 10), dtype=np.float32),
        inference_time_s=0.083,
    )


def _prediction(rng: np.random.Generator, now: float, sequence: int) -> FailurePrediction:
    return FailurePrediction(
        stamp_s=now,
        sequence=sequence,
        horizons_s=(0.2, 0.3, 0.4, 0.5),
        probability=np.sort(rng.random((3, 4)), axis=1),
        timeout_probability=rng.random(),
        risk=rng.random(),
        risk_type=FailureType.DROP,
        risk_horizon_s=0.3,
        alarm=bool(rng.random() > 0.5),
        threshold=rng.random(3),
        out_of_distribution=False,
    )


@pytest.fixture(name="make_episode")
def make_episode_fixture() -> Callable[..., Episode]:
    return make_episode
