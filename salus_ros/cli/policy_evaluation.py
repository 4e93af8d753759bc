"""Closed-loop evaluation of a policy without a gate, with the inference delay that a live one has."""

from __future__ import annotations

import salus_ros.sim.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import binomtest
from tqdm import tqdm

from salus_ros.policy.base import Policy
from salus_ros.policy.registry import load_policy
from salus_ros.rollout import let_watch
from salus_ros.sim.simulation import SUCCESS, Simulation
from salus_ros.types import ActionChunk, EventKind, JointTrajectory

FIRST_EVALUATION_SEED: Final = 2_000_000
"""Scenes with seeds from here on are for evaluating the policy only."""

CONTROL_PERIOD_S: Final = 0.01
POLICY_PERIOD_S: Final = 0.2
INFERENCE_DELAY_S: Final = 0.08
"""Time from observation to chunk on two busy cores."""


@dataclass(frozen=True)
class Trial:
    """One episode. Lists hold a value per chunk but the first."""

    seed: int
    disturbance: str
    success: bool
    outcome: str
    failures: tuple[str, ...]
    """Failure onsets in order."""
    duration_s: float
    join_rad: tuple[float, ...]
    """Largest joint difference to the chunk before, at the moment of the change."""
    epistemic: tuple[float, ...]
    target_error_m: float
    """Least distance of the tool to the named cube that was reached while it was not held."""


def evaluate(
    policy: str | Path, episodes: int, jobs: int, first_seed: int = FIRST_EVALUATION_SEED
) -> dict[str, Any]:
    """Run held-out scenes without disturbances and with mixed ones; success rates with 95 % intervals."""
    report: dict[str, Any] = {}
    for name, disturbance in (("undisturbed", ""), ("mixed", "mixed")):
        seeds = list(range(first_seed, first_seed + episodes))
        parts = [seeds[start : start + 5] for start in range(0, len(seeds), 5)]
        work = Parallel(n_jobs=jobs, return_as="generator")(
            delayed(run_trials)(str(policy), part, disturbance) for part in parts
        )
        trials: list[Trial] = []
        with tqdm(total=episodes, desc=name, unit="episode") as progress:
            for part in work:
                trials += part
                progress.update(len(part))
                progress.set_postfix(success=f"{sum(t.success for t in trials)}/{len(trials)}")
        report[name] = _figures(trials)
    return report


def run_trials(policy: str, seeds: list[int], disturbance: str) -> list[Trial]:
    """Some episodes in this process, on one thread."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    simulation = Simulation()
    loaded = let_watch(load_policy(policy), simulation)
    return [run_trial(loaded, simulation, seed, disturbance) for seed in seeds]


def run_trial(policy: Policy, simulation: Simulation, seed: int, disturbance: str) -> Trial:
    """One episode: a chunk every 0.2 s, executed from the time at which it arrives."""
    simulation.reset(seed, "bin", disturbance)
    policy.reset(seed)
    following: ActionChunk | None = None
    waiting: ActionChunk | None = None
    failures: list[str] = []
    joins: list[float] = []
    epistemic: list[float] = []
    nearest = np.inf
    tick = 0
    while not simulation.done:
        now_s = tick * CONTROL_PERIOD_S
        if tick % round(POLICY_PERIOD_S / CONTROL_PERIOD_S) == 0:
            output = policy.act(simulation.observe())
            waiting = output.chunk
            epistemic.append(output.uncertainty.epistemic)
        if waiting is not None and now_s >= waiting.stamp_s + INFERENCE_DELAY_S - 1e-9:
            if following is not None:
                joins.append(float(np.abs(_at(waiting, now_s) - _at(following, now_s)).max()))
            following, waiting = waiting, None
            simulation.arm.accept(_rest_of(following, now_s))
        if following is not None and tick % 5 == 0:
            simulation.gripper.accept(_opening(following, now_s))
        for event in simulation.step():
            if event.kind is EventKind.FAILURE_ONSET and event.failure is not None:
                failures.append(event.failure.name.lower())
        truth = simulation.truth()
        if truth.held < 0:
            nearest = min(
                nearest, float(np.linalg.norm(truth.tool_pose[:3, 3] - truth.cube_position_m[truth.target]))
            )
        tick += 1
    return Trial(
        seed=seed,
        disturbance=simulation.scene.disturbance,
        success=simulation.outcome == SUCCESS,
        outcome=simulation.outcome,
        failures=tuple(failures),
        duration_s=simulation.time_s,
        join_rad=tuple(joins),
        epistemic=tuple(epistemic),
        target_error_m=nearest,
    )


def _at(chunk: ActionChunk, now_s: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    times = chunk.stamp_s + chunk.time_from_start_s
    joints = chunk.joint_position_rad
    return np.array([np.interp(now_s, times, joints[:, j]) for j in range(joints.shape[1])])


def _rest_of(chunk: ActionChunk, now_s: float) -> JointTrajectory:
    """The points still ahead, counted from now, ending in rest."""
    ahead = chunk.stamp_s + chunk.time_from_start_s > now_s + 1e-6
    velocity = np.gradient(chunk.joint_position_rad, chunk.time_from_start_s, axis=0)
    velocity[-1] = 0.0
    return JointTrajectory(
        time_from_start_s=(chunk.stamp_s + chunk.time_from_start_s - now_s)[ahead],
        position_rad=chunk.joint_position_rad[ahead],
        velocity_rad_s=velocity[ahead],
    )


def _opening(chunk: ActionChunk, now_s: float) -> float:
    """The opening of the point that is being driven to."""
    index = int(np.searchsorted(chunk.stamp_s + chunk.time_from_start_s, now_s, side="right"))
    return float(chunk.gripper_opening_m[min(index, len(chunk.gripper_opening_m) - 1)])


def _figures(trials: list[Trial]) -> dict[str, Any]:
    successes = sum(trial.success for trial in trials)
    interval = binomtest(successes, len(trials)).proportion_ci(0.95, method="wilson")
    joins = np.concatenate([trial.join_rad for trial in trials])
    clean = sum(trial.success and not trial.failures for trial in trials)
    return {
        "episodes": len(trials),
        "success": successes / len(trials),
        "success_interval": [interval.low, interval.high],
        "success_without_any_failure": clean / len(trials),
        "outcomes": dict(Counter(trial.outcome for trial in trials)),
        "episodes_with": dict(Counter(kind for trial in trials for kind in sorted(set(trial.failures)))),
        "join_rad": {f"p{q}": float(np.percentile(joins, q)) for q in (50, 95, 99)},
        "joins_over_0.1_rad": float((joins > 0.1).mean()),
        "by_disturbance": {
            name: [sum(t.success for t in trials if t.disturbance == name), count]
            for name, count in sorted(Counter(trial.disturbance for trial in trials).items())
        },
        "trials": [asdict(trial) for trial in trials],
    }


def summary(report: dict[str, Any]) -> str:
    """The report in a few lines."""
    lines = []
    for name, figures in report.items():
        low, high = figures["success_interval"]
        lines.append(
            f"{name}: success {figures['success']:.0%} ({low:.0%} to {high:.0%}) of {figures['episodes']}, "
            f"without any failure {figures['success_without_any_failure']:.0%}, {figures['outcomes']}, "
            f"episodes with {figures['episodes_with']}, chunk joins p50/p95/p99 "
            + "/".join(f"{value:.3f}" for value in figures["join_rad"].values())
            + f" rad, {figures['joins_over_0.1_rad']:.1%} over 0.1"
        )
    return "\n".join(lines)
