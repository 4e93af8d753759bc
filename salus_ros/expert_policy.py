"""The simulator's scripted expert as a policy: what a perfect operator would do, seen from the truth.

Policies know nothing of the simulator, so it lives here and is found through the entry point ``expert``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.policy import action as actions
from salus_ros.policy import uncertainty
from salus_ros.robot.ik import InverseKinematics
from salus_ros.sim.expert import EXPERTS, task_of
from salus_ros.sim.motion import STEP_S
from salus_ros.sim.truth import Truth
from salus_ros.types import ActionChunk, Observation, PolicyOutput, Uncertainty


class ExpertPolicy:
    """Plans from the simulator's truth; :meth:`watch` says where that is. It is never unsure."""

    name = "expert"
    action_period_s = STEP_S

    def __init__(self, ik: InverseKinematics) -> None:
        self.hash = uncertainty.hash_of(self.name)
        self._experts = {task: expert() for task, expert in EXPERTS.items()}
        self._ik = ik
        self._truth: Callable[[], Truth] | None = None
        self._sequence = 0

    def watch(self, truth: Callable[[], Truth]) -> None:
        """Plan from this truth from now on; called by whoever runs policy and simulator in one process."""
        self._truth = truth

    def reset(self, seed: int | None = None) -> None:
        """Nothing is remembered and nothing is drawn."""

    def act(self, observation: Observation) -> PolicyOutput:
        """One plan; see ``Policy.act``."""
        if self._truth is None:
            raise SalusError(
                "The expert plans from the simulator's truth, which the graph does not carry; use it in one "
                "process (`salus collect --policy expert`), or choose another policy."
            )
        truth = self._truth()
        plan = self._experts[task_of(truth)].plan(truth)
        chunk = actions.to_chunk(
            observation.stamp_s,
            observation.robot.joint_position_rad,
            plan.poses,
            plan.opening_m,
            STEP_S,
            self._ik,
        )
        output = PolicyOutput(
            sequence=self._sequence,
            policy_name=self.name,
            policy_hash=self.hash,
            instruction=observation.instruction,
            chunk=chunk,
            uncertainty=Uncertainty(ensemble_size=1),
            samples=_samples(chunk),
            inference_time_s=float("nan"),
        )
        self._sequence += 1
        return output


def _samples(chunk: ActionChunk) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(1, 1, T, J + 1): the one plan that there is, joints and opening."""
    joined = np.concatenate([chunk.joint_position_rad, chunk.gripper_opening_m[:, None]], axis=1)
    return joined[None, None].astype(np.float32)


def load(path: Path | None, seed: int) -> ExpertPolicy:
    """``expert``, for the shipped arm and its tasks."""
    if path is not None:
        raise SalusError(
            f"The policy expert takes nothing behind its name, but {path} was given; leave it out."
        )
    return ExpertPolicy(InverseKinematics(asset("urdf/salus_arm.urdf")))
