"""Joint positions for the tool's start pose."""

from __future__ import annotations

import numpy as np

from salus_ros.assets import asset
from salus_ros.robot.ik import InverseKinematics, InverseKinematicsSettings
from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats

TOOL_DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a tool that points down with its fingers apart along the base's y."""


class StartPostures:
    """Finds the joints that hold the tool at a position, pointing down."""

    def __init__(self, arm: ArmModel) -> None:
        self._arm = arm
        self._inverse = InverseKinematics(asset("urdf/salus_arm.urdf"))
        self._rest = np.array(InverseKinematicsSettings().rest_posture_rad)

    def posture(self, tool_position_m: Floats) -> Floats:
        """(J,) for a tool position (3,)."""
        goal = np.eye(4)
        goal[:3, :3] = TOOL_DOWN
        goal[:3, 3] = tool_position_m
        return np.asarray(self._inverse.path(self._rest, np.repeat(goal[None], 4, axis=0))[-1])
