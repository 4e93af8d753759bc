"""The gate node as a process, and everything it talks to: an arm, a policy and a monitor made of timers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

sys.path.insert(0, str(Path(__file__).parents[1] / "intervention"))
from gate_world import ARM, HOME, Controller, chunk, output, prediction, sway

from salus_msgs.msg import FailurePrediction, InterventionState, PolicyOutput
from salus_msgs.srv import RequestReplan
from salus_ros.nodes import qos
from salus_ros.nodes.conversions import (
    policy_output_to_message,
    prediction_to_message,
    robot_state_to_message,
    trajectory_from_message,
)
from salus_ros.nodes.graph import Graph
from salus_ros.types import Mode, RobotState

START_S = 60.0
REACT_S = 10.0
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
LAG_S = 0.08


class Surroundings:
    """Publishes what the gate needs, takes its commands, and can be told to misbehave."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        node = self.node = graph.node
        self.controller = Controller(HOME)
        self.measured = HOME.copy()
        self.effort = np.zeros(7)
        self.sequence = 0
        self.joints_on = self.policy_on = self.monitor_on = True
        self.risk: dict[str, Any] = {}
        self.driver_stops = 0
        self.replans: list[Any] = []
        self.states = graph.listen(qos.INTERVENTION_STATE, InterventionState)
        self.commands = graph.listen(qos.ARM_COMMAND, JointTrajectory, on_message=self._accept)
        self.policy_publisher = node.create_publisher(
            PolicyOutput, qos.POLICY_OUTPUT, qos.profile(qos.POLICY_OUTPUT)
        )
        self.prediction_publisher = node.create_publisher(
            FailurePrediction, qos.FAILURE_PREDICTION, qos.profile(qos.FAILURE_PREDICTION)
        )
        self.joint_publisher = node.create_publisher(
            JointState, qos.JOINT_STATES, qos.profile(qos.JOINT_STATES)
        )
        node.create_service(Trigger, qos.DRIVER_STOP, self._stop_driver)
        node.create_service(RequestReplan, qos.REQUEST_REPLAN, self._replan)
        node.create_timer(0.01, self._joints)
        node.create_timer(0.2, self._policy)
        node.create_timer(0.05, self._monitor)

    @property
    def ros_s(self) -> float:
        return float(self.node.get_clock().now().nanoseconds) * 1e-9

    def _stop_driver(self, _request: Any, response: Any) -> Any:
        self.driver_stops += 1
        response.success = True
        return response

    def _replan(self, request: Any, response: Any) -> Any:
        self.replans.append(request)
        response.accepted = True
        return response

    def _accept(self, message: JointTrajectory) -> None:
        self.controller.accept(time.monotonic(), trajectory_from_message(message, ARM.joint_names))

    def _joints(self) -> None:
        q, _ = self.controller.at(time.monotonic())
        velocity = (q - self.measured) / LAG_S
        self.measured = self.measured + velocity * 0.01
        if self.joints_on:
            self.joint_publisher.publish(robot_state_to_message(self.robot_state(), ARM.joint_names, FINGERS))

    def robot_state(self) -> RobotState:
        q, _ = self.controller.at(time.monotonic())
        return RobotState(self.ros_s, self.measured, (q - self.measured) / LAG_S, self.effort, 0.08)

    def plan(self) -> PolicyOutput:
        self.sequence += 1
        wanted = sway(self.ros_s % 100.0 + 0.05 * np.arange(17))
        points = self.measured + 0.5 * (wanted - wanted[0])
        return policy_output_to_message(
            output(self.sequence, chunk(self.ros_s, points[1:])), ARM.joint_names, "panda_link0"
        )

    def _policy(self) -> None:
        if self.policy_on:
            self.policy_publisher.publish(self.plan())

    def _monitor(self) -> None:
        if self.monitor_on:
            self.foresee(**self.risk)

    def foresee(self, **risk: Any) -> None:
        self.prediction_publisher.publish(
            prediction_to_message(prediction(self.ros_s, self.sequence, **risk))
        )

    def until(self, mode: Mode, timeout_s: float = REACT_S) -> float:
        """Wait until the gate says this mode; returns how long it took."""
        start_s = time.monotonic()
        self.graph.spin_until(
            lambda: self.states.newest is not None and self.states.newest.mode == mode,
            timeout_s,
            f"{mode.name} (now {self.newest()})",
        )
        return time.monotonic() - start_s

    def newest(self) -> str:
        state = self.states.newest
        return "nothing" if state is None else f"{Mode(state.mode).name}: {state.reason}"

    def trigger(self, service: str) -> Any:
        return self.graph.call(service, Trigger, Trigger.Request())

    def activate(self) -> None:
        self.graph.bring_up("intervention_node", timeout_s=START_S)
        self.until(Mode.NOMINAL)

    def deactivate(self) -> None:
        self.graph.transition("intervention_node", Transition.TRANSITION_DEACTIVATE, timeout_s=START_S)


PATIENT = {
    "joint_state_deadline_s": 0.5,
    "policy_deadline_s": 1.5,
    "prediction_slow_deadline_s": 0.8,
    "prediction_hold_deadline_s": 1.5,
    "plan_age_max_s": 1.5,
    "overruns_to_hold": 1000,
    "clock_jump_s": 1.0,
}
"""Deadlines that a loaded machine keeps, for tests that are not about deadlines."""


@contextmanager
def surroundings(tmp_path: Path, domain_id: int, **parameters: Any) -> Iterator[Surroundings]:
    """The gate node as a process in its surroundings, not yet active."""
    environment = {"ROS_HOME": str(tmp_path / "home")}
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with Graph(domain_id=domain_id, log_dir=tmp_path / "logs", environment=environment) as graph:
        around = Surroundings(graph)
        graph.start("intervention", {**PATIENT, **parameters})
        graph.spin_until(lambda: around.states.count > 0, START_S, "the gate's state")
        yield around
