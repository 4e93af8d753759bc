"""Joints, limits and forward kinematics of an arm, read from its URDF.

Needs numpy, pydantic and the standard library only, since the gate depends on it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.types import Floats


class ArmSettings(BaseModel):
    """What a URDF does not say about an arm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_frame: str = Field("panda_link0", description="Link that poses are given in.")
    tool_frame: str = Field("panda_hand_tcp", description="Link between the fingertips that policies move.")
    acceleration_limit_rad_s2: tuple[float, ...] = Field(
        (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
        description="Per arm joint, from base to tool; default: published for the Franka Emika Panda.",
    )


@dataclass(frozen=True, slots=True)
class ArmModel:
    """The moving joints between base and tool, their limits, and where the links are.

    J joints, L links; all arrays are ordered from base to tool.
    """

    name: str
    """The robot's name in its URDF."""
    base_frame: str
    tool_frame: str
    joint_names: tuple[str, ...]
    link_names: tuple[str, ...]
    """Every link from base to tool, both included, fixed ones too."""
    position_lower_rad: Floats
    """(J,)"""
    position_upper_rad: Floats
    """(J,)"""
    velocity_limit_rad_s: Floats
    """(J,)"""
    acceleration_limit_rad_s2: Floats
    """(J,)"""
    effort_limit_nm: Floats
    """(J,)"""
    _origin: Floats
    """(L-1, 4, 4), pose of each joint in its parent link."""
    _skew: Floats
    """(L-1, 3, 3), cross-product matrix of the joint's axis; zero for a fixed joint."""
    _joint_of_link: tuple[int, ...]
    """(L-1,), index into ``joint_names``, or -1 for a fixed joint."""

    @classmethod
    def from_urdf(cls, path: str | Path, settings: ArmSettings | None = None) -> ArmModel:
        """Read the chain of revolute and fixed joints from base to tool.

        Raises:
            SalusError: no such file, no valid XML, or a chain that this class cannot express.
        """
        settings = settings or ArmSettings()
        root = _parse(Path(path))
        chain = _chain(root, settings, Path(path))
        moving = [joint for joint in chain if joint.kind != "fixed"]
        limits = np.array([_limits(joint, Path(path)) for joint in moving]).reshape(-1, 4)
        if len(settings.acceleration_limit_rad_s2) != len(moving):
            raise SalusError(
                f"acceleration_limit_rad_s2 has {len(settings.acceleration_limit_rad_s2)} values, but "
                f"{path} has {len(moving)} joints from {settings.base_frame} to {settings.tool_frame}; "
                "give one value per joint."
            )
        names = [joint.name for joint in moving]
        return cls(
            name=root.get("name", Path(path).stem),
            base_frame=settings.base_frame,
            tool_frame=settings.tool_frame,
            joint_names=tuple(names),
            link_names=(settings.base_frame, *(joint.child for joint in chain)),
            position_lower_rad=_frozen(limits[:, 0]),
            position_upper_rad=_frozen(limits[:, 1]),
            velocity_limit_rad_s=_frozen(limits[:, 2]),
            effort_limit_nm=_frozen(limits[:, 3]),
            acceleration_limit_rad_s2=_frozen(np.array(settings.acceleration_limit_rad_s2)),
            _origin=_frozen(np.stack([joint.origin for joint in chain])),
            _skew=_frozen(np.stack([joint.skew for joint in chain])),
            _joint_of_link=tuple(names.index(j.name) if j.kind != "fixed" else -1 for j in chain),
        )

    def forward(self, position_rad: ArrayLike) -> Floats:
        """Tool pose in the base frame.

        Args:
            position_rad: (..., J).

        Returns:
            (..., 4, 4) homogeneous transforms.
        """
        return self.link_poses(position_rad)[..., -1, :, :]

    def link_poses(self, position_rad: ArrayLike) -> Floats:
        """Pose of every link of ``link_names`` in the base frame.

        Args:
            position_rad: (..., J).

        Returns:
            (..., L, 4, 4) homogeneous transforms.
        """
        q = np.asarray(position_rad, dtype=np.float64)
        if q.ndim == 0 or q.shape[-1] != len(self.joint_names):
            raise SalusError(
                f"Joint positions have shape {q.shape}, but the last axis must hold the "
                f"{len(self.joint_names)} joints {', '.join(self.joint_names)}."
            )
        with_zero = np.concatenate([q, np.zeros((*q.shape[:-1], 1))], axis=-1)
        angle = with_zero[..., list(self._joint_of_link)]
        local = self._origin @ _rotations(angle, self._skew)
        poses = np.empty((*q.shape[:-1], len(self.link_names), 4, 4))
        poses[..., 0, :, :] = np.eye(4)
        for i in range(local.shape[-3]):
            poses[..., i + 1, :, :] = poses[..., i, :, :] @ local[..., i, :, :]
        return poses


@dataclass(frozen=True, slots=True)
class _Joint:
    name: str
    kind: str
    child: str
    origin: Floats
    skew: Floats
    element: ElementTree.Element


def _rotations(angle: Floats, skew: Floats) -> Floats:
    """(..., N, 4, 4) by Rodrigues' formula, for angles (..., N) about axes given as (N, 3, 3)."""
    rotation = np.zeros((*angle.shape, 4, 4))
    sine = np.sin(angle)[..., None, None]
    cosine = np.cos(angle)[..., None, None]
    rotation[..., :3, :3] = np.eye(3) + sine * skew + (1.0 - cosine) * (skew @ skew)
    rotation[..., 3, 3] = 1.0
    return rotation


def _parse(path: Path) -> ElementTree.Element:
    if not path.is_file():
        raise SalusError(f"{path} is no file; give the path of a robot's URDF.")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise SalusError(f"{path} is no valid XML ({error}); give the path of a robot's URDF.") from error
    if root.tag != "robot":
        raise SalusError(
            f"{path} starts with <{root.tag}>, but a URDF starts with <robot>; expand xacro first."
        )
    return root


def _chain(root: ElementTree.Element, settings: ArmSettings, path: Path) -> list[_Joint]:
    links = {element.get("name") for element in root.iter("link")}
    for frame in (settings.base_frame, settings.tool_frame):
        if frame not in links:
            raise SalusError(
                f"{path} has no link {frame}; set base_frame and tool_frame to links that it has."
            )
    parent_joint = {_attribute(j, "child", "link"): j for j in root.findall("joint")}
    chain: list[_Joint] = []
    link = settings.tool_frame
    while link != settings.base_frame:
        if link not in parent_joint or len(chain) > len(parent_joint):
            raise SalusError(
                f"{path} does not connect {settings.base_frame} to {settings.tool_frame} by joints."
            )
        element = parent_joint[link]
        chain.append(_joint(element, link, path))
        link = _attribute(element, "parent", "link")
    return chain[::-1]


def _joint(element: ElementTree.Element, child: str, path: Path) -> _Joint:
    name, kind = element.get("name", ""), element.get("type", "")
    if kind not in ("revolute", "continuous", "fixed"):
        raise SalusError(
            f"Joint {name} of {path} is {kind}, but the joints between base and tool must be "
            "revolute, continuous or fixed."
        )
    origin = element.find("origin")
    axis_element = element.find("axis")
    pose = np.eye(4)
    if origin is not None:
        pose[:3, 3] = _numbers(origin.get("xyz", "0 0 0"))
        pose[:3, :3] = _from_rpy(*_numbers(origin.get("rpy", "0 0 0")))
    axis = _numbers("1 0 0" if axis_element is None else axis_element.get("xyz", "1 0 0"))
    x, y, z = np.zeros(3) if kind == "fixed" else axis / np.linalg.norm(axis)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return _Joint(name, kind, child, pose, skew, element)


def _limits(joint: _Joint, path: Path) -> tuple[float, float, float, float]:
    """Lower and upper position, velocity, effort."""
    limit = joint.element.find("limit")
    if limit is None or "velocity" not in limit.attrib or "effort" not in limit.attrib:
        raise SalusError(f"Joint {joint.name} of {path} lacks <limit> with velocity and effort; add them.")
    bounded = joint.kind == "revolute"
    return (
        float(limit.get("lower", "0")) if bounded else -np.inf,
        float(limit.get("upper", "0")) if bounded else np.inf,
        float(limit.attrib["velocity"]),
        float(limit.attrib["effort"]),
    )


def _attribute(element: ElementTree.Element, child: str, name: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(name, "")


def _numbers(text: str) -> Floats:
    return np.array([float(part) for part in text.split()])


def _from_rpy(roll: float, pitch: float, yaw: float) -> Floats:
    """Rotation about the fixed axes x, y, z in this order, as URDF defines it."""
    cr, sr, cp, sp, cy, sy = (f(a) for a in (roll, pitch, yaw) for f in (np.cos, np.sin))
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _frozen(array: Floats) -> Floats:
    array = np.ascontiguousarray(array, dtype=np.float64)
    array.setflags(write=False)
    return array
