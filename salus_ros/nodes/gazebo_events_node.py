"""Ground truth where Gazebo simulates: its contacts and poses become episode events."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import numpy as np
from geometry_msgs.msg import TransformStamped  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from salus_msgs.msg import EpisodeEvent as EpisodeEventMessage
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.conversions import episode_event_to_message
from salus_ros.nodes.driver_messages import gripper_from_message, stamp_from_message
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.sim.gazebo import DEFAULT_SEED, Moment, Touch, Watch, scene
from salus_ros.sim.simulation import LARGEST_OPENING_M, SimSettings
from salus_ros.sim.world import CUBES
from salus_ros.types import Floats, RobotState

POSES: Final = "gazebo/poses"
CONTACTS: Final = "gazebo/contacts"
CONTACTS_TYPE: Final = "ros_gz_interfaces/msg/Contacts"

_PERIOD_S: Final = 0.01
_STEPS_KEPT: Final = 4
"""Gazebo reports contacts at each physics step, four in 10 ms; older ones say nothing new."""

_REPORTERS: Final = 6


class GazeboEventsSettings(BaseModel):
    """Which scene was launched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(DEFAULT_SEED, ge=0, description="Seed of the scene that Gazebo shows.")
    task: str = Field("bin", description="Task of the scene.")
    time_limit_s: float = Field(
        60.0, gt=0, description="Simulated time from the arm's first command until the episode has timed out."
    )
    contact_max_age_s: float = Field(
        0.015, gt=0, description="A contact that was last reported longer ago has ended [s]."
    )
    robot: RobotSettings = RobotSettings()


class GazeboEventsNode(GuardedNode):
    """Judges by the rules of the MuJoCo simulation.

    The episode starts with the arm's first command and ends once; another one is another launch.
    """

    def __init__(self, name: str = "gazebo_events_node", **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self._settings = settings = declare(self, GazeboEventsSettings)
        self._robot = Robot.load(settings.robot)
        sim = SimSettings(time_limit_s=settings.time_limit_s)
        drawn = scene(settings.seed, settings.task, sim)
        self._watch = Watch(drawn, self._robot.arm, sim)
        self._origin_s: float | None = None
        """ROS time of the arm's first command."""
        self._state: RobotState | None = None
        self._cubes: dict[int, Floats] = {}
        self._touches: dict[tuple[str, str], tuple[float, float]] = {}
        """A pair of shapes to the time of its last report and its force."""
        self._command_m = LARGEST_OPENING_M
        self._counts: Counter[str] = Counter()
        self._events = self.create_publisher(
            EpisodeEventMessage, qos.EPISODE_EVENT, qos.profile(qos.EPISODE_EVENT)
        )
        self._instruction = self.create_publisher(String, qos.INSTRUCTION, qos.profile(qos.INSTRUCTION))
        self._instruction.publish(String(data=drawn.instruction))
        newest = QoSProfile(depth=_REPORTERS * _STEPS_KEPT)
        for kind, topic, callback, profile in (
            (JointState, qos.JOINT_STATES, self._take_state, qos.profile(qos.JOINT_STATES)),
            (JointTrajectory, qos.ARM_COMMAND, self._take_command, qos.profile(qos.ARM_COMMAND)),
            (JointTrajectory, qos.GRIPPER_COMMAND, self._take_grip, qos.profile(qos.GRIPPER_COMMAND)),
            (TransformStamped, POSES, self._take_pose, newest),
            (qos.message_class(CONTACTS_TYPE), CONTACTS, self._take_contacts, newest),
        ):
            self.create_polled_subscription(kind, topic, self.guard(callback), profile)
        self.create_steady_timer(_PERIOD_S, self._look)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    def _take_state(self, message: JointState) -> None:
        self._state = self._robot.state(message)

    def _take_command(self, message: JointTrajectory) -> None:
        self._counts["arm commands"] += 1

    def _take_grip(self, message: JointTrajectory) -> None:
        self._command_m = gripper_from_message(message, self._robot.finger_joints)

    def _take_pose(self, message: TransformStamped) -> None:
        number = message.child_frame_id.removeprefix("cube_")
        if number.isdecimal() and int(number) < CUBES:
            self._cubes[int(number)] = pose_from_transform(message)

    def _take_contacts(self, message: Any) -> None:
        stamp_s = stamp_from_message(message.header.stamp)
        for contact in message.contacts:
            pair = (contact.collision1.name, contact.collision2.name)
            self._touches[pair] = (stamp_s, normal_force_n(contact))

    def _look(self) -> None:
        self.poll()
        if self._state is None or len(self._cubes) < CUBES or not self._counts["arm commands"]:
            return
        now_s = self._state.stamp_s
        if self._origin_s is None:
            self._origin_s = now_s
        oldest_s = now_s - self._settings.contact_max_age_s
        self._touches = {pair: seen for pair, seen in self._touches.items() if seen[0] >= oldest_s}
        moment = Moment(
            time_s=now_s - self._origin_s,
            robot=self._state,
            cube_pose=np.array([self._cubes[i] for i in range(CUBES)]),
            touches=tuple(Touch(*pair, force_n) for pair, (_, force_n) in self._touches.items()),
            gripper_command_m=self._command_m,
        )
        for event in self._watch.update(moment):
            self._counts["events"] += 1
            shifted = replace(event, stamp_s=event.stamp_s + self._origin_s)
            self._events.publish(episode_event_to_message(shifted))

    def _health(self) -> diagnostics.Health:
        missing = [f"cube_{i}" for i in range(CUBES) if i not in self._cubes]
        missing += ["joint states"] if self._state is None else []
        values = {**self._counts, "outcome": self._watch.outcome}
        if missing:
            return diagnostics.Health(diagnostics.WARN, f"nothing heard of {', '.join(missing)}", values)
        return diagnostics.Health(diagnostics.OK, "watching", values)


def pose_from_transform(message: TransformStamped) -> Floats:
    """(4, 4)"""
    q, t = message.transform.rotation, message.transform.translation
    x, y, z, w = np.array([q.x, q.y, q.z, q.w]) / np.linalg.norm([q.x, q.y, q.z, q.w])
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), t.x],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), t.y],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), t.z],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def normal_force_n(contact: Any) -> float:
    """Of all points of a contact; 0 where the physics engine reports no forces."""
    total = 0.0
    for normal, wrench in zip(contact.normals, contact.wrenches, strict=False):
        force = wrench.body_1_wrench.force
        total += abs(force.x * normal.x + force.y * normal.y + force.z * normal.z)
    return total


def main() -> int:
    """Entry point of ``ros2 run salus_ros gazebo_events_node``."""
    return run_node(GazeboEventsNode)


if __name__ == "__main__":
    sys.exit(main())
