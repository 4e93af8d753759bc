"""What comes in at the gate: the newest message of each kind, what could not be read, and who else publishes.

It decides nothing: what arrived is handed on at each tick, and what must not wait for one is said at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rclpy.event_handler import SubscriptionEventCallbacks
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from salus_msgs.msg import FailurePrediction as FailurePredictionMessage
from salus_msgs.msg import PolicyOutput as PolicyOutputMessage
from salus_ros.errors import SalusError
from salus_ros.intervention.inputs import Fault, GateInputs, Request
from salus_ros.nodes import qos
from salus_ros.nodes.conversions import policy_output_from_message, prediction_from_message
from salus_ros.nodes.driver_messages import robot_state_from_message
from salus_ros.nodes.lifecycle import GuardedNode
from salus_ros.nodes.polling import Inbox, subscribe
from salus_ros.nodes.publishers import BoundPublisher, SoleWriter
from salus_ros.types import Cause, FailurePrediction, PolicyOutput, RobotState

FAULTS_KEPT: Final = 100
"""A flood of bad messages between two ticks must not grow the memory."""

_SECOND_WRITER: Final = {
    qos.ARM_COMMAND: Cause.SECOND_COMMAND_PUBLISHER,
    qos.GRIPPER_COMMAND: Cause.SECOND_COMMAND_PUBLISHER,
    qos.POLICY_OUTPUT: Cause.SECOND_POLICY_PUBLISHER,
    qos.FAILURE_PREDICTION: Cause.PREDICTION_INVALID,
    qos.JOINT_STATES: Cause.JOINT_STATE_INVALID,
}
"""The guarded topics, and what a second publisher on each is a cause of."""


class GateInbox:
    """The subscriptions of the gate, and the checks that each guarded topic has one writer."""

    def __init__(
        self,
        node: GuardedNode,
        polled: Inbox,
        arm_joints: Sequence[str],
        *,
        monitored: Callable[[], bool],
        on_urgent: Callable[[], None],
        on_button: Callable[[bool], None],
    ) -> None:
        """Subscribe; made after the node's own publishers, which are the one writer of their topics.

        Args:
            node: the node that subscribes; what its guarded callbacks raise, it hands to :meth:`fail`.
            polled: joint states and policy outputs are read when it is polled, and who writes the commands.
            arm_joints: names in the order of the arm.
            monitored: whether predictions are obeyed at present; else they are dropped.
            on_urgent: a prediction came, or who sends them came or went: not to wait for the next tick.
            on_button: a heartbeat of the hardware button, with whether it is pressed.
        """
        self._node = node
        self._arm_joints = tuple(arm_joints)
        self._of_the_arm = frozenset(arm_joints)
        self._monitored, self._on_urgent, self._on_button = monitored, on_urgent, on_button
        self.counts: Counter[str] = Counter()
        """Missed deadlines and changes of liveliness."""
        self._robot: RobotState | None = None
        self._plan: PolicyOutput | None = None
        self._prediction: FailurePrediction | None = None
        self._faults: list[Fault] = []
        self._bound = {
            qos.POLICY_OUTPUT: BoundPublisher(node, qos.POLICY_OUTPUT),
            qos.FAILURE_PREDICTION: BoundPublisher(node, qos.FAILURE_PREDICTION),
            # A gripper's driver may publish its own joints there.
            qos.JOINT_STATES: BoundPublisher(node, qos.JOINT_STATES, shared=True),
        }
        self._writers: dict[str, SoleWriter | BoundPublisher] = {
            **{topic: SoleWriter(node, topic, polled) for topic in (qos.ARM_COMMAND, qos.GRIPPER_COMMAND)},
            **self._bound,
        }
        self._subscribe(polled)

    def take(self, ros_time_s: float, requests: tuple[Request, ...] = ()) -> GateInputs:
        """What arrived since the last call, with what is asked of the gate at this ROS time."""
        faults = [
            *self._faults,
            *(Fault(_SECOND_WRITER[topic], others) for topic, others in self.details().items() if others),
        ]
        inputs = GateInputs(ros_time_s, self._robot, self._plan, self._prediction, requests, tuple(faults))
        self._robot = self._plan = self._prediction = None
        self._faults = []
        return inputs

    def take_waiting(self) -> None:
        """Read here what the executor would have read, were it not kept busy by a transition."""
        read_prediction = self._node.guard(self._read_prediction)
        for message, info in _waiting(self._prediction_subscription):
            read_prediction(message, info)
        take_button = self._node.guard(self._take_button)
        for message, _ in _waiting(self._button_subscription):
            take_button(message)

    def look(self) -> None:
        """Ask the graph who publishes what."""
        for writer in self._writers.values():
            writer.look()

    def bind_anew(self) -> None:
        """Obey the policy, the monitor and the arm that are heard next."""
        for bound in self._bound.values():
            bound.bind_anew()

    def leave_the_gone(self) -> None:
        """A driver, policy or monitor that was started again is another publisher: obey it."""
        for bound in self._bound.values():
            bound.leave_the_gone()

    def details(self) -> dict[str, str]:
        """For each guarded topic, who else publishes there, in words; empty if nobody."""
        return {topic: self._writers[topic].detail for topic in _SECOND_WRITER}

    def fail(self, where: str, error: Exception) -> None:
        """An exception in any callback is a cause like any other."""
        self._add(Fault(Cause.EXCEPTION, f"{where}: {type(error).__name__}: {error}"))

    # Subscriptions

    def _subscribe(self, polled: Inbox) -> None:
        node = self._node
        subscribe(
            node,
            polled,
            JointState,
            qos.JOINT_STATES,
            node.guard(self._take_joint_state),
            qos.profile(qos.JOINT_STATES, depth=20),
            events=SubscriptionEventCallbacks(matched=self._look_at(qos.JOINT_STATES)),
        )
        subscribe(
            node,
            polled,
            PolicyOutputMessage,
            qos.POLICY_OUTPUT,
            node.guard(self._take_policy_output),
            qos.profile(qos.POLICY_OUTPUT),
            events=SubscriptionEventCallbacks(
                deadline=self._count("policy deadlines missed"),
                liveliness=self._count("changes of the policy's liveliness"),
                matched=self._look_at(qos.POLICY_OUTPUT),
            ),
        )
        read_prediction = node.guard(self._take_prediction)
        self._prediction_subscription = node.create_subscription(
            FailurePredictionMessage,
            qos.FAILURE_PREDICTION,
            lambda message, info: read_prediction(message, info),  # rclpy counts the arguments
            qos.profile(qos.FAILURE_PREDICTION),
            event_callbacks=SubscriptionEventCallbacks(
                deadline=self._count("prediction deadlines missed"),
                liveliness=self._count("changes of the monitor's liveliness"),
                matched=node.guard(self._meet_the_monitor),
            ),
        )
        self._button_subscription = node.create_subscription(
            Bool,
            qos.EMERGENCY_STOP_BUTTON,
            node.guard(self._take_button),
            qos.profile(qos.EMERGENCY_STOP_BUTTON),
        )

    def _count(self, what: str) -> Callable[[Any], None]:
        def count(event: Any) -> None:
            self.counts[what] += getattr(event, "total_count_change", 1)

        return count

    def _look_at(self, topic: str) -> Callable[[Any], None]:
        def look(_event: Any) -> None:
            self._bound[topic].look()

        return self._node.guard(look)

    def _meet_the_monitor(self, _event: Any) -> None:
        self._bound[qos.FAILURE_PREDICTION].look()
        self._on_urgent()

    # Messages

    def _take_joint_state(self, message: JointState, info: Mapping[str, Any]) -> None:
        if self._of_the_arm.isdisjoint(message.name):
            return
        if not self._obeyed(qos.JOINT_STATES, info):
            return
        try:
            # Without the fingers: an arm's driver and a gripper's may publish apart.
            self._robot = robot_state_from_message(message, self._arm_joints)
        except SalusError as error:
            self._refuse(Cause.JOINT_STATE_INVALID, error)

    def _take_policy_output(self, message: PolicyOutputMessage, info: Mapping[str, Any]) -> None:
        if not self._obeyed(qos.POLICY_OUTPUT, info):
            return
        try:
            self._plan = policy_output_from_message(message, self._arm_joints)
        except SalusError as error:
            self._refuse(Cause.POLICY_INVALID, error)

    def _take_prediction(self, message: FailurePredictionMessage, info: Mapping[str, Any]) -> None:
        """A prediction may stop the arm, so it does not wait for the period."""
        self._read_prediction(message, info)
        self._on_urgent()

    def _read_prediction(self, message: FailurePredictionMessage, info: Mapping[str, Any]) -> None:
        if not self._monitored() or not self._obeyed(qos.FAILURE_PREDICTION, info):
            return
        try:
            self._prediction = prediction_from_message(message)
        except SalusError as error:
            self._refuse(Cause.PREDICTION_INVALID, error)

    def _take_button(self, message: Bool) -> None:
        self._on_button(message.data)

    def _obeyed(self, topic: str, info: Mapping[str, Any]) -> bool:
        return self._bound[topic].obeyed(info["publisher_gid"]["data"])

    def _refuse(self, cause: Cause, error: SalusError) -> None:
        self._add(Fault(cause, str(error), refused=True))
        self._node.log_throttled(str(error), key=cause.name)

    def _add(self, fault: Fault) -> None:
        self._faults.append(fault)
        del self._faults[:-FAULTS_KEPT]


def _waiting(subscription: Any) -> list[tuple[Any, Mapping[str, Any]]]:
    """What has come for a subscription that the executor does not read just now, with its info."""
    found = []
    with subscription.handle:
        for _ in range(subscription.qos_profile.depth):
            taken = subscription.handle.take_message(subscription.msg_type, False)
            if taken is None:
                break
            found.append(taken)
    return found
