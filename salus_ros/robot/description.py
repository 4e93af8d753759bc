"""A robot's own file in ``config/robots/``: its URDF and what the URDF does not say."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.assets import asset
from salus_ros.robot.model import ArmModel, ArmSettings
from salus_ros.settings_file import read_settings


class RobotDescription(BaseModel):
    """One robot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name of the robot, for people.")
    urdf: str = Field(description="Path of the URDF: absolute, or inside the package.")
    arm: ArmSettings = Field(ArmSettings(), description="Frames and limits of the arm.")
    finger_joints: tuple[str, ...] = Field(description="Joints whose positions add up to the opening.")
    largest_opening_m: float = Field(gt=0, description="Largest distance between the fingertips.")

    @classmethod
    def load(cls, path: str | Path) -> RobotDescription:
        """Read a YAML file.

        Raises:
            SalusError: no such file, or something in it is missing, unknown or out of range.
        """
        return read_settings(Path(path), cls, "config/robots/salus_arm.yaml")

    def urdf_path(self) -> Path:
        """Where the URDF lies."""
        return Path(self.urdf) if Path(self.urdf).is_absolute() else asset(self.urdf)

    def model(self) -> ArmModel:
        """Joints, limits and forward kinematics."""
        return ArmModel.from_urdf(self.urdf_path(), self.arm)
