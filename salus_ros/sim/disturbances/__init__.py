"""Disturbances: what may go wrong in an episode besides the policy. Each is drawn by seed, with a strength.

A family is a class registered in ``FAMILIES``. A disturbance is asked for by its family's name (the seed
draws the strength), by name and strength (``slippery:0.8``), or as ``mixed``, which draws one of the families
that are not held out.
"""

from __future__ import annotations

from typing import Final

import salus_ros.robot.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import numpy as np

from salus_ros.errors import SalusError
from salus_ros.sim.disturbances.base import Disturbance as Disturbance
from salus_ros.sim.disturbances.cameras import Blur, Light, MovedCamera, Occlusion
from salus_ros.sim.disturbances.objects import Colour, Nudge, Obstacle, Size, Slippery
from salus_ros.sim.disturbances.robot import Bias, Lag, Payload

FAMILIES: Final[dict[str, type[Disturbance]]] = {
    family.name: family
    for family in (
        *(Nudge, Slippery, Obstacle, Payload, Lag, Blur, Occlusion, Light),
        *(MovedCamera, Colour, Size, Bias),
    )
}
HELD_OUT: Final = ("bias", "camera", "colour", "size")
"""Families that neither policy nor monitor ever learn from: they are for testing on what was never seen."""
MIXED: Final = "mixed"


def draw_disturbance(name: str, rng: np.random.Generator) -> tuple[Disturbance, float]:
    """Draw a disturbance by its name.

    Args:
        name: a family, a family and its strength (``slippery:0.8``), ``mixed``, or empty for none.
        rng: draws the family, the strength where none is given, and the rest.

    Returns:
        The disturbance and its strength from 0 to 1; nan for none.

    Raises:
        SalusError: there is no such family, or the strength is no number from 0 to 1.
    """
    if name == "":
        return Disturbance(), float("nan")
    family, _, given = name.partition(":")
    if family == MIXED:
        family = str(rng.choice(sorted(set(FAMILIES) - set(HELD_OUT))))
    if family not in FAMILIES:
        raise SalusError(
            f"There is no disturbance {family!r}; choose one of {', '.join(sorted(FAMILIES))}, {MIXED}, "
            "or the empty name."
        )
    strength = _strength(name, given) if given else float(rng.random())
    return FAMILIES[family].draw(rng, strength), strength


def _strength(name: str, given: str) -> float:
    try:
        strength = float(given)
    except ValueError:
        strength = float("nan")
    if not 0.0 <= strength <= 1.0:
        raise SalusError(
            f"The disturbance {name!r} has no strength from 0 to 1; write, for example, slippery:0.8."
        )
    return strength
