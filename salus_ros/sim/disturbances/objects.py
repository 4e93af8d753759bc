"""Disturbances of what stands on the table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import mujoco
import numpy as np

from salus_ros.sim.disturbances.base import Disturbance, between
from salus_ros.sim.layout import HAND_CLEARANCE_M, Layout, post_on_the_way
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import CUBE_SIZE_M, World
from salus_ros.types import Floats

_GRAVITY_M_S2: Final = 9.81
_FOREIGN_COLOURS: Final = (
    (0.90, 0.80, 0.10),
    (0.90, 0.45, 0.05),
    (0.55, 0.10, 0.65),
    (0.05, 0.65, 0.70),
    (0.90, 0.90, 0.90),
)
"""Yellow, orange, purple, turquoise, white: paints that no demonstration shows."""


@dataclass
class Nudge(Disturbance):
    """Someone shoves the named cube while the hand approaches it."""

    name: ClassVar[str] = "nudge"
    at_distance_m: float = 0.1
    by_m: float = 0.03
    direction_rad: float = 0.0
    done: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Nudge:
        """How near the hand is, how far the cube slides and where to: anywhere but towards the bin,
        beside which the hand finds no room."""
        angle = rng.uniform(0.9 * np.pi, 2.1 * np.pi)
        return cls(float(rng.uniform(0.03, 0.16)), between(strength, 0.015, 0.08), float(angle))

    def step(self, world: World, data: mujoco.MjData, truth: Truth) -> None:
        """Give the cube a speed once, so that friction stops it after the drawn way."""
        cube = truth.target
        away = np.linalg.norm(truth.tool_pose[:3, 3] - truth.cube_position_m[cube])
        if self.done or away > self.at_distance_m or truth.gripped >= 0:
            return
        self.done = True
        friction = world.model.geom_friction[world.cube_geom[cube], 0]
        speed = np.sqrt(2.0 * friction * _GRAVITY_M_S2 * self.by_m)
        data.qvel[world.cube_dof[cube, :2]] = speed * np.array(
            [np.cos(self.direction_rad), np.sin(self.direction_rad)]
        )


@dataclass
class Slippery(Disturbance):
    """The named cube is smooth and heavy: it may slide out of the fingers."""

    name: ClassVar[str] = "slippery"
    friction: float = 0.1
    mass_kg: float = 0.3

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Slippery:
        """Two fingers of 20 N hold friction * 40 N at rest; a lift and a turn of the hand ask for more. At
        worst the scripted expert still brings all of ten cubes to the bin, some after a fall; from 1.1 times
        what holds it at rest on, even the expert fails.
        """
        mass = float(rng.uniform(0.2, 0.5))
        at_rest = mass * _GRAVITY_M_S2 / 40.0
        return cls(at_rest * between(strength, 1.8, 1.13), mass)

    def change_world(self, world: World, layout: Layout) -> None:
        """Let the cube's own friction count, whatever touches it."""
        model, geom, body = world.model, world.cube_geom[layout.target], world.cube_body[layout.target]
        model.geom_priority[geom] = 1
        model.geom_friction[geom] = [self.friction, 0.002, 0.0001]
        scale = self.mass_kg / model.body_mass[body]
        model.body_mass[body] *= scale
        model.body_inertia[body] *= scale


@dataclass
class Obstacle(Disturbance):
    """A post stands on the way from the cube to its goal, or beside it where these are near each other."""

    name: ClassVar[str] = "obstacle"
    height_m: float = 0.2
    along: float = 0.5
    aside_m: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Obstacle:
        """How high it is, where on the way, and how far off it."""
        height_m = between(strength, 0.14, 0.26)
        return cls(height_m, float(rng.uniform(0.4, 0.65)), float(rng.uniform(-0.03, 0.03)))

    def change_layout(self, layout: Layout) -> Layout:
        """Stand as near to the drawn place as leaves room for the hand over the cube and its goal."""
        foot = post_on_the_way(layout, self.along, self.aside_m)
        if foot is None:
            foot = _beside_the_way(layout, self.along)
        return replace(layout, obstacle_position_m=foot, obstacle_height_m=self.height_m)


def _beside_the_way(layout: Layout, along: float) -> Floats:
    """(3,) free place on the table that is nearest to a point of the way and leaves room for the hand.

    On a table of this size there always is one: three circles of 15 cm and two of 10 cm cannot cover it.
    """
    cubes = layout.cube_position_m[:, :2]
    cube, goal = cubes[layout.target], layout.goal_m()
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0.3, 0.75, 46), np.linspace(-0.4, 0.2, 61)))
    feet = np.column_stack([x, y])
    busy = np.vstack([cube, goal, layout.bin_position_m[:2]])
    room = np.linalg.norm(feet[:, None] - busy, axis=2).min(axis=1) > HAND_CLEARANCE_M
    room &= np.linalg.norm(feet[:, None] - cubes, axis=2).min(axis=1) > 0.10
    room &= np.linalg.norm(feet - layout.tool_position_m[:2], axis=1) > 0.06
    off = np.linalg.norm(feet - (cube + along * (goal - cube)), axis=1)
    return np.array([*feet[int(np.argmin(np.where(room, off, np.inf)))], 0.0])


@dataclass
class Colour(Disturbance):
    """The named cube has a paint that lies between its colour and one that was never shown."""

    name: ClassVar[str] = "colour"
    paint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    share: float = 0.5

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Colour:
        """Which paint, and how much of it: never so much that the word would be wrong."""
        paint = _FOREIGN_COLOURS[int(rng.integers(len(_FOREIGN_COLOURS)))]
        return cls(paint, between(strength, 0.1, 0.4))

    def change_world(self, world: World, layout: Layout) -> None:
        """Mix the two."""
        rgba = world.model.geom_rgba[world.cube_geom[layout.target]]
        rgba[:3] += self.share * (np.array(self.paint) - rgba[:3])


@dataclass
class Size(Disturbance):
    """The named cube is smaller or larger than any that was shown."""

    name: ClassVar[str] = "size"
    size_m: float = CUBE_SIZE_M

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Size:
        """By 2 to 10 mm, either way; the hand opens to 80 mm."""
        sign = 1.0 if rng.random() < 0.5 else -1.0
        return cls(CUBE_SIZE_M + sign * between(strength, 0.002, 0.010))

    def change_layout(self, layout: Layout) -> Layout:
        """Let it stand on the table all the same."""
        size_m, position = layout.cube_size_m.copy(), layout.cube_position_m.copy()
        size_m[layout.target] = self.size_m
        position[layout.target, 2] = self.size_m / 2
        return replace(layout, cube_size_m=size_m, cube_position_m=position)
