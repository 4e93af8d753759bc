"""What comes in at the gate, on a node that has nothing else of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

sys.path.insert(0, str(Path(__file__).parent))
from gate_driver import ARM, FINGERS, HOME, plan_from, prediction
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from salus_msgs.msg import FailurePrediction, PolicyOutput
from salus_ros.intervention.inputs import Fault, GateInputs
from salus_ros.nodes import publishers, qos
from salus_ros.nodes.conversions import prediction_to_message
from salus_ros.nodes.driver_messages import robot_state_to_message
from salus_ros.nodes.gate_inbox import FAULTS_KEPT, GateInbox
from salus_ros.nodes.lifecycle import GuardedNode
from salus_ros.types import Cause, RobotState

REACT_S = 10.0
STAMP_S = 100.0
KINDS = {
    qos.JOINT_STATES: JointState,
    qos.POLICY_OUTPUT: PolicyOutput,
    qos.FAILURE_PREDICTION: FailurePrediction,
    qos.EMERGENCY_STOP_BUTTON: Bool,
    qos.ARM_COMMAND: JointTrajectory,
}


class Receiver(GuardedNode):
    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self.monitored = True
        self.broken = False
        self.urgent = 0
        self.pressed: list[bool] = []
        self.inbox = GateInbox(
            self,
            self._inbox,
            ARM.joint_names,
            monitored=lambda: self.monitored,
            on_urgent=self._hurry,
            on_button=self.pressed.append,
        )

    def _hurry(self) -> None:
        self.urgent += 1
        if self.broken:
            raise ZeroDivisionError("a mistake")

    def on_callback_error(self, where: str, error: Exception) -> None:
        self.inbox.fail(where, error)

    def take(self) -> GateInputs:
        """One tick."""
        self.poll()
        return self.inbox.take(STAMP_S)


@pytest.fixture
def node(make_node: Callable[..., Any]) -> Any:
    return make_node(node_class=Receiver)


@pytest.fixture
def spin(node: Receiver) -> Iterator[Callable[[], None]]:
    """One turn of the node's executor."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    yield lambda: executor.spin_once(timeout_sec=0.001)
    executor.shutdown()


def until(condition: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + REACT_S
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not come within {REACT_S:g} s"
        time.sleep(0.0005)


def publisher(sender: Node, topic: str) -> Any:
    """One that the inbox listens to already."""
    made = sender.create_publisher(KINDS[topic], topic, qos.profile(topic))
    until(made.get_subscription_count, f"the inbox's subscription to {topic}")
    return made


def joints(stamp_s: float = STAMP_S) -> JointState:
    return robot_state_to_message(
        RobotState(stamp_s, HOME, 0.0 * HOME, 0.0 * HOME, 0.08), ARM.joint_names, FINGERS
    )


def plan(sequence: int = 1) -> PolicyOutput:
    return plan_from(STAMP_S, HOME, sequence)


def foreseen(sequence: int = 1) -> FailurePrediction:
    return prediction_to_message(prediction(STAMP_S, sequence))


def taken(node: Receiver, what: Callable[[GateInputs], Any]) -> Any:
    """The first of it that a tick hands on."""
    found: list[Any] = []

    def look() -> bool:
        value = what(node.take())
        if value:
            found.append(value)
        return bool(found)

    until(look, "it")
    return found[0]


def faults(inputs: GateInputs) -> tuple[Fault, ...]:
    return inputs.faults


def test_a_tick_gets_the_newest_message_of_each_kind_and_gets_it_once(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    sender = make_node()
    states, plans = publisher(sender, qos.JOINT_STATES), publisher(sender, qos.POLICY_OUTPUT)
    for number in range(1, 4):
        states.publish(joints(STAMP_S + number))
        plans.publish(plan(number))
    heard = [0]

    def all_read() -> bool:
        heard[0] += node._inbox.poll()
        return heard[0] == 6

    until(all_read, "the six messages")
    inputs = node.inbox.take(STAMP_S)
    assert inputs.robot is not None and inputs.robot.stamp_s == STAMP_S + 3
    assert inputs.plan is not None and inputs.plan.sequence == 3
    again = node.inbox.take(STAMP_S)
    assert (again.robot, again.plan, again.faults) == (None, None, ())


def nameless(message: Any) -> Any:
    names = message.name if isinstance(message, JointState) else message.trajectory.joint_names
    names[0] = "elbow"
    return message


def shortened(message: FailurePrediction) -> FailurePrediction:
    message.probabilities = message.probabilities[:-1]
    return message


@pytest.mark.parametrize(
    ("topic", "bad", "cause"),
    [
        (qos.JOINT_STATES, nameless(joints()), Cause.JOINT_STATE_INVALID),
        (qos.POLICY_OUTPUT, nameless(plan()), Cause.POLICY_INVALID),
        (qos.FAILURE_PREDICTION, shortened(foreseen()), Cause.PREDICTION_INVALID),
    ],
)
def test_a_message_that_cannot_be_read_becomes_a_fault_listed_once(
    node: Receiver,
    make_node: Callable[..., Any],
    spin: Callable[[], None],
    topic: str,
    bad: Any,
    cause: Cause,
) -> None:
    publisher(make_node(), topic).publish(bad)

    def refused(inputs: GateInputs) -> tuple[Fault, ...]:
        assert (inputs.robot, inputs.plan, inputs.prediction) == (None, None, None)
        spin()
        return inputs.faults

    (fault,) = taken(node, refused)
    assert fault.cause is cause and fault.refused and fault.detail
    assert node.inbox.take(STAMP_S).faults == ()


def test_a_flood_between_two_ticks_keeps_the_newest_faults_and_no_more(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    plans = publisher(make_node(), qos.POLICY_OUTPUT)
    depth = qos.TABLE[qos.POLICY_OUTPUT].depth
    for _ in range(FAULTS_KEPT // depth + 2):
        heard = [0]
        for _ in range(depth):
            plans.publish(nameless(plan()))

        def all_read(heard: list[int] = heard) -> bool:
            heard[0] += node._inbox.poll()
            return heard[0] == depth

        until(all_read, "the bad plans")
    node.inbox.fail("last", ValueError("cause"))
    found = node.inbox.take(STAMP_S).faults
    assert len(found) == FAULTS_KEPT
    assert found[-1] == Fault(Cause.EXCEPTION, "last: ValueError: cause")


def test_a_plan_of_a_publisher_that_is_not_the_bound_one_is_not_obeyed_until_bound_anew(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    own, rogue = make_node(), make_node()
    bound, stranger = publisher(own, qos.POLICY_OUTPUT), publisher(rogue, qos.POLICY_OUTPUT)
    bound.publish(plan(1))
    assert taken(node, lambda inputs: inputs.plan).sequence == 1
    stranger.publish(plan(2))

    def named(inputs: GateInputs) -> tuple[Fault, ...]:
        assert inputs.plan is None, "the stranger was obeyed"
        return tuple(fault for fault in inputs.faults if rogue.get_name() in fault.detail)

    (fault,) = taken(node, named)
    assert fault.cause is Cause.SECOND_POLICY_PUBLISHER and own.get_name() in fault.detail
    assert node.take().faults == (fault,), "it stands as long as the stranger is there"

    node.inbox.bind_anew()
    stranger.publish(plan(3))
    assert taken(node, lambda inputs: inputs.plan).sequence == 3


def test_a_second_source_of_the_arms_joint_states_is_a_fault_and_one_of_other_joints_is_none(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    driver, other = make_node(), make_node()
    bound, stranger = publisher(driver, qos.JOINT_STATES), publisher(other, qos.JOINT_STATES)
    bound.publish(joints())
    assert taken(node, lambda inputs: inputs.robot)
    stranger.publish(JointState(name=["other_gripper"], position=[0.0]))
    until(node._inbox.poll, "the gripper's joint state")
    node.inbox.look()
    assert node.inbox.take(STAMP_S).faults == ()

    stranger.publish(joints(STAMP_S + 1.0))
    (fault,) = taken(node, faults)
    assert fault.cause is Cause.JOINT_STATE_INVALID and not fault.refused
    assert other.get_name() in node.inbox.details()[qos.JOINT_STATES]


def test_a_driver_that_was_started_again_is_obeyed_once_the_one_before_has_gone(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    first, second = make_node(), make_node()
    bound, again = publisher(first, qos.JOINT_STATES), publisher(second, qos.JOINT_STATES)
    bound.publish(joints())
    assert taken(node, lambda inputs: inputs.robot)
    again.publish(joints(STAMP_S + 1.0))
    assert taken(node, faults)
    node.inbox.leave_the_gone()
    assert node.take().faults, "the first is still there"

    first.destroy_publisher(bound)

    def left() -> bool:
        node.inbox.leave_the_gone()
        return not node.inbox.details()[qos.JOINT_STATES]

    until(left, "the end of the first")
    again.publish(joints(STAMP_S + 2.0))
    assert taken(node, lambda inputs: inputs.robot).stamp_s == pytest.approx(STAMP_S + 2.0)


def test_what_waits_is_read_while_a_transition_keeps_the_executor_busy(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    sender = make_node()
    publisher(sender, qos.FAILURE_PREDICTION).publish(foreseen(7))
    publisher(sender, qos.EMERGENCY_STOP_BUTTON).publish(Bool(data=True))
    read: list[Any] = []

    def both() -> bool:
        node.inbox.take_waiting()
        read.extend(filter(None, [node.inbox.take(STAMP_S).prediction]))
        return bool(read and node.pressed)

    until(both, "the prediction and the button")
    assert read[0].sequence == 7 and node.pressed == [True]
    assert node.urgent == 0, "the transition ticks by itself"


def test_a_prediction_and_its_sender_do_not_wait_for_the_tick(
    node: Receiver, make_node: Callable[..., Any], spin: Callable[[], None]
) -> None:
    def hurried() -> bool:
        spin()
        return node.urgent > 0

    predictions = publisher(make_node(), qos.FAILURE_PREDICTION)
    until(hurried, "the monitor's match")
    node.urgent = 0
    predictions.publish(foreseen(7))
    until(hurried, "the prediction")
    inputs = node.inbox.take(STAMP_S)
    assert inputs.prediction is not None and inputs.prediction.sequence == 7


def test_a_second_writer_of_commands_is_a_fault_at_the_next_tick_and_as_long_as_it_is_there(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    rogue = make_node()
    writer = publisher(rogue, qos.ARM_COMMAND)
    (fault,) = taken(node, faults)
    assert fault.cause is Cause.SECOND_COMMAND_PUBLISHER and " besides " in fault.detail
    assert [again.cause for again in node.take().faults] == [fault.cause]

    rogue.destroy_publisher(writer)

    def gone() -> bool:
        node.inbox.look()
        return not node.take().faults

    until(gone, "the end of the other writer")


def test_a_second_writer_that_has_gone_before_the_tick_is_a_fault_of_that_tick(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    rogue = make_node()
    assert node.take().faults == ()
    writer = publisher(rogue, qos.ARM_COMMAND)
    rogue.destroy_publisher(writer)
    until(lambda: node.count_publishers(qos.ARM_COMMAND) == 0, "the end of the other writer")
    found = taken(node, faults)
    assert {fault.cause for fault in found} == {Cause.SECOND_COMMAND_PUBLISHER}
    node.inbox.look()
    assert node.take().faults == ()


def test_without_a_monitor_no_prediction_is_read_and_none_is_a_fault(
    node: Receiver, make_node: Callable[..., Any]
) -> None:
    node.monitored = False
    predictions = publisher(make_node(), qos.FAILURE_PREDICTION)
    for message in (foreseen(1), shortened(foreseen(2))):
        predictions.publish(message)
    publisher(make_node(), qos.EMERGENCY_STOP_BUTTON).publish(Bool(data=False))

    def heard() -> bool:
        node.inbox.take_waiting()
        return bool(node.pressed)

    until(heard, "the button, sent after the predictions")
    inputs = node.take()
    assert inputs.prediction is None and inputs.faults == ()


def test_an_exception_in_a_callback_is_a_fault_that_names_it(node: Receiver) -> None:
    def broken() -> None:
        raise ZeroDivisionError("a mistake")

    node.guard(broken)()
    assert node.take().faults == (Fault(Cause.EXCEPTION, "broken: ZeroDivisionError: a mistake"),)


def test_a_mistake_in_what_does_not_wait_for_the_tick_is_a_fault_and_ends_nothing(
    node: Receiver, make_node: Callable[..., Any], spin: Callable[[], None]
) -> None:
    node.broken = True
    publisher(make_node(), qos.FAILURE_PREDICTION)

    def failed() -> bool:
        spin()
        return node.urgent > 0

    until(failed, "the match")
    assert Cause.EXCEPTION in {fault.cause for fault in node.take().faults}


@pytest.mark.parametrize("topic", [qos.ARM_COMMAND, qos.POLICY_OUTPUT, qos.JOINT_STATES])
def test_a_mistake_in_looking_who_writes_is_a_fault_and_the_rest_is_read(
    node: Receiver, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    sender = make_node()
    states, plans = publisher(sender, qos.JOINT_STATES), publisher(sender, qos.POLICY_OUTPUT)
    states.publish(joints())
    taken(node, lambda inputs: inputs.robot)
    plans.publish(plan())
    taken(node, lambda inputs: inputs.plan)

    monkeypatch.setattr(publishers, "_names", lambda *_: 1 / 0)
    publisher(make_node(), topic)
    (fault,) = taken(node, faults)
    assert fault.cause is Cause.EXCEPTION
    states.publish(joints(STAMP_S + 1.0))
    assert taken(node, lambda inputs: inputs.robot).stamp_s == STAMP_S + 1.0


def test_a_mistake_in_reading_what_waits_is_a_fault_and_ends_no_transition(
    node: Receiver, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("salus_ros.nodes.gate_inbox.prediction_from_message", lambda _: 1 / 0)
    publisher(make_node(), qos.FAILURE_PREDICTION).publish(foreseen())

    def read(inputs: GateInputs) -> tuple[Fault, ...]:
        node.inbox.take_waiting()
        return inputs.faults

    (fault,) = taken(node, read)
    assert fault.cause is Cause.EXCEPTION
