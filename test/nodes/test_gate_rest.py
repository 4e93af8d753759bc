"""What brings joint states, watches the gate or stops the driver stays until the gate has come to rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from salus_msgs.msg import InterventionState
from salus_ros.nodes import gate_rest, qos
from salus_ros.nodes.controller_stop_node import ControllerStopNode
from salus_ros.nodes.deadman_node import DeadmanNode
from salus_ros.nodes.gate_rest import GateRest
from salus_ros.nodes.gripper_node import GripperNode
from salus_ros.nodes.lifecycle import GuardedNode

PATIENCE_S = 10.0


class Gate:
    """Says a mode, and serves the callbacks of who listens."""

    def __init__(self, node: Any, listener: Any) -> None:
        self._publisher = node.create_publisher(
            InterventionState, qos.INTERVENTION_STATE, qos.profile(qos.INTERVENTION_STATE)
        )
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(listener)

    def says(self, mode: int, reached: Callable[[], bool]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not reached() and time.monotonic() < end_s:
            self._publisher.publish(InterventionState(mode=mode))
            self._executor.spin_once(timeout_sec=0.02)
        assert reached(), f"mode {mode} changed nothing"

    def falls_silent(self, reached: Callable[[], bool], *others: Any) -> None:
        for other in others:
            self._executor.add_node(other)
        end_s = time.monotonic() + PATIENCE_S
        while not reached() and time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=0.02)
        assert reached(), "its silence changed nothing"


def test_an_arm_without_a_gate_is_at_rest(make_node: Callable[..., Any]) -> None:
    assert GateRest(make_node(node_class=GuardedNode)).given


def test_a_gate_that_says_that_it_is_inactive_has_come_to_rest(make_node: Callable[..., Any]) -> None:
    node = make_node(node_class=GuardedNode)
    rest, gate = GateRest(node), Gate(make_node(), node)
    for mode in (InterventionState.NOMINAL, InterventionState.EMERGENCY_STOP):
        gate.says(mode, lambda: not rest.given)
        gate.says(InterventionState.INACTIVE, lambda: rest.given)


def test_a_gate_that_falls_silent_is_not_waited_for(
    make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(node_class=GuardedNode)
    rest = GateRest(node)
    Gate(make_node(), node).says(InterventionState.NOMINAL, lambda: not rest.given)
    now_s = time.monotonic()
    monkeypatch.setattr(gate_rest.time, "monotonic", lambda: now_s + gate_rest.SILENCE_S + 0.01)
    assert rest.given


def test_a_gripper_that_adds_to_the_joint_states_stays(make_node: Callable[..., Any]) -> None:
    pytest.importorskip("control_msgs.action", reason="control_msgs is not installed")
    node = make_node(node_class=GripperNode)
    assert node.stopped
    gate = Gate(make_node(), node)
    gate.says(InterventionState.HOLD, lambda: not node.stopped)
    gate.says(InterventionState.INACTIVE, lambda: node.stopped)


def test_a_deadman_stays_until_the_gate_says_that_it_rests(make_node: Callable[..., Any]) -> None:
    node = make_node(node_class=DeadmanNode)
    assert node.stopped, "there is no gate to watch"
    gate = Gate(make_node(), node)
    gate.says(InterventionState.NOMINAL, lambda: not node.stopped)
    gate.says(InterventionState.INACTIVE, lambda: node.stopped)


@pytest.mark.parametrize("driver", [True, False], ids=["with", "without"])
def test_a_deadman_whose_gate_falls_silent_stays_until_the_driver_has_answered(
    make_node: Callable[..., Any], driver: bool
) -> None:
    node, other = make_node("timeout_s:=0.3", node_class=DeadmanNode), make_node()
    stops: list[bool] = []

    def stop(_request: Any, response: Any) -> Any:
        stops.append(node.stopped)
        return response

    if driver:
        other.create_service(Trigger, qos.DRIVER_STOP, stop)
    gate = Gate(other, node)
    gate.says(InterventionState.NOMINAL, lambda: not node.stopped)
    gate.falls_silent(lambda: node.stopped, other)
    assert stops[:1] == ([False] if driver else []), "it would have gone before the driver's answer"


def test_a_deadman_bears_the_gates_longest_stop_and_its_own_patience(make_node: Callable[..., Any]) -> None:
    node = make_node("timeout_s:=2.0", node_class=DeadmanNode)
    assert node.stay_s > gate_rest.REST_TIMEOUT_S + 2.0


def test_who_stops_the_controllers_is_the_last_to_go(make_node: Callable[..., Any]) -> None:
    pytest.importorskip("controller_manager_msgs.srv", reason="controller_manager_msgs is not installed")
    node, other = make_node(node_class=ControllerStopNode), make_node()
    assert node.stopped, "there is no gate that could need it"
    watching = other.create_client(Trigger, qos.DRIVER_STOP)
    assert watching.wait_for_service(timeout_sec=PATIENCE_S)
    gate = Gate(other, node)
    gate.says(InterventionState.NOMINAL, lambda: not node.stopped)
    gate.says(InterventionState.INACTIVE, lambda: node.stopped)
    gate.says(InterventionState.EMERGENCY_STOP, lambda: not node.stopped)
    other.destroy_client(watching)
    gate.falls_silent(lambda: node.stopped)
