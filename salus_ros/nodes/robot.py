"""The robot as the nodes know it: joint names in the order of the URDF, and the gripper's joints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from sensor_msgs.msg import JointState

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.nodes.driver_messages import robot_state_from_message
from salus_ros.robot.model import ArmModel, ArmSettings
from salus_ros.types import RobotState


class RobotSettings(BaseModel):
    """Which arm it is. The same parameters for every node."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urdf: str = Field(
        "urdf/salus_arm.urdf", description="Robot description: a path, or a file shipped with salus_ros."
    )
    base_frame: str = Field(ArmSettings().base_frame, description="Link that poses are given in.")
    tool_frame: str = Field(ArmSettings().tool_frame, description="Link that the policy moves.")
    acceleration_limit_rad_s2: tuple[float, ...] = Field(
        ArmSettings().acceleration_limit_rad_s2, description="Per arm joint, from base to tool."
    )
    finger_joints: tuple[str, ...] = Field(
        ("panda_finger_joint1", "panda_finger_joint2"),
        description="Joints whose positions add up to the gripper's opening [m].",
    )


@dataclass(frozen=True, slots=True)
class Robot:
    """The arm's model, and how its messages are read."""

    arm: ArmModel
    finger_joints: tuple[str, ...]

    @classmethod
    def load(cls, settings: RobotSettings) -> Robot:
        """Read the description.

        Raises:
            SalusError: there is no such file, or it holds no such arm.
        """
        arm = ArmModel.from_urdf(
            _description(settings.urdf),
            ArmSettings(
                base_frame=settings.base_frame,
                tool_frame=settings.tool_frame,
                acceleration_limit_rad_s2=settings.acceleration_limit_rad_s2,
            ),
        )
        return cls(arm, settings.finger_joints)

    def state(self, message: JointState) -> RobotState:
        """A joint state message in the arm's order; raises SalusError when it cannot be read."""
        return robot_state_from_message(message, self.arm.joint_names, self.finger_joints)


def _description(urdf: str) -> Path:
    path = Path(urdf)
    if path.exists():
        return path
    try:
        return asset(urdf)
    except SalusError as error:
        raise SalusError(
            f"robot.urdf is '{urdf}', which is no file in {Path.cwd()} and none of SALUS's own; start in the "
            "folder that it lies in, or give its absolute path."
        ) from error
