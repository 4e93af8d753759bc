"""The simulator offers what an arm's drivers offer."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from graph_helpers import REACT_S, reset_simulation, speed, stamps, start_simulator, trigger
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from salus_msgs.msg import EpisodeEvent, InterventionState
from salus_ros.nodes import qos
from salus_ros.nodes.driver_messages import stamp_from_message, trajectory_to_message
from salus_ros.nodes.graph import Graph
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.types import JointTrajectory

ROBOT = Robot.load(RobotSettings())


def command(
    graph: Graph, start_rad: np.ndarray, move_rad: float, duration_s: float
) -> JointTrajectoryMessage:
    target = start_rad + move_rad * np.eye(7)[0]
    trajectory = JointTrajectory(np.array([duration_s]), target[None], np.zeros((1, 7)))
    return trajectory_to_message(trajectory, ROBOT.arm.joint_names)


def test_everything_a_driver_offers_is_there_at_its_rate(graph: Graph) -> None:
    images = [graph.listen(topic, Image) for topic in (qos.FRONT_IMAGE, qos.WRIST_IMAGE)]
    infos = [graph.listen(topic, CameraInfo) for topic in (qos.FRONT_INFO, qos.WRIST_INFO)]
    points = graph.listen(qos.FRONT_POINTS, PointCloud2)
    clock = graph.listen(qos.CLOCK, Clock)
    events = graph.listen(qos.EPISODE_EVENT, EpisodeEvent)
    instruction = graph.listen(qos.INSTRUCTION, String)
    joints = start_simulator(graph)
    slow = (*images, *infos, points)
    graph.spin_until(lambda: all(topic.count > 10 for topic in slow), REACT_S, "images and clouds")
    assert joints.newest.name == [*ROBOT.arm.joint_names, *ROBOT.finger_joints]
    assert len(joints.newest.position) == len(joints.newest.velocity) == len(joints.newest.effort) == 9
    assert np.diff(stamps(joints.messages)) == pytest.approx(0.01, abs=1e-6)
    for topic in slow:
        assert np.diff(stamps(topic.messages)) == pytest.approx(0.1, abs=1e-6)
    assert stamps(images[0].messages)[-3:] == stamps(images[1].messages)[-3:]
    assert 0.0 <= stamp_from_message(clock.newest.clock) - stamps(joints.messages)[-1] < 0.1
    assert points.newest.width > 50
    assert "cube" in instruction.newest.data
    assert events.messages[0].kind == EpisodeEvent.EPISODE_START


def test_the_arm_follows_a_trajectory_and_holds_its_last_point(graph: Graph) -> None:
    joints = start_simulator(graph)
    publisher = graph.node.create_publisher(
        JointTrajectoryMessage, qos.ARM_COMMAND, qos.profile(qos.ARM_COMMAND)
    )
    graph.spin_until(lambda: publisher.get_subscription_count() > 0, REACT_S, "the controller")
    start = ROBOT.state(joints.newest).joint_position_rad
    publisher.publish(command(graph, start, 0.2, 1.0))

    def moved() -> float:
        return float(ROBOT.state(joints.newest).joint_position_rad[0] - start[0])

    graph.spin_until(lambda: speed(joints.newest) > 0.1, REACT_S, "motion")
    graph.spin_until(lambda: speed(joints.newest) < 0.01 and moved() > 0.19, REACT_S, "the target")
    joints.clear()
    graph.spin_until(lambda: joints.count > 50, REACT_S, "joint states")
    assert moved() == pytest.approx(0.2, abs=0.01)


def test_a_bad_command_is_refused_and_the_one_before_goes_on(graph: Graph) -> None:
    joints = start_simulator(graph)
    publisher = graph.node.create_publisher(
        JointTrajectoryMessage, qos.ARM_COMMAND, qos.profile(qos.ARM_COMMAND)
    )
    graph.spin_until(lambda: publisher.get_subscription_count() > 0, REACT_S, "the controller")
    start = ROBOT.state(joints.newest).joint_position_rad
    publisher.publish(command(graph, start, 0.2, 1.0))
    unknown = command(graph, start, -0.5, 0.5)
    unknown.joint_names[0] = "gripper"
    not_finite = command(graph, start, np.nan, 0.5)
    for bad in (unknown, not_finite, JointTrajectoryMessage()):
        publisher.publish(bad)
    graph.spin_until(
        lambda: ROBOT.state(joints.newest).joint_position_rad[0] - start[0] > 0.19, REACT_S, "the good target"
    )
    graph.spin_until(
        lambda: "command refused" in graph.processes["sim_node"].log_tail(), REACT_S, "the refusal in the log"
    )


def test_the_drivers_stop_brings_the_arm_to_rest_and_takes_no_command_until_resumed(graph: Graph) -> None:
    joints = start_simulator(graph)
    publisher = graph.node.create_publisher(
        JointTrajectoryMessage, qos.ARM_COMMAND, qos.profile(qos.ARM_COMMAND)
    )
    graph.spin_until(lambda: publisher.get_subscription_count() > 0, REACT_S, "the controller")
    start = ROBOT.state(joints.newest).joint_position_rad
    publisher.publish(command(graph, start, 1.0, 4.0))
    graph.spin_until(lambda: speed(joints.newest) > 0.1, REACT_S, "motion")
    assert trigger(graph, qos.DRIVER_STOP).success
    graph.spin_until(lambda: speed(joints.newest) < 0.01, REACT_S, "standstill")
    stood = joints.newest.position[0]
    publisher.publish(command(graph, start, 1.0, 1.0))
    joints.clear()
    graph.spin_until(lambda: joints.count > 50, REACT_S, "joint states")
    assert joints.newest.position[0] == pytest.approx(stood, abs=0.01)
    assert trigger(graph, qos.DRIVER_RESUME).success
    publisher.publish(command(graph, ROBOT.state(joints.newest).joint_position_rad, 0.2, 1.0))
    graph.spin_until(lambda: joints.newest.position[0] > stood + 0.15, REACT_S, "motion after resuming")


def test_a_reset_draws_the_scene_of_its_seed_and_time_goes_on(graph: Graph) -> None:
    instruction = graph.listen(qos.INSTRUCTION, String)
    events = graph.listen(qos.EPISODE_EVENT, EpisodeEvent)
    joints = start_simulator(graph)
    answers = [reset_simulation(graph, seed) for seed in (11, 12, 11)]
    assert all(answer.accepted for answer in answers)
    assert answers[0].instruction == answers[2].instruction
    graph.spin_until(
        lambda: (
            [event.seed for event in events.messages if event.kind == EpisodeEvent.EPISODE_START][-1:] == [11]
        ),
        REACT_S,
        "the start of the last episode",
    )
    assert instruction.newest.data == answers[2].instruction
    assert (np.diff(stamps(joints.messages)) > 0).all(), "simulated time went back over a reset"


def test_a_refused_reset_says_why_and_changes_nothing(graph: Graph) -> None:
    instruction = graph.listen(qos.INSTRUCTION, String)
    start_simulator(graph)
    graph.spin_until(lambda: instruction.count == 1, REACT_S, "the first instruction")
    answer = reset_simulation(graph, 1, disturbance="earthquake")
    assert not answer.accepted
    assert "earthquake" in answer.message
    assert reset_simulation(graph, -1).accepted is False
    assert instruction.count == 1


def test_the_arm_lives_on_after_the_episodes_end(graph: Graph) -> None:
    events = graph.listen(qos.EPISODE_EVENT, EpisodeEvent)
    joints = start_simulator(graph, **{"sim.time_limit_s": 1.0})
    graph.spin_until(
        lambda: events.count > 0 and events.newest.kind == EpisodeEvent.EPISODE_END, REACT_S, "the end"
    )
    assert [event.kind for event in events.messages].count(EpisodeEvent.TIMEOUT) == 1
    joints.clear()
    graph.spin_until(lambda: joints.count > 50, REACT_S, "joint states after the end")
    assert np.diff(stamps(joints.messages)) == pytest.approx(0.01, abs=1e-6)
    assert events.newest.kind == EpisodeEvent.EPISODE_END, "an episode that has ended had further events"


def test_asked_to_end_it_goes_on_until_the_gate_is_at_rest(graph: Graph) -> None:
    publisher = graph.node.create_publisher(
        InterventionState, qos.INTERVENTION_STATE, qos.profile(qos.INTERVENTION_STATE)
    )
    mode = InterventionState.NOMINAL
    heartbeat = graph.node.create_timer(0.1, lambda: publisher.publish(InterventionState(mode=mode)))
    joints = start_simulator(graph)
    graph.spin_until(lambda: publisher.get_subscription_count() > 0, REACT_S, "the simulator to listen")
    graph.spin_for(0.3)  # three heartbeats
    simulator = graph.processes["sim_node"]
    simulator.signal(signal.SIGINT)
    count = joints.count
    graph.spin_until(lambda: joints.count > count + 100, REACT_S, "a second of joint states after the signal")
    mode = InterventionState.INACTIVE
    graph.spin_until(lambda: not simulator.alive, REACT_S, "the simulator's end", check=False)
    heartbeat.cancel()
    assert simulator.process.returncode == 0
