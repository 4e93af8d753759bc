import numpy as np
import pytest

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.robot.ik import InverseKinematics, InverseKinematicsSettings
from salus_ros.robot.model import ArmModel

URDF = asset("urdf/salus_arm.urdf")
REST = np.array(InverseKinematicsSettings().rest_posture_rad)


@pytest.fixture(scope="module")
def arm():
    return ArmModel.from_urdf(URDF)


@pytest.fixture(scope="module")
def inverse():
    return InverseKinematics(URDF)


def line(start, direction_m, points=16):
    poses = np.repeat(start[None], points, axis=0)
    poses[:, :3, 3] += np.linspace(0, 1, points + 1)[1:, None] * direction_m
    return poses


@pytest.mark.parametrize("direction_m", [(0.2, 0, 0), (0, -0.25, 0), (0, 0.25, -0.1), (0, 0, -0.38)])
def test_the_joints_lead_the_tool_along_the_path(arm, inverse, direction_m):
    poses = line(arm.forward(REST), direction_m)
    joints = inverse.path(REST, poses)
    reached = arm.forward(joints)
    np.testing.assert_allclose(reached[:, :3, 3], poses[:, :3, 3], atol=1e-3)
    np.testing.assert_allclose(reached[:, :3, :3], poses[:, :3, :3], atol=1e-2)
    assert np.abs(np.diff(joints, axis=0)).max() < 0.15, "a straight path must not make joints jump"


def test_joints_stay_inside_their_limits_when_the_pose_is_out_of_reach(arm, inverse):
    joints = inverse.path(REST, line(arm.forward(REST), (1.5, 0, 0), points=30))
    assert (joints >= arm.position_lower_rad - 1e-6).all()
    assert (joints <= arm.position_upper_rad + 1e-6).all()


def test_a_start_a_hair_outside_its_limit_is_taken(arm, inverse):
    start = REST.copy()
    start[3] = arm.position_upper_rad[3] + 1e-3
    assert np.isfinite(inverse.path(start, arm.forward(REST)[None])).all()


def test_the_same_question_gets_the_same_answer(arm, inverse):
    poses = line(arm.forward(REST), (0.1, 0.1, -0.1))
    first = inverse.path(REST, poses)
    inverse.path(REST, line(arm.forward(REST), (0, -0.2, 0)))
    np.testing.assert_array_equal(inverse.path(REST, poses), first)


def test_wrong_shapes_and_values_are_named(arm, inverse):
    with pytest.raises(SalusError, match=r"start \(6,\)"):
        inverse.path(REST[:6], arm.forward(REST)[None])
    with pytest.raises(SalusError, match="not finite"):
        inverse.path(REST, np.full((1, 4, 4), np.nan))
