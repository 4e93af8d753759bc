"""What the motors carry besides the arm itself, from the masses in the robot description.

The torque that holds the arm at rest follows from masses and centres of mass. What the measured effort
departs from it is taken as one force at the tool: the weight of what the hand holds, or a push. Accelerations
are left out, so single readings are rough; means over 0.1 s are what signals use.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from salus_ros.types import Floats

GRAVITY_M_S2: Final = 9.81


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """Masses and axes of an arm: M links with a mass, J joints."""

    mass_kg: Floats
    """(M,)"""
    mass_link: NDArray[np.intp]
    """(M,), the arm link that carries each."""
    centre_m: Floats
    """(M, 3), centre of mass in that link's frame."""
    joint_link: NDArray[np.intp]
    """(J,), the link that each joint moves; links count from base to tool."""
    joint_axis: Floats
    """(J, 3), in that link's frame."""

    @property
    def known(self) -> bool:
        """Whether the description states any mass."""
        return bool((self.mass_kg > 0.0).any())

    def holding_torque(self, links: Floats) -> Floats:
        """(J,), torque that holds the arm against gravity at the link poses (L, 4, 4), Nm."""
        axis, origin = self._axes(links)
        poses = links[self.mass_link]
        centre = (poses[:, :3, :3] @ self.centre_m[:, :, None])[:, :, 0] + poses[:, :3, 3]
        moves = self.joint_link[:, None] <= self.mass_link
        lever = axis[:, :1] * (centre[:, 1] - origin[:, 1:2]) - axis[:, 1:2] * (centre[:, 0] - origin[:, :1])
        return np.asarray(np.where(moves, lever, 0.0) @ (self.mass_kg * GRAVITY_M_S2), np.float64)

    def tool_force(self, links: Floats, effort_nm: Floats) -> tuple[Floats, float]:
        """The force (3,) in N, in the base frame, that the tool exerts beyond carrying the arm; and what it
        leaves unexplained of the torques, root mean square, Nm.

        Args:
            links: (L, 4, 4) link poses.
            effort_nm: (J,) measured torques.
        """
        axis, origin = self._axes(links)
        excess = effort_nm - self.holding_torque(links)
        arm = links[-1, :3, 3] - origin
        lever = axis[:, [1, 2, 0]] * arm[:, [2, 0, 1]] - axis[:, [2, 0, 1]] * arm[:, [1, 2, 0]]
        force = np.asarray(np.linalg.solve(lever.T @ lever + 1e-6 * np.eye(3), lever.T @ excess), np.float64)
        return force, float(np.sqrt(((excess - lever @ force) ** 2).mean()))

    def _axes(self, links: Floats) -> tuple[Floats, Floats]:
        frames = links[self.joint_link]
        return (frames[:, :3, :3] @ self.joint_axis[:, :, None])[:, :, 0], frames[:, :3, 3]


def axis_of(joint: ElementTree.Element) -> Floats:
    """(3,), unit axis of a joint of the robot description."""
    element = joint.find("axis")
    axis = np.array([float(v) for v in ("1 0 0" if element is None else element.get("xyz", "1 0 0")).split()])
    unit: Floats = axis / np.linalg.norm(axis)
    return unit


def inertia_of(link: ElementTree.Element) -> tuple[Floats, float] | None:
    """Centre of mass (3,) in the link's frame, m, and mass, kg; ``None`` where none is stated."""
    inertial = link.find("inertial")
    mass = None if inertial is None else inertial.find("mass")
    if inertial is None or mass is None:
        return None
    origin = inertial.find("origin")
    centre = "0 0 0" if origin is None else origin.get("xyz", "0 0 0")
    return np.array([float(v) for v in centre.split()]), float(mass.get("value", "0"))
