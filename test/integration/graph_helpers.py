"""What the integration tests say often."""

from __future__ import annotations

import math
from typing import Any

from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from salus_msgs.msg import InterventionState, PolicyOutput
from salus_msgs.srv import ResetSimulation
from salus_ros.nodes import qos
from salus_ros.nodes.driver_messages import stamp_from_message
from salus_ros.nodes.graph import Graph

START_S = 60.0
"""Time for processes to start on a loaded machine."""
REACT_S = 10.0


def stamps(messages: Any) -> list[float]:
    return [stamp_from_message(message.header.stamp) for message in messages]


def start_simulator(graph: Graph, **parameters: Any) -> Any:
    """Start the simulator and return what is heard of the joints."""
    joints = graph.listen(qos.JOINT_STATES, JointState)
    graph.start("sim", {"sim.time_limit_s": 600.0, **parameters})
    graph.spin_until(lambda: joints.count > 10, START_S, "joint states")
    return joints


def start_policy(graph: Graph, **parameters: Any) -> Any:
    """Start the policy whose path is known, active, and return what is heard of it."""
    outputs = graph.listen(qos.POLICY_OUTPUT, PolicyOutput)
    graph.start("policy", {"policy": "wave", "use_sim_time": True, **parameters})
    graph.bring_up("policy_node", timeout_s=START_S)
    return outputs


def trigger(graph: Graph, service: str) -> Any:
    return graph.call(service, Trigger, Trigger.Request())


def reset_simulation(graph: Graph, seed: int, disturbance: str = "") -> Any:
    return graph.call(
        qos.SIM_RESET, ResetSimulation, ResetSimulation.Request(seed=seed, disturbance=disturbance)
    )


def speed(message: JointState) -> float:
    """Largest arm joint speed [rad/s]."""
    return max(abs(value) for value in message.velocity[:7] if math.isfinite(value))


def mode_is(states: Any, *modes: int) -> bool:
    newest: InterventionState | None = states.newest
    return newest is not None and newest.mode in modes
