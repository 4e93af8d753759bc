"""The robot that is spawned in Gazebo is the one URDF, plus what Gazebo needs."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco
import numpy as np
import pytest
from sdf_geometry import GAZEBO_TO_OPTICAL, matrix
from sdf_parser import as_sdf, complaints, needs_parser

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.robot.gazebo import GazeboSettings, gazebo_description
from salus_ros.robot.model import ArmModel
from salus_ros.sim.simulation import Simulation
from salus_ros.sim.start import TOOL_DOWN
from salus_ros.sim.tasks import TaskSettings

URDF = asset("urdf/salus_arm.urdf")
CONTROLLERS = "/share/config/controllers.yaml"


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("robot") / "composed.urdf"
    path.write_text(gazebo_description(URDF.read_text(), CONTROLLERS))
    return path


@pytest.fixture(scope="module")
def in_gazebo(composed: Path) -> ElementTree.Element:
    """The composed description as Gazebo's parser turns it into a model."""
    model = ElementTree.fromstring(as_sdf(composed)).find("model")
    assert model is not None
    return model


def check_urdf(path: Path) -> list[str]:
    """What ROS's own URDF parser says about a file: the tree of its links."""
    tool = Path(sys.executable).with_name("check_urdf")
    answer = subprocess.run([tool, path], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


def test_ros_own_parser_reads_the_same_tree_below_the_world(composed: Path) -> None:
    plain, robot = check_urdf(URDF), check_urdf(composed)
    assert "root Link: panda_link0" in plain[2]
    assert robot[2:4] == ["root Link: world has 1 child(ren)", "    child(1):  panda_link0"]
    assert [line.strip() for line in robot[4:]] == [line.strip() for line in plain[3:]]


@needs_parser
def test_gazebo_has_the_joints_and_limits_of_the_urdf(in_gazebo: ElementTree.Element) -> None:
    arm = ArmModel.from_urdf(URDF)
    for i, name in enumerate(arm.joint_names):
        axis = in_gazebo.find(f"joint[@name='{name}']/axis")
        assert axis is not None, f"Gazebo has no joint {name}"
        limits = [float(axis.findtext(f"limit/{key}") or "nan") for key in ("lower", "upper", "velocity")]
        assert limits == pytest.approx(
            [arm.position_lower_rad[i], arm.position_upper_rad[i], arm.velocity_limit_rad_s[i]]
        )


def test_mujoco_compiles_it_to_the_same_masses_and_places(composed: Path) -> None:
    plain, robot = (mujoco.MjModel.from_xml_path(str(path)) for path in (URDF, composed))
    assert robot.nq == plain.nq
    for i in range(1, plain.nbody):
        twin = robot.body(plain.body(i).name)
        assert robot.body_mass[twin.id] == pytest.approx(plain.body_mass[i]), plain.body(i).name
        assert robot.body_pos[twin.id] == pytest.approx(plain.body_pos[i]), plain.body(i).name


def test_the_arms_own_model_is_unchanged(composed: Path) -> None:
    plain, robot = ArmModel.from_urdf(URDF), ArmModel.from_urdf(composed)
    q = 0.5 * (plain.position_lower_rad + plain.position_upper_rad)
    assert robot.joint_names == plain.joint_names
    assert robot.forward(q) == pytest.approx(plain.forward(q))


@needs_parser
def test_gazebos_own_parser_finds_nothing_to_complain_about(composed: Path) -> None:
    assert complaints(composed) == ""


@needs_parser
def test_the_base_is_fixed_to_the_world(in_gazebo: ElementTree.Element) -> None:
    joint = in_gazebo.find("joint[@name='world_joint']")
    assert joint is not None and joint.get("type") == "fixed"
    assert (joint.findtext("parent"), joint.findtext("child")) == ("world", "panda_link0")


@needs_parser
def test_gazebo_keeps_the_whole_mass(in_gazebo: ElementTree.Element, simulation: Simulation) -> None:
    """Its parser lumps links that are fixed to one another."""
    masses = {link.get("name"): float(link.findtext("inertial/mass") or 0) for link in in_gazebo.iter("link")}
    model = simulation._world.model
    lumped = [
        model.body_mass[model.body(name).id] for name in ("panda_link7", "panda_hand", "wrist_camera_link")
    ]
    assert masses["panda_link7"] == pytest.approx(sum(lumped))
    for name in ("panda_link3", "panda_leftfinger"):
        assert masses[name] == pytest.approx(model.body_mass[model.body(name).id])


@needs_parser
def test_the_same_links_can_touch_as_in_mujoco(
    in_gazebo: ElementTree.Element, simulation: Simulation
) -> None:
    model = simulation._world.model
    touching = {model.body(model.geom_bodyid[g]).name for g in range(model.ngeom)}
    wanted = {name for name in touching if name.startswith("panda_") and name != "panda_hand"}
    found = {link.get("name") for link in in_gazebo.iter("link") if link.find("collision") is not None}
    assert found == wanted
    shapes = [shape.get("name", "") for shape in in_gazebo.iterfind("link[@name='panda_link7']/collision")]
    assert any("hand_capsule" in name for name in shapes), "the hand is lumped into the last link"


@needs_parser
def test_the_wrist_camera_sees_what_mujocos_camera_sees(
    in_gazebo: ElementTree.Element, simulation: Simulation
) -> None:
    sensor = in_gazebo.find("link[@name='panda_link7']/sensor[@name='wrist']")
    assert sensor is not None, "the camera is not fixed to the last link"
    arm = ArmModel.from_urdf(URDF)
    q = simulation.robot_state().joint_position_rad
    link = arm.link_poses(q)[arm.link_names.index("panda_link7")]
    pose = link @ matrix(sensor.findtext("pose")) @ GAZEBO_TO_OPTICAL
    assert pose == pytest.approx(simulation.camera_pose("wrist"), abs=1e-5)
    fov = float(sensor.findtext("camera/horizontal_fov") or 0)
    assert fov == pytest.approx(np.deg2rad(simulation.camera_fovy_deg("wrist")), abs=1e-6)
    size = simulation.settings.image_size_px
    assert [sensor.findtext(f"camera/image/{side}") for side in ("width", "height")] == [str(size)] * 2


@needs_parser
def test_the_pads_have_the_friction_of_mujocos(
    in_gazebo: ElementTree.Element, simulation: Simulation
) -> None:
    for finger in ("panda_leftfinger", "panda_rightfinger"):
        values = in_gazebo.findall(f"link[@name='{finger}']/collision/surface/friction/ode/mu")
        assert values and all(
            float(value.text or 0) == simulation.settings.world.finger_friction for value in values
        )


def test_the_settings_are_those_of_the_mujoco_world(simulation: Simulation) -> None:
    settings, world = GazeboSettings(), simulation.settings.world
    assert settings.finger_force_n == world.grip_force_n
    assert settings.finger_speed_m_s == simulation.settings.gripper_speed_m_s / 2
    assert settings.camera_fov_rad == pytest.approx(np.deg2rad(world.wrist_camera_fovy_deg))
    assert settings.arm_joints == simulation.arm_model.joint_names


def test_the_arm_starts_where_tasks_start_it() -> None:
    tool = ArmModel.from_urdf(URDF).forward(GazeboSettings().start_rad)
    assert tool[:3, 3] == pytest.approx(TaskSettings().start_m, abs=1e-3)
    assert tool[:3, :3] == pytest.approx(TOOL_DOWN, abs=1e-3)


def test_every_moving_joint_has_one_position_command_and_its_start(composed: Path) -> None:
    control = ElementTree.parse(composed).find("ros2_control")
    assert control is not None
    assert control.findtext("hardware/plugin") == "gz_ros2_control/GazeboSimSystem"
    settings = GazeboSettings()
    joints = {joint.get("name"): joint for joint in control.iterfind("joint")}
    assert tuple(joints) == settings.arm_joints + settings.finger_joints
    starts = (*settings.start_rad, *[settings.finger_start_m] * len(settings.finger_joints))
    for joint, start in zip(joints.values(), starts, strict=True):
        assert [part.get("name") for part in joint.iterfind("command_interface")] == ["position"]
        states = [part.get("name") for part in joint.iterfind("state_interface")]
        assert states == ["position", "velocity"], "Gazebo measures no torque: a 0 would be taken for one"
        value = joint.findtext("state_interface[@name='position']/param[@name='initial_value']")
        assert float(value or "nan") == pytest.approx(start, abs=1e-5)


def test_the_plugin_reads_the_controllers_file(composed: Path) -> None:
    plugin = ElementTree.parse(composed).find("gazebo/plugin")
    assert plugin is not None
    assert plugin.get("filename") == "gz_ros2_control-system"
    assert plugin.get("name") == "gz_ros2_control::GazeboSimROS2ControlPlugin"
    assert plugin.findtext("parameters") == CONTROLLERS


def test_what_is_no_fitting_urdf_is_refused_with_one_sentence() -> None:
    with pytest.raises(SalusError, match="no valid XML"):
        gazebo_description("<robot>", CONTROLLERS)
    with pytest.raises(SalusError, match="has no link panda_link0"):
        gazebo_description("<robot name='r'/>", CONTROLLERS)
    with pytest.raises(SalusError, match="has no joint panda_joint1"):
        renamed = URDF.read_text().replace('"panda_joint1"', '"other"')
        gazebo_description(renamed, CONTROLLERS)
    with pytest.raises(SalusError, match="start_rad has 1 values for 7 arm joints"):
        gazebo_description(URDF.read_text(), CONTROLLERS, GazeboSettings(start_rad=(0.0,)))
