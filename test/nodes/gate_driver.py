"""The gate node as a process, and everything it talks to: an arm, a policy and a monitor made of timers."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.msg import Transition
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

sys.path.insert(0, str(Path(__file__).parents[1] / "intervention"))
from gate_world import ARM, HOME, Controller, chunk, output, prediction, sway

from salus_msgs.msg import FailurePrediction, InterventionState, PolicyOutput
from salus_msgs.srv import RequestReplan, ResolveAssistance
from salus_ros.nodes import qos
from salus_ros.nodes.conversions import policy_output_to_message, prediction_to_message
from salus_ros.nodes.driver_messages import robot_state_to_message, stamp_to_message, trajectory_from_message
from salus_ros.nodes.graph import Graph
from salus_ros.types import Mode, RobotState

START_S = 60.0
REACT_S = 10.0
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
LAG_S = 0.08


def plan_from(stamp_s: float, position: Any, sequence: int) -> PolicyOutput:
    """A chunk that starts at a place and goes on as :func:`sway` does."""
    wanted = sway(stamp_s % 100.0 + 0.05 * np.arange(17))
    points = np.asarray(position) + 0.5 * (wanted - wanted[0])
    return policy_output_to_message(
        output(sequence, chunk(stamp_s, points[1:])), ARM.joint_names, "panda_link0"
    )


class Surroundings:
    """Publishes what the gate needs, takes its commands, and can be told to misbehave."""

    def __init__(self, graph: Graph, *, clock: bool = False) -> None:
        """``clock``: publish ``/clock`` with each joint state."""
        self.graph = graph
        node = self.node = graph.node
        self.controller = Controller(HOME)
        self.measured = HOME.copy()
        self.effort = np.zeros(7)
        self.sequence = 0
        self.joints_on = self.policy_on = self.monitor_on = self.arm_follows = self.clock_on = True
        self.clock_offset_s = 0.0
        self.frozen_s: float | None = None
        self.change_plan: Callable[[PolicyOutput], PolicyOutput] = lambda plan: plan
        self.risk: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        """Of the gate."""
        self.driver_stops = self.driver_resumes = 0
        self.refused_stops = 0
        """How many calls of its stop the driver refuses first."""
        self.longest_gap_s = 0.0
        """Between two joint states; longer than their period where the machine stood still."""
        self._last_joints_s = math.inf
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
        self.clock = node.create_publisher(Clock, qos.CLOCK, qos.profile(qos.CLOCK)) if clock else None
        node.create_service(Trigger, qos.DRIVER_STOP, self._stop_driver)
        node.create_service(Trigger, qos.DRIVER_RESUME, self._resume_driver)
        node.create_service(RequestReplan, qos.REQUEST_REPLAN, self._replan)
        node.create_timer(0.01, self._joints)
        node.create_timer(0.2, self._policy)
        node.create_timer(0.05, self._monitor)

    @property
    def ros_s(self) -> float:
        if self.frozen_s is not None:
            return self.frozen_s
        return float(self.node.get_clock().now().nanoseconds) * 1e-9 + self.clock_offset_s

    def _stop_driver(self, _request: Any, response: Any) -> Any:
        self.driver_stops += 1
        response.success = self.driver_stops > self.refused_stops
        return response

    def _resume_driver(self, _request: Any, response: Any) -> Any:
        self.driver_resumes += 1
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
        if self.arm_follows:
            self.measured = self.measured + (q - self.measured) / LAG_S * 0.01
        if self.clock is not None and self.clock_on:
            self.clock.publish(clock_message(self.ros_s))
        now_s = time.monotonic()
        self.longest_gap_s = max(self.longest_gap_s, now_s - self._last_joints_s)
        self._last_joints_s = now_s
        if self.joints_on:
            self.joint_publisher.publish(robot_state_to_message(self.robot_state(), ARM.joint_names, FINGERS))

    def robot_state(self) -> RobotState:
        q, _ = self.controller.at(time.monotonic())
        velocity = (q - self.measured) / LAG_S if self.arm_follows else np.zeros(7)
        return RobotState(self.ros_s, self.measured, velocity, self.effort, 0.08)

    def plan(self) -> PolicyOutput:
        self.sequence += 1
        # Where the arm does not follow, a policy that trusts its own model goes on from where it should be.
        position = self.measured if self.arm_follows else self.controller.at(time.monotonic())[0]
        return plan_from(self.ros_s, position, self.sequence)

    def _policy(self) -> None:
        if self.policy_on:
            self.policy_publisher.publish(self.change_plan(self.plan()))

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

    def resolve(self, resolution: int) -> Any:
        request = ResolveAssistance.Request(resolution=resolution, person="test")
        return self.graph.call(qos.RESOLVE_ASSISTANCE, ResolveAssistance, request)

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

DEFAULTS: dict[str, Any] = {}
"""The deadlines of the settings themselves."""


def clock_message(stamp_s: float) -> Clock:
    """A tick of ``/clock``."""
    return Clock(clock=stamp_to_message(stamp_s))


@contextmanager
def surroundings(
    tmp_path: Path,
    domain_id: int,
    *,
    module: str | None = None,
    deadlines: dict[str, Any] = PATIENT,
    **parameters: Any,
) -> Iterator[Surroundings]:
    """The gate node as a process in its surroundings, not yet active; ``module`` has another ``main``."""
    environment = {
        "ROS_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parents[1] / "faults"), os.environ.get("PYTHONPATH", "")]
        ),
    }
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with Graph(domain_id=domain_id, log_dir=tmp_path / "logs", environment=environment) as graph:
        around = Surroundings(graph, clock=parameters.get("use_sim_time", False))
        around.parameters = {**deadlines, **parameters}
        graph.start("intervention", around.parameters, module=module)
        graph.spin_until(lambda: around.states.count > 0, START_S, "the gate's state")
        yield around
