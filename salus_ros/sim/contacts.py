"""Who touches whom, and how hard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from salus_ros.sim.layout import Layout
from salus_ros.sim.tasks import Task
from salus_ros.sim.world import CUBES, Owner, World
from salus_ros.types import Floats

_FIXED: Final = {Owner.TABLE: "table", Owner.BIN: "bin", Owner.OBSTACLE: "obstacle"}
_ROBOT: Final = (Owner.ARM, Owner.LEFT_FINGER, Owner.RIGHT_FINGER)


@dataclass(frozen=True, slots=True)
class Contacts:
    """Contacts of one moment."""

    squeezed: int
    """The cube that both fingers touch, -1 for none."""
    touched: NDArray[np.bool_]
    """(CUBES,), which cubes a finger touches."""
    fixed_force_n: float
    """Summed normal force of arm, hand or moved object on fixed things that the task does not ask for."""
    cube_force_n: float
    """The same on cubes other than the named one. Where the task asks for one cube on the other, only arm and
    hand count on the latter."""
    press_force_n: float
    """Largest force of a named cube on the table: its weight, and what presses it down."""


def gripped(contacts: Contacts, opening_m: float, cube_size_m: Floats) -> int:
    """The cube between the fingers, -1 for none.

    Closed fingers that push a cube both touch it too, with nothing between them.
    """
    cube = contacts.squeezed
    return cube if cube >= 0 and opening_m > cube_size_m[cube] / 2 else -1


def read_contacts(world: World, data: mujoco.MjData, task: Task, layout: Layout, held: int) -> Contacts:
    """Read the contacts that the last physics step found."""
    pairs = []
    if data.ncon:
        owners = np.sort(world.owner[data.contact.geom], axis=1).tolist()
        for (low, high), row in zip(owners, data.contact.efc_address.tolist(), strict=True):
            # With elliptic cones the first row of a contact is its normal force.
            if row >= 0:
                pairs.append((low, high, float(data.efc_force[row])))
    return judge(pairs, task, layout.target, layout.second, held)


def judge(
    pairs: Iterable[tuple[int, int, float]], task: Task, target: int, second: int, held: int
) -> Contacts:
    """Sort contacts into those that the task asks for and those that it does not.

    Args:
        pairs: owners of the two sides (see ``world.Owner``), the lower number first, and the normal force.
        task: says what may be touched.
        target: the named cube.
        second: the cube that is named besides, -1 for none.
        held: the cube in the hand, -1 for none.
    """
    pairs = list(pairs)
    left: NDArray[np.bool_] = np.zeros(CUBES, dtype=bool)
    right: NDArray[np.bool_] = np.zeros(CUBES, dtype=bool)
    for low, high, _ in pairs:
        if high >= Owner.CUBE:
            left[high - Owner.CUBE] |= low == Owner.LEFT_FINGER
            right[high - Owner.CUBE] |= low == Owner.RIGHT_FINGER
    both = np.flatnonzero(left & right)
    moved = held
    if held < 0 and not task.grasps and (left[target] or right[target]):
        # A cube that is pushed acts for the hand as one that is held does.
        moved = target
    fixed_n = cube_n = 0.0
    press_n = dict.fromkeys((target, second), 0.0)
    for low, high, force_n in pairs:
        if low == Owner.TABLE and high - Owner.CUBE in press_n:
            press_n[high - Owner.CUBE] += force_n
        if low in _ROBOT and high >= Owner.CUBE:
            cube_n += force_n if high - Owner.CUBE != target else 0.0
        elif low in _ROBOT and high in _FIXED:
            fixed_n += force_n
        elif moved >= 0 and low >= Owner.CUBE and Owner.CUBE + moved in (low, high):
            asked = task.joins and {low, high} == {Owner.CUBE + target, Owner.CUBE + second}
            cube_n += 0.0 if asked else force_n
        elif moved >= 0 and high == Owner.CUBE + moved and low in _FIXED:
            fixed_n += 0.0 if task.is_goal_surface(_FIXED[low]) else force_n
    return Contacts(int(both[0]) if both.size else -1, left | right, fixed_n, cube_n, max(press_n.values()))
