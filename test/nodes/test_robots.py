"""Files of real arms hold what the nodes read, and fit the names of their drivers and of the launch files."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from rclpy.node import Node

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.nodes import qos
from salus_ros.nodes.console_node import ConsoleNodeSettings
from salus_ros.nodes.controller_stop_node import ControllerStopSettings
from salus_ros.nodes.deadman_node import DeadmanSettings
from salus_ros.nodes.gate_settings import InterventionNodeSettings
from salus_ros.nodes.gripper_node import ARM_STATES, GRIPPER_STATES, GripperSettings
from salus_ros.nodes.markers_node import MarkersSettings
from salus_ros.nodes.monitor_node import MonitorNodeSettings
from salus_ros.nodes.parameters import declare, refuse_unknown
from salus_ros.nodes.policy_node import PolicyNodeSettings
from salus_ros.nodes.robot import Robot, RobotSettings

ROBOTS = ("fr3", "ur5e")
SETTINGS: dict[str, type[BaseModel]] = {
    "policy_node": PolicyNodeSettings,
    "monitor_node": MonitorNodeSettings,
    "intervention_node": InterventionNodeSettings,
    "deadman_node": DeadmanSettings,
    "controller_stop_node": ControllerStopSettings,
    "gripper_node": GripperSettings,
    "console_node": ConsoleNodeSettings,
    "markers_node": MarkersSettings,
}
# As the makers' descriptions and drivers name them: franka_description 1.0.1 with franka_ros2 3.4.0 (jazzy),
# ur_description with ur_robot_driver (jazzy, July 2026), ros2_robotiq_gripper (May 2026).
JOINTS = {
    "fr3": tuple(f"fr3_joint{i}" for i in range(1, 8)),
    "ur5e": (
        *("shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint"),
        *("wrist_1_joint", "wrist_2_joint", "wrist_3_joint"),
    ),
}
CONTROLLERS = {
    "fr3": {"fr3_arm_controller": "joint_trajectory_controller/JointTrajectoryController"},
    "ur5e": {
        "robotiq_gripper_controller": "parallel_gripper_action_controller/GripperActionController",
        "robotiq_activation_controller": "robotiq_controllers/RobotiqActivationController",
    },
}
"""Those that the driver's own controllers file lacks, with their types."""
TOPICS = {
    "fr3": {
        "arm/joint_states": "franka/joint_states",
        "gripper/joint_states": "franka_gripper/joint_states",
        "arm_controller/joint_trajectory": "fr3_arm_controller/joint_trajectory",
    },
    "ur5e": {
        "arm/joint_states": "joint_states",
        "gripper/joint_states": "joint_states",
        "arm_controller/joint_trajectory": "scaled_joint_trajectory_controller/joint_trajectory",
    },
}
ACTIONS = {
    "fr3": ("franka_gripper/gripper_action", "GripperCommand"),
    "ur5e": ("robotiq_gripper_controller/gripper_cmd", "ParallelGripperCommand"),
}


def path(robot: str) -> Path:
    return asset(f"config/robots/{robot}.yaml")


def sections(robot: str) -> dict[str, Any]:
    return {node: part["ros__parameters"] for node, part in yaml.safe_load(path(robot).read_text()).items()}


def chain(joints: tuple[str, ...], base: str, tool: str) -> str:
    """A description with the driver's names and no more: lengths and limits are made up."""
    links = [base, *(f"link_{i}" for i in range(len(joints))), tool]
    text = "".join(f'<link name="{link}"/>' for link in links)
    for i, joint in enumerate(joints):
        text += (
            f'<joint name="{joint}" type="revolute"><parent link="{links[i]}"/><child link="{links[i + 1]}"/>'
            '<origin xyz="0 0 0.1"/><axis xyz="0 0 1"/>'
            '<limit lower="-3" upper="3" velocity="3" effort="80"/></joint>'
        )
    text += f'<joint name="to_tool" type="fixed"><parent link="{links[-2]}"/><child link="{tool}"/></joint>'
    return f'<robot name="driver">{text}</robot>'


def launch_file(robot: str) -> dict[str, Any]:
    """The constants of a launch file."""
    found: dict[str, Any] = {}
    tree = ast.parse((asset("launch") / f"{robot}.launch.py").read_text())
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            if name.isupper() and name != "SHARE":
                found[name] = eval(ast.unparse(statement.value), dict(found))
    return found


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_section_belongs_to_a_node_and_every_node_has_one(robot: str) -> None:
    assert set(sections(robot)) == set(SETTINGS)


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("node", SETTINGS)
def test_the_node_itself_takes_the_file(make_node: Callable[..., Any], robot: str, node: str) -> None:
    talker = make_node()
    reader = Node(
        node,
        context=talker.context,
        cli_args=["--ros-args", "--params-file", str(path(robot))],
        use_global_arguments=False,
    )
    try:
        settings = declare(reader, SETTINGS[node])
        refuse_unknown(reader)
    finally:
        reader.destroy_node()
    assert settings == SETTINGS[node].model_validate(sections(robot)[node])


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_arm_has_the_drivers_joints_and_a_limit_for_each(robot: str, tmp_path: Path) -> None:
    given = RobotSettings.model_validate(sections(robot)["intervention_node"]["robot"])
    description = tmp_path / "driver.urdf"
    description.write_text(chain(JOINTS[robot], given.base_frame, given.tool_frame))
    arm = Robot.load(given.model_copy(update={"urdf": str(description)})).arm
    assert arm.joint_names == JOINTS[robot]
    assert all(0 < limit <= 20 for limit in arm.acceleration_limit_rad_s2)


def test_a_description_that_is_not_there_is_named_with_the_folder_that_was_searched() -> None:
    given = RobotSettings.model_validate(sections("fr3")["intervention_node"]["robot"])
    with pytest.raises(SalusError, match=r"robot\.urdf is 'fr3\.urdf', which is no file in /"):
        Robot.load(given)


@pytest.mark.parametrize("robot", ROBOTS)
def test_all_nodes_mean_the_same_robot(robot: str) -> None:
    parts = sections(robot)
    policy, monitor, gate, console, markers = (
        parts[node]["robot"]
        for node in ("policy_node", "monitor_node", "intervention_node", "console_node", "markers_node")
    )
    assert policy == monitor == gate == console == markers
    assert parts["gripper_node"]["finger_joints"] == gate["finger_joints"]
    assert parts["gripper_node"]["opening_max_m"] == parts["intervention_node"]["gripper_opening_max_m"]


@pytest.mark.parametrize("robot", ROBOTS)
def test_gate_and_deadman_call_the_same_stop_which_somebody_offers(robot: str) -> None:
    parts = sections(robot)
    services = parts["intervention_node"]["stop_services"]
    assert parts["deadman_node"]["stop_services"] == services
    assert services[0] == qos.DRIVER_STOP, "offered by controller_stop_node"
    assert parts["intervention_node"]["resume_services"] == [qos.DRIVER_RESUME]


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_new_arm_starts_slow_over_the_table_and_without_a_foreign_monitor(robot: str) -> None:
    gate = InterventionNodeSettings.model_validate(sections(robot)["intervention_node"])
    assert gate.velocity_fraction <= 0.5
    assert gate.workspace_lower_m[2] > 0, "the tool stays over the table"
    assert gate.monitor == "absent", "the shipped monitor was trained on another arm"


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_launch_file_joins_the_topics_of_the_driver(robot: str) -> None:
    constants = launch_file(robot)
    nodes, gripper = constants["REMAPPINGS"], constants["GRIPPER_REMAPPINGS"]
    assert set(nodes) <= set(qos.TABLE), "a name that no node uses is not remapped"
    assert set(gripper) == {qos.JOINT_STATES, ARM_STATES, GRIPPER_STATES}
    assert nodes[qos.JOINT_STATES] == gripper[qos.JOINT_STATES], "what the gripper's node says is heard"
    assert nodes[qos.JOINT_STATES] not in (gripper[ARM_STATES], gripper[GRIPPER_STATES]), "a loop"
    assert {**gripper, **nodes}.items() >= TOPICS[robot].items()


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_stop_deactivates_the_controller_that_is_commanded(robot: str) -> None:
    commanded = launch_file(robot)["REMAPPINGS"][qos.ARM_COMMAND]
    controllers = sections(robot)["controller_stop_node"]["controllers"]
    assert commanded == f"{controllers[0]}/joint_trajectory"


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_gripper_is_the_drivers_action(robot: str) -> None:
    gripper = GripperSettings.model_validate(sections(robot)["gripper_node"])
    assert (gripper.action, gripper.action_type) == ACTIONS[robot]
    assert gripper.opening_m(gripper.measured_open) == pytest.approx(gripper.opening_max_m)
    assert gripper.goal(0.0) == gripper.goal_closed


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_controllers_that_the_driver_lacks_fit_the_robot(
    make_node: Callable[..., Any], robot: str
) -> None:
    """Read by ROS itself: the two parts of a file name a node more than once, which YAML alone would lose."""
    talker = make_node()

    def parameters(name: str) -> dict[str, Any]:
        file = str(path(f"{robot}_controllers"))
        reader = Node(
            name,
            context=talker.context,
            cli_args=["--ros-args", "--params-file", file],
            use_global_arguments=False,
            automatically_declare_parameters_from_overrides=True,
        )
        try:
            return {key: value.value for key, value in reader.get_parameters_by_prefix("").items()}
        finally:
            reader.destroy_node()

    manager = parameters("controller_manager")
    assert {n: manager.get(f"{n}.type") for n in CONTROLLERS[robot]} == CONTROLLERS[robot]
    (arm,) = sections(robot)["controller_stop_node"]["controllers"]
    assert parameters(arm)["interpolate_from_desired_state"] is True
    if arm in CONTROLLERS[robot]:
        assert tuple(parameters(arm)["joints"]) == JOINTS[robot]
        assert {f"gains.{joint}.p" for joint in JOINTS[robot]} <= set(parameters(arm))


def test_the_grippers_controller_moves_the_joint_that_is_measured() -> None:
    controllers = yaml.safe_load(path("ur5e_controllers").read_text())
    gripper = sections("ur5e")["gripper_node"]
    joint = controllers["robotiq_gripper_controller"]["ros__parameters"]["joint"]
    assert [joint] == gripper["goal_joints"] == gripper["measured_joints"]
    assert gripper["action"].startswith("robotiq_gripper_controller/")


def test_the_cameras_that_are_arguments_are_those_that_the_nodes_read() -> None:
    renamed = {topic for topic, _ in launch_file("robot")["CAMERA_TOPICS"].values()}
    assert renamed == {qos.FRONT_IMAGE, qos.FRONT_INFO, qos.WRIST_IMAGE, qos.FRONT_POINTS}
