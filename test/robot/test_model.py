import mujoco
import numpy as np
import pytest

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.robot.description import RobotDescription
from salus_ros.robot.model import ArmModel, ArmSettings

URDF = asset("urdf/salus_arm.urdf")


@pytest.fixture(scope="module")
def arm():
    return ArmModel.from_urdf(URDF)


def random_joints(arm, count):
    rng = np.random.default_rng(0)
    return rng.uniform(arm.position_lower_rad, arm.position_upper_rad, (count, len(arm.joint_names)))


def test_every_link_lies_where_mujoco_puts_it(arm):
    model = mujoco.MjModel.from_xml_path(str(URDF))
    data = mujoco.MjData(model)
    for q in random_joints(arm, 20):
        for name, value in zip(arm.joint_names, q, strict=True):
            data.joint(name).qpos[0] = value
        mujoco.mj_kinematics(model, data)
        for name, pose in zip(arm.link_names, arm.link_poses(q), strict=True):
            np.testing.assert_allclose(pose[:3, 3], data.body(name).xpos, atol=1e-9, err_msg=name)
            np.testing.assert_allclose(pose[:3, :3].ravel(), data.body(name).xmat, atol=1e-9, err_msg=name)


def test_a_batch_gives_the_same_as_one_by_one(arm):
    q = random_joints(arm, 6).reshape(2, 3, 7)
    batch = arm.forward(q)
    assert batch.shape == (2, 3, 4, 4)
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(batch[i], arm.forward(q[i]), atol=1e-12)


def test_the_tool_is_where_the_published_panda_has_it(arm):
    ready = [0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4]
    np.testing.assert_allclose(arm.forward(ready)[:3, 3], [0.3069, 0, 0.4869], atol=1e-4)


def test_limits_are_those_published_for_the_panda(arm):
    assert arm.joint_names == tuple(f"panda_joint{i}" for i in range(1, 8))
    np.testing.assert_allclose(arm.position_lower_rad[[0, 3, 5]], [-2.8973, -3.0718, -0.0175])
    np.testing.assert_allclose(arm.position_upper_rad[[0, 3, 5]], [2.8973, -0.0698, 3.7525])
    np.testing.assert_allclose(arm.velocity_limit_rad_s, [2.175] * 4 + [2.61] * 3)
    np.testing.assert_allclose(arm.effort_limit_nm, [87] * 4 + [12] * 3)
    np.testing.assert_allclose(arm.acceleration_limit_rad_s2, [15, 7.5, 10, 12.5, 15, 20, 20])


def test_limits_cannot_be_overwritten(arm):
    with pytest.raises(ValueError, match="read-only"):
        arm.velocity_limit_rad_s[0] = 100.0


def test_wrong_number_of_joints_is_refused(arm):
    with pytest.raises(SalusError, match=r"shape \(6,\).*7 joints"):
        arm.forward(np.zeros(6))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ArmSettings(tool_frame="gripper"), "no link gripper"),
        (ArmSettings(acceleration_limit_rad_s2=(1.0, 2.0)), "has 2 values.*7 joints"),
        (ArmSettings(base_frame="panda_leftfinger"), "does not connect"),
    ],
)
def test_settings_that_do_not_fit_the_urdf_are_named(settings, message):
    with pytest.raises(SalusError, match=message):
        ArmModel.from_urdf(URDF, settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [("<robot", "no valid XML"), ("<sdf/>", "starts with <sdf>"), ("<robot/>", "no link panda_link0")],
)
def test_a_file_that_is_no_urdf_is_named(tmp_path, content, message):
    path = tmp_path / "robot.urdf"
    path.write_text(content)
    with pytest.raises(SalusError, match=message):
        ArmModel.from_urdf(path)


def test_a_missing_urdf_is_named(tmp_path):
    with pytest.raises(SalusError, match="is no file"):
        ArmModel.from_urdf(tmp_path / "none.urdf")


def test_a_joint_without_limits_is_named(tmp_path):
    path = tmp_path / "robot.urdf"
    text = URDF.read_text()
    path.write_text(text.replace('<limit lower="-1.7628" upper="1.7628" effort="87" velocity="2.175"/>', ""))
    with pytest.raises(SalusError, match=r"panda_joint2.*lacks <limit>"):
        ArmModel.from_urdf(path)


def test_a_sliding_joint_in_the_chain_is_refused(tmp_path):
    path = tmp_path / "robot.urdf"
    path.write_text(
        URDF.read_text().replace('"panda_joint3" type="revolute"', '"panda_joint3" type="prismatic"')
    )
    with pytest.raises(SalusError, match=r"panda_joint3.*is prismatic"):
        ArmModel.from_urdf(path)


def test_the_shipped_description_gives_the_shipped_arm(arm):
    description = RobotDescription.load(asset("config/robots/salus_arm.yaml"))
    assert description.model().joint_names == arm.joint_names
    np.testing.assert_array_equal(
        description.model().acceleration_limit_rad_s2, arm.acceleration_limit_rad_s2
    )


def test_an_unknown_field_of_a_description_is_named(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(asset("config/robots/salus_arm.yaml").read_text() + "colour: red\n")
    with pytest.raises(SalusError, match="colour"):
        RobotDescription.load(path)
