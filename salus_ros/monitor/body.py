"""The robot's own volume as capsules, and the frames that are fixed to its links.

Read from the robot description: cylinders and spheres are taken as they are, boxes become capsules along
their longest edge. Fingers move with the measured opening, half of it each.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from salus_ros.errors import SalusError
from salus_ros.monitor.weight import Weight, axis_of, inertia_of
from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats

MIN_RADIUS_M: Final = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Capsules:
    """C capsules at one or more configurations."""

    start_m: Floats
    """(..., C, 3), in the base frame"""
    end_m: Floats
    """(..., C, 3)"""
    radius_m: Floats
    """(C,)"""

    def distance(self, points_m: Floats) -> Floats:
        """(..., C, N), distance from each capsule's surface to each of N points (N, 3); negative inside."""
        axis = self.end_m - self.start_m
        length2 = np.maximum((axis**2).sum(-1), 1e-12)
        # |p - s|^2 and (p - s).a by matrix products: no (..., C, N, 3) array is built.
        along = axis @ points_m.T - (axis * self.start_m).sum(-1)[..., None]
        share = np.clip(along / length2[..., None], 0.0, 1.0)
        to_start2 = (
            (points_m**2).sum(-1) - 2.0 * (self.start_m @ points_m.T) + (self.start_m**2).sum(-1)[..., None]
        )
        distance2 = to_start2 - 2.0 * share * along + share**2 * length2[..., None]
        result: Floats = np.sqrt(np.maximum(distance2, 0.0)) - self.radius_m[:, None]
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """One capsule in the frame of the arm link that carries it."""

    link: str
    start_m: Floats
    end_m: Floats
    per_opening: Floats
    """(3,), how far it moves per metre of gripper opening"""
    radius_m: float
    gripper: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """C capsules of ``_Shape`` as arrays."""

    link: NDArray[np.intp]
    start_m: Floats
    end_m: Floats
    per_opening: Floats
    radius_m: Floats

    @classmethod
    def of(cls, shapes: Sequence[_Shape], link: Mapping[str, int]) -> _Shapes:
        return cls(
            link=np.array([link[shape.link] for shape in shapes], np.intp),
            start_m=np.array([shape.start_m for shape in shapes]).reshape(-1, 3),
            end_m=np.array([shape.end_m for shape in shapes]).reshape(-1, 3),
            per_opening=np.array([shape.per_opening for shape in shapes]).reshape(-1, 3),
            radius_m=np.array([shape.radius_m for shape in shapes]),
        )


class Body:
    """Capsules and frames of one arm, for any joint positions."""

    def __init__(
        self,
        model: ArmModel,
        shapes: Sequence[_Shape],
        frames: Mapping[str, tuple[str, Floats]],
        weight: Weight,
    ) -> None:
        self._link = {name: i for i, name in enumerate(model.link_names)}
        self._all = _Shapes.of(shapes, self._link)
        self._gripper = _Shapes.of([shape for shape in shapes if shape.gripper], self._link)
        self.is_gripper: NDArray[np.bool_] = np.array([shape.gripper for shape in shapes], bool)
        """(C,), which of the capsules are hand and fingers."""
        self.weight = weight
        self.frames: Mapping[str, tuple[str, Floats]] = frames
        """Frame name to the arm link that carries it and its pose (4, 4) in it."""
        self.model = model

    @classmethod
    def from_urdf(cls, path: Path, camera_poses: Mapping[str, Sequence[float]] | None = None) -> Body:
        """Reads the robot description.

        Args:
            path: the URDF file.
            camera_poses: frames that stand beside the robot: name to x, y, z (m) and the quaternion
                x, y, z, w in the base frame.

        Raises:
            SalusError: the file is no robot description of a known form.
        """
        model = ArmModel.from_urdf(path)
        root = ElementTree.parse(path).getroot()
        parents = {child(joint, "child"): joint for joint in root.findall("joint")}
        base = model.base_frame
        shapes: list[_Shape] = []
        frames: dict[str, tuple[str, Floats]] = {}
        masses: list[tuple[int, Floats, float]] = []
        for link in root.findall("link"):
            name = link.get("name", "")
            carrier, pose, per_opening, behind_arm = _carrier(name, parents, set(model.joint_names))
            if carrier not in model.link_names:
                continue  # another arm, or scenery described in the same file
            frames[name] = (carrier, pose)
            inertia = inertia_of(link)
            if inertia is not None:
                masses.append((model.link_names.index(carrier), _move(pose, inertia[0]), inertia[1]))
            gripper = behind_arm == model.joint_names[-1] and name != carrier
            for start, end, radius in _capsules(link):
                if carrier != base:
                    shapes.append(
                        _Shape(carrier, _move(pose, start), _move(pose, end), per_opening, radius, gripper)
                    )
        for name, numbers in (camera_poses or {}).items():
            frames[name] = (base, pose_from_numbers(numbers))
        moved = {joint.get("name"): (link, joint) for link, joint in parents.items()}
        moving = [moved[name] for name in model.joint_names]
        weight = Weight(
            np.array([kg for _, _, kg in masses]),
            np.array([link for link, _, _ in masses], np.intp),
            np.array([centre for _, centre, _ in masses]).reshape(-1, 3),
            np.array([model.link_names.index(link) for link, _ in moving], np.intp),
            np.array([axis_of(joint) for _, joint in moving]).reshape(-1, 3),
        )
        return cls(model, shapes, frames, weight)

    def links(self, position_rad: Floats) -> Floats:
        """(..., L, 4, 4), link poses in the base frame for joint positions (..., J); the tool is the last."""
        return self.model.link_poses(position_rad)

    def frame(self, name: str, links: Floats) -> Floats:
        """(..., 4, 4), pose of a frame in the base frame for link poses (..., L, 4, 4)."""
        carrier, pose = self.frames[name]
        result: Floats = links[..., self._link[carrier], :, :] @ pose
        return result

    def capsules(self, links: Floats, opening_m: float, *, gripper_only: bool = False) -> Capsules:
        """The arm without its base, or hand and fingers only, for link poses (..., L, 4, 4)."""
        shapes = self._gripper if gripper_only else self._all
        poses = links[..., shapes.link, :, :]
        rotation, origin = poses[..., :3, :3], poses[..., :3, 3]
        moved = shapes.per_opening * (opening_m if np.isfinite(opening_m) else 0.0)
        return Capsules(
            start_m=np.einsum("...cij,...cj->...ci", rotation, shapes.start_m + moved) + origin,
            end_m=np.einsum("...cij,...cj->...ci", rotation, shapes.end_m + moved) + origin,
            radius_m=shapes.radius_m,
        )


def pose_from_numbers(numbers: Sequence[float]) -> Floats:
    """(4, 4) from x, y, z (m) and the quaternion x, y, z, w."""
    if len(numbers) != 7 or not np.isfinite(numbers).all():
        raise SalusError(
            f"the pose {tuple(numbers)} was given; expected x, y, z in m and a quaternion x, y, z, w."
        )
    x, y, z, w = np.asarray(numbers[3:], float) / np.linalg.norm(numbers[3:])
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = numbers[:3]
    return pose


def child(joint: ElementTree.Element, tag: str) -> str:
    """Link named by a joint's ``parent`` or ``child`` element."""
    element = joint.find(tag)
    return "" if element is None else element.get("link", "")


def _origin(element: ElementTree.Element) -> Floats:
    """(4, 4) of an element's ``origin``: xyz, and rpy about the fixed axes."""
    origin = element.find("origin")
    pose = np.eye(4)
    if origin is not None:
        pose[:3, 3] = [float(v) for v in origin.get("xyz", "0 0 0").split()]
        (cr, cp, cy), (sr, sp, sy) = (
            f([float(v) for v in origin.get("rpy", "0 0 0").split()]) for f in (np.cos, np.sin)
        )
        pose[:3, :3] = [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    return pose


def _carrier(
    name: str, parents: Mapping[str, ElementTree.Element], arm_joints: set[str]
) -> tuple[str, Floats, Floats, str]:
    """The arm link that carries ``name``, its pose in it, how it moves with the opening, the arm joint."""
    pose: Floats = np.eye(4)
    per_opening: Floats = np.zeros(3)
    link = name
    while link in parents and parents[link].get("name") not in arm_joints:
        joint = parents[link]
        origin = _origin(joint)
        per_opening = origin[:3, :3] @ per_opening
        axis = joint.find("axis")
        if joint.get("type") == "prismatic" and axis is not None:
            direction = np.array([float(v) for v in axis.get("xyz", "1 0 0").split()])
            per_opening = per_opening + origin[:3, :3] @ direction / 2.0
        pose = origin @ pose
        link = child(joint, "parent")
    return link, pose, per_opening, parents[link].get("name", "") if link in parents else ""


def _capsules(link: ElementTree.Element) -> list[tuple[Floats, Floats, float]]:
    """Start, end and radius of each collision shape, in the link's frame."""
    found = []
    for collision in link.findall("collision"):
        geometry = collision.find("geometry")
        pose = _origin(collision)
        if geometry is None or collision.get("name", "").endswith(("_end1", "_end2")):
            continue  # the round ends of a cylinder that is a capsule already
        cylinder, sphere, box = geometry.find("cylinder"), geometry.find("sphere"), geometry.find("box")
        half = np.zeros(3)
        if cylinder is not None:
            half[2], radius = float(cylinder.get("length", "0")) / 2.0, float(cylinder.get("radius", "0"))
        elif sphere is not None:
            radius = float(sphere.get("radius", "0"))
        elif box is not None:
            size = np.array([float(v) for v in box.get("size", "0 0 0").split()])
            longest = int(np.argmax(size))
            radius = float(np.delete(size, longest).mean() / 2.0)
            half[longest] = max(size[longest] / 2.0 - radius, 0.0)
        else:
            continue  # a mesh: primitives are what this reads
        found.append((_move(pose, -half), _move(pose, half), max(radius, MIN_RADIUS_M)))
    return found


def _move(pose: Floats, point: Floats) -> Floats:
    moved: Floats = pose[:3, :3] @ point + pose[:3, 3]
    return moved
