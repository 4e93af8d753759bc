"""Corrections: where a policy comes by itself, and what the expert would do there.

Demonstrations show the states of the expert. A policy comes into states of its own: beside the cube, before
a post, stopped by the gate. Here it runs, gate and stops included, and every frame is labelled with what the
expert, which has no memory, would do from there. In half of the stopped episodes the gate is told of each
failure half a second before it would begin, so that the policy learns another way on from where SALUS leaves
it; in the other half it stops at random.

Source: dataset aggregation; Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured
Prediction to No-Regret Online Learning", AISTATS 2011.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from salus_ros.data.episode import EpisodeMeta
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.settings import GateSettings
from salus_ros.oracle import NO_PERSISTENCE, Oracle, OracleSettings, run_with_oracle
from salus_ros.placebo import PlaceboSettings, RandomTrigger
from salus_ros.policy.base import Policy
from salus_ros.rollout import Judge, Rollout, RolloutSettings
from salus_ros.sim.demonstrations import Demonstration, Frame, collected
from salus_ros.sim.expert import EXPERTS
from salus_ros.sim.simulation import SUCCESS, Simulation
from salus_ros.types import EpisodeEvent, Image

FRAME_PERIOD_S: Final = 0.1
LOWEST_CUBE_M: Final = -0.02
"""A named cube below this has fallen from the table, and no label helps any more."""
STOPS: Final = PlaceboSettings(slow_rate_per_s=0.1, alarm_rate_per_s=0.15)
"""A stop every few seconds, so that the policy learns to go on from a standstill."""
ATTEMPTS: Final = 8
"""Stops and replans before a person is called: more than the gate's own, as each is worth a correction."""

FORESIGHT: Final = OracleSettings(timeouts=False)
"""What the gate is told: an arm that hovers is corrected wherever it hovers."""


def record_corrections(
    simulation: Simulation,
    policy: Policy,
    meta: EpisodeMeta,
    image_transform: Callable[[Image], NDArray[Any]],
) -> Demonstration:
    """One episode of the policy in the scene of ``meta``, with the expert's plan at each frame.

    Args:
        simulation: is reset.
        policy: acts; the expert's plans are labels only.
        meta: seed, task and disturbance; with random interventions the gate stops now and then: at random
            where the seed is even, before each failure where it is odd. The frames of both are kept, of the
            failure and of what came instead.
        image_transform: applied to each (H, W, 3) image at once, e.g. to shrink it.
    """
    oracle = Oracle(FORESIGHT) if meta.random_interventions and meta.seed % 2 else None
    judge = oracle or (RandomTrigger(meta.seed, STOPS) if meta.random_interventions else None)
    rollout = _Watched(simulation, policy, _gate(judge, simulation), judge, image_transform)
    if oracle is not None:
        run_with_oracle(rollout, oracle, meta, FORESIGHT)
    else:
        rollout.start(meta)
        while not rollout.over:
            rollout.step()
    return collected(
        simulation.scene, simulation.outcome == SUCCESS, list(rollout.finish().events), rollout.frames
    )


def _gate(judge: Judge | None, simulation: Simulation) -> Gate:
    # It is corrected where it was stopped, since that is where it has to find another way.
    changes: dict[str, Any] = {"lift_m": 0.0}
    if judge is None:
        changes["monitor"] = "absent"
    if isinstance(judge, Oracle):
        changes |= {**NO_PERSISTENCE, "replan_attempts": ATTEMPTS, "protective_stops": ATTEMPTS}
    return Gate(GateSettings(**changes), simulation.arm_model)


class _Watched(Rollout):
    """A rollout whose frames are kept with the expert's plans, also of what an oracle then undoes."""

    def __init__(
        self,
        simulation: Simulation,
        policy: Policy,
        gate: Gate,
        judge: Judge | None,
        image_transform: Callable[[Image], NDArray[Any]],
    ) -> None:
        settings = RolloutSettings(record_frames=False, depth_clouds=False, give_up_after_s=0.3)
        super().__init__(simulation, policy, gate, judge, settings)
        self.frames: list[Frame] = []
        self._image_transform = image_transform
        self._last_s = -np.inf

    @property
    def over(self) -> bool:
        """Also when the named cube lies on the floor."""
        truth = self._simulation.truth()
        return super().over or bool(truth.cube_position_m[truth.target, 2] < LOWEST_CUBE_M)

    def start(self, meta: EpisodeMeta) -> None:
        """See ``Rollout.start``."""
        super().start(meta)
        self._expert = EXPERTS[meta.task]()

    def step(self) -> tuple[EpisodeEvent, ...]:
        """See ``Rollout.step``; keeps a frame first where one is due, after a jump back as well."""
        if abs(self.time_s - self._last_s) >= FRAME_PERIOD_S - 1e-9:
            self._last_s = self.time_s
            truth, observation = self._simulation.truth(), self._simulation.observe()
            images = {name: self._image_transform(image) for name, image in observation.images.items()}
            self.frames.append(Frame(observation.robot, images, truth, self._expert.plan(truth)))
        return super().step()
