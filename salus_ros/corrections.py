"""Corrections: where a policy comes by itself, and what the expert would do there.

Demonstrations show the states of the expert. A policy comes into states of its own: beside the cube, before
a post, stopped by the gate. Here it runs, gate and random stops included, and every frame is labelled with
what the expert, which has no memory, would do from there.

Source: dataset aggregation; Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured
Prediction to No-Regret Online Learning", AISTATS 2011.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from numpy.typing import NDArray

from salus_ros.data.episode import EpisodeMeta
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.settings import GateSettings
from salus_ros.placebo import PlaceboSettings, RandomTrigger
from salus_ros.policy.base import Policy
from salus_ros.rollout import Rollout, RolloutSettings
from salus_ros.sim.demonstrations import Demonstration, Frame, collected
from salus_ros.sim.expert import EXPERTS
from salus_ros.sim.simulation import SUCCESS, Simulation
from salus_ros.types import EpisodeEvent, Image

FRAME_PERIOD_S: Final = 0.1
LOWEST_CUBE_M: Final = -0.02
"""A named cube below this has fallen from the table, and no label helps any more."""
STOPS: Final = PlaceboSettings(slow_rate_per_s=0.1, alarm_rate_per_s=0.15)
"""A stop every few seconds, so that the policy learns to go on from a standstill."""


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
        meta: seed, task and disturbance; with random interventions the gate stops now and then.
        image_transform: applied to each (H, W, 3) image at once, e.g. to shrink it.
    """
    judge = RandomTrigger(meta.seed, STOPS) if meta.random_interventions else None
    gate = Gate(GateSettings(monitor="absent" if judge is None else "required"), simulation.arm_model)
    settings = RolloutSettings(record_frames=False, depth_clouds=False, give_up_after_s=0.3)
    rollout = Rollout(simulation, policy, gate, judge, settings)
    rollout.start(meta)
    scene, expert = simulation.scene, EXPERTS[meta.task]()
    frames: list[Frame] = []
    events: list[EpisodeEvent] = []
    while not rollout.over:
        truth = simulation.truth()
        if truth.cube_position_m[truth.target, 2] < LOWEST_CUBE_M:
            break
        if len(frames) * FRAME_PERIOD_S <= simulation.time_s + 1e-9:
            observation = simulation.observe()
            images = {name: image_transform(image) for name, image in observation.images.items()}
            frames.append(Frame(observation.robot, images, truth, expert.plan(truth)))
        events += rollout.step()
    return collected(scene, simulation.outcome == SUCCESS, events, frames)
