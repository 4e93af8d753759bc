from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.policy import action
from salus_ros.robot.ik import InverseKinematics
from salus_ros.robot.model import ArmModel

from .small import START_RAD

URDF = asset("urdf/salus_arm.urdf")


def random_poses(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, random_state=0).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(count, 3))
    return poses


def test_six_numbers_are_the_first_two_rows():
    rotation = random_poses(1)[0, :3, :3]
    np.testing.assert_allclose(action.rotation_to_six(rotation), rotation[:2].reshape(-1))


def test_six_numbers_give_the_rotation_back_even_when_scaled():
    rotation = random_poses(20)[:, :3, :3]
    np.testing.assert_allclose(
        action.six_to_rotation(3.0 * action.rotation_to_six(rotation)), rotation, atol=1e-12
    )


def test_any_six_numbers_give_a_rotation():
    rotation = action.six_to_rotation(np.random.default_rng(1).normal(size=(50, 6)))
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(-1, -2), np.tile(np.eye(3), (50, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)


def test_euler_angles_are_intrinsic_xyz():
    rotation = random_poses(20)[:, :3, :3]
    expected = Rotation.from_matrix(rotation).as_euler("XYZ")
    np.testing.assert_allclose(action.rotation_to_euler_xyz(rotation), expected, atol=1e-9)


def test_relative_actions_lead_back_to_the_wanted_poses():
    measured, wanted = random_poses(1)[0], random_poses(17)[1:]
    numbers = action.to_relative(measured, wanted, np.full(16, 0.05))
    np.testing.assert_allclose(action.from_relative(measured, numbers), wanted, atol=1e-12)
    np.testing.assert_array_equal(numbers[:, action.GRIPPER], 0.05)


def test_standing_still_is_no_translation_and_no_rotation():
    measured = random_poses(1)[0]
    numbers = action.to_relative(measured, measured[None], np.array([0.0]))
    np.testing.assert_allclose(numbers[0], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("size", [7, 10, 13])
def test_state_has_the_size_asked_for(size):
    arm = ArmModel.from_urdf(URDF)
    state = action.tool_state(arm, START_RAD[None], np.zeros((1, 7)), np.array([0.08]), size)
    assert state.shape == (1, size)
    np.testing.assert_allclose(state[0, :3], arm.forward(START_RAD)[:3, 3])


def test_state_velocity_is_the_tools_own():
    arm = ArmModel.from_urdf(URDF)
    speed = np.array([0.3, -0.1, 0.2, 0.4, -0.2, 0.1, 0.5])
    before, after = (arm.forward(START_RAD + sign * 1e-4 * speed)[:3, 3] for sign in (-1, 1))
    state = action.tool_state(arm, START_RAD, speed, np.array(0.08), 13)
    np.testing.assert_allclose(state[10:], (after - before) / 2e-4, atol=1e-5)


def test_state_velocity_is_not_available_where_the_driver_reports_none():
    arm = ArmModel.from_urdf(URDF)
    state = action.tool_state(arm, START_RAD, np.full(7, np.nan), np.array(0.08), 13)
    assert np.isnan(state[10:]).all() and np.isfinite(state[:10]).all()


def test_an_unknown_state_size_is_told():
    with pytest.raises(SalusError, match="state of 9 numbers"):
        action.tool_state(ArmModel.from_urdf(URDF), START_RAD, np.zeros(7), np.array(0.08), 9)


def test_chunk_begins_one_period_ahead_and_its_joints_reach_the_poses():
    arm = ArmModel.from_urdf(URDF)
    poses = np.tile(arm.forward(START_RAD), (16, 1, 1))
    poses[:, 0, 3] += 0.01 * np.arange(1, 17)
    chunk = action.to_chunk(3.0, START_RAD, poses, np.full(16, 0.08), 0.05, InverseKinematics(URDF))
    assert chunk.stamp_s == 3.0
    np.testing.assert_allclose(chunk.time_from_start_s, 0.05 * np.arange(1, 17))
    reached = arm.forward(chunk.joint_position_rad)[:, :3, 3]
    np.testing.assert_allclose(reached, poses[:, :3, 3], atol=2e-3)
