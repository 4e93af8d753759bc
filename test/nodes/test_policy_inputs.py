from __future__ import annotations

import numpy as np
import pytest

from salus_ros.nodes.cameras import image_to_message
from salus_ros.nodes.driver_messages import robot_state_to_message
from salus_ros.nodes.policy_inputs import InputSettings, PolicyInputs
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.types import RobotState

ROBOT = Robot.load(RobotSettings())
IMAGE = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)


def image(stamp_s: float) -> object:
    return image_to_message(IMAGE, stamp_s, "optical_frame")


def joints(stamp_s: float, angle_rad: float = 0.0) -> object:
    state = RobotState(stamp_s, np.full(7, angle_rad), np.zeros(7), np.zeros(7), 0.05)
    return robot_state_to_message(state, ROBOT.arm.joint_names, ROBOT.finger_joints)


def filled(**changes: float) -> PolicyInputs:
    stamps = {"front": 1.0, "wrist": 1.0, "joints": 1.0, **changes}
    inputs = PolicyInputs(InputSettings(), ROBOT, "go")
    inputs.take_image("front", image(stamps["front"]), now_s=10.0)
    inputs.take_image("wrist", image(stamps["wrist"]), now_s=10.0)
    inputs.take_joint_state(joints(stamps["joints"]), now_s=10.0)
    return inputs


def test_complete_and_fresh_inputs_make_an_observation() -> None:
    inputs = filled()
    assert inputs.complaint(10.05) == ""
    made = inputs.snapshot()()
    assert made.stamp_s == 1.0
    assert made.instruction == "go"
    assert set(made.images) == {"front", "wrist"}
    assert np.array_equal(made.images["front"], IMAGE)
    assert made.robot.gripper_opening_m == pytest.approx(0.05)


def test_everything_missing_is_named() -> None:
    complaint = PolicyInputs(InputSettings(), ROBOT).complaint(0.0)
    for what in ("camera front", "camera wrist", "joint states", "instruction"):
        assert what in complaint


@pytest.mark.parametrize(
    ("now_s", "named", "unnamed"),
    [(10.2, "joint states are 0.20 s old", "image"), (10.4, "image of camera", "go")],
)
def test_what_is_stale_is_named(now_s: float, named: str, unnamed: str) -> None:
    complaint = filled().complaint(now_s)
    assert named in complaint
    assert unnamed not in complaint


def test_one_camera_that_stands_still_is_named_alone() -> None:
    inputs = filled()
    inputs.take_image("front", image(1.5), now_s=10.5)
    inputs.take_joint_state(joints(1.5), now_s=10.5)
    assert inputs.complaint(10.5) == "image of camera wrist is 0.50 s old"


def test_stamps_that_lie_apart_make_no_observation() -> None:
    assert "lie 0.100 s apart" in filled(joints=1.1).complaint(10.0)
    assert "lie 0.100 s apart" in filled(wrist=0.9, joints=0.9).complaint(10.0)


def test_the_joint_state_nearest_to_the_image_is_taken() -> None:
    inputs = filled()
    for step in range(1, 6):
        inputs.take_joint_state(joints(1.0 + 0.01 * step, angle_rad=float(step)), now_s=10.0)
    inputs.take_image("front", image(1.021), now_s=10.0)
    inputs.take_image("wrist", image(1.021), now_s=10.0)
    assert inputs.snapshot()().robot.joint_position_rad[0] == 2.0


def test_a_snapshot_is_not_changed_by_what_comes_later() -> None:
    inputs = filled()
    snapshot = inputs.snapshot()
    inputs.take_image("front", image(2.0), now_s=11.0)
    inputs.instruction = "stop"
    assert (snapshot().stamp_s, snapshot().instruction) == (1.0, "go")
