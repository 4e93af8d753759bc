"""Disturbances of what the cameras see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import mujoco
import numpy as np

from salus_ros.sim.disturbances.base import Disturbance, between
from salus_ros.sim.layout import Layout
from salus_ros.sim.world import FRONT_CAMERA, World
from salus_ros.types import Image


@dataclass
class Blur(Disturbance):
    """A smeared lens."""

    name: ClassVar[str] = "blur"
    radius: float = 0.02

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> Blur:
        """Standard deviation as a share of the image's width."""
        return cls(between(strength, 0.01, 0.07))

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
    def draw(cls, rng: np.random.Generator, strength: float) -> Occlusion:
        """Place and size as shares of the image, and when."""
        start = float(rng.uniform(0.0, 3.0))
        centre = (float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7)))
        return cls(centre, between(strength, 0.2, 0.8), start, start + between(strength, 1.0, 9.0))

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
    def draw(cls, rng: np.random.Generator, strength: float) -> Light:
        """Dim down to a third or bright up to one and a half, with a tint of up to 15 %."""
        brightest = np.log(0.35 if rng.random() < 0.7 else 1.5)
        brightness = float(np.exp(between(strength, 0.2, 1.0) * brightest))
        tint = 1.0 + between(strength, 0.03, 0.15) * rng.uniform(-1, 1, 3)
        red, green, blue = (brightness * float(t) for t in tint)
        return cls((red, green, blue))

    def see(self, image: Image, camera: str, time_s: float) -> Image:
        """Scale the colours, as the camera's exposure stays."""
        return np.asarray(np.clip(image * np.array(self.gain), 0, 255), dtype=np.uint8)


@dataclass
class MovedCamera(Disturbance):
    """Someone knocked against the front camera before the episode."""

    name: ClassVar[str] = "camera"
    by_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> MovedCamera:
        """By up to 5 cm and 3 degrees, in any direction."""
        direction, axis = rng.standard_normal((2, 3))
        x, y, z = between(strength, 0.005, 0.05) * direction / np.linalg.norm(direction)
        roll, pitch, yaw = np.deg2rad(between(strength, 0.3, 3.0)) * axis / np.linalg.norm(axis)
        return cls((float(x), float(y), float(z)), (float(roll), float(pitch), float(yaw)))

    def change_world(self, world: World, layout: Layout) -> None:
        """Move it."""
        model = world.model
        camera = model.camera(FRONT_CAMERA).id
        model.cam_pos[camera] += self.by_m
        mujoco.mju_quatIntegrate(model.cam_quat[camera], np.array(self.turn_rad), 1.0)
