"""Who touches whom, and how hard."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from salus_ros.sim.tasks import Task
from salus_ros.sim.world import CUBES, Owner, World

_FIXED = {Owner.TABLE: "table", Owner.BIN: "bin", Owner.OBSTACLE: "obstacle"}
_ROBOT = (Owner.ARM, Owner.LEFT_FINGER, Owner.RIGHT_FINGER)


@dataclass(frozen=True, slots=True)
class Contacts:
    """Contacts of one moment."""

    gripped: int
    """The cube that both fingers touch, -1 for none."""
    touched: NDArray[np.bool_]
    """(CUBES,), which cubes a finger touches."""
    fixed_force_n: float
    """Summed normal force of arm, hand or held object on fixed things that the task does not ask for."""
    cube_force_n: float
    """The same on cubes that are not named."""


def read_contacts(world: World, data: mujoco.MjData, task: Task, target: int, held: int) -> Contacts:
    """Read the contacts that the last physics step found."""
    left, right = np.zeros(CUBES, dtype=bool), np.zeros(CUBES, dtype=bool)
    fixed_force = cube_force = 0.0
    if data.ncon:
        owners = np.sort(world.owner[data.contact.geom], axis=1).tolist()
        address = data.contact.efc_address.tolist()
        for (a, b), row in zip(owners, address, strict=True):
            if row < 0:
                continue
            # With elliptic cones the first row of a contact is its normal force.
            if a in _ROBOT:
                if b >= Owner.CUBE:
                    cube = b - Owner.CUBE
                    left[cube] |= a == Owner.LEFT_FINGER
                    right[cube] |= a == Owner.RIGHT_FINGER
                    if cube != target:
                        cube_force += float(data.efc_force[row])
                else:
                    fixed_force += float(data.efc_force[row])
            elif held >= 0 and b >= Owner.CUBE and Owner.CUBE + held in (a, b):
                if a >= Owner.CUBE:
                    cube_force += float(data.efc_force[row])
                elif not task.is_goal_surface(_FIXED[a]):
                    fixed_force += float(data.efc_force[row])
    both = np.flatnonzero(left & right)
    return Contacts(int(both[0]) if both.size else -1, left | right, fixed_force, cube_force)
