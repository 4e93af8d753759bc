"""One episode in one process: simulator -> policy -> monitor -> gate -> simulator.

The same classes run in the ROS graph (``nodes/``); here they are stepped by simulated time, as fast
as the machine allows, with the inference delay that a live policy has.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from salus_ros import __version__
from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.data.recorder import EpisodeRecorder, round_points
from salus_ros.errors import SalusError
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.inputs import Decision, GateInputs, Request, RequestKind
from salus_ros.policy.base import Committing, Lifting, Policy, Privileged, Rewindable
from salus_ros.sim.simulation import Simulation
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

    policy_period_s: float = Field(0.2, gt=0, description="Time between two observations for the policy [s].")
    inference_delay_s: float = Field(
        0.08, ge=0, description="Time from observation to chunk, as measured on a live graph [s]."
    )
    monitor_period_s: float = Field(0.05, gt=0, description="Time between two predictions [s].")
    points_period_s: float = Field(0.1, gt=0, description="Time between two depth clouds [s].")
    state_period_s: float = Field(
        0.1, gt=0, description="Time between two gate states that do not differ in mode or cause [s]."
    )
    record_frames: bool = Field(True, description="Keep the camera frames that the policy saw.")
    depth_clouds: bool = Field(True, description="Render depth clouds; off where nobody looks at them.")
    give_up_after_s: float = Field(
        1.0,
        ge=0,
        description="Time in ASSIST or EMERGENCY_STOP after which the episode ends [s].",
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


class Rollout:
    """An episode as it runs: ``start``, ``step`` until it is ``over``, ``finish``; or ``run_episode``.

    Inputs reach the judge in the order of ``Episode.inputs``, so that a replay sees what was seen here.
    """

    def __init__(
        self,
        simulation: Simulation,
        policy: Policy,
        gate: Gate,
        judge: Judge | None,
        settings: RolloutSettings,
    ) -> None:
        self._simulation = simulation
        self._policy = policy
        self._gate = gate
        self._judge = judge
        self._settings = settings
        self._recorder = EpisodeRecorder()
        self._schedule = _Schedule()
        self._thinking: deque[tuple[float, PolicyOutput]] = deque()
        self._active = False
        self._state: InterventionState | None = None

    @property
    def time_s(self) -> float:
        """Simulated time since the start."""
        return self._simulation.time_s

    @property
    def mode(self) -> Mode:
        """What the gate did at the last step."""
        return self._state.mode if self._state is not None else Mode.INACTIVE

    @property
    def over(self) -> bool:
        """Whether it has come to success, a final failure, the time limit, or a call for a person."""
        return self._simulation.done or self._given_up != ""

    @property
    def outcome(self) -> Outcome:
        """What it has come to."""
        return Outcome(self._given_up or self._simulation.outcome)

    def start(self, meta: EpisodeMeta) -> None:
        """Draws the scene of ``meta`` and forgets the episode before."""
        scene = self._simulation.reset(meta.seed, meta.task, meta.disturbance)
        self._policy.reset(seed=meta.seed)
        if self._judge is not None:
            self._judge.reset()
        self._meta = replace(meta, instruction=scene.instruction)
        self._given_up = ""

    def step(self) -> tuple[EpisodeEvent, ...]:
        """Lets one control period pass; returns what happened in it."""
        self._apply(self._tick(self._simulation.time_s))
        self._given_up = self._gives_up()
        events = self._simulation.step()
        for event in events:
            self._recorder.event(event)
        return events

    def finish(self) -> Episode:
        """The episode up to now."""
        simulation = self._simulation
        if self._given_up:
            self._recorder.event(
                EpisodeEvent(
                    simulation.time_s, EventKind.EPISODE_END, seed=self._meta.seed, detail=self._given_up
                )
            )
        return self._recorder.finish(
            replace(
                self._meta,
                outcome=self.outcome,
                policy_name=self._policy.name,
                policy_hash=self._policy.hash,
                robot=simulation.arm_model.name,
                joint_names=simulation.arm_model.joint_names,
                code_version=__version__,
                source="rollout",
                end_s=simulation.time_s,
            )
        )

    def save(self) -> object:
        """This moment, of everything but the judge, to be given to ``restore``.

        Raises:
            SalusError: the policy cannot go back.
        """
        if not isinstance(self._policy, Rewindable):
            raise SalusError(
                f"The policy {self._policy.name} cannot go back to an earlier moment, as an oracle needs; "
                "give it save and restore, or leave the oracle out."
            )
        return _Moment(
            self._simulation.save(),
            self._policy.save(),
            self._copied(self._gate),
            self._recorder.copy(),
            self._schedule.copy(),
            tuple(self._thinking),
            self._active,
            self._state,
        )

    def restore(self, moment: object) -> None:
        """Goes back to a saved moment; the same moment may be restored many times."""
        if not isinstance(moment, _Moment):
            raise SalusError(f"Got a {type(moment).__name__} to restore, but expected what save returned.")
        self._simulation.restore(moment.simulation)
        assert isinstance(self._policy, Rewindable)  # or nothing could have been saved
        self._policy.restore(moment.policy)
        self._gate = self._copied(moment.gate)
        self._recorder = moment.recorder.copy()
        self._schedule = moment.schedule.copy()
        self._thinking = deque(moment.thinking)
        self._active, self._state = moment.active, moment.state
        self._given_up = ""

    def _copied(self, gate: Gate) -> Gate:
        arm = self._simulation.arm_model
        return copy.deepcopy(gate, {id(arm): arm})

    def _tick(self, now_s: float) -> Decision:
        robot = self._simulation.robot_state()
        self._recorder.robot(robot)
        if self._judge is not None:
            self._judge.observe_robot(robot)
        plan = self._think(now_s)
        self._look(now_s)
        prediction = self._foresee(now_s)
        requests = () if self._active else (Request(RequestKind.ACTIVATE, "rollout"),)
        decision = self._gate.update(now_s, GateInputs(now_s, robot, plan, prediction, requests))
        self._active |= any(answer.accepted for answer in decision.answers)
        return decision

    def _think(self, now_s: float) -> PolicyOutput | None:
        """Starts an inference when one is due, and returns the one that is finished now."""
        if not self._thinking and self._schedule.due("policy", now_s, self._settings.policy_period_s):
            observation = self._simulation.observe()
            if self._settings.record_frames:
                self._recorder.observation(observation)
            output = self._policy.act(observation)
            self._thinking.append((now_s + self._settings.inference_delay_s, output))
        if not self._thinking or self._thinking[0][0] > now_s + 1e-9:
            return None
        _, plan = self._thinking.popleft()
        self._recorder.policy(plan, now_s)
        if self._judge is not None:
            self._judge.observe_policy(plan)
        return plan

    def _look(self, now_s: float) -> None:
        if self._settings.depth_clouds and self._schedule.due(
            "points", now_s, self._settings.points_period_s
        ):
            cloud = round_points(self._simulation.point_cloud())
            self._recorder.points(cloud)
            if self._judge is not None:
                self._judge.observe_points(cloud)

    def _foresee(self, now_s: float) -> FailurePrediction | None:
        if self._judge is None or not self._schedule.due("monitor", now_s, self._settings.monitor_period_s):
            return None
        prediction = self._judge.predict(now_s)
        if prediction is not None:
            self._recorder.prediction(prediction)
        return prediction

    def _apply(self, decision: Decision) -> None:
        now_s = self._simulation.time_s
        if decision.command is not None:
            self._simulation.arm.accept(decision.command)
        if decision.gripper_opening_m is not None:
            self._simulation.gripper.accept(decision.gripper_opening_m)
        if decision.command is not None or decision.gripper_opening_m is not None:
            self._recorder.command(now_s, decision.command, decision.gripper_opening_m)
        if decision.request_replan:
            self._policy.reset()
            if decision.commit and isinstance(self._policy, Committing):
                self._policy.commit()
            if decision.lift_m > 0.0 and isinstance(self._policy, Lifting):
                self._policy.lift(decision.lift_m)
            self._thinking.clear()
            self._schedule.rush("policy")
        state, before = decision.state, self._state
        changed = before is None or (state.mode, state.cause) != (before.mode, before.cause)
        if self._schedule.due("state", now_s, self._settings.state_period_s) or changed:
            self._recorder.intervention(state)
            if self._judge is not None:
                self._judge.observe_intervention(state)
        self._state = state

    def _gives_up(self) -> str:
        """The simulated person never helps: a call for one ends the episode."""
        state = self._state
        if state is None or state.mode not in (Mode.ASSIST, Mode.EMERGENCY_STOP):
            return ""
        return state.mode.name.lower() if state.time_in_mode_s >= self._settings.give_up_after_s else ""


def let_watch(policy: Policy, simulation: Simulation) -> Policy:
    """The policy, which sees the simulation's truth if it is one that plans from it."""
    if isinstance(policy, Privileged):
        policy.watch(simulation.truth)
    return policy


def run_episode(
    simulation: Simulation,
    policy: Policy,
    gate: Gate,
    judge: Judge | None,
    meta: EpisodeMeta,
    settings: RolloutSettings | None = None,
) -> Episode:
    """Runs one episode of ``meta.task`` with ``meta.seed`` and ``meta.disturbance``.

    Args:
        simulation: is reset here, and may be used again for the next episode.
        policy: likewise.
        gate: must be fresh: it is activated here. Without a judge it needs ``monitor: absent``.
        judge: what foresees failures, or ``None``.
        meta: seed, task, disturbance, and whatever else is known beforehand; the rest is filled in.
        settings: rates and delays.
    """
    rollout = Rollout(simulation, policy, gate, judge, settings or RolloutSettings())
    rollout.start(meta)
    while not rollout.over:
        rollout.step()
    return rollout.finish()


@dataclass(frozen=True, slots=True)
class _Moment:
    simulation: object
    policy: object
    gate: Gate
    recorder: EpisodeRecorder
    schedule: _Schedule
    thinking: tuple[tuple[float, PolicyOutput], ...]
    active: bool
    state: InterventionState | None


class _Schedule:
    """Which periodic parts are due; a part that is late once keeps its rhythm afterwards."""

    def __init__(self, next_s: Mapping[str, float] | None = None) -> None:
        self._next_s: dict[str, float] = dict(next_s or {})

    def copy(self) -> _Schedule:
        """One that goes on from here on its own."""
        return _Schedule(self._next_s)

    def due(self, name: str, now_s: float, period_s: float) -> bool:
        next_s = self._next_s.get(name, now_s)
        if now_s < next_s - 1e-9:
            return False
        self._next_s[name] = max(next_s + period_s, now_s)
        return True

    def rush(self, name: str) -> None:
        """Makes a part due at once."""
        self._next_s[name] = 0.0
