"""Between Gazebo and SALUS: depth images become clouds, contacts and poses become events."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState, PointCloud2
from trajectory_msgs.msg import JointTrajectory

from salus_msgs.msg import EpisodeEvent
from salus_ros.errors import SalusError
from salus_ros.nodes import gazebo_events_node, gazebo_points_node, qos
from salus_ros.nodes.cameras import points_from_message
from salus_ros.nodes.driver_messages import robot_state_to_message, stamp_to_message
from salus_ros.sim.gazebo import DEFAULT_SEED, front_camera_pose
from salus_ros.sim.simulation import Simulation

WAIT_S = 15.0


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    simulation = Simulation()
    simulation.reset(DEFAULT_SEED)
    return simulation


def spin_until(reached: Callable[[], Any], *nodes: Any, act: Callable[[], None] = lambda: None) -> None:
    """Let the nodes work, and act again and again, until it is reached."""
    executor = SingleThreadedExecutor(context=nodes[0].context)
    for node in nodes:
        executor.add_node(node)
    end_s = time.monotonic() + WAIT_S
    while not reached() and time.monotonic() < end_s:
        act()
        executor.spin_once(timeout_sec=0.02)
    executor.shutdown()
    assert reached(), f"not reached in {WAIT_S} s"


def depth_image(depth_m: np.ndarray, padding: int = 0) -> Image:
    rows = np.ascontiguousarray(depth_m, dtype="<f4").view(np.uint8).reshape(depth_m.shape[0], -1)
    message = Image(encoding="32FC1", height=depth_m.shape[0], width=depth_m.shape[1])
    message.step = rows.shape[1] + padding
    message.data = np.pad(rows, ((0, 0), (0, padding))).tobytes()
    message.header.stamp = stamp_to_message(3.25)
    return message


def test_depth_is_read_with_and_without_padding() -> None:
    depth_m = np.linspace(0.5, 2.0, 12, dtype=np.float32).reshape(3, 4)
    for padding in (0, 8):
        assert gazebo_points_node.depth_from_message(depth_image(depth_m, padding)) == pytest.approx(depth_m)


def test_what_is_not_seen_counts_as_far_away() -> None:
    depth_m = np.array([[np.inf, -np.inf, np.nan, 1.0]], dtype=np.float32)
    assert gazebo_points_node.depth_from_message(depth_image(depth_m)).tolist() == [[3.0, 3.0, 3.0, 1.0]]


def test_an_image_that_is_no_depth_is_refused() -> None:
    with pytest.raises(SalusError, match="the encoding 'rgb8'; expected 32FC1"):
        gazebo_points_node.depth_from_message(Image(encoding="rgb8"))
    short = depth_image(np.ones((2, 2), np.float32))
    short.data = short.data[:-1]
    with pytest.raises(SalusError, match="holds 15 bytes"):
        gazebo_points_node.depth_from_message(short)


def test_gazebos_depth_becomes_the_cloud_of_the_mujoco_simulation(
    make_node: Callable[..., Any], simulation: Simulation
) -> None:
    settings = simulation.settings.cloud
    depth_m = simulation._cameras.depth("front", settings.width_px, settings.height_px)
    points = make_node(node_class=gazebo_points_node.GazeboPointsNode)
    talker = make_node()
    got: list[PointCloud2] = []
    talker.create_subscription(PointCloud2, qos.FRONT_POINTS, got.append, qos.profile(qos.FRONT_POINTS))
    publisher = talker.create_publisher(Image, gazebo_points_node.DEPTH, 10)
    spin_until(lambda: got, points, talker, act=lambda: publisher.publish(depth_image(depth_m)))
    cloud, own = points_from_message(got[0]), simulation.point_cloud()
    assert (cloud.stamp_s, cloud.frame_id) == (3.25, own.frame_id)
    assert cloud.points_m == pytest.approx(own.points_m, abs=1e-6)
    assert front_camera_pose(simulation.settings.world) == pytest.approx(simulation.camera_pose("front"))


def test_the_force_of_a_contact_is_that_along_its_normals() -> None:
    def vector(x: float, y: float, z: float) -> SimpleNamespace:
        return SimpleNamespace(x=x, y=y, z=z)

    def wrench(x: float, y: float, z: float) -> SimpleNamespace:
        return SimpleNamespace(body_1_wrench=SimpleNamespace(force=vector(x, y, z)))

    contact = SimpleNamespace(
        normals=[vector(0, 0, 1), vector(0, 0, -1)], wrenches=[wrench(3, 0, 5), wrench(0, 4, -7)]
    )
    assert gazebo_events_node.normal_force_n(contact) == 12.0
    assert gazebo_events_node.normal_force_n(SimpleNamespace(normals=[], wrenches=[])) == 0.0


def test_the_arm_that_hits_the_post_in_gazebo_is_a_collision(
    make_node: Callable[..., Any], simulation: Simulation
) -> None:
    messages = pytest.importorskip("ros_gz_interfaces.msg", reason="ros_gz_interfaces is not installed")
    from geometry_msgs.msg import TransformStamped

    node = make_node(f"seed:={DEFAULT_SEED}", node_class=gazebo_events_node.GazeboEventsNode)
    gazebo = make_node()
    got: list[EpisodeEvent] = []
    gazebo.create_subscription(EpisodeEvent, qos.EPISODE_EVENT, got.append, qos.profile(qos.EPISODE_EVENT))
    publishers = {
        topic: gazebo.create_publisher(kind, topic, 50)
        for kind, topic in (
            (JointState, qos.JOINT_STATES),
            (JointTrajectory, qos.ARM_COMMAND),
            (TransformStamped, gazebo_events_node.POSES),
            (messages.Contacts, gazebo_events_node.CONTACTS),
        )
    }
    ticks = [1000]

    def tick() -> None:
        ticks[0] += 1
        stamp = stamp_to_message(0.01 * ticks[0])
        state = robot_state_to_message(
            simulation.robot_state(), simulation.arm_model.joint_names, node._robot.finger_joints
        )
        state.header.stamp = stamp
        for i, position in enumerate(simulation.truth().cube_position_m):
            pose = TransformStamped(child_frame_id=f"cube_{i}")
            pose.header.stamp = stamp
            translation = pose.transform.translation
            translation.x, translation.y, translation.z = position.tolist()
            publishers[gazebo_events_node.POSES].publish(pose)
        contact = messages.Contact()
        contact.collision1.name = "obstacle::link::obstacle"
        contact.collision2.name = "salus_arm::panda_link5::forearm_capsule_collision"
        normal = type(pose.transform.translation)(x=1.0)
        wrench = messages.JointWrench()
        wrench.body_1_wrench.force.x = -40.0
        contact.normals, contact.wrenches = [normal], [wrench]
        touching = messages.Contacts(contacts=[contact])
        touching.header.stamp = stamp
        publishers[gazebo_events_node.CONTACTS].publish(touching)
        publishers[qos.ARM_COMMAND].publish(JointTrajectory())
        publishers[qos.JOINT_STATES].publish(state)

    spin_until(lambda: len(got) >= 2, node, gazebo, act=tick)
    start, onset = got[:2]
    assert start.kind == EpisodeEvent.EPISODE_START
    assert (start.seed, start.task) == (DEFAULT_SEED, "bin")
    assert (onset.kind, onset.failure_type) == (EpisodeEvent.FAILURE_ONSET, 0)
    assert "fixed object, 40.0 N" in onset.detail
    assert not node.callback_errors
    after_s = onset.header.stamp.sec + 1e-9 * onset.header.stamp.nanosec
    assert 10.0 < after_s < 0.01 * ticks[0], "events carry ROS time"
