"""A gripper that is an action works as the finger joints that the gate commands and the policy sees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from salus_ros.errors import SalusError
from salus_ros.nodes import qos
from salus_ros.nodes.driver_messages import gripper_to_message, robot_state_from_message, stamp_to_message
from salus_ros.nodes.gripper_node import (
    ARM_STATES,
    GRIPPER_STATES,
    GripperNode,
    GripperSettings,
    with_fingers,
)

FINGERS = ("fr3_finger_joint1", "fr3_finger_joint2")
ROBOTIQ = GripperSettings(
    opening_max_m=0.085,
    goal_closed=0.7929,
    goal_open=0.0,
    measured_joints=("robotiq_85_left_knuckle_joint",),
    measured_closed=0.7929,
    measured_open=0.0,
)


def arm_state(stamp_s: float = 5.0) -> JointState:
    message = JointState(name=["a", "b"], position=[0.1, 0.2], velocity=[0.3, 0.4], effort=[5.0, 6.0])
    message.header.stamp = stamp_to_message(stamp_s)
    return message


def test_an_opening_becomes_a_goal_in_the_grippers_own_unit() -> None:
    assert GripperSettings().goal(0.08) == pytest.approx(0.04), "the Franka Hand's action counts one finger"
    assert GripperSettings().goal(0.0) == 0.0
    assert ROBOTIQ.goal(0.085) == pytest.approx(0.0)
    assert ROBOTIQ.goal(0.0) == pytest.approx(0.7929), "the Robotiq's knuckle turns as it closes"


@pytest.mark.parametrize(("opening_m", "goal"), [(-1.0, 0.0), (1.0, 0.04)])
def test_a_goal_stays_within_the_stroke(opening_m: float, goal: float) -> None:
    assert GripperSettings().goal(opening_m) == pytest.approx(goal)


def test_a_measurement_becomes_an_opening() -> None:
    assert GripperSettings().opening_m(0.05) == pytest.approx(0.05)
    assert ROBOTIQ.opening_m(0.7929) == pytest.approx(0.0)
    assert ROBOTIQ.opening_m(0.7929 / 2) == pytest.approx(0.0425)


def test_a_stroke_without_length_is_refused() -> None:
    with pytest.raises(ValidationError, match="goal_closed and goal_open are the same"):
        GripperSettings(goal_open=0.0)


def test_the_arms_states_go_on_with_the_fingers_and_the_arms_stamp() -> None:
    joined = with_fingers(arm_state(), FINGERS, 0.06)
    state = robot_state_from_message(joined, ("a", "b"), FINGERS)
    assert state.stamp_s == 5.0
    assert state.gripper_opening_m == pytest.approx(0.06)
    assert state.joint_velocity_rad_s.tolist() == [0.3, 0.4]
    assert state.joint_effort_nm.tolist() == [5.0, 6.0]


def test_a_driver_that_reports_the_fingers_itself_is_not_doubled() -> None:
    with pytest.raises(SalusError, match="holds b already"):
        with_fingers(arm_state(), ("b",), 0.0)


class Spinning:
    def __init__(self, *nodes: Any) -> None:
        self.executor = SingleThreadedExecutor(context=nodes[0].context)
        for node in nodes:
            self.executor.add_node(node)

    def until(self, reached: Callable[[], Any], act: Callable[[], None] = lambda: None) -> None:
        end_s = time.monotonic() + 15.0
        while not reached() and time.monotonic() < end_s:
            act()
            self.executor.spin_once(timeout_sec=0.02)
        assert reached(), "not reached in 15 s"


def needs_control_msgs() -> Any:
    return pytest.importorskip("control_msgs.action", reason="control_msgs is not installed").GripperCommand


def test_a_gripper_that_falls_silent_has_no_opening(make_node: Callable[..., Any]) -> None:
    needs_control_msgs()
    node, drivers = make_node(node_class=GripperNode), make_node()
    got: list[JointState] = []
    drivers.create_subscription(JointState, qos.JOINT_STATES, got.append, qos.profile(qos.JOINT_STATES))
    arm = drivers.create_publisher(JointState, ARM_STATES, 10)
    gripper = drivers.create_publisher(JointState, GRIPPER_STATES, 10)
    fingers = JointState(name=list(FINGERS), position=[0.03, 0.03])
    fingers.header.stamp = stamp_to_message(5.0)
    spinning = Spinning(node, drivers)

    def newest_opening() -> float:
        return sum(got[-1].position[-2:]) if got else math.nan

    def both() -> None:
        gripper.publish(fingers)
        arm.publish(arm_state(5.1))

    spinning.until(lambda: newest_opening() == pytest.approx(0.06), act=both)
    assert list(got[-1].name) == ["a", "b", *FINGERS]
    spinning.until(lambda: math.isnan(newest_opening()), act=lambda: arm.publish(arm_state(6.0)))


def test_only_the_newest_opening_becomes_the_next_goal(make_node: Callable[..., Any]) -> None:
    action = needs_control_msgs()
    from rclpy.action import ActionServer, CancelResponse
    from rclpy.task import Future

    node, driver = make_node(node_class=GripperNode), make_node()
    goals: list[float] = []
    cancelled: list[float] = []
    running: list[Future] = []

    async def execute(handle: Any) -> Any:
        goals.append(round(handle.request.command.position, 4))
        future: Future = Future(executor=None)
        running.append(future)
        while not handle.is_cancel_requested and not future.done():
            await pause(driver)
        if handle.is_cancel_requested:
            cancelled.append(goals[-1])
            handle.canceled()
        else:
            handle.succeed()
        return action.Result()

    ActionServer(
        driver,
        action,
        "franka_gripper/gripper_action",
        execute,
        cancel_callback=lambda _handle: CancelResponse.ACCEPT,
    )
    gate = driver.create_publisher(JointTrajectory, qos.GRIPPER_COMMAND, 10)
    spinning = Spinning(node, driver)
    opened, closed = (gripper_to_message(opening, FINGERS) for opening in (0.08, 0.0))
    spinning.until(lambda: goals == [0.04], act=lambda: gate.publish(opened))
    for _ in range(5):
        gate.publish(opened)
    spinning.until(lambda: goals == [0.04, 0.0], act=lambda: gate.publish(closed))
    assert cancelled == [0.04]
    running[-1].set_result(None)
    spinning.until(lambda: not node._busy)
    assert goals == [0.04, 0.0], "a command that says the same again is no new goal"
    assert not node.callback_errors


async def pause(node: Any) -> None:
    """Let the executor do something else for a moment."""
    from rclpy.task import Future

    future: Future = Future(executor=None)
    timer = node.create_timer(0.01, lambda: future.done() or future.set_result(None))
    await future
    node.destroy_timer(timer)


def test_a_parallel_gripper_gets_the_position_of_its_joint(make_node: Callable[..., Any]) -> None:
    actions = pytest.importorskip("control_msgs.action", reason="control_msgs is not installed")
    if not hasattr(actions, "ParallelGripperCommand"):
        pytest.skip("this control_msgs has no ParallelGripperCommand")
    from rclpy.action import ActionServer

    node, driver = make_node(
        "action_type:=ParallelGripperCommand",
        "action:=hand/gripper_cmd",
        "goal_joints:=['knuckle']",
        "goal_closed:=0.7929",
        "goal_open:=0.0",
        node_class=GripperNode,
    ), make_node()  # fmt: skip
    goals: list[Any] = []

    def execute(handle: Any) -> Any:
        goals.append(handle.request.command)
        handle.succeed()
        return actions.ParallelGripperCommand.Result()

    ActionServer(driver, actions.ParallelGripperCommand, "hand/gripper_cmd", execute)
    gate = driver.create_publisher(JointTrajectory, qos.GRIPPER_COMMAND, 10)
    closed = gripper_to_message(0.0, FINGERS)
    Spinning(node, driver).until(lambda: goals, act=lambda: gate.publish(closed))
    assert (list(goals[0].name), list(goals[0].position)) == (["knuckle"], [0.7929])
    assert list(goals[0].effort) == [20.0]
