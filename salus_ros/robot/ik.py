"""Joint paths for tool paths: differential inverse kinematics by mink."""

from __future__ import annotations

from pathlib import Path

import salus_ros.robot.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import mink
import mujoco
import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.robot.model import ArmModel, ArmSettings
from salus_ros.types import Floats


class InverseKinematicsSettings(BaseModel):
    """Weights of the least-squares problem solved per pose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    position_cost: float = Field(1.0, gt=0, description="Weight of the tool's position error, 1/m.")
    orientation_cost: float = Field(0.3, gt=0, description="Weight of the tool's rotation error, 1/rad.")
    posture_cost: float = Field(
        3e-3,
        ge=0,
        description="Weight of the distance to the rest posture, 1/rad; it settles the redundant joint.",
    )
    rest_posture_rad: tuple[float, ...] = Field(
        (0.0, -0.3, 0.0, -2.2, 0.0, 1.95, 0.785),
        description="Posture that the redundant joint is drawn to: elbow up, tool down, far from limits.",
    )
    position_tolerance_m: float = Field(5e-4, gt=0, description="Iterations end at this position error.")
    rotation_tolerance_rad: float = Field(5e-3, gt=0, description="and this rotation error.")
    iterations: int = Field(3, ge=1, description="At most so many steps per pose; paths need one or two.")


class InverseKinematics:
    """Follows tool poses from given joints, inside the joint limits of the URDF."""

    def __init__(
        self,
        urdf: str | Path,
        arm: ArmSettings | None = None,
        settings: InverseKinematicsSettings | None = None,
    ) -> None:
        self._arm = ArmModel.from_urdf(urdf, arm)
        self._settings = settings or InverseKinematicsSettings()
        model = mujoco.MjModel.from_xml_path(str(urdf))
        self._address = np.array([model.joint(name).qposadr[0] for name in self._arm.joint_names])
        self._configuration = mink.Configuration(model)
        self._tool = mink.FrameTask(
            self._arm.tool_frame,
            "body",
            position_cost=self._settings.position_cost,
            orientation_cost=self._settings.orientation_cost,
        )
        self._posture = mink.PostureTask(model, cost=self._settings.posture_cost)
        rest = model.qpos0.copy()
        rest[self._address] = self._settings.rest_posture_rad
        self._posture.set_target(rest)
        self._limits = [mink.ConfigurationLimit(model)]

    def path(self, start_rad: ArrayLike, poses: ArrayLike) -> Floats:
        """Joint positions that lead the tool along poses, each found from the one before.

        A pose out of reach gives the nearest that the joint limits and the step allow; compare
        ``ArmModel.forward`` of the result with the pose to find out.

        Args:
            start_rad: (J,) joints to start from; use the last *commanded* ones on a moving arm.
            poses: (T, 4, 4) tool poses in the base frame.

        Returns:
            (T, J) joint positions in rad.

        Raises:
            SalusError: wrong shapes, or values that are not finite.
        """
        start = np.asarray(start_rad, dtype=np.float64)
        targets = np.asarray(poses, dtype=np.float64)
        joints = len(self._arm.joint_names)
        if start.shape != (joints,) or targets.ndim != 3 or targets.shape[1:] != (4, 4):
            raise SalusError(
                f"Got start {start.shape} and poses {targets.shape}, but expected ({joints},) and (T, 4, 4)."
            )
        if not (np.isfinite(start).all() and np.isfinite(targets).all()):
            raise SalusError("Start joints or tool poses hold values that are not finite; give finite ones.")
        q = self._configuration.model.qpos0.copy()
        # A measured joint may lie a hair outside its limit, where the problem has no solution.
        q[self._address] = np.clip(start, self._arm.position_lower_rad, self._arm.position_upper_rad)
        self._configuration.update(q)
        result = np.empty((len(targets), joints))
        for i, target in enumerate(targets):
            self._solve(target)
            result[i] = self._configuration.q[self._address]
        return result

    def _solve(self, target: Floats) -> None:
        self._tool.set_target(mink.SE3.from_matrix(target))
        for _ in range(self._settings.iterations):
            velocity = mink.solve_ik(
                self._configuration, [self._tool, self._posture], 1.0, "daqp", 1e-9, limits=self._limits
            )
            self._configuration.integrate_inplace(velocity, 1.0)
            error = self._tool.compute_error(self._configuration)
            near = np.linalg.norm(error[:3]) < self._settings.position_tolerance_m
            if near and np.linalg.norm(error[3:]) < self._settings.rotation_tolerance_rad:
                return
