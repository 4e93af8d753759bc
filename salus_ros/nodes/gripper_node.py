"""A gripper that is an action with joint states of its own, as the finger joints that the other nodes know.

Commands: the gate's newest opening becomes a goal of a gripper action of ``control_msgs``. Measurements: the
arm's joint states go on with the fingers added, at the arm's own stamps, so that a silent arm stays silent.
"""

from __future__ import annotations

import array
import importlib
import math
import sys
from collections import Counter
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from salus_ros.errors import SalusError
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.driver_messages import gripper_from_message, joint_order, stamp_from_message
from salus_ros.nodes.gate_rest import GateRest
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.parameters import declare

ARM_STATES: Final = "arm/joint_states"
GRIPPER_STATES: Final = "gripper/joint_states"


class GripperSettings(BaseModel):
    """The gripper's action, its joints, and how their positions go with the opening."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: str = Field("franka_gripper/gripper_action", description="Name of the gripper's action.")
    action_type: Literal["GripperCommand", "ParallelGripperCommand"] = Field(
        "GripperCommand", description="Its type in control_msgs."
    )
    goal_joints: tuple[str, ...] = Field(
        ("gripper",), min_length=1, description="Joints of a ParallelGripperCommand; each gets the position."
    )
    finger_joints: tuple[str, ...] = Field(
        ("fr3_finger_joint1", "fr3_finger_joint2"),
        min_length=1,
        description="Joints of the gate's commands and of the joint states; their positions add up to the "
        "opening [m].",
    )
    opening_max_m: float = Field(0.08, gt=0, description="Widest opening [m].")
    goal_closed: float = Field(0.0, description="Position of a goal that closes, in the action's own unit.")
    goal_open: float = Field(0.04, description="Position of a goal that opens, in the action's own unit.")
    effort: float = Field(20.0, gt=0, description="Largest effort of a goal, in the action's own unit.")
    change_m: float = Field(0.002, gt=0, description="A smaller change of the opening is no new goal [m].")
    measured_joints: tuple[str, ...] = Field(
        ("fr3_finger_joint1", "fr3_finger_joint2"),
        min_length=1,
        description="Joints in gripper/joint_states whose positions are added up.",
    )
    measured_closed: float = Field(0.0, description="That sum when closed, in the joints' own unit.")
    measured_open: float = Field(0.08, description="That sum when open, in the joints' own unit.")
    measured_max_age_s: float = Field(
        0.5, gt=0, description="An older measurement is none: the opening becomes nan [s]."
    )
    period_s: float = Field(0.01, gt=0, description="Time between two joint states that go on [s].")

    @model_validator(mode="after")
    def _distinct(self) -> GripperSettings:
        for what in ("goal", "measured"):
            if getattr(self, f"{what}_closed") == getattr(self, f"{what}_open"):
                raise ValueError(
                    f"{what}_closed and {what}_open are the same: give the position of each end of the stroke"
                )
        return self

    def goal(self, opening_m: float) -> float:
        """Position of a goal for an opening, which is kept within the stroke."""
        share = min(max(opening_m / self.opening_max_m, 0.0), 1.0)
        return self.goal_closed + share * (self.goal_open - self.goal_closed)

    def opening_m(self, measured: float) -> float:
        """Opening for the measured sum of positions."""
        share = (measured - self.measured_closed) / (self.measured_open - self.measured_closed)
        return share * self.opening_max_m


class GripperNode(GuardedNode):
    """At most one goal runs; a new opening cancels it, and the newest one follows."""

    def __init__(self, name: str = "gripper_node", **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self._settings = declare(self, GripperSettings)
        self._action = _action_type(self._settings.action_type)
        self._client = ActionClient(self, self._action, self._settings.action)
        self._wanted_m: float | None = None
        self._sent_m: float | None = None
        self._busy = self._cancelling = False
        self._handle: Any = None
        self._arm: JointState | None = None
        self._opening_m, self._measured_s = math.nan, -math.inf
        self._counts: Counter[str] = Counter()
        self._states = self.create_publisher(JointState, qos.JOINT_STATES, qos.profile(qos.JOINT_STATES))
        self.create_subscription(
            JointTrajectory, qos.GRIPPER_COMMAND, self.guard(self._command), qos.profile(qos.GRIPPER_COMMAND)
        )
        for topic, callback in ((ARM_STATES, self._take_arm), (GRIPPER_STATES, self._take_gripper)):
            self.create_polled_subscription(
                JointState, topic, self.guard(callback), qos.profile(qos.JOINT_STATES)
            )
        self._gate_rest = GateRest(self)
        self.create_steady_timer(self._settings.period_s, self._pass_on)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    # Measurements

    def _take_arm(self, message: JointState) -> None:
        self._arm = message

    def _take_gripper(self, message: JointState) -> None:
        order = joint_order(message.name, self._settings.measured_joints, extra_allowed=True)
        self._opening_m = self._settings.opening_m(sum(message.position[index] for index in order))
        self._measured_s = stamp_from_message(message.header.stamp)

    def _pass_on(self) -> None:
        self.poll()
        if self._arm is None:
            return
        message, self._arm = self._arm, None
        age_s = stamp_from_message(message.header.stamp) - self._measured_s
        opening_m = self._opening_m if age_s <= self._settings.measured_max_age_s else math.nan
        self._states.publish(with_fingers(message, self._settings.finger_joints, opening_m))
        self._counts["joint states"] += 1

    # Commands

    def _command(self, message: JointTrajectory) -> None:
        self._wanted_m = gripper_from_message(message, self._settings.finger_joints)
        self._advance()

    def _advance(self) -> None:
        wanted_m, sent_m = self._wanted_m, self._sent_m
        if wanted_m is None or (sent_m is not None and abs(wanted_m - sent_m) < self._settings.change_m):
            return
        if self._busy:
            if self._handle is not None and not self._cancelling:
                self._cancelling = True
                self._handle.cancel_goal_async()
            return
        if not self._client.server_is_ready():
            self.log_throttled(
                f"the action {self._settings.action} is not there", key="action", level="error"
            )
            return
        goal = self._goal(wanted_m)
        self._busy, self._sent_m = True, wanted_m
        self._counts["goals"] += 1
        self._client.send_goal_async(goal).add_done_callback(self.guard(self._answered))

    def _goal(self, opening_m: float) -> Any:
        settings, goal = self._settings, self._action.Goal()
        position = settings.goal(opening_m)
        if settings.action_type == "ParallelGripperCommand":
            goal.command.name = list(settings.goal_joints)
            goal.command.position = [position] * len(settings.goal_joints)
            goal.command.effort = [settings.effort] * len(settings.goal_joints)
        else:
            goal.command.position, goal.command.max_effort = position, settings.effort
        return goal

    def _answered(self, future: Any) -> None:
        handle = future.result()
        if not handle.accepted:
            self._counts["goals refused"] += 1
            self.log_throttled("the gripper refused a goal", key="refused", level="error")
            self._finish()
            return
        self._handle = handle
        handle.get_result_async().add_done_callback(self.guard(lambda _future: self._finish()))
        self._advance()

    def _finish(self) -> None:
        self._busy = self._cancelling = False
        self._handle = None
        self._advance()

    @property
    def stopped(self) -> bool:
        """Joint states go on until the gate has brought the arm to rest."""
        return self._gate_rest.given

    def _health(self) -> diagnostics.Health:
        values = {**self._counts, "opening [m]": self._opening_m}
        if not self._client.server_is_ready():
            return diagnostics.Health(diagnostics.ERROR, f"no action {self._settings.action}", values)
        if self._measured_s == -math.inf:
            return diagnostics.Health(diagnostics.WARN, f"nothing heard on {GRIPPER_STATES}", values)
        return diagnostics.Health(diagnostics.OK, "ready", values)


def with_fingers(message: JointState, finger_joints: tuple[str, ...], opening_m: float) -> JointState:
    """The arm's joint state with the fingers added, each with its share of the opening.

    Raises:
        SalusError: the arm's driver reports joints of these names itself.
    """
    known = set(message.name) & set(finger_joints)
    if known:
        raise SalusError(
            f"{ARM_STATES} holds {', '.join(sorted(known))} already; leave this node out, or give other "
            "finger_joints."
        )
    count = len(finger_joints)
    result = JointState(header=message.header, name=[*message.name, *finger_joints])
    result.position = array.array("d", [*message.position, *[opening_m / count] * count])
    for field in ("velocity", "effort"):
        values = getattr(message, field)
        if len(values):
            setattr(result, field, array.array("d", [*values, *[math.nan] * count]))
    return result


def _action_type(name: str) -> Any:
    try:
        return getattr(importlib.import_module("control_msgs.action"), name)
    except (ImportError, AttributeError) as error:
        raise SalusError(
            f"control_msgs with the action {name} is not installed, which this node moves the gripper by; "
            "install the ROS package control-msgs."
        ) from error


def main() -> int:
    """Entry point of ``ros2 run salus_ros gripper_node``."""
    return run_node(GripperNode)


if __name__ == "__main__":
    sys.exit(main())
