"""Closed-loop evaluation of a policy without a gate, with the inference delay that a live one has."""

from __future__ import annotations

import salus_ros.sim.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import binomtest
from tqdm import tqdm

from salus_ros.policy.base import Policy
from salus_ros.policy.registry import load_policy
from salus_ros.rollout import let_watch
from salus_ros.sim.layout import Layout
from salus_ros.sim.simulation import SUCCESS, Simulation
from salus_ros.sim.tasks import TASKS
from salus_ros.sim.world import CUBES
from salus_ros.types import ActionChunk, EpisodeEvent, JointTrajectory

FIRST_EVALUATION_SEED: Final = 2_000_000
"""Scenes with seeds from here on are for evaluating the policy only."""

CONDITIONS: Final = ("undisturbed", "mixed", "swapped")
"""Without a disturbance; with one that is not held out; without, but with another colour named."""

CONTROL_PERIOD_S: Final = 0.01
POLICY_PERIOD_S: Final = 0.2
INFERENCE_DELAY_S: Final = 0.08
"""Time from observation to chunk on two busy cores."""


@dataclass(frozen=True)
class Trial:
    """One episode. Lists hold a value per chunk but the first."""

    seed: int
    task: str
    disturbance: str
    success: bool
    outcome: str
    failures: tuple[str, ...]
    """Failure onsets in order."""
    duration_s: float
    first_cube: int
    """The cube that the hand moved first, 0 for the named one, 1 and 2 for others; -1 for none."""
    join_rad: tuple[float, ...]
    """Largest joint difference to the chunk before, at the moment of the change."""
    epistemic: tuple[float, ...]
    target_error_m: float
    """Least distance of the tool to the named cube that was reached while it was not held."""


@dataclass(frozen=True)
class Swap:
    """One episode whose words name another cube than the scene was drawn for, until a cube is taken."""

    seed: int
    task: str
    followed: bool | None
    """Whether the first cube that was taken is the one that the words name; none when none was."""


def evaluate(
    policy: str | Path,
    episodes: int,
    jobs: int,
    tasks: Sequence[str] = tuple(TASKS),
    conditions: Sequence[str] = CONDITIONS,
    first_seed: int = FIRST_EVALUATION_SEED,
) -> dict[str, Any]:
    """Run held-out scenes of each task under each condition.

    Returns:
        Figures by task and condition, with 95 % intervals, and every trial.
    """
    seeds = list(range(first_seed, first_seed + episodes))
    parts = [seeds[start : start + 5] for start in range(0, len(seeds), 5)]
    wanted = [(task, condition, part) for task in tasks for condition in conditions for part in parts]
    found: dict[str, dict[str, list[Any]]] = {task: {name: [] for name in conditions} for task in tasks}
    work = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(run_trials)(str(policy), task, condition, part) for task, condition, part in wanted
    )
    with tqdm(total=len(wanted) * 5, desc="trials", unit="episode") as progress:
        for (task, condition, part), trials in zip(wanted, work, strict=True):
            found[task][condition] += trials
            progress.update(len(part))
            progress.set_postfix_str(f"{task} {condition}")
    return {
        task: {
            name: (_swap_figures if name == "swapped" else _figures)(trials)
            for name, trials in by_condition.items()
        }
        for task, by_condition in found.items()
    }


def run_trials(policy: str, task: str, condition: str, seeds: list[int]) -> list[Any]:
    """Some episodes in this process, on one thread."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    loaded, simulation = _workplace(policy)
    if condition == "swapped":
        return [run_swap(loaded, simulation, seed, task) for seed in seeds]
    disturbance = "" if condition == "undisturbed" else condition
    return [run_trial(loaded, simulation, seed, disturbance, task) for seed in seeds]


@lru_cache(maxsize=1)
def _workplace(policy: str) -> tuple[Policy, Simulation]:
    simulation = Simulation()
    return let_watch(load_policy(policy), simulation), simulation


def run_trial(
    policy: Policy, simulation: Simulation, seed: int, disturbance: str, task: str = "bin"
) -> Trial:
    """One episode: a chunk every 0.2 s, executed from the time at which it arrives."""
    layout = simulation.reset(seed, task, disturbance).layout
    loop = _Loop(policy, simulation, layout.instruction)
    failures: list[str] = []
    nearest = np.inf
    first = -1
    for events in loop.run(seed):
        failures += [e.failure.name.lower() for e in events if e.failure is not None]
        truth = simulation.truth()
        if first < 0:
            first = _taken(simulation, task)
        if truth.held < 0:
            offset = truth.tool_pose[:3, 3] - truth.cube_position_m[truth.target]
            nearest = min(nearest, float(np.linalg.norm(offset)))
    return Trial(
        seed=seed,
        task=task,
        disturbance=simulation.scene.disturbance,
        success=simulation.outcome == SUCCESS,
        outcome=simulation.outcome,
        failures=tuple(failures),
        duration_s=simulation.time_s,
        first_cube=(first - layout.target) % CUBES if first >= 0 else -1,
        join_rad=tuple(loop.joins),
        epistemic=tuple(loop.epistemic),
        target_error_m=nearest,
    )


def run_swap(policy: Policy, simulation: Simulation, seed: int, task: str) -> Swap:
    """One undisturbed episode in which the policy hears the colour of a cube that the scene does not name."""
    layout = simulation.reset(seed, task).layout
    other, instruction = swapped(layout)
    for _ in _Loop(policy, simulation, instruction).run(seed):
        first = _taken(simulation, task)
        if first >= 0:
            return Swap(seed, task, first == other)
    return Swap(seed, task, None)


def swapped(layout: Layout) -> tuple[int, str]:
    """A cube that the instruction does not name, and the instruction with its colour instead of the first."""
    other = next(i for i in range(CUBES) if i not in (layout.target, layout.second))
    named, instead = (f"the {layout.colours[cube]} cube" for cube in (layout.target, other))
    return other, layout.instruction.replace(named, instead, 1)


def _taken(simulation: Simulation, task: str) -> int:
    """The cube that the hand has now: between both fingers, or where cubes are pushed, at any of them."""
    truth = simulation.truth()
    if TASKS[task].grasps:
        return truth.gripped
    touched = np.flatnonzero(truth.touched)
    return int(touched[0]) if touched.size else -1


class _Loop:
    """The policy drives the simulation."""

    def __init__(self, policy: Policy, simulation: Simulation, instruction: str) -> None:
        self._policy, self._simulation, self._instruction = policy, simulation, instruction
        self.joins: list[float] = []
        self.epistemic: list[float] = []

    def run(self, seed: int) -> Iterator[tuple[EpisodeEvent, ...]]:
        """What happened in each control period, until the episode's end."""
        simulation = self._simulation
        self._policy.reset(seed)
        following: ActionChunk | None = None
        waiting: ActionChunk | None = None
        tick = 0
        while not simulation.done:
            now_s = tick * CONTROL_PERIOD_S
            if tick % round(POLICY_PERIOD_S / CONTROL_PERIOD_S) == 0:
                observation = replace(simulation.observe(), instruction=self._instruction)
                output = self._policy.act(observation)
                waiting = output.chunk
                self.epistemic.append(output.uncertainty.epistemic)
            if waiting is not None and now_s >= waiting.stamp_s + INFERENCE_DELAY_S - 1e-9:
                if following is not None:
                    self.joins.append(float(np.abs(_at(waiting, now_s) - _at(following, now_s)).max()))
                following, waiting = waiting, None
                simulation.arm.accept(_rest_of(following, now_s))
            if following is not None and tick % 5 == 0:
                simulation.gripper.accept(_opening(following, now_s))
            yield simulation.step()
            tick += 1


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


def _share(count: int, total: int) -> dict[str, Any]:
    """A share with Wilson's interval."""
    if not total:
        return {"share": float("nan"), "interval": [float("nan"), float("nan")], "of": 0}
    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return {"share": count / total, "interval": [interval.low, interval.high], "of": total}


def _figures(trials: list[Trial]) -> dict[str, Any]:
    joins = np.concatenate([trial.join_rad for trial in trials])
    clean = sum(trial.success and not trial.failures for trial in trials)
    taken = [trial.first_cube for trial in trials if trial.first_cube >= 0]
    return {
        "episodes": len(trials),
        "success": _share(sum(trial.success for trial in trials), len(trials)),
        "success_without_any_failure": clean / len(trials),
        "named_cube_first": _share(taken.count(0), len(taken)),
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


def _swap_figures(swaps: list[Swap]) -> dict[str, Any]:
    decided = [swap.followed for swap in swaps if swap.followed is not None]
    return {
        "episodes": len(swaps),
        "followed": _share(sum(decided), len(decided)),
        "trials": [asdict(swap) for swap in swaps],
    }


def summary(report: dict[str, Any]) -> str:
    """The report as a Markdown table and what went wrong in a line each."""
    lines = [
        "| task | scenes | success | interval | collision | drop | miss |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = []
    for task, conditions in report.items():
        for name, figures in conditions.items():
            if name == "swapped":
                followed = figures["followed"]
                notes.append(
                    f"{task}, another colour named: {followed['share']:.0%} of {followed['of']} cubes taken "
                    f"are the named one ({_range(followed)})."
                )
                continue
            success, total = figures["success"], figures["episodes"]
            failed = [
                f"{figures['episodes_with'].get(k, 0) / total:.0%}" for k in ("collision", "drop", "miss")
            ]
            succeeded = f"{round(success['share'] * total)} of {total} ({success['share']:.0%})"
            lines.append(f"| {task} | {name} | {succeeded} | {_range(success)} | {' | '.join(failed)} |")
            joins = "/".join(f"{value:.3f}" for value in figures["join_rad"].values())
            parts = ", ".join(
                f"{family} {good} of {count}"
                for family, (good, count) in figures["by_disturbance"].items()
                if family
            )
            notes.append(
                f"{task}, {name}: without any failure {figures['success_without_any_failure']:.0%}, "
                f"the named cube first {figures['named_cube_first']['share']:.0%}, "
                f"chunk joins p50/p95/p99 {joins} rad" + (f"; {parts}." if parts else ".")
            )
    return "\n".join([*lines, "", *notes])


def _range(share: dict[str, Any]) -> str:
    low, high = share["interval"]
    return f"{low:.0%} to {high:.0%}"
