"""What each node publishes, subscribes to, offers and asks: the least that it needs on a graph.

A test compares it with the running nodes; the documents and the security policy are written from it
(:mod:`salus_ros.nodes.reference`).
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from salus_ros.nodes import qos


@dataclass(frozen=True, slots=True)
class NodeInterface:
    """One node. Names are the default ones, before any remapping."""

    summary: str
    settings: str
    """Name of its settings' class in its module."""
    lifecycle: bool = False
    publishes: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    """Actions that it sends goals to."""
    foreign: str = ""
    """A package of messages that it needs and that no wheel brings."""
    changeable: str = ""
    """Name in its module of the parameters that may change at run time, or the names themselves."""

    @property
    def all_publishes(self) -> frozenset[str]:
        """With what every node publishes."""
        return frozenset({*self.publishes, qos.DIAGNOSTICS})


_PATH: Final = (qos.JOINT_STATES, qos.POLICY_OUTPUT, qos.FAILURE_PREDICTION, qos.INTERVENTION_STATE)
_DRIVER: Final = (qos.DRIVER_STOP, qos.DRIVER_RESUME)
_RECORDED: Final = tuple(topic for topic in qos.TABLE if topic not in (qos.CLOCK, qos.MARKERS))

NODES: Final[dict[str, NodeInterface]] = {
    "policy_node": NodeInterface(
        "what to do, and how sure: a joint trajectory with its uncertainty",
        "PolicyNodeSettings",
        lifecycle=True,
        publishes=(qos.POLICY_OUTPUT,),
        subscribes=(qos.FRONT_IMAGE, qos.WRIST_IMAGE, qos.JOINT_STATES, qos.INSTRUCTION),
        serves=(qos.REQUEST_REPLAN,),
        changeable="seed",
    ),
    "monitor_node": NodeInterface(
        "how likely a collision, a drop or a miss is, and how soon",
        "MonitorNodeSettings",
        lifecycle=True,
        publishes=(qos.FAILURE_PREDICTION,),
        subscribes=(
            *(qos.JOINT_STATES, qos.POLICY_OUTPUT, qos.FRONT_POINTS),
            *(qos.INTERVENTION_STATE, qos.INSTRUCTION),
        ),
    ),
    "intervention_node": NodeInterface(
        "the gate: follows, slows, stops; the only node that commands the arm",
        "InterventionNodeSettings",
        lifecycle=True,
        publishes=(qos.ARM_COMMAND, qos.GRIPPER_COMMAND, qos.INTERVENTION_STATE),
        subscribes=(
            *(qos.JOINT_STATES, qos.POLICY_OUTPUT, qos.FAILURE_PREDICTION),
            qos.EMERGENCY_STOP_BUTTON,
            # Not to read them: a second writer is noticed by its match.
            *(qos.ARM_COMMAND, qos.GRIPPER_COMMAND),
        ),
        serves=(qos.EMERGENCY_STOP, qos.RESET, qos.RESOLVE_ASSISTANCE),
        calls=(*_DRIVER, qos.REQUEST_REPLAN),
        changeable="CHANGEABLE",
    ),
    "deadman_node": NodeInterface(
        "calls the driver's stop when the gate falls silent",
        "DeadmanSettings",
        subscribes=(qos.INTERVENTION_STATE,),
        calls=(qos.DRIVER_STOP,),
    ),
    "console_node": NodeInterface(
        "shows the graph on a web page and carries a person's word to the gate",
        "ConsoleNodeSettings",
        subscribes=(
            *_PATH,
            *(qos.INSTRUCTION, qos.EPISODE_EVENT, qos.DIAGNOSTICS),
            *(qos.FRONT_IMAGE, qos.WRIST_IMAGE, qos.FRONT_INFO),
        ),
        calls=(qos.EMERGENCY_STOP, qos.RESET, qos.RESOLVE_ASSISTANCE, qos.DRIVER_STOP),
    ),
    "markers_node": NodeInterface(
        "the path coloured by risk, and the mode, for RViz and Foxglove",
        "MarkersSettings",
        publishes=(qos.MARKERS,),
        subscribes=_PATH,
    ),
    "recorder_node": NodeInterface(
        "records a bag (rosbag2, MCAP)",
        "RecorderNodeSettings",
        subscribes=(*_RECORDED, qos.CLOCK),
    ),
    "sim_node": NodeInterface(
        "the MuJoCo simulator, which speaks as an arm's drivers do",
        "SimNodeSettings",
        publishes=(
            *(qos.CLOCK, qos.JOINT_STATES, qos.FRONT_IMAGE, qos.WRIST_IMAGE, qos.FRONT_INFO, qos.WRIST_INFO),
            *(qos.FRONT_POINTS, qos.EPISODE_EVENT, qos.INSTRUCTION),
        ),
        subscribes=(qos.ARM_COMMAND, qos.GRIPPER_COMMAND, qos.INTERVENTION_STATE),
        serves=(qos.SIM_RESET, *_DRIVER),
    ),
    "controller_stop_node": NodeInterface(
        "offers a driver's stop for any arm under ros2_control",
        "ControllerStopSettings",
        subscribes=(qos.INTERVENTION_STATE,),
        serves=_DRIVER,
        calls=("controller_manager/switch_controller", "controller_manager/list_controllers"),
        foreign="controller_manager_msgs",
    ),
    "gripper_node": NodeInterface(
        "a gripper that is an action, as finger joints",
        "GripperSettings",
        publishes=(qos.JOINT_STATES,),
        subscribes=(
            *("arm/joint_states", "gripper/joint_states"),
            *(qos.GRIPPER_COMMAND, qos.INTERVENTION_STATE),
        ),
        actions=("franka_gripper/gripper_action",),
        foreign="control_msgs",
    ),
    "gazebo_events_node": NodeInterface(
        "ground truth from Gazebo's contacts and poses",
        "GazeboEventsSettings",
        publishes=(qos.EPISODE_EVENT, qos.INSTRUCTION),
        subscribes=(
            *(qos.JOINT_STATES, qos.ARM_COMMAND, qos.GRIPPER_COMMAND),
            *("gazebo/poses", "gazebo/contacts"),
        ),
        foreign="ros_gz_interfaces",
    ),
    "gazebo_points_node": NodeInterface(
        "Gazebo's depth image as points",
        "GazeboPointsSettings",
        publishes=(qos.FRONT_POINTS,),
        subscribes=("gazebo/front/depth",),
    ),
}

SERVICES: Final[dict[str, tuple[str, str]]] = {
    qos.EMERGENCY_STOP: ("std_srvs/srv/Trigger", "stops the arm and latches, until a reset"),
    qos.RESET: ("std_srvs/srv/Trigger", "a person leaves the emergency stop, when its cause is gone"),
    qos.RESOLVE_ASSISTANCE: ("salus_msgs/srv/ResolveAssistance", "a person answers: resume, retry or abort"),
    qos.REQUEST_REPLAN: (
        "salus_msgs/srv/RequestReplan",
        "forget the past and sample afresh; commit to one sample, or first raise the tool, when asked",
    ),
    qos.SIM_RESET: ("salus_msgs/srv/ResetSimulation", "a new episode: seed, task, disturbance"),
    qos.DRIVER_STOP: ("std_srvs/srv/Trigger", "follow no command from now on"),
    qos.DRIVER_RESUME: ("std_srvs/srv/Trigger", "follow commands again"),
}
"""Type and meaning of each service of SALUS."""


def settings_of(node: str) -> type[BaseModel]:
    """The class that a node's parameters are declared from."""
    module = importlib.import_module(f"salus_ros.nodes.{node}")
    found: type[BaseModel] = getattr(module, NODES[node].settings)
    return found


def changeable_of(node: str) -> Collection[str]:
    """Names of the parameters that may change while the node runs."""
    given = NODES[node].changeable
    module: Any = importlib.import_module(f"salus_ros.nodes.{node}")
    return getattr(module, given, (given,)) if given else ()


def who(topic_or_service: str, role: str) -> str:
    """Nodes in a role (``publishes``, ``subscribes``, ``serves``, ``calls``), joined by commas."""
    return ", ".join(
        name.removesuffix("_node") for name, node in NODES.items() if topic_or_service in getattr(node, role)
    )
