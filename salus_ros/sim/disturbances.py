"""Disturbances: what may go wrong in an episode besides the policy. Each is drawn by seed.

A family is a class registered in ``FAMILIES``; ``mixed`` draws one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import cv2
import mujoco
import numpy as np

from salus_ros.errors import SalusError
from salus_ros.sim.tasks import HAND_CLEARANCE_M, Layout
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import FRONT_CAMERA, World
from salus_ros.types import Image

_GRAVITY_M_S2: Final = 9.81


@dataclass
class Disturbance:
    """Leaves everything as it is; families override what they change."""

    name: ClassVar[str] = ""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Disturbance:
        """Draw a strength."""
        return cls()

    def change_layout(self, layout: Layout) -> Layout:
        """Change the scene before it is set up."""
        return layout

    def change_world(self, world: World, layout: Layout) -> None:
        """Change values of the model, which the next reset undoes."""

    def step(self, world: World, data: mujoco.MjData, truth: Truth) -> None:
        """Act in a control period."""

    def command_lag_s(self) -> float:
        """Time constant by which the motors lag behind their commands."""
        return 0.0

    def see(self, image: Image, camera: str, time_s: float) -> Image:
        """Change what a camera sees, (H, W, 3)."""
        return image


@dataclass
class Nudge(Disturbance):
    """Someone shoves the named cube while the hand approaches it."""

    name: ClassVar[str] = "nudge"
    at_distance_m: float = 0.1
    by_m: float = 0.03
    direction_rad: float = 0.0
    done: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Nudge:
        """How near the hand is, how far the cube slides and where to: anywhere but towards the bin,
        beside which the hand finds no room."""
        angle = rng.uniform(0.9 * np.pi, 2.1 * np.pi)
        return cls(float(rng.uniform(0.03, 0.16)), float(rng.uniform(0.015, 0.06)), float(angle))

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
    def draw(cls, rng: np.random.Generator) -> Slippery:
        """Two fingers of 20 N carry friction * 40 N; both sides of the limit are drawn."""
        mass = float(rng.uniform(0.2, 0.5))
        needed = mass * _GRAVITY_M_S2 / 40.0
        return cls(float(needed * rng.uniform(0.85, 1.5)), mass)

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
    """A post stands on the way from the cube to the bin."""

    name: ClassVar[str] = "obstacle"
    height_m: float = 0.2
    along: float = 0.5
    aside_m: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Obstacle:
        """How high it is, where on the way, and how far off it."""
        return cls(
            float(rng.uniform(0.14, 0.26)), float(rng.uniform(0.4, 0.65)), float(rng.uniform(-0.03, 0.03))
        )

    def change_layout(self, layout: Layout) -> Layout:
        """Stand as near to the drawn place as leaves room for the hand over the cube and the bin; where
        cube and bin are too near each other, the scene stays as it is."""
        cube, goal = layout.cube_position_m[layout.target, :2], layout.bin_position_m[:2]
        way = goal - cube
        side = np.array([-way[1], way[0]]) / np.linalg.norm(way)
        along, aside = (
            g.ravel() for g in np.meshgrid(np.linspace(0.2, 0.8, 25), np.linspace(-0.06, 0.06, 13))
        )
        feet = cube + along[:, None] * way + aside[:, None] * side
        others = np.delete(layout.cube_position_m[:, :2], layout.target, axis=0)
        room = np.linalg.norm(feet - cube, axis=1) > HAND_CLEARANCE_M
        room &= np.linalg.norm(feet - goal, axis=1) > HAND_CLEARANCE_M
        room &= np.linalg.norm(feet[:, None] - others, axis=2).min(axis=1) > 0.06
        if not room.any():
            return layout
        off = np.hypot((along - self.along) * np.linalg.norm(way), aside - self.aside_m)
        foot = feet[int(np.argmin(np.where(room, off, np.inf)))]
        return replace(layout, obstacle_position_m=np.array([*foot, 0.0]), obstacle_height_m=self.height_m)


@dataclass
class Payload(Disturbance):
    """The hand is heavier than the controller knows, and the motors lag."""

    name: ClassVar[str] = "payload"
    mass_kg: float = 1.0
    lag_s: float = 0.1

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Payload:
        """Up to 2 kg of the Panda's 3 kg, and a lag of up to a few control periods."""
        return cls(float(rng.uniform(0.3, 2.0)), float(rng.uniform(0.03, 0.2)))

    def change_world(self, world: World, layout: Layout) -> None:
        """Add mass at the hand that gravity compensation leaves out."""
        model, hand = world.model, world.hand_body
        known = model.body_mass[hand]
        model.body_mass[hand] += self.mass_kg
        model.body_gravcomp[hand] = known / model.body_mass[hand]

    def command_lag_s(self) -> float:
        """As drawn."""
        return self.lag_s


@dataclass
class Blur(Disturbance):
    """A smeared lens."""

    name: ClassVar[str] = "blur"
    radius: float = 0.02

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Blur:
        """Standard deviation as a share of the image's width."""
        return cls(float(rng.uniform(0.01, 0.04)))

    def see(self, image: Image, camera: str, time_s: float) -> Image:
        """Gaussian blur."""
        return np.asarray(cv2.GaussianBlur(image, (0, 0), self.radius * image.shape[1]), dtype=np.uint8)


@dataclass
class Occlusion(Disturbance):
    """Something grey hangs before the front camera for a while."""

    name: ClassVar[str] = "occlusion"
    centre: tuple[float, float] = (0.5, 0.5)
    size: float = 0.3
    from_s: float = 0.0
    until_s: float = 3.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Occlusion:
        """Place and size as shares of the image, and when."""
        start = float(rng.uniform(0.0, 3.0))
        centre = (float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7)))
        return cls(centre, float(rng.uniform(0.25, 0.5)), start, start + float(rng.uniform(1.0, 6.0)))

    def see(self, image: Image, camera: str, time_s: float) -> Image:
        """Paint a rectangle."""
        if camera != FRONT_CAMERA or not self.from_s <= time_s < self.until_s:
            return image
        height, width = image.shape[:2]
        half = self.size / 2
        painted = image.copy()
        rows = slice(max(int((self.centre[1] - half) * height), 0), int((self.centre[1] + half) * height))
        columns = slice(max(int((self.centre[0] - half) * width), 0), int((self.centre[0] + half) * width))
        painted[rows, columns] = 110
        return painted


@dataclass
class Light(Disturbance):
    """Dim, glaring or tinted light."""

    name: ClassVar[str] = "light"
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Light:
        """Brightness from a third to one and a half, tint by 15 %."""
        brightness = float(np.exp(rng.uniform(np.log(0.35), np.log(1.5))))
        red, green, blue = (brightness * float(t) for t in rng.uniform(0.85, 1.15, 3))
        return cls((red, green, blue))

    def see(self, image: Image, camera: str, time_s: float) -> Image:
        """Scale the colours, as the camera's exposure stays."""
        return np.asarray(np.clip(image * np.array(self.gain), 0, 255), dtype=np.uint8)


FAMILIES: Final[dict[str, type[Disturbance]]] = {
    family.name: family for family in (Nudge, Slippery, Obstacle, Payload, Blur, Occlusion, Light)
}
MIXED: Final = "mixed"


def draw_disturbance(name: str, rng: np.random.Generator) -> Disturbance:
    """Draw a disturbance of a family, of a random one for ``mixed``, or none for the empty name.

    Raises:
        SalusError: there is no such family.
    """
    if name == "":
        return Disturbance()
    if name == MIXED:
        name = str(rng.choice(sorted(FAMILIES)))
    if name not in FAMILIES:
        raise SalusError(
            f"There is no disturbance {name!r}; choose one of {', '.join(sorted(FAMILIES))}, {MIXED}, "
            "or the empty name."
        )
    return FAMILIES[name].draw(rng)
