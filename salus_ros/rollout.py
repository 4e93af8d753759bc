"""One episode in one process: simulator -> policy -> monitor -> gate -> simulator.

The same classes run in the ROS graph (``nodes/``); here they are stepped by simulated time, as fast
as the machine allows, with the inference delay that a live policy has.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.data.episode import Episode, EpisodeMeta, EpisodeRecorder
from salus_ros.intervention import Gate, GateInputs, Request
from salus_ros.policy.base import Policy
from salus_ros.sim import Simulation
from salus_ros.types import (
    EpisodeEvent,
    EventKind,
    FailurePrediction,
    InterventionState,
    Mode,
    PointCloud,
    PolicyOutput,
    RobotState,
)


class RolloutSettings(BaseModel):
    """When each part runs, in simulated seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy_period_s: float = Field(0.2, gt=0, description="Time between two observations handed to the policy.")
    inference_delay_s: float = Field(
        0.08, ge=0, description="Time from observation to chunk, as measured on a live graph."
    )
    monitor_period_s: float = Field(0.05, gt=0, description="Time between two predictions.")
    points_period_s: float = Field(0.1, gt=0, description="Time between two depth clouds.")
    state_period_s: float = Field(
        0.1, gt=0, description="Time between two recorded gate states that do not differ in mode or cause."
    )
    record_frames: bool = Field(True, description="Keep the camera frames that the policy saw.")
    give_up_after_s: float = Field(
        1.0, ge=0, description="Time in ASSIST or EMERGENCY_STOP after which the episode ends: nobody comes."
    )


class Judge(Protocol):
    """What foresees failures: the monitor, an oracle, or a placebo."""

    def reset(self) -> None:
        """Forgets the episode before."""

    def observe_robot(self, state: RobotState) -> None:
        """Takes a measured state."""

    def observe_policy(self, output: PolicyOutput) -> None:
        """Takes a policy output when it arrives."""

    def observe_points(self, cloud: PointCloud) -> None:
        """Takes a depth cloud."""

    def observe_intervention(self, state: InterventionState) -> None:
        """Takes what the gate does."""

    def predict(self, now_s: float) -> FailurePrediction | None:
        """Judges the newest inputs; ``None`` while there are too few."""


def run_episode(
    simulation: Simulation,
    policy: Policy,
    gate: Gate,
    judge: Judge | None,
    *,
    seed: int,
    task: str = "bin",
    disturbance: str = "",
    settings: RolloutSettings | None = None,
) -> Episode:
    """Runs one episode from reset to success, time limit, or a call for a person.

    ``gate`` must be fresh: it is activated here. Without a ``judge`` it must be set to ``monitor: absent``.
    """
    settings = settings or RolloutSettings()
    scene = simulation.reset(seed, task, disturbance)
    policy.reset()
    if judge is not None:
        judge.reset()
    recorder = EpisodeRecorder()
    under_way: deque[tuple[float, PolicyOutput]] = deque()
    schedule = _Schedule(simulation.time_s)
    last_state: InterventionState | None = None
    requests: tuple[Request, ...] = (Request.ACTIVATE,)
    ended_by = ""

    while not simulation.done and not ended_by:
        now_s = simulation.time_s
        robot = simulation.robot_state()
        recorder.robot(robot)
        if judge is not None:
            judge.observe_robot(robot)

        if schedule.due("points", now_s, settings.points_period_s):
            cloud = simulation.point_cloud()
            recorder.points(cloud)
            if judge is not None:
                judge.observe_points(cloud)

        if not under_way and schedule.due("policy", now_s, settings.policy_period_s):
            observation = simulation.observe()
            if settings.record_frames:
                for camera, image in observation.images.items():
                    recorder.frame(camera, observation.stamp_s, image)
            under_way.append((now_s + settings.inference_delay_s, policy.act(observation)))

        plan: PolicyOutput | None = None
        if under_way and under_way[0][0] <= now_s:
            arrival_s, plan = under_way.popleft()
            recorder.policy(plan, arrival_s)
            if judge is not None:
                judge.observe_policy(plan)

        prediction: FailurePrediction | None = None
        if judge is not None and schedule.due("monitor", now_s, settings.monitor_period_s):
            prediction = judge.predict(now_s)
            if prediction is not None:
                recorder.prediction(prediction)

        decision = gate.update(
            now_s,
            GateInputs(ros_time_s=now_s, robot=robot, plan=plan, prediction=prediction, requests=requests),
        )
        requests = ()
        if decision.command is not None:
            simulation.arm.accept(decision.command)
        if decision.gripper_opening_m is not None:
            simulation.gripper.accept(decision.gripper_opening_m)
        if decision.command is not None:
            recorder.command(now_s, decision.command.position_rad[0], decision.gripper_opening_m)
        if decision.request_replan:
            policy.reset()
            under_way.clear()
            schedule.rush("policy")

        state = decision.state
        changed = last_state is None or (state.mode, state.cause) != (last_state.mode, last_state.cause)
        if schedule.due("state", now_s, settings.state_period_s) or changed:
            recorder.intervention(state)
            if judge is not None:
                judge.observe_intervention(state)
        last_state = state
        if state.mode in (Mode.ASSIST, Mode.EMERGENCY_STOP) and state.time_in_mode_s >= settings.give_up_after_s:
            ended_by = state.mode.name.lower()

        for event in simulation.step():
            recorder.event(event)

    outcome = ended_by or simulation.outcome
    if ended_by:
        recorder.event(EpisodeEvent(simulation.time_s, EventKind.EPISODE_END, seed=seed, detail=ended_by))
    return recorder.finish(
        EpisodeMeta(
            seed=seed,
            task=task,
            instruction=scene.instruction,
            disturbance=scene.disturbance,
            policy_name=policy.name,
            policy_hash=policy.hash,
            outcome=outcome,
        )
    )


class _Schedule:
    """Which periodic parts are due; a tick late by rounding does not shift the ones after it."""

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s
        self._next_s: dict[str, float] = {}

    def due(self, name: str, now_s: float, period_s: float) -> bool:
        next_s = self._next_s.get(name, self._start_s)
        if now_s < next_s - 1e-9:
            return False
        self._next_s[name] = max(next_s + period_s, now_s)
        return True

    def rush(self, name: str) -> None:
        """Makes a part due at once."""
        self._next_s[name] = self._start_s
