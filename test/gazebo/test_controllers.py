"""Controllers, joints and topics of the simulated arm fit together."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from salus_ros.assets import asset
from salus_ros.nodes import qos
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.robot.gazebo import GazeboSettings

TRAJECTORIES = "joint_trajectory_controller/JointTrajectoryController"


@pytest.fixture(scope="module")
def files() -> dict[str, Any]:
    loaded = yaml.safe_load(asset("config/controllers.yaml").read_text())
    return {name: section["ros__parameters"] for name, section in loaded.items()}


def test_the_manager_knows_the_three_controllers(files: dict[str, Any]) -> None:
    manager = files["controller_manager"]
    types = {name: value["type"] for name, value in manager.items() if isinstance(value, dict)}
    assert types == {
        "joint_state_broadcaster": "joint_state_broadcaster/JointStateBroadcaster",
        "arm_controller": TRAJECTORIES,
        "gripper_controller": TRAJECTORIES,
    }
    assert manager["update_rate"] == 100, "joint states come at this rate; the gate expects them in 50 ms"


def test_the_controllers_listen_where_the_gate_speaks(files: dict[str, Any]) -> None:
    assert {f"{name}/joint_trajectory" for name in files if name != "controller_manager"} == {
        qos.ARM_COMMAND,
        qos.GRIPPER_COMMAND,
    }


def test_the_joints_are_those_of_the_urdf_in_its_order(files: dict[str, Any]) -> None:
    robot = Robot.load(RobotSettings())
    assert tuple(files["arm_controller"]["joints"]) == robot.arm.joint_names
    assert tuple(files["gripper_controller"]["joints"]) == robot.finger_joints
    settings = GazeboSettings()
    assert settings.arm_joints == robot.arm.joint_names
    assert settings.finger_joints == robot.finger_joints


@pytest.mark.parametrize("name", ["arm_controller", "gripper_controller"])
def test_each_controller_takes_whole_trajectories_and_joins_them_to_the_one_in_hand(
    files: dict[str, Any], name: str
) -> None:
    controller = files[name]
    assert controller["command_interfaces"] == ["position"], "the only one that the URDF's block offers"
    assert controller["state_interfaces"] == ["position", "velocity"]
    assert controller["interpolate_from_desired_state"] is True
    assert controller["allow_partial_joints_goal"] is False
