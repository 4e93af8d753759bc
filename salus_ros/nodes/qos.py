"""The names of the graph and the quality of service of each topic.

Relative names, so that a namespace or a remapping moves them. ``/clock`` and the diagnostics keep the
names that ROS gives them. The table in ``docs/topics.md`` is compared with this one by a test.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from rclpy.duration import Duration
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)

from salus_ros.errors import SalusError

CLOCK: Final = "/clock"
DIAGNOSTICS: Final = "/diagnostics"
JOINT_STATES: Final = "joint_states"
FRONT_IMAGE: Final = "camera/front/image_raw"
WRIST_IMAGE: Final = "camera/wrist/image_raw"
FRONT_INFO: Final = "camera/front/camera_info"
WRIST_INFO: Final = "camera/wrist/camera_info"
FRONT_POINTS: Final = "camera/front/points"
INSTRUCTION: Final = "salus/instruction"
POLICY_OUTPUT: Final = "salus/policy_output"
FAILURE_PREDICTION: Final = "salus/failure_prediction"
INTERVENTION_STATE: Final = "salus/intervention_state"
EPISODE_EVENT: Final = "salus/episode_event"
MARKERS: Final = "salus/markers"
EMERGENCY_STOP_BUTTON: Final = "salus/emergency_stop_button"
ARM_COMMAND: Final = "arm_controller/joint_trajectory"
GRIPPER_COMMAND: Final = "gripper_controller/joint_trajectory"

EMERGENCY_STOP: Final = "salus/emergency_stop"
RESET: Final = "salus/reset"
REQUEST_REPLAN: Final = "salus/request_replan"
RESOLVE_ASSISTANCE: Final = "salus/resolve_assistance"
SIM_RESET: Final = "sim/reset"
DRIVER_STOP: Final = "driver/stop"
DRIVER_RESUME: Final = "driver/resume"
"""What a real arm's driver offers: stop following commands at once, and take commands again."""


@dataclass(frozen=True, slots=True)
class TopicQos:
    """How a topic is carried, and why so."""

    message: str
    """Its type, such as ``sensor_msgs/msg/Image``."""
    depth: int
    reliable: bool = True
    latched: bool = False
    """Transient local: a late joiner gets the newest one."""
    deadline_s: float | None = None
    """A publisher or subscriber that sees a longer gap gets an event."""
    lease_s: float | None = None
    """A publisher that is silent or dead for so long loses its liveliness."""
    why: str = ""

    def profile(self) -> QoSProfile:
        """The same in rclpy's terms; the publisher and the subscriber of a topic both use it."""
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self.depth,
            reliability=ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.latched else DurabilityPolicy.VOLATILE,
        )
        if self.deadline_s is not None:
            profile.deadline = Duration(seconds=self.deadline_s)
        if self.lease_s is not None:
            profile.liveliness = LivelinessPolicy.AUTOMATIC
            profile.liveliness_lease_duration = Duration(seconds=self.lease_s)
        return profile


# A subscriber that asks for a deadline or a lease hears nothing from a publisher that offers none, so both
# stand only where SALUS owns the publisher. What hardware publishes is watched by the gate's own watchdogs.
TABLE: Final[dict[str, TopicQos]] = {
    CLOCK: TopicQos(
        "rosgraph_msgs/msg/Clock", depth=10, reliable=False, why="a lost tick is replaced by the next"
    ),
    DIAGNOSTICS: TopicQos(
        "diagnostic_msgs/msg/DiagnosticArray", depth=10, why="for people; never part of the stop path"
    ),
    JOINT_STATES: TopicQos(
        "sensor_msgs/msg/JointState",
        depth=10,
        why="reliable, since few drivers offer less; the gate's own watchdog notices silence",
    ),
    FRONT_IMAGE: TopicQos(
        "sensor_msgs/msg/Image",
        depth=2,
        reliable=False,
        why="the newest image counts; a lost one is not sent again",
    ),
    WRIST_IMAGE: TopicQos("sensor_msgs/msg/Image", depth=2, reliable=False, why="as the front image"),
    FRONT_INFO: TopicQos("sensor_msgs/msg/CameraInfo", depth=2, reliable=False, why="goes with its image"),
    WRIST_INFO: TopicQos("sensor_msgs/msg/CameraInfo", depth=2, reliable=False, why="goes with its image"),
    FRONT_POINTS: TopicQos(
        "sensor_msgs/msg/PointCloud2", depth=2, reliable=False, why="the newest cloud counts"
    ),
    INSTRUCTION: TopicQos(
        "std_msgs/msg/String", depth=1, latched=True, why="a policy that starts later must hear it"
    ),
    POLICY_OUTPUT: TopicQos(
        "salus_msgs/msg/PolicyOutput", depth=5, deadline_s=0.3, lease_s=0.5, why="silence stops the arm"
    ),
    FAILURE_PREDICTION: TopicQos(
        "salus_msgs/msg/FailurePrediction",
        depth=5,
        deadline_s=0.15,
        lease_s=0.5,
        why="silence slows, then stops the arm",
    ),
    INTERVENTION_STATE: TopicQos(
        "salus_msgs/msg/InterventionState",
        depth=1,
        latched=True,
        why="a console that joins later must see the mode",
    ),
    EPISODE_EVENT: TopicQos(
        "salus_msgs/msg/EpisodeEvent", depth=100, latched=True, why="ground truth; none may be lost"
    ),
    MARKERS: TopicQos(
        "visualization_msgs/msg/MarkerArray", depth=1, why="for people; each set replaces the one before"
    ),
    EMERGENCY_STOP_BUTTON: TopicQos(
        "std_msgs/msg/Bool", depth=10, why="a level with a heartbeat; the gate's watchdog notices silence"
    ),
    ARM_COMMAND: TopicQos(
        "trajectory_msgs/msg/JointTrajectory", depth=10, why="the newest command replaces the one before"
    ),
    GRIPPER_COMMAND: TopicQos(
        "trajectory_msgs/msg/JointTrajectory", depth=10, why="the newest command replaces the one before"
    ),
}


def profile(topic: str, *, depth: int = 0) -> QoSProfile:
    """The profile of a topic by its default name, with a deeper queue where a subscriber reads seldom."""
    row = TABLE[topic]
    return replace(row, depth=max(row.depth, depth)).profile()


def describe(row: TopicQos) -> str:
    """The profile in words, as it stands in ``docs/topics.md``."""
    words = ["reliable" if row.reliable else "best effort", f"depth {row.depth}"]
    if row.latched:
        words.append("transient local")
    if row.deadline_s is not None:
        words.append(f"deadline {row.deadline_s:g} s")
    if row.lease_s is not None:
        words.append(f"liveliness lease {row.lease_s:g} s")
    return ", ".join(words)


def listening_profile(topic: str, depth: int = 100) -> QoSProfile:
    """For a bystander: asks for neither deadline nor liveliness, so that every publisher matches it."""
    row = TABLE[topic]
    return replace(row, depth=max(row.depth, depth), deadline_s=None, lease_s=None).profile()


def message_class(name: str) -> type[Any]:
    """The class of a message by its name, such as ``sensor_msgs/msg/Image``."""
    package, _, kind = name.rpartition("/")
    try:
        return cast("type[Any]", getattr(importlib.import_module(package.replace("/", ".")), kind))
    except (ImportError, AttributeError) as error:
        raise SalusError(
            f"No message type {name} is installed; give a name such as sensor_msgs/msg/Image."
        ) from error
