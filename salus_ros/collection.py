"""Collecting episodes: what each seed is, and running it in a worker process."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from salus_ros.data.episode import Episode, EpisodeMeta
from salus_ros.errors import SalusError
from salus_ros.mixture import Mixture
from salus_ros.policy.base import Committing, Lifting, Rewindable
from salus_ros.types import Observation, PolicyOutput

if TYPE_CHECKING:
    from salus_ros.policy.base import Policy
    from salus_ros.sim.simulation import Scene, Simulation

_PARENT_CHECK_S = 0.5


@dataclass(frozen=True, slots=True)
class FailedEpisode:
    """An episode that raised; the simulator or the policy is at fault, not the robot in it."""

    seed: int
    error: str
    """The error in one line."""
    trace: str


RunSeed = Callable[[int], Episode | FailedEpisode]
"""Runs the episode of a seed; a module's function, or a partial of one, so that it can be sent to a
worker process."""

RunAll = Callable[[RunSeed, Iterable[int]], Iterator[Episode | FailedEpisode]]
"""Runs the episodes of all seeds in worker processes, in the order of the seeds."""


def run_seed(policy: str, mixture: Mixture, seed: int) -> Episode | FailedEpisode:
    """Runs the episode of a seed in this process, on one thread.

    Raises:
        SalusError: the policy, the task or the disturbance does not exist; whatever else goes wrong
            in an episode is returned.
    """
    # Imported here: the parent process, which only writes, needs none of it.
    import torch

    from salus_ros.intervention.gate import Gate
    from salus_ros.intervention.settings import GateSettings
    from salus_ros.placebo import RandomTrigger
    from salus_ros.rollout import run_episode

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        simulation, acting = _workplace(policy)
        meta = mixture.draw(seed)
        judge = RandomTrigger(seed) if meta.random_interventions else None
        # Nothing is in the way where a random stop comes: there is nothing to be lifted over.
        settings = GateSettings(monitor="required" if judge is not None else "absent", lift_m=0.0)
        episode = run_episode(simulation, acting, Gate(settings, simulation.arm_model), judge, meta)
        return replace(episode, meta=as_drawn(episode.meta, simulation.scene))
    except SalusError:
        raise
    except Exception as error:
        return FailedEpisode(seed, f"{type(error).__name__}: {error}", traceback.format_exc())


def as_drawn(meta: EpisodeMeta, scene: Scene) -> EpisodeMeta:
    """An episode's description with the family that the simulator drew, which splits and tables go by.

    Its strength stands among the notes.
    """
    notes = dict(meta.notes)
    if scene.disturbance:
        notes["disturbance_strength"] = f"{scene.strength:.3f}"
    return replace(meta, disturbance=scene.disturbance, notes=notes)


def run_in_parallel(run: RunSeed, seeds: Iterable[int], workers: int) -> Iterator[Episode | FailedEpisode]:
    """Episodes in the order of their seeds, whatever the number of worker processes.

    Raises:
        SalusError: what ``run`` raises, or a worker died.
    """
    jobs = (delayed(_in_worker)(run, seed, os.getpid()) for seed in seeds)
    with parallel_config(backend="loky", inner_max_num_threads=1):
        try:
            yield from Parallel(n_jobs=workers, return_as="generator")(jobs)
        except TerminatedWorkerError as error:
            raise SalusError(
                "A worker process died, most likely for want of memory; what was finished is kept: run the "
                "same command again, with fewer workers."
            ) from error


def _in_worker(run: RunSeed, seed: int, starter: int) -> Episode | FailedEpisode:
    if os.getpid() != starter:
        _end_with(starter)
    return run(seed)


@lru_cache(maxsize=1)
def _end_with(starter: int) -> None:
    """Ends this worker when the process that started it was killed, which joblib itself notices late."""

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(_PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class NumberedByEpisode:
    """A policy whose outputs count from 0 in each seeded episode.

    A policy numbers its outputs over its whole life, so that the numbers would tell how many episodes
    the worker process had run before.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._count = 0

    @property
    def name(self) -> str:
        """The policy's."""
        return self._policy.name

    @property
    def hash(self) -> str:
        """The policy's."""
        return self._policy.hash

    @property
    def action_period_s(self) -> float:
        """The policy's."""
        return self._policy.action_period_s

    def act(self, observation: Observation) -> PolicyOutput:
        """The policy's output, numbered."""
        output = replace(self._policy.act(observation), sequence=self._count)
        self._count += 1
        return output

    def reset(self, seed: int | None = None) -> None:
        """A seed begins an episode."""
        if seed is not None:
            self._count = 0
        self._policy.reset(seed)

    def commit(self) -> None:
        """As the policy does, if it can."""
        if isinstance(self._policy, Committing):
            self._policy.commit()

    def lift(self, height_m: float) -> None:
        """As the policy does, if it can."""
        if isinstance(self._policy, Lifting):
            self._policy.lift(height_m)

    def save(self) -> object:
        """The policy's, and the count."""
        return self._count, self._rewindable().save()

    def restore(self, state: object) -> None:
        """Goes back to what ``save`` returned."""
        self._count, inner = cast(tuple[int, object], state)
        self._rewindable().restore(inner)

    def _rewindable(self) -> Rewindable:
        if not isinstance(self._policy, Rewindable):
            raise SalusError(
                f"The policy {self._policy.name} cannot go back to an earlier moment; leave the oracle out."
            )
        return self._policy


@lru_cache(maxsize=1)
def _workplace(policy: str) -> tuple[Simulation, Policy]:
    """Built once in each process."""
    from salus_ros.policy.registry import load_policy
    from salus_ros.rollout import let_watch
    from salus_ros.sim.simulation import Simulation

    simulation = Simulation()
    return simulation, NumberedByEpisode(let_watch(load_policy(policy), simulation))
