"""The gate as a process on the graph: every mode is reached by what arrives there."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy

sys.path.insert(0, str(Path(__file__).parent))
from diagnostic_msgs.msg import DiagnosticArray
from gate_driver import ARM, FINGERS, PATIENT, REACT_S, START_S, Surroundings, surroundings
from gate_world import chunk, output
from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from salus_msgs.msg import FailurePrediction, InterventionState, PolicyOutput
from salus_msgs.srv import ResolveAssistance
from salus_ros.errors import SalusError
from salus_ros.nodes import drivers, qos
from salus_ros.nodes.conversions import policy_output_to_message
from salus_ros.nodes.driver_messages import robot_state_to_message, stamp_from_message
from salus_ros.types import Mode

pytestmark = [pytest.mark.graph, pytest.mark.xdist_group("graph")]

DOMAIN = itertools.cycle(range(31, 40))


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    with surroundings(tmp_path, next(DOMAIN)) as running:
        yield running


@pytest.fixture
def rogue(around: Surroundings) -> Iterator[Node]:
    """A node of its own participant, made before the gate is active: making it takes its time."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=around.graph.domain_id)
    yield rclpy.create_node("rogue", context=context, use_global_arguments=False)
    context.try_shutdown()


def speed(around: Surroundings) -> float:
    """Joint speed of the command in hand [rad/s]."""
    return float(np.abs(around.controller.at(time.monotonic())[1]).max())


def until_still(around: Surroundings) -> None:
    around.graph.spin_until(lambda: speed(around) == 0.0, REACT_S, "the command to rest")


def until_moving(around: Surroundings) -> None:
    around.graph.spin_until(lambda: speed(around) > 0.02, REACT_S, "the arm to move")


def resume(around: Surroundings) -> None:
    """Once the arm stands."""
    around.graph.spin_until(
        lambda: around.resolve(ResolveAssistance.Request.RESUME).accepted,
        REACT_S,
        "the answer to be accepted",
    )


def test_every_mode_is_reached_on_the_graph(around: Surroundings) -> None:
    around.until(Mode.INACTIVE)
    assert around.commands.count == 0, "an inactive gate commanded the arm"
    around.activate()
    until_moving(around)

    around.risk = {"collision": (0.0, 0.0, 0.0, 0.4)}
    around.until(Mode.SLOW_DOWN)
    around.risk = {}
    around.until(Mode.NOMINAL)

    around.risk = {"miss": 0.7}
    around.until(Mode.REPLAN)
    around.risk = {}
    around.until(Mode.NOMINAL)
    assert around.replans, "the policy was not asked for a new plan"

    until_moving(around)
    around.risk = {"collision": 0.9}
    around.until(Mode.PROTECTIVE_STOP)
    around.risk = {}
    around.until(Mode.NOMINAL)

    around.policy_on = False
    around.until(Mode.HOLD)
    until_still(around)
    around.policy_on = True
    around.until(Mode.NOMINAL)

    until_moving(around)
    around.risk = {"collision": (0.0, 0.0, 0.0, 0.7), "out_of_distribution": True}
    around.until(Mode.ASSIST)
    around.risk = {}
    resume(around)
    around.until(Mode.NOMINAL)

    assert around.trigger(qos.EMERGENCY_STOP).success
    around.until(Mode.EMERGENCY_STOP)
    around.graph.spin_until(lambda: around.trigger(qos.RESET).success, REACT_S, "the reset")
    around.until(Mode.NOMINAL)

    around.deactivate()
    around.until(Mode.INACTIVE)
    count = around.commands.count
    around.graph.spin_for(0.3)
    assert around.commands.count == count, "a deactivated gate commanded the arm"


def test_commands_stay_inside_the_joint_limits_and_end_in_rest(around: Surroundings) -> None:
    around.activate()
    until_moving(around)
    around.graph.spin_for(1.0)
    for message in around.commands.messages:
        assert list(message.joint_names) == list(ARM.joint_names)
        positions = np.array([point.positions for point in message.points])
        assert (ARM.position_lower_rad <= positions).all() and (positions <= ARM.position_upper_rad).all()
        assert not any(message.points[-1].velocities), "a command does not end in rest"


@pytest.mark.parametrize("stamped", [False, True])
def test_commands_begin_on_reception_or_at_the_time_they_were_computed_for(
    tmp_path: Path, stamped: bool
) -> None:
    with surroundings(tmp_path, next(DOMAIN), stamp_commands=stamped) as around:
        around.activate()
        until_moving(around)
        sent = [stamp_from_message(message.header.stamp) for message in around.commands.messages]
        if not stamped:
            assert set(sent) == {0.0}
            return
        assert all(after > before for before, after in itertools.pairwise(sent))
        assert 0.0 < around.ros_s - sent[-1] < 1.0, "not of the clock"


def test_the_latch_survives_a_kill(around: Surroundings) -> None:
    around.activate()
    assert around.trigger(qos.EMERGENCY_STOP).success
    around.until(Mode.EMERGENCY_STOP)
    around.graph.kill("intervention_node")
    around.states.clear()
    around.graph.start("intervention")
    around.until(Mode.EMERGENCY_STOP, START_S)
    with pytest.raises(SalusError, match="reset it first"):
        around.graph.bring_up("intervention_node", timeout_s=START_S)
    around.graph.spin_until(lambda: around.trigger(qos.RESET).success, REACT_S, "the reset")
    around.until(Mode.INACTIVE)


def test_a_latch_that_the_disk_refused_is_written_once_it_can_be(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with surroundings(tmp_path, next(DOMAIN), latch_file=str(folder / "latch")) as around:
        around.activate()
        folder.write_text("a file where the folder should be")
        assert around.trigger(qos.EMERGENCY_STOP).success
        around.until(Mode.EMERGENCY_STOP)
        process = around.graph.processes["intervention_node"]
        around.graph.spin_until(
            lambda: "the latch file cannot be kept" in process.log_tail(50), REACT_S, "a word about the disk"
        )
        folder.unlink()
        around.graph.spin_until((folder / "latch").exists, REACT_S, "the latch file")
        assert around.trigger(qos.RESET).success
        around.graph.spin_until(lambda: not (folder / "latch").exists(), REACT_S, "its removal")


def test_sigterm_ends_an_activation_that_waits(tmp_path: Path) -> None:
    with surroundings(tmp_path, next(DOMAIN), activation_timeout_s=START_S) as around:
        around.joints_on = False
        graph = around.graph
        graph.transition("intervention_node", Transition.TRANSITION_CONFIGURE)
        changes = graph.listen("intervention_node/transition_event", TransitionEvent)
        client = graph.node.create_client(ChangeState, "intervention_node/change_state")
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE))
        graph.spin_until(client.service_is_ready, REACT_S, "the lifecycle service")
        client.call_async(request)
        graph.spin_until(
            lambda: changes.newest is not None and changes.newest.goal_state.label == "activating",
            REACT_S,
            "the beginning of the activation",
        )
        process = graph.processes["intervention_node"]
        process.signal(signal.SIGTERM)
        graph.spin_until(lambda: not process.alive, REACT_S, "the end of the process", check=False)
        assert process.process.returncode == 0, process.log_tail()
        assert "does not become active" in process.log_tail(), "it was not waiting when the signal came"


def test_a_killed_gate_leaves_a_command_that_ends_in_rest(around: Surroundings) -> None:
    around.activate()
    until_moving(around)
    around.graph.kill("intervention_node")
    start_s = time.monotonic()
    until_still(around)
    assert time.monotonic() - start_s < 1.5, "the last command did not stop the arm"


def test_sigterm_stops_the_arm_before_the_process_ends(around: Surroundings) -> None:
    around.activate()
    until_moving(around)
    process = around.graph.processes["intervention_node"]
    process.signal(signal.SIGTERM)
    around.graph.spin_until(lambda: not process.alive, REACT_S, "the end of the process", check=False)
    assert process.process.returncode == 0, process.log_tail()
    around.graph.spin_for(0.1)
    assert around.states.newest.mode == InterventionState.INACTIVE, around.newest()
    until_still(around)


def test_a_second_command_publisher_is_named_and_latches(around: Surroundings, rogue: Node) -> None:
    around.activate()
    rogue.create_publisher(JointTrajectory, qos.ARM_COMMAND, 10)
    around.until(Mode.EMERGENCY_STOP)
    assert "/intervention_node" in around.newest(), around.newest()
    # It latches on the event of the graph at once, which may be before the graph knows the other's name.
    around.graph.spin_until(lambda: "/rogue" in around.newest(), REACT_S, "the name of the other writer")
    around.graph.spin_until(lambda: around.driver_stops > 0, REACT_S, "the driver's stop")
    assert not around.trigger(qos.RESET).success, "reset while the cause stands"
    rogue.destroy_node()
    around.graph.spin_until(lambda: around.trigger(qos.RESET).success, REACT_S, "the reset")


def test_the_driver_is_stopped_when_another_node_commands_an_arm_that_a_person_has_stopped(
    around: Surroundings, rogue: Node
) -> None:
    around.activate()
    assert around.trigger(qos.EMERGENCY_STOP).success
    around.until(Mode.EMERGENCY_STOP)
    assert around.driver_stops == 0
    rogue.create_publisher(JointTrajectory, qos.ARM_COMMAND, 10)
    around.graph.spin_until(lambda: around.driver_stops > 0, REACT_S, "the driver's stop")


def test_a_driver_that_refuses_its_stop_is_asked_until_it_obeys_and_then_no_more(
    around: Surroundings, rogue: Node
) -> None:
    around.activate()
    around.refused_stops = 2
    rogue.create_publisher(JointTrajectory, qos.ARM_COMMAND, 10)
    around.graph.spin_until(lambda: around.driver_stops > 2, REACT_S, "the driver's obedience")
    around.graph.spin_for(2.0 * max(drivers.RETRY_S, drivers.ANSWER_S))
    assert around.driver_stops == 3
    assert around.driver_resumes == 1, "it goes on though its stop stands"


def test_answers_that_take_the_arm_up_let_the_driver_go_on(around: Surroundings) -> None:
    around.activate()
    assert around.driver_resumes == 1
    reset = around.trigger(qos.RESET)
    assert (reset.success, reset.message) == (False, "nothing is stopped: the arm follows the policy")
    around.risk = {"collision": (0.0, 0.0, 0.0, 0.7), "out_of_distribution": True}
    around.until(Mode.ASSIST)
    around.risk = {}
    assert around.driver_resumes == 1
    resume(around)
    around.graph.spin_until(lambda: around.driver_resumes == 2, REACT_S, "the driver to go on")


def test_messages_that_are_wrong_in_ever_new_ways_do_not_flood_the_log(around: Surroundings) -> None:
    around.activate()
    around.policy_on = False
    for number in range(100):
        message = around.plan()
        message.trajectory.joint_names[0] = f"elbow_{number}"
        around.policy_publisher.publish(message)
        around.graph.spin_for(0.01)
    around.graph.spin_until(lambda: around.states.newest.refused_message_count > 20, REACT_S, "the refusals")
    lines = around.graph.processes["intervention_node"].log_tail(500).splitlines()
    said = sum("elbow_" in line for line in lines)
    assert 1 <= said <= 10, f"{said} lines for {around.states.newest.refused_message_count} messages"


def test_only_the_policy_bound_at_activation_is_obeyed(around: Surroundings, rogue: Node) -> None:
    around.activate()
    publisher = rogue.create_publisher(PolicyOutput, qos.POLICY_OUTPUT, qos.profile(qos.POLICY_OUTPUT))
    publisher.publish(around.plan())
    around.until(Mode.HOLD)
    around.graph.spin_until(lambda: "/rogue" in around.newest(), REACT_S, "the name of the other policy")
    rogue.destroy_node()
    around.until(Mode.NOMINAL)


def test_the_emergency_stop_button_stops_and_its_release_alone_does_not_start(around: Surroundings) -> None:
    around.activate()
    button = around.node.create_publisher(
        Bool, qos.EMERGENCY_STOP_BUTTON, qos.profile(qos.EMERGENCY_STOP_BUTTON)
    )
    around.graph.spin_until(lambda: button.get_subscription_count() > 0, REACT_S, "the gate to listen")
    button.publish(Bool(data=True))
    around.until(Mode.EMERGENCY_STOP)
    assert not around.trigger(qos.RESET).success, "reset while the button is pressed"
    button.publish(Bool(data=False))
    around.graph.spin_for(0.3)
    assert around.states.newest.mode == InterventionState.EMERGENCY_STOP
    around.graph.spin_until(lambda: around.trigger(qos.RESET).success, REACT_S, "the reset")
    around.until(Mode.NOMINAL)


SLOW_TO_STOP = {"robot.acceleration_limit_rad_s2": [1.0] * 7}
"""The arm needs nearly a second to come to rest from :func:`turn`: time for something to happen."""


def turn(around: Surroundings) -> PolicyOutput:
    """A plan of three seconds: the base turns at 0.8 rad/s."""
    angle = 0.8 * 0.05 * np.arange(1, 61)
    points = around.measured + np.outer(angle, np.eye(7)[0])
    plan = output(around.sequence, chunk(around.ros_s, points))
    return policy_output_to_message(plan, ARM.joint_names, "panda_link0")


class Button:
    """A hardware button with its heartbeat, heard by the gate."""

    def __init__(self, around: Surroundings) -> None:
        self.pressed = False
        self._publisher = around.node.create_publisher(
            Bool, qos.EMERGENCY_STOP_BUTTON, qos.profile(qos.EMERGENCY_STOP_BUTTON)
        )
        self._heartbeat = around.node.create_timer(0.02, self._beat)
        around.graph.spin_until(
            lambda: self._publisher.get_subscription_count() > 0, REACT_S, "the gate to hear the button"
        )

    def _beat(self) -> None:
        self._publisher.publish(Bool(data=self.pressed))

    def press(self) -> None:
        self.pressed = True
        self._beat()

    def lose(self) -> None:
        self._heartbeat.cancel()


@contextmanager
def braking(tmp_path: Path) -> Iterator[tuple[Surroundings, Button, Future]]:
    """A gate that brings a fast arm to rest in order to be deactivated, and the answer to come."""
    parameters = {"button": True, "button_deadline_s": 0.5, **SLOW_TO_STOP}
    with surroundings(tmp_path, next(DOMAIN), latch_file=str(tmp_path / "latch"), **parameters) as around:
        around.change_plan = lambda _plan: turn(around)
        graph, button = around.graph, Button(around)
        deactivate = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        client = graph.node.create_client(ChangeState, "intervention_node/change_state")
        graph.spin_until(client.service_is_ready, REACT_S, "the lifecycle service")
        around.activate()

        def fast() -> bool:
            if around.states.newest.mode == InterventionState.EMERGENCY_STOP:
                around.trigger(qos.RESET)  # a busy moment of the machine, in which no heartbeat was sent
            return around.states.newest.mode == InterventionState.NOMINAL and speed(around) > 0.7

        graph.spin_until(fast, REACT_S, "fast motion")
        answer = client.call_async(deactivate)
        graph.spin_until(
            lambda: around.states.newest.cause == InterventionState.CAUSE_DEACTIVATED, REACT_S, "the stop"
        )
        yield around, button, answer


@pytest.mark.parametrize(
    ("happens", "cause"),
    [(Button.press, InterventionState.CAUSE_BUTTON), (Button.lose, InterventionState.CAUSE_BUTTON_LOST)],
    ids=["pressed", "lost"],
)
def test_the_button_latches_while_a_deactivation_still_brings_the_arm_to_rest(
    tmp_path: Path, happens: Callable[[Button], None], cause: int
) -> None:
    with braking(tmp_path) as (around, button, answer):
        happens(button)
        around.until(Mode.EMERGENCY_STOP)
        assert not answer.done() and speed(around) > 0.0, "the arm stood before the button was heard"
        assert around.states.newest.cause == cause, around.newest()

        around.graph.spin_until(answer.done, REACT_S, "the answer to the deactivation")
        assert answer.result().success and speed(around) < 0.01, "it was deactivated in motion"
        assert around.states.newest.mode == InterventionState.EMERGENCY_STOP, around.newest()
        assert (tmp_path / "latch").exists(), "a restart would not find the stop"
        if button.pressed:
            assert not around.trigger(qos.RESET).success, "reset while the button is pressed"
            button.pressed = False
        around.graph.spin_until(lambda: around.trigger(qos.RESET).success, REACT_S, "the reset")
        around.until(Mode.INACTIVE)


def test_a_button_that_goes_on_beating_latches_nothing_while_a_deactivation_brings_the_arm_to_rest(
    tmp_path: Path,
) -> None:
    with braking(tmp_path) as (around, _, answer):
        around.states.clear()
        around.graph.spin_until(answer.done, REACT_S, "the answer to the deactivation")
        around.until(Mode.INACTIVE)
        assert {state.mode for state in around.states.messages} == {Mode.HOLD, Mode.INACTIVE}


def test_corrupt_messages_are_refused_and_the_gate_goes_on(around: Surroundings) -> None:
    around.activate()
    before = around.states.newest.refused_message_count
    for _ in range(2):
        message = around.plan()
        message.trajectory.joint_names[0] = "elbow"
        around.policy_publisher.publish(message)
    around.graph.spin_until(
        lambda: around.states.newest.refused_message_count >= before + 2, REACT_S, "the refusals"
    )
    assert around.states.newest.mode != InterventionState.EMERGENCY_STOP, around.newest()


def test_a_second_monitor_is_named_and_holds(around: Surroundings, rogue: Node) -> None:
    around.activate()
    rogue.create_publisher(FailurePrediction, qos.FAILURE_PREDICTION, qos.profile(qos.FAILURE_PREDICTION))
    around.until(Mode.HOLD)
    around.graph.spin_until(lambda: "/rogue" in around.newest(), REACT_S, "the name of the other monitor")
    assert "salus_graph" in around.newest(), around.newest()
    rogue.destroy_node()
    around.until(Mode.NOMINAL)


def test_joint_states_of_the_arm_from_two_nodes_latch_and_those_of_a_gripper_do_not(
    around: Surroundings, rogue: Node
) -> None:
    around.activate()
    publisher = rogue.create_publisher(JointState, qos.JOINT_STATES, qos.profile(qos.JOINT_STATES))
    around.graph.spin_until(lambda: publisher.get_subscription_count() > 0, REACT_S, "the gate to listen")
    for _ in range(5):
        publisher.publish(JointState(name=["other_gripper"], position=[0.0]))
        around.graph.spin_for(0.1)
    assert around.states.newest.mode == InterventionState.NOMINAL, around.newest()
    publisher.publish(robot_state_to_message(around.robot_state(), ARM.joint_names, FINGERS))
    around.until(Mode.EMERGENCY_STOP)
    assert "/rogue" in around.newest(), around.newest()


def test_the_diagnostics_tell_of_every_input_limit_writer_and_mode(around: Surroundings) -> None:
    heard = around.graph.listen(qos.DIAGNOSTICS, DiagnosticArray)
    around.activate()
    heard.clear()
    around.graph.spin_until(lambda: heard.count > 1, REACT_S, "the diagnostics")
    statuses = {status.name.removeprefix("intervention_node: "): status for status in heard.newest.status}
    for name in (
        *("input joint states", "input policy output", "input failure prediction"),
        *("limit joint positions", "limit joint velocities", "limit workspace box"),
        *("limit contact force", "limit distance from commands"),
        *(f"writers of {topic}" for topic in (qos.ARM_COMMAND, qos.POLICY_OUTPUT, qos.JOINT_STATES)),
        *(f"mode {mode.name}" for mode in Mode),
    ):
        assert name in statuses, f"no status {name!r} among {sorted(statuses)}"
    assert statuses["input joint states"].message == "heard in time"


def test_a_parameter_is_changed_at_run_time_or_refused_with_the_reason(around: Surroundings) -> None:
    def change(name: str, value: float) -> Any:
        parameter = Parameter(
            name=name, value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        )
        request = SetParameters.Request(parameters=[parameter])
        return around.graph.call("intervention_node/set_parameters", SetParameters, request).results[0]

    assert change("slow_speed", 0.5).successful
    for name, value, why in (("slow_speed", 7.0, "slow_speed"), ("slow_risk", 0.1, "slow_risk_clear")):
        refused = change(name, value)
        assert not refused.successful
        assert why in refused.reason, refused.reason
    assert not change("period_s", 0.02).successful, "the period of a running timer cannot change"


def test_a_monitor_that_is_declared_absent_at_run_time_counts_until_the_next_activation(
    around: Surroundings,
) -> None:
    around.activate()
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="absent")
    request = SetParameters.Request(parameters=[Parameter(name="monitor", value=value)])
    assert around.graph.call("intervention_node/set_parameters", SetParameters, request).results[0].successful
    around.states.clear()
    around.graph.spin_for(1.5 * PATIENT["prediction_slow_deadline_s"])
    assert {state.mode for state in around.states.messages} == {Mode.NOMINAL}, around.newest()
    around.deactivate()
    around.monitor_on = False
    around.activate()


def test_a_stop_that_no_file_can_keep_is_kept_over_a_new_configuration(tmp_path: Path) -> None:
    with surroundings(tmp_path, next(DOMAIN), latch_file="/proc/none/latch") as around:
        assert around.trigger(qos.EMERGENCY_STOP).success
        around.until(Mode.EMERGENCY_STOP)
        with pytest.raises(SalusError, match="reset it first"):
            around.graph.bring_up("intervention_node", timeout_s=START_S)


def test_the_deadman_calls_the_drivers_stop_when_the_gate_freezes(around: Surroundings) -> None:
    around.graph.start("deadman")
    around.activate()
    around.graph.spin_until(
        lambda: around.node.count_subscribers(f"/{qos.INTERVENTION_STATE}") >= 2, START_S, "the deadman"
    )
    around.graph.spin_for(1.0)
    around.driver_stops = 0
    around.graph.processes["intervention_node"].signal(signal.SIGSTOP)
    around.graph.spin_until(lambda: around.driver_stops > 0, REACT_S, "the driver's stop")
    os.killpg(around.graph.processes["intervention_node"].process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"slow_risk": 0.1, "slow_risk_clear": 0.3}, "slow_risk"),
        ({"retrace_speed": 0.9}, "retrace_speed"),
        ({"speeed": 1.0}, "speeed"),
    ],
)
def test_a_bad_parameter_is_refused_with_its_name(
    tmp_path: Path, parameters: dict[str, float], named: str
) -> None:
    with (
        pytest.raises(SalusError, match=rf"exit code 2;(.|\n)*{named}"),
        surroundings(tmp_path, next(DOMAIN), **parameters),
    ):
        pass
