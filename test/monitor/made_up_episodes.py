"""Episodes made up so that a failure is foreseeable from one signal, and only from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from salus_ros.assets import asset
from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.data.labels import label_steps
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.monitor.dataset import Sample
from salus_ros.robot.model import ArmModel
from salus_ros.types import (
    ActionChunk,
    Cause,
    EpisodeEvent,
    EventKind,
    FailureType,
    InterventionState,
    Mode,
    PointCloud,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

HOME_RAD = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 2.0, 0.785])
TIMES_S = 0.05 * np.arange(1, 17)
POLICY_HASH = "0123456789abcdef"


@dataclass(frozen=True)
class Recipe:
    """Sizes of a made-up episode."""

    length_s: float = 6.0
    samples: tuple[int, int, int, int] = (3, 2, 16, 4)
    latent: int = 16
    points: int = 60
    robot_period_s: float = 0.02
    warning_s: float = 0.8
    """How long before an onset its sign shows: epistemic variance for a collision."""


def robot_state(stamp_s: float, joints: np.ndarray = HOME_RAD, opening_m: float = 0.08) -> RobotState:
    return RobotState(stamp_s, joints, np.zeros(7), np.zeros(7), opening_m)


def policy_output(
    stamp_s: float,
    sequence: int = 0,
    *,
    joints: np.ndarray | None = None,
    samples: np.ndarray | None = None,
    uncertainty: Uncertainty | None = None,
    opening_m: float = 0.08,
) -> PolicyOutput:
    return PolicyOutput(
        sequence=sequence,
        policy_name="made up",
        policy_hash=POLICY_HASH,
        instruction="put the red cube in the bin",
        chunk=ActionChunk(
            stamp_s,
            TIMES_S,
            np.tile(HOME_RAD, (len(TIMES_S), 1)) if joints is None else joints,
            np.full(len(TIMES_S), opening_m),
        ),
        uncertainty=uncertainty or Uncertainty(ensemble_size=3, epistemic=0.01, aleatoric=0.02),
        samples=np.zeros((3, 2, 16, 4), np.float32) if samples is None else samples,
        inference_time_s=0.08,
    )


def gate_state(
    stamp_s: float, *, sequence: int = 0, path_time_s: float = 0.1, speed: float = 1.0
) -> InterventionState:
    return InterventionState(stamp_s, Mode.NOMINAL, Cause.NONE, "", speed, sequence, path_time_s, 1.0)


def make_episode(seed: int, recipe: Recipe = Recipe()) -> Episode:
    """An arm that sways; in half of the episodes a failure begins, announced by one signal only.

    Collision: epistemic variance rises. Drop: the opening shrinks slowly. Miss: the plan swings aside.
    """
    rng = np.random.default_rng(seed)
    failure = FailureType(int(rng.integers(3))) if rng.random() < 0.5 else None
    onset_s = (
        float(rng.uniform(0.5 * recipe.length_s, 0.8 * recipe.length_s)) if failure is not None else np.inf
    )
    end_s = min(recipe.length_s - float(rng.uniform(0.0, 1.0)), onset_s + 0.1)
    phase, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8)

    def warns(t: float, kind: FailureType) -> bool:
        return failure == kind and onset_s - recipe.warning_s <= t

    def joints_at(t: np.ndarray | float) -> np.ndarray:
        sway = 0.2 * np.sin(speed * np.asarray(t)[..., None] + phase + np.arange(7))
        return HOME_RAD + sway

    recorder = EpisodeRecorder()
    recorder.event(EpisodeEvent(0.0, EventKind.EPISODE_START, seed=seed))
    for t in np.arange(0.0, end_s, recipe.robot_period_s):
        opening = 0.04 - (0.02 * (t - onset_s + recipe.warning_s) if warns(t, FailureType.DROP) else 0.0)
        joints = joints_at(t) + rng.normal(0, 1e-3, 7)
        recorder.robot(RobotState(t, joints, rng.normal(0, 0.01, 7), rng.normal(0, 1, 7), opening))
    for sequence, t in enumerate(np.arange(0.0, end_s, 0.2)):
        plan = joints_at(t + TIMES_S) + rng.normal(0, 2e-3, (len(TIMES_S), 7))
        if warns(t, FailureType.MISS):
            plan[:, 0] += rng.choice([-1, 1]) * 0.5 * TIMES_S
        samples = rng.normal(0, 0.1, recipe.samples).astype(np.float32)
        uncertainty = Uncertainty(
            ensemble_size=recipe.samples[0],
            epistemic=float((1.0 if warns(t, FailureType.COLLISION) else 0.01) * rng.lognormal(0, 0.3)),
            aleatoric=float(0.02 * rng.lognormal(0, 0.3)),
            std_per_dimension=samples.std(axis=(0, 1, 2)),
            latent=rng.normal(0, 1, recipe.latent).astype(np.float32),
        )
        output = policy_output(
            t, sequence, joints=plan, samples=samples, uncertainty=uncertainty, opening_m=0.04
        )
        recorder.policy(output, t + 0.08)
    for t in np.arange(0.0, end_s, 0.1):
        if recipe.points:
            cloud = np.array([0.0, 0.0, 0.9]) + rng.uniform(-0.3, 0.3, (recipe.points, 3))
            recorder.points(PointCloud(t, "front_optical_frame", cloud.astype(np.float32)))
        current = max(int((t - 0.08) / 0.2), 0)
        recorder.intervention(gate_state(t, sequence=current, path_time_s=t - 0.2 * current))
    if failure is not None and onset_s <= end_s:
        recorder.event(EpisodeEvent(onset_s, EventKind.FAILURE_ONSET, failure, seed=seed))
        outcome = Outcome.FAILURE
    else:
        recorder.event(EpisodeEvent(end_s, EventKind.SUCCESS, seed=seed))
        outcome = Outcome.SUCCESS
    return recorder.finish(
        EpisodeMeta(seed=seed, task="bin", outcome=outcome, end_s=end_s, joint_names=ARM.joint_names)
    )


ARM = ArmModel.from_urdf(asset("urdf/salus_arm.urdf"))


ANNOUNCED_BY = ("uncertainty.epistemic", "execution.opening_trend", "overlap.joint_rms")
"""The signal that rises before a failure of each type in ``make_sample``."""


def make_sample(seed: int, names: tuple[str, ...], length_s: float = 5.0, warning_s: float = 0.8) -> Sample:
    """Signals straight away: noise, and in half of the episodes one of them rises before a failure."""
    rng = np.random.default_rng(seed)
    failure = FailureType(int(rng.integers(3))) if rng.random() < 0.5 else None
    onset_s = float(rng.uniform(1.5, length_s - 1.0)) if failure is not None else np.inf
    end_s = min(length_s - float(rng.uniform(0.0, 1.0)), onset_s + 0.1)
    times = np.arange(0.1, end_s, 0.05)
    frames = rng.normal(size=(len(times), len(names)))
    events = [EpisodeEvent(end_s, EventKind.EPISODE_END)]
    if failure is not None:
        frames[:, names.index(ANNOUNCED_BY[failure])] += np.where(times > onset_s - warning_s, 4.0, 0.0)
        events = [EpisodeEvent(onset_s, EventKind.FAILURE_ONSET, failure)]
    labels = label_steps(times, events, end_s)
    return Sample(
        seed=seed,
        time_s=times,
        frames=frames,
        target=labels.target,
        valid=labels.valid,
        judged=labels.in_order,
        onsets=() if failure is None else ((onset_s, failure),),
        outcome=Outcome.SUCCESS if failure is None else Outcome.FAILURE,
        policy_hash=POLICY_HASH,
        latent=rng.normal(size=(len(times), 8)).astype(np.float32),
    )
