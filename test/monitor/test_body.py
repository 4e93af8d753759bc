"""The robot's volume and what the depth cloud leaves of it."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_episodes import HOME_RAD

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.monitor.body import Body, Capsules, pose_from_numbers
from salus_ros.monitor.scenery import Scene
from salus_ros.monitor.settings import FRONT_CAMERA_POSE, MonitorSettings
from salus_ros.monitor.view import Motion
from salus_ros.types import PointCloud


@pytest.fixture(scope="module")
def body() -> Body:
    return Body.from_urdf(asset("urdf/salus_arm.urdf"), {"front_optical_frame": FRONT_CAMERA_POSE})


def still(opening_m: float = 0.08) -> Motion:
    stamps = np.array([0.9, 1.0])
    return Motion(
        stamps, np.tile(HOME_RAD, (2, 1)), np.zeros((2, 7)), np.zeros((2, 7)), np.full(2, opening_m)
    )


def seen(body: Body, points_in_base: np.ndarray, opening_m: float = 0.08):  # type: ignore[no-untyped-def]
    pose = pose_from_numbers(FRONT_CAMERA_POSE)
    in_camera = (points_in_base - pose[:3, 3]) @ pose[:3, :3]
    cloud = PointCloud(1.0, "front_optical_frame", in_camera.astype(np.float32))
    return Scene(body, MonitorSettings()).scenery(cloud, still(opening_m))


def test_distance_to_a_capsule_by_hand() -> None:
    capsule = Capsules(np.array([[0.0, 0, 0]]), np.array([[1.0, 0, 0]]), np.array([0.1]))
    points = np.array([[0.5, 0.4, 0], [1.5, 0, 0], [-0.3, 0, 0.4], [0.5, 0.0, 0.05]])
    np.testing.assert_allclose(capsule.distance(points), [[0.3, 0.4, 0.4, -0.05]], atol=1e-9)


def test_distances_of_many_configurations_are_those_of_each(body: Body) -> None:
    joints = HOME_RAD + np.random.default_rng(0).normal(0, 0.3, (4, 7))
    points = np.random.default_rng(1).uniform(-1, 1, (20, 3))
    together = body.capsules(body.links(joints), 0.05).distance(points)
    for i, q in enumerate(joints):
        np.testing.assert_allclose(
            together[i], body.capsules(body.links(q), 0.05).distance(points), atol=1e-9
        )


def test_fingers_stand_on_either_side_of_the_tool_as_far_as_they_are_open(body: Body) -> None:
    tool = body.links(HOME_RAD)[-1]
    tip = tool[:3, 3] - 0.005 * tool[:3, 2]
    shut = body.capsules(body.links(HOME_RAD), 0.0, gripper_only=True).distance(tip[None]).min()
    opened = body.capsules(body.links(HOME_RAD), 0.08, gripper_only=True).distance(tip[None]).min()
    assert shut < 0.005, "closed fingers meet at the tool"
    assert opened > 0.025, "open fingers leave 4 cm on either side"


def test_the_whole_hand_belongs_to_the_gripper_and_the_forearm_does_not(body: Body) -> None:
    gripper = body.capsules(body.links(HOME_RAD), 0.08, gripper_only=True)
    everything = body.capsules(body.links(HOME_RAD), 0.08)
    tool = body.links(HOME_RAD)[-1][:3, 3]
    assert 5 <= len(gripper.radius_m) < len(everything.radius_m)
    assert np.linalg.norm(gripper.start_m - tool, axis=1).max() < 0.2


def test_points_on_the_robot_and_on_the_table_are_no_obstacles(body: Body) -> None:
    capsules = body.capsules(body.links(HOME_RAD), 0.08)
    on_robot = np.concatenate([capsules.start_m, capsules.end_m]) + np.array([0.0, 0.0, 0.015])
    table = np.random.default_rng(0).uniform([0.3, -0.4, 0.0], [0.8, 0.4, 0.005], (50, 3))
    obstacle = np.array([[0.7, 0.3, 0.1], [0.7, 0.31, 0.1]])
    left = seen(body, np.concatenate([on_robot, table, obstacle])).obstacles_m
    np.testing.assert_allclose(left, obstacle, atol=2e-3)


def test_what_lies_between_the_fingers_is_held_and_no_obstacle(body: Body) -> None:
    tool = body.links(HOME_RAD)[-1]
    cube = (tool[:3, :3] @ np.random.default_rng(0).uniform(-0.01, 0.01, (30, 3)).T).T + tool[:3, 3]
    scenery = seen(body, cube, opening_m=0.04)
    assert scenery.between_fingers == 30
    assert len(scenery.obstacles_m) == 0


def test_what_lies_under_the_grasp_is_counted(body: Body) -> None:
    tool = body.links(HOME_RAD)[-1]
    below = tool[:3, 3] + 0.08 * tool[:3, 2] + np.random.default_rng(0).uniform(-0.01, 0.01, (12, 3))
    scenery = seen(body, below)
    assert scenery.below_fingers == 12
    assert scenery.between_fingers == 0


def test_a_camera_on_the_wrist_moves_with_it(body: Body) -> None:
    other = HOME_RAD + 0.3
    assert not np.allclose(
        body.frame("wrist_optical_frame", body.links(HOME_RAD)),
        body.frame("wrist_optical_frame", body.links(other)),
    )
    fixed = [body.frame("front_optical_frame", body.links(q)) for q in (HOME_RAD, other)]
    np.testing.assert_allclose(fixed[0], fixed[1])


@pytest.mark.parametrize("numbers", [(0, 0, 0), (0, 0, 0, 0, 0, 0, float("nan"))])
def test_a_camera_pose_that_is_none_is_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(SalusError, match="quaternion"):
        pose_from_numbers(numbers)


def test_the_default_camera_stands_where_the_simulated_one_does() -> None:
    from salus_ros.sim.world import WorldSettings

    world = WorldSettings()
    pose = pose_from_numbers(MonitorSettings().camera_poses["front_optical_frame"])
    sight = np.array(world.front_camera_target_m) - world.front_camera_position_m
    np.testing.assert_allclose(pose[:3, 3], world.front_camera_position_m, err_msg="the camera was moved")
    np.testing.assert_allclose(pose[:3, 2], sight / np.linalg.norm(sight), atol=1e-6)
    assert pose[2, 1] < 0, "y points down in an optical frame"
