"""Gathers one observation from what arrives at different times, and says what is missing when it cannot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import JointState

from salus_ros.nodes.cameras import image_from_message
from salus_ros.nodes.driver_messages import stamp_from_message
from salus_ros.nodes.robot import Robot
from salus_ros.types import Observation

JOINT_STATES_KEPT: Final = 100


class InputSettings(BaseModel):
    """How old and how far apart the inputs of one observation may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cameras: tuple[str, ...] = Field(
        ("front", "wrist"),
        min_length=1,
        description="Names of the cameras, each under camera/<name>/image_raw.",
    )
    image_max_age_s: float = Field(0.3, gt=0, description="An image that arrived earlier is stale [s].")
    joint_state_max_age_s: float = Field(
        0.1, gt=0, description="A joint state that arrived earlier is stale [s]."
    )
    skew_max_s: float = Field(
        0.05,
        gt=0,
        description="Largest distance of the stamps of images and joint state in one observation [s].",
    )


@dataclass(frozen=True, slots=True)
class _Arrived:
    message: ImageMessage
    stamp_s: float
    arrival_s: float


class PolicyInputs:
    """The newest image of each camera, the last joint states, and the instruction.

    Messages are kept as they come: only those that make an observation are converted.
    """

    def __init__(self, settings: InputSettings, robot: Robot, instruction: str = "") -> None:
        self._settings = settings
        self._robot = robot
        self._images: dict[str, _Arrived] = {}
        self._joints: deque[tuple[float, JointState]] = deque(maxlen=JOINT_STATES_KEPT)
        self._joints_arrival_s = -float("inf")
        self.instruction = instruction

    def take_image(self, camera: str, message: ImageMessage, now_s: float) -> None:
        """Keep an image that arrived at steady time ``now_s``."""
        self._images[camera] = _Arrived(message, stamp_from_message(message.header.stamp), now_s)

    def take_joint_state(self, message: JointState, now_s: float) -> None:
        """Keep a joint state that arrived at steady time ``now_s``."""
        self._joints.append((stamp_from_message(message.header.stamp), message))
        self._joints_arrival_s = now_s

    @property
    def stamp_s(self) -> float:
        """Stamp that an observation would have now: that of the oldest newest image; -inf without one."""
        if any(camera not in self._images for camera in self._settings.cameras):
            return -float("inf")
        return min(self._images[camera].stamp_s for camera in self._settings.cameras)

    def complaint(self, now_s: float) -> str:
        """What is missing or stale at steady time ``now_s``; empty when an observation can be made."""
        settings = self._settings
        complaints = []
        for camera in settings.cameras:
            arrived = self._images.get(camera)
            if arrived is None:
                complaints.append(f"no image of camera {camera} yet")
            elif now_s - arrived.arrival_s > settings.image_max_age_s:
                complaints.append(f"image of camera {camera} is {now_s - arrived.arrival_s:.2f} s old")
        if not self._joints:
            complaints.append("no joint states yet")
        elif now_s - self._joints_arrival_s > settings.joint_state_max_age_s:
            complaints.append(f"joint states are {now_s - self._joints_arrival_s:.2f} s old")
        if not self.instruction:
            complaints.append("no instruction yet")
        if not complaints:
            complaints.extend(self._skewed())
        return "; ".join(complaints)

    def _skewed(self) -> list[str]:
        stamps = {name: self._images[name].stamp_s for name in self._settings.cameras}
        stamps["joint states"] = self._nearest(self.stamp_s)[0]
        spread_s = max(stamps.values()) - min(stamps.values())
        if spread_s <= self._settings.skew_max_s:
            return []
        return [f"the stamps of {', '.join(stamps)} lie {spread_s:.3f} s apart"]

    def _nearest(self, stamp_s: float) -> tuple[float, JointState]:
        return min(self._joints, key=lambda item: abs(item[0] - stamp_s))

    def snapshot(self) -> Callable[[], Observation]:
        """The newest observation, converted when called, on whatever thread; ask only without a complaint.

        The call raises SalusError when an image or a joint state cannot be read.
        """
        stamp_s, robot, instruction = self.stamp_s, self._robot, self.instruction
        joints = self._nearest(stamp_s)[1]
        images = {name: self._images[name].message for name in self._settings.cameras}

        def convert() -> Observation:
            return Observation(
                stamp_s=stamp_s,
                robot=robot.state(joints),
                images={name: image_from_message(image) for name, image in images.items()},
                instruction=instruction,
            )

        return convert
