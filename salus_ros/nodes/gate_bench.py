"""The live gate beside a bare relay: how long a message takes through each, in the same run.

The driver publishes what the gate needs and times what comes back. A policy output carries its number in the
gripper's opening, which the gate commands in the very tick in which it goes over to that output; a stop is
timed to the last command before the state that says so, which the gate publishes right after it. The relay is
a node of one subscription for each input, which publishes a trajectory of the gate's length as soon as a
message comes.
Run as a module, this is the relay's ``main``.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rclpy.executors import MultiThreadedExecutor
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from salus_msgs.msg import FailurePrediction, InterventionState, PolicyOutput
from salus_ros.nodes import qos
from salus_ros.nodes.conversions import policy_output_to_message, prediction_to_message
from salus_ros.nodes.driver_messages import robot_state_to_message, trajectory_to_message
from salus_ros.nodes.graph import Graph
from salus_ros.nodes.intervention_node import InterventionNode
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.types import (
    HORIZONS_S,
    ActionChunk,
    FailureType,
    Floats,
    Mode,
    RobotState,
    Uncertainty,
)
from salus_ros.types import FailurePrediction as Prediction
from salus_ros.types import JointTrajectory as Trajectory
from salus_ros.types import PolicyOutput as Output

GATE: Final = "intervention_node"
RELAY: Final = "relay_node"
VARIANT: Final = "SALUS_BENCH_VARIANT"
RELAYED: Final = "relay/joint_trajectory"
HOME: Final = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 1.95, 0.785])
PERIOD_S: Final = 0.01
POLICY_PERIOD_S: Final = 0.1037
"""No multiple of the control period, so that outputs come at every place in it."""

PREDICTION_PERIOD_S: Final = 0.05
SWAY_RAD: Final = 0.1
SWAY_PERIOD_S: Final = 8.0
OPENINGS_M: Final = (0.02, 0.06)
POINTS: Final = 10
"""Of a trajectory of the gate."""

GIVEN: Final[Mapping[str, Any]] = {
    "joint_state_deadline_s": 1.0,
    "policy_deadline_s": 3.0,
    "prediction_slow_deadline_s": 2.0,
    "prediction_hold_deadline_s": 3.0,
    "overruns_to_hold": 100_000,
    "replan_attempts": 1000,
    "protective_stops": 1000,
    "retrace_path_s": 0.0,
    "replan_grace_s": 0.0,
    "hold_off_s": 0.1,
}
"""The gate's parameters: patient, so that load is measured and not answered."""


class Relay(GuardedNode):
    """What rclpy itself takes."""

    def __init__(self, name: str = RELAY) -> None:
        super().__init__(name)
        joints = Robot.load(RobotSettings()).arm.joint_names
        times: Floats = np.arange(1, POINTS + 1) * np.float64(0.03)
        still = Trajectory(times, np.tile(HOME, (POINTS, 1)), np.zeros((POINTS, len(joints))))
        self._message = trajectory_to_message(still, joints)
        self._publisher = self.create_publisher(JointTrajectory, RELAYED, qos.profile(qos.ARM_COMMAND))
        for kind, topic in (
            (PolicyOutput, qos.POLICY_OUTPUT),
            (FailurePrediction, qos.FAILURE_PREDICTION),
        ):
            self.create_subscription(kind, f"relay/{topic}", self._pass_on, qos.profile(topic))

    def _pass_on(self, _message: Any) -> None:
        self._publisher.publish(self._message)


@dataclass(slots=True)
class Times:
    """What one run gave, in seconds; each list over its messages."""

    plan: list[float] = field(default_factory=list)
    plan_relay: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)
    stop_relay: list[float] = field(default_factory=list)
    command_gap: list[float] = field(default_factory=list)
    gate_cores: float = float("nan")
    relay_cores: float = float("nan")


class Driver:
    """Publishes to gate and relay in turn, and times what comes back."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        node = self.node = graph.node
        self._arm = Robot.load(RobotSettings()).arm
        self._position: Floats = HOME
        self._sequence = 0
        self.times = Times()
        self._sent_s: dict[str, float] = {}
        self._opening = 0
        self._command_s = float("nan")
        self.state: InterventionState | None = None
        self._risk = 0.0
        self._plans = self._publishers(PolicyOutput, qos.POLICY_OUTPUT)
        self._predictions = self._publishers(FailurePrediction, qos.FAILURE_PREDICTION)
        self._joints = node.create_publisher(JointState, qos.JOINT_STATES, qos.profile(qos.JOINT_STATES))
        for topic, kind, callback in (
            (qos.ARM_COMMAND, JointTrajectory, self._hear_command),
            (qos.GRIPPER_COMMAND, JointTrajectory, self._hear_gripper),
            (qos.INTERVENTION_STATE, InterventionState, self._hear_state),
        ):
            node.create_subscription(kind, topic, callback, qos.listening_profile(topic))
        node.create_subscription(
            JointTrajectory, RELAYED, self._hear_relay, qos.listening_profile(qos.ARM_COMMAND)
        )
        node.create_timer(PERIOD_S, self._speak_of_joints)
        node.create_timer(POLICY_PERIOD_S, self._plan)
        node.create_timer(PREDICTION_PERIOD_S, self._predict)

    def _publishers(self, kind: type[Any], topic: str) -> tuple[Any, Any]:
        profile = qos.profile(topic)
        return (
            self.node.create_publisher(kind, topic, profile),
            self.node.create_publisher(kind, f"relay/{topic}", profile),
        )

    @property
    def _stamp_s(self) -> float:
        return float(self.node.get_clock().now().nanoseconds) * 1e-9

    def _speak_of_joints(self) -> None:
        state = RobotState(self._stamp_s, self._position, np.zeros(7), np.zeros(7), 0.08)
        self._joints.publish(robot_state_to_message(state, self._arm.joint_names))

    def _plan(self) -> None:
        """The next piece of one slow sway, so that each plan goes on as the one before: a plan that turned
        back would be entered when the arm is slow enough for it, and time the arm."""
        self._sequence += 1
        if self._sequence % 2:
            self._opening = 1 - self._opening
            stamp_s, count = self._stamp_s, 16
            times: Floats = np.arange(1, count + 1) * np.float64(0.05)
            sway = SWAY_RAD * np.sin(2.0 * np.pi / SWAY_PERIOD_S * (stamp_s % SWAY_PERIOD_S + times))
            points = HOME + np.outer(sway, np.ones(7))
            output = Output(
                self._sequence,
                "bench",
                "0" * 16,
                "sway",
                ActionChunk(stamp_s, times, points, np.full(count, OPENINGS_M[self._opening])),
                Uncertainty(1),
                np.zeros((3, 4, 16, 10), np.float32),
                0.05,
            )
            message = policy_output_to_message(output, self._arm.joint_names, "panda_link0")
            self._plan_message = message
            self._send("plan", self._plans[0], message)
        elif self._sequence > 2:
            self._send("plan_relay", self._plans[1], self._plan_message)

    def _predict(self) -> None:
        self._publish_prediction("", self._predictions[0])

    def _publish_prediction(self, what: str, publisher: Any) -> None:
        types, horizons = len(FailureType), len(HORIZONS_S)
        prediction = Prediction(
            self._stamp_s,
            self._sequence,
            HORIZONS_S,
            np.full((types, horizons), self._risk),
            0.0,
            self._risk,
            FailureType.COLLISION,
            HORIZONS_S[0],
            self._risk > 0.5,
            np.full(types, 0.5),
            False,
        )
        message = prediction_to_message(prediction)
        if what:
            self._send(what, publisher, message)
        else:
            publisher.publish(message)

    def stop(self) -> None:
        """Foresee a collision, once, at the gate and then at the relay."""
        self._risk = 1.0
        self._publish_prediction("stop", self._predictions[0])
        self._risk = 0.0

    def stop_relay(self) -> None:
        """The same message through the relay."""
        self._publish_prediction("stop_relay", self._predictions[1])

    def _send(self, what: str, publisher: Any, message: Any) -> None:
        self._sent_s[what] = time.monotonic()
        publisher.publish(message)

    def _came(self, what: str, now_s: float) -> None:
        sent_s = self._sent_s.pop(what, None)
        if sent_s is not None:
            getattr(self.times, what).append(now_s - sent_s)

    def _hear_command(self, message: JointTrajectory) -> None:
        now_s = time.monotonic()
        self.times.command_gap.append(now_s - self._command_s)
        self._command_s = now_s
        self._position = np.array(message.points[0].positions)

    def _hear_gripper(self, message: JointTrajectory) -> None:
        opening = float(sum(message.points[-1].positions))
        if abs(opening - OPENINGS_M[self._opening]) < 1e-3:
            # The arm's command left just before the gripper's, in the same tick.
            self._came("plan", max(self._command_s, self._sent_s.get("plan", 0.0)))

    def _hear_relay(self, _message: JointTrajectory) -> None:
        now_s = time.monotonic()
        for what in ("plan_relay", "stop_relay"):
            self._came(what, now_s)

    def _hear_state(self, message: InterventionState) -> None:
        self.state = message
        stopped = message.mode in (Mode.PROTECTIVE_STOP, Mode.REPLAN, Mode.EMERGENCY_STOP)
        if stopped and self._command_s >= self._sent_s.get("stop", float("inf")):
            self._came("stop", self._command_s)

    @property
    def follows(self) -> bool:
        """Whether the gate follows the plans."""
        return self.state is not None and self.state.mode == Mode.NOMINAL


@contextmanager
def loaded(cores: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in busy:
            process.send_signal(signal.SIGKILL)
            process.wait()


def measure(
    plans: int,
    stops: int,
    *,
    load: int = 0,
    parameters: Mapping[str, Any] | None = None,
    variant: str = "",
) -> Times:
    """One run of gate and relay beside each other.

    Args:
        plans: policy outputs to time through each.
        stops: stops to time through each.
        load: processes that only compute, beside it.
        parameters: of the gate, besides :data:`GIVEN`.
        variant: ``collecting`` leaves garbage collection on, ``multi-threaded`` takes that executor.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Graph(log_dir=Path(folder), environment={"ROS_HOME": folder}) as graph,
    ):
        driver = Driver(graph)
        graph.start("relay", name=RELAY, module="salus_ros.nodes.gate_bench")
        graph.start(
            "intervention",
            {**GIVEN, **(parameters or {})},
            module="salus_ros.nodes.gate_bench" if variant else None,
            environment={VARIANT: variant},
        )
        graph.node.create_service(Trigger, qos.DRIVER_STOP, lambda _request, response: response)
        graph.bring_up(GATE)
        graph.spin_until(lambda: driver.follows, 30.0, "the gate to follow")
        with loaded(load):
            graph.spin_for(2.0)
            driver.times = times = Times()
            graph.cpu_share()
            graph.spin_until(lambda: len(times.plan) >= plans, plans * 1.0 + 60.0, "the plans")
            cores = graph.cpu_share()
            times.gate_cores, times.relay_cores = cores[GATE], cores[RELAY]
            gaps = times.command_gap
            times.command_gap = []
            for _ in range(stops):
                graph.spin_until(lambda: driver.follows, 30.0, "the gate to follow again")
                graph.spin_for(0.1 + PERIOD_S * float(np.random.default_rng(len(times.stop)).random()))
                driver.stop()
                count = len(times.stop)
                graph.spin_until(lambda count=count: len(times.stop) > count, 10.0, "the stop")  # type: ignore[misc]
                driver.stop_relay()
                count = len(times.stop_relay)
                graph.spin_until(
                    lambda count=count: len(times.stop_relay) > count,  # type: ignore[misc]
                    10.0,
                    "the relayed stop",
                )
            times.command_gap = gaps
        return times


class CollectingGate(InterventionNode):
    """The gate with Python's own garbage collection left on."""

    def configure(self) -> None:
        """As the gate, but for the collection."""
        super().configure()
        gc.unfreeze()
        gc.enable()


def main() -> int:
    """Entry point of the relay, and of the gate in other ways than the shipped one."""
    variant = os.environ.get(VARIANT, "")
    if variant == "collecting":
        return run_node(CollectingGate)
    if variant == "multi-threaded":
        return run_node(InterventionNode, make_executor=MultiThreadedExecutor)
    return run_node(Relay)


if __name__ == "__main__":
    sys.exit(main())
