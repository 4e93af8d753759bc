"""A small world around the gate: a controller that interpolates as ros2_control does, an arm that lags it,
a policy and a monitor that speak on time, and a clock that one steps by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from salus_ros.assets import asset
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.inputs import Decision, Fault, GateInputs, Request, RequestKind
from salus_ros.intervention.settings import GateSettings
from salus_ros.robot.model import ArmModel
from salus_ros.types import (
    ActionChunk,
    FailurePrediction,
    FailureType,
    Floats,
    JointTrajectory,
    Mode,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

ARM = ArmModel.from_urdf(asset("urdf/salus_arm.urdf"))
HOME = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 1.95, 0.785])
PERIOD_S = 0.01
HORIZONS_S = (0.2, 0.3, 0.4, 0.5)


class Controller:
    """Cubic interpolation from the current desired state; replaced at reception; holds the last point."""

    def __init__(self, position: Floats) -> None:
        self._times = np.array([0.0, 1.0])
        self._q = np.array([position, position])
        self._v = np.zeros_like(self._q)
        self._start_s = 0.0

    def accept(self, now_s: float, command: JointTrajectory) -> None:
        q, v = self.at(now_s)
        self._times = np.concatenate([[0.0], command.time_from_start_s])
        self._q = np.concatenate([q[None], command.position_rad])
        self._v = np.concatenate([v[None], command.velocity_rad_s])
        self._start_s = now_s

    def at(self, now_s: float) -> tuple[Floats, Floats]:
        t = now_s - self._start_s
        if t >= self._times[-1]:
            return self._q[-1], np.zeros_like(self._q[-1])
        i = int(np.searchsorted(self._times, t, side="right")) - 1
        span = self._times[i + 1] - self._times[i]
        u = (t - self._times[i]) / span
        p0, p1, m0, m1 = self._q[i], self._q[i + 1], self._v[i] * span, self._v[i + 1] * span
        d = p1 - p0
        q = p0 + u * (m0 + u * (3 * d - 2 * m0 - m1 + u * (m0 + m1 - 2 * d)))
        v = (m0 + u * (2 * (3 * d - 2 * m0 - m1) + u * 3 * (m0 + m1 - 2 * d))) / span
        return q, v


def chunk(
    stamp_s: float, points: Floats, step_s: float = 0.05, gripper_m: Floats | float = 0.08
) -> ActionChunk:
    count = len(points)
    gripper = np.full(count, gripper_m) if np.isscalar(gripper_m) else np.asarray(gripper_m)
    return ActionChunk(stamp_s, step_s * np.arange(1, count + 1), np.asarray(points, float), gripper)


def output(sequence: int, action: ActionChunk) -> PolicyOutput:
    return PolicyOutput(
        sequence, "test", "0" * 16, "move", action, Uncertainty(1), np.empty((0, 0, 0, 0), np.float32), 0.05
    )


def prediction(
    stamp_s: float,
    sequence: int = 0,
    collision: float | tuple[float, ...] = 0.0,
    drop: float = 0.0,
    miss: float = 0.0,
    out_of_distribution: bool = False,
    timeout: float = 0.1,
) -> FailurePrediction:
    rows = [np.broadcast_to(np.asarray(value, float), (4,)) for value in (collision, drop, miss)]
    probability = np.array(rows)
    threshold = np.full(3, 0.5)
    risk = float(min(0.5 * (probability.max(axis=1) / threshold).max(), 1.0))
    return FailurePrediction(
        stamp_s, sequence, HORIZONS_S, probability, timeout, risk, FailureType.COLLISION, 0.5, risk >= 0.5,
        threshold, out_of_distribution,
    )  # fmt: skip


def sway(t: Floats) -> Floats:
    """(N, 7) a smooth motion at speeds of a manipulation task, about 0.5 rad/s at most."""
    t = np.asarray(t, float)[:, None]
    amplitude = np.array([0.35, 0.15, 0.2, 0.15, 0.2, 0.2, 0.3])
    rate = np.array([1.3, 1.7, 1.1, 1.5, 1.9, 1.2, 1.6])
    return HOME + amplitude * np.sin(rate * t) * np.minimum(t / 2.0, 1.0)


@dataclass
class World:
    """Everything around the gate; fields may be changed between steps to make things go wrong."""

    settings: GateSettings = field(default_factory=GateSettings)
    goal: Callable[[Floats], Floats] = sway
    noise_rad: float = 0.0
    lag_s: float = 0.08
    delay_s: float = 0.08
    policy_period_s: float = 0.2
    prediction_period_s: float = 0.05
    seed: int = 0
    jitter_s: float = 0.0
    arm: ArmModel = ARM

    def __post_init__(self) -> None:
        self.gate = Gate(self.settings, self.arm)
        self.random = np.random.default_rng(self.seed)
        self.now_s = 100.0
        self.ros_offset_s = 1000.0
        self.measured = HOME.copy()
        self.effort = np.zeros(7)
        self.controller = Controller(HOME)
        self.sequence = 0
        self.progress_s = 0.0
        self._in_flight: list[tuple[float, PolicyOutput]] = []
        self._commands: list[tuple[float, JointTrajectory]] = []
        self._next_policy_s = self.now_s
        self._next_prediction_s = self.now_s
        self.policy_on = self.monitor_on = self.joints_on = self.arm_follows = True
        self.risk: dict[str, object] = {}
        self.faults: tuple[Fault, ...] = ()
        self.log: list[tuple[float, Floats, Floats, Decision]] = []
        self.decision: Decision | None = None
        self.gripper_m = 0.08
        self.replan_requests = 0
        self.change_plan: Callable[[PolicyOutput], PolicyOutput] = lambda plan: plan
        self.change_robot: Callable[[RobotState], RobotState] = lambda state: state
        self.change_prediction: Callable[[FailurePrediction], FailurePrediction] = lambda value: value

    @property
    def ros_s(self) -> float:
        return self.now_s + self.ros_offset_s

    def plan(self) -> PolicyOutput:
        """A chunk that starts at the measured position and goes on as the goal does."""
        self.sequence += 1
        steps = 0.05 * np.arange(0, 17)
        wanted = self.goal(self.progress_s + steps)
        points = (
            self.measured
            + (wanted - wanted[0])
            + (wanted[0] - self.measured) * np.minimum(steps / 0.5, 1.0)[:, None]
        )
        points = points[1:] + self.noise_rad * self.random.standard_normal(7)
        return output(self.sequence, chunk(self.ros_s, points))

    def robot_state(self) -> RobotState:
        return RobotState(
            self.ros_s, self.measured.copy(), self._velocity(), self.effort.copy(), self.gripper_m
        )

    def _velocity(self) -> Floats:
        q, _ = self.controller.at(self.now_s)
        return (q - self.measured) / self.lag_s if self.arm_follows else np.zeros(7)

    def step(self, *requests: RequestKind) -> Decision:
        """One control period."""
        self.now_s += PERIOD_S
        due = [item for item in self._commands if item[0] <= self.now_s]
        self._commands = [item for item in self._commands if item[0] > self.now_s]
        for at_s, command in due:
            self.controller.accept(at_s, command)
        q, v = self.controller.at(self.now_s)
        if self.arm_follows:
            self.measured = self.measured + (q - self.measured) * (PERIOD_S / self.lag_s)
        plan = value = None
        if self.now_s >= self._next_policy_s - 1e-9:
            self._next_policy_s += self.policy_period_s
            made = self.plan()
            if self.policy_on:
                self._in_flight.append((self.now_s + self.delay_s, self.change_plan(made)))
        if self._in_flight and self._in_flight[0][0] <= self.now_s + 1e-9:
            plan = self._in_flight.pop(0)[1]
        if self.now_s >= self._next_prediction_s - 1e-9:
            self._next_prediction_s += self.prediction_period_s
            if self.monitor_on:
                value = self.change_prediction(prediction(self.ros_s, self.sequence, **self.risk))
        decision = self.gate.update(
            self.now_s,
            GateInputs(
                ros_time_s=self.ros_s,
                robot=self.change_robot(self.robot_state()) if self.joints_on else None,
                plan=plan,
                prediction=value,
                requests=tuple(Request(kind) for kind in requests),
                faults=self.faults,
            ),
        )
        if decision.command is not None:
            delay_s = self.jitter_s * float(self.random.random())
            self._commands.append((self.now_s + delay_s, decision.command))
            if self.jitter_s == 0.0:
                self.controller.accept(self.now_s, decision.command)
                self._commands.clear()
        if decision.state.mode in (Mode.NOMINAL, Mode.SLOW_DOWN):
            self.progress_s += PERIOD_S * decision.state.speed_scale
        self.replan_requests += decision.request_replan
        self.log.append((self.now_s, q, v, decision))
        self.decision = decision
        return decision

    def run(self, duration_s: float) -> list[Decision]:
        return [self.step() for _ in range(round(duration_s / PERIOD_S))]

    def until(self, mode: Mode, timeout_s: float = 5.0) -> float:
        """Step until a mode; returns how long it took."""
        start_s = self.now_s
        while self.step().state.mode != mode:
            assert self.now_s - start_s < timeout_s, (
                f"no {mode.name} within {timeout_s} s, but {self.decision.state.mode.name}: "
                f"{self.decision.state.reason}"
            )
        return self.now_s - start_s

    def until_accepted(self, request: RequestKind) -> None:
        """Ask at every step until the gate accepts."""
        for _ in range(200):
            answer = self.step(request).answers[0]
            if answer.accepted:
                return
        raise AssertionError(f"{request.value} is not accepted: {answer.message}")

    def start(self) -> World:
        """Activate, and step until the arm follows the policy."""
        self.until_accepted(RequestKind.ACTIVATE)
        self.until(Mode.NOMINAL)
        return self

    def executed(self) -> tuple[Floats, Floats, Floats]:
        """(N,) times, (N, 7) positions and velocities that the controller had."""
        return (
            np.array([row[0] for row in self.log]),
            np.array([row[1] for row in self.log]),
            np.array([row[2] for row in self.log]),
        )


__all__ = [
    "ARM",
    "HOME",
    "PERIOD_S",
    "Controller",
    "World",
    "chunk",
    "output",
    "prediction",
    "replace",
    "sway",
]
