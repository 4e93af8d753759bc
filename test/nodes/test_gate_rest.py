"""What brings joint states stays until the gate has come to rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from rclpy.executors import SingleThreadedExecutor

from salus_msgs.msg import InterventionState
from salus_ros.nodes import gate_rest, qos
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
