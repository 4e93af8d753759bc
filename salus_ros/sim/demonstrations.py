"""Demonstrations of the expert: noisy execution, clean labels.

The expert plans anew from the measured state every 0.05 s. What is executed is its plan plus noise,
pushes and wrong gripper commands; what is recorded as the label is the plan itself. So a policy
sees states that it will come into by its own errors, with the right way out of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.assets import asset
from salus_ros.robot.ik import InverseKinematics
from salus_ros.sim.expert import EXPERTS
from salus_ros.sim.motion import CLOSED_M, OPEN_M, STEP_S, Expert, Plan
from salus_ros.sim.simulation import SUCCESS, Scene, Simulation
from salus_ros.sim.tasks import TASKS
from salus_ros.sim.truth import Truth
from salus_ros.types import EpisodeEvent, Floats, Image, JointTrajectory, RobotState

_CONTROL_STEPS: Final = round(STEP_S / 0.01)
_POINTS: Final = 3
"""Points of each plan that are sent to the arm; the next plan replaces them after the first."""
_POINT_TIMES_S: Final = np.array([STEP_S * (i + 1) for i in range(_POINTS)])
_LOWEST_M: Final = 0.012


class DemonstrationSettings(BaseModel):
    """Noise and mishaps of the execution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    noise_m: tuple[float, float] = Field(
        (0.0025, 0.005), description="Range of the noise's standard deviation; one is drawn per episode."
    )
    noise_rad: float = Field(0.02, ge=0, description="Standard deviation of the noise on the tool's angle.")
    noise_time_s: float = Field(0.3, gt=0, description="Correlation time of the Ornstein-Uhlenbeck noise.")
    push_rate_hz: float = Field(0.12, ge=0, description="How often the arm is pushed aside.")
    push_m: tuple[float, float] = Field((0.02, 0.06), description="Range of how far it is pushed.")
    push_s: float = Field(0.4, gt=0, description="For how long.")
    open_share: float = Field(0.12, ge=0, le=1, description="Share of transports in which the hand opens.")
    empty_close_share: float = Field(
        0.25, ge=0, le=1, description="Share of approaches in which the hand closes beside or above the cube."
    )
    linger_s: float = Field(
        1.0, ge=0, description="Time after success that is shown too: without it nothing shows how to stop."
    )
    image_stride: int = Field(2, ge=1, description="Every so many steps of 0.05 s become a frame.")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """F frames at 20 Hz / ``image_stride``; K = 16 label steps of 0.05 s; J joints; N cubes."""

    seed: int
    task: str
    disturbance: str
    instruction: str
    colours: tuple[str, ...]
    target: int
    """The cube that the instruction names, the one to be moved."""
    second: int
    """The cube that it names besides, -1 for none."""
    succeeded: bool
    events: tuple[EpisodeEvent, ...]
    time_s: Floats
    """(F,)"""
    images: dict[str, NDArray[Any]]
    """``front`` and ``wrist``: (F, ...) whatever the image transform returned; by default
    (F, 128, 128, 3) uint8 RGB."""
    joint_position_rad: Floats
    """(F, J), measured."""
    joint_velocity_rad_s: Floats
    """(F, J), measured."""
    joint_effort_nm: Floats
    """(F, J), measured."""
    gripper_opening_m: Floats
    """(F,), measured."""
    tool_pose: Floats
    """(F, 4, 4), measured, in the base frame."""
    label_position_m: Floats
    """(F, K, 3), tool position in the base frame at 0.05, 0.10, ... 0.80 s after the frame; see
    ``BinExpert.plan`` for how it is made."""
    label_rotation: Floats
    """(F, K, 3, 3), tool rotation in the base frame."""
    label_opening_m: Floats
    """(F, K), commanded opening: 0.08 or 0."""
    cube_position_m: Floats
    """(F, N, 3)"""
    cube_size_m: Floats
    """(N,)"""
    bin_position_m: Floats
    """(F, 3), centre of the bin's underside."""
    mark_position_m: Floats
    """(F, 3), centre of the marked place; far below the table when there is none."""
    goal_position_m: Floats
    """(F, 3), where the named cube is to end."""
    gripped: NDArray[np.bool_]
    """(F,), the named cube is between the fingers, which both touch it."""
    held: NDArray[np.bool_]
    """(F,), and it was lifted by 2 cm since."""


def record(
    simulation: Simulation,
    seed: int,
    settings: DemonstrationSettings | None = None,
    task: str = "bin",
    disturbance: str = "",
    image_transform: Callable[[Image], NDArray[Any]] | None = None,
    watch: Callable[[tuple[EpisodeEvent, ...]], None] | None = None,
) -> Demonstration:
    """Run one noisy episode of the task's expert.

    Args:
        simulation: is reset.
        seed: of the scene and, independently, of the noise.
        settings: default if absent.
        task: name of a task.
        disturbance: as ``Simulation.reset`` takes it.
        image_transform: applied to each (H, W, 3) image at once, e.g. to shrink it.
        watch: called with the events of a control period as soon as it has passed.

    Returns:
        The episode; look at ``succeeded`` before using it.
    """
    settings = settings or DemonstrationSettings()
    scene = simulation.reset(seed, task, disturbance)
    expert = EXPERTS[task]()
    driver = _Driver(simulation, expert, settings, np.random.default_rng([seed, 2]))
    transform = image_transform or np.asarray
    frames: list[Frame] = []
    events: list[EpisodeEvent] = []
    step = lingered = 0
    while not simulation.done or lingered * STEP_S < settings.linger_s:
        truth = simulation.truth()
        if step % settings.image_stride == 0:
            plan = expert.plan(truth)
            observation = simulation.observe()
            images = {name: transform(image) for name, image in observation.images.items()}
            frames.append(Frame(observation.robot, images, truth, plan))
        driver.execute(truth)
        for _ in range(_CONTROL_STEPS):
            happened = simulation.step()
            events += happened
            if watch is not None and happened:
                watch(happened)
        step += 1
        lingered += simulation.done
    return collected(scene, simulation.outcome == SUCCESS, events, frames)


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment of an episode, and what the expert would do from it."""

    robot: RobotState
    images: dict[str, NDArray[Any]]
    truth: Truth
    plan: Plan


class _Driver:
    """Sends plans to the arm, with noise and mishaps added."""

    def __init__(
        self,
        simulation: Simulation,
        expert: Expert,
        settings: DemonstrationSettings,
        rng: np.random.Generator,
    ) -> None:
        self._simulation, self._expert, self._settings, self._rng = simulation, expert, settings, rng
        self._inverse = _inverse_kinematics()
        self._commanded_rad = simulation.robot_state().joint_position_rad
        self._velocity_m_s: Floats = np.zeros(3)
        self._noise: Floats = np.zeros(4)
        self._deviation = np.array([rng.uniform(*settings.noise_m)] * 3 + [settings.noise_rad])
        self._push: Floats = np.zeros(3)
        self._push_until_s = -1.0
        self._forced_opening_m = OPEN_M
        self._forced_until_s = -1.0
        # Drawn ahead, so that the mishaps of an episode do not depend on how it goes.
        self._open_after_s = rng.uniform(0.2, 1.4) if rng.random() < settings.open_share else np.inf
        close = rng.random() < settings.empty_close_share
        # Lower down the cube would be between the fingers.
        self._close_below_m = rng.uniform(0.06, 0.18) if close else -1.0
        self._held_since_s = np.inf

    def execute(self, truth: Truth) -> None:
        """Command the expert's next steps.

        They start at the measured pose but at the *planned* velocity: a weak or loaded arm that does
        not start to move is then asked for more from step to step.
        """
        plan = self._expert.plan(truth, _POINTS, self._velocity_m_s)
        poses = plan.poses.copy()
        self._velocity_m_s = (poses[0, :3, 3] - truth.tool_pose[:3, 3]) / STEP_S
        opening_m = self._opening(float(plan.opening_m[0]), truth)
        if opening_m < plan.opening_m[0]:
            # Closing too early is believing to be there already: the hand waits for the grip.
            poses[:, :3, 3] = truth.tool_pose[:3, 3]
        *offset, turn = self._disturbance(truth.time_s)
        poses[:, :3, 3] += offset
        cosine, sine = np.cos(turn), np.sin(turn)
        poses[:, :3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ poses[:, :3, :3]
        # A hand that is pushed into the table would only stall there.
        poses[:, 2, 3] = np.maximum(poses[:, 2, 3], _LOWEST_M)
        joints = self._inverse.path(self._commanded_rad, poses)
        velocity = np.zeros_like(joints)
        velocity[:-1] = np.diff(joints, axis=0) / STEP_S
        self._commanded_rad = joints[0]
        self._simulation.arm.accept(JointTrajectory(_POINT_TIMES_S, joints, velocity))
        self._simulation.gripper.accept(opening_m)

    def _disturbance(self, now_s: float) -> Floats:
        """(4,) offset and turn of the tool, from the noise and the push of this moment."""
        settings, rng = self._settings, self._rng
        keep = np.exp(-STEP_S / settings.noise_time_s)
        before = self._noise
        self._noise = keep * before + np.sqrt(1.0 - keep**2) * self._deviation * rng.standard_normal(4)
        start_push = rng.random() < settings.push_rate_hz * STEP_S
        direction, size = rng.standard_normal(3), rng.uniform(*settings.push_m)
        if start_push and now_s > self._push_until_s:
            self._push = direction / np.linalg.norm(direction) * size * STEP_S / settings.push_s
            self._push_until_s = now_s + settings.push_s
        # A plan starts at the measured pose, which holds the noise so far: only its change is added,
        # and a push is spread over its duration.
        change = self._noise - before
        change[:3] += self._push if now_s < self._push_until_s else 0.0
        return change

    def _opening(self, planned_m: float, truth: Truth) -> float:
        now_s = truth.time_s
        if truth.held < 0:
            self._held_since_s = np.inf
        elif self._held_since_s == np.inf:
            self._held_since_s = now_s
        above_m = truth.tool_pose[2, 3]
        if now_s - self._held_since_s > self._open_after_s:
            self._open_after_s = np.inf
            self._forced_opening_m, self._forced_until_s = OPEN_M, now_s + 0.5
        elif truth.gripped < 0 and planned_m == OPEN_M and above_m < self._close_below_m:
            self._close_below_m = -1.0
            self._forced_opening_m, self._forced_until_s = CLOSED_M, now_s + 0.7
        return self._forced_opening_m if now_s < self._forced_until_s else planned_m


def collected(
    scene: Scene, succeeded: bool, events: list[EpisodeEvent], frames: list[Frame]
) -> Demonstration:
    """Frames and events of one scene, stacked."""
    target = scene.layout.target
    return Demonstration(
        seed=scene.seed,
        task=scene.task,
        disturbance=scene.disturbance,
        instruction=scene.instruction,
        colours=scene.layout.colours,
        target=target,
        second=scene.layout.second,
        succeeded=succeeded,
        events=tuple(events),
        time_s=np.array([f.truth.time_s for f in frames]),
        images={name: np.stack([f.images[name] for f in frames]) for name in frames[0].images},
        joint_position_rad=np.stack([f.robot.joint_position_rad for f in frames]),
        joint_velocity_rad_s=np.stack([f.robot.joint_velocity_rad_s for f in frames]),
        joint_effort_nm=np.stack([f.robot.joint_effort_nm for f in frames]),
        gripper_opening_m=np.array([f.robot.gripper_opening_m for f in frames]),
        tool_pose=np.stack([f.truth.tool_pose for f in frames]),
        label_position_m=np.stack([f.plan.poses[:, :3, 3] for f in frames]),
        label_rotation=np.stack([f.plan.poses[:, :3, :3] for f in frames]),
        label_opening_m=np.stack([f.plan.opening_m for f in frames]),
        cube_position_m=np.stack([f.truth.cube_position_m for f in frames]),
        cube_size_m=scene.layout.cube_size_m,
        bin_position_m=np.stack([f.truth.bin_position_m for f in frames]),
        mark_position_m=np.stack([f.truth.mark_position_m for f in frames]),
        goal_position_m=np.stack([TASKS[scene.task].goal_m(f.truth) for f in frames]),
        gripped=np.array([f.truth.gripped == target for f in frames]),
        held=np.array([f.truth.held == target for f in frames]),
    )


@functools.cache
def _inverse_kinematics() -> InverseKinematics:
    return InverseKinematics(asset("urdf/salus_arm.urdf"))
