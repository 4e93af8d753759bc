"""Episodes as behaviour cloning wants them: what was seen, where the arm was, and where it went next.

Actions are those of the published format: absolute tool poses in the base frame (position, six of rotation)
and the hand's opening, one a period. States are TinyVLA's seven numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.policy import action as actions
from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats, Floats32, Image

STATE_DIM = 7
ACTION_DIM = 10
SKEW_MAX_S = 0.05
"""Views of one frame lie no farther apart."""
_OF_DEMONSTRATION: Final = (
    "succeeded", "instruction", "joint_position_rad", "gripper_opening_m",
    "label_position_m", "label_rotation", "label_opening_m",
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """One successful episode: F frames, V views, T steps of a chunk."""

    name: str
    instruction: str
    images: Iterator[list[Image]]
    """F lists of V images uint8 (H, W, 3), read one after the other."""
    state: Floats32
    """(F, 7)"""
    actions: Floats32
    """(F, T, 10)"""
    is_pad: NDArray[np.bool_]
    """(F, T), steps past the episode's end; their action is the last one."""


@dataclass(frozen=True)
class Source:
    """Successful episodes of a store, or demonstrations of ``salus train-policy``."""

    path: Path
    cameras: tuple[str, ...]
    chunk: int
    period_s: float
    arm: ArmModel

    def clips(self) -> Iterator[Clip]:
        """Every usable episode.

        Raises:
            SalusError: the path holds neither, or an episode lacks a camera.
        """
        if (self.path / "zarr.json").is_file():
            with Store.open(self.path) as store:
                for index, meta in enumerate(store.metas()):
                    if meta.outcome is Outcome.SUCCESS:
                        yield self._of_episode(index, store.episode(index, ("robot", "commands", "frames")))
            return
        files = sorted(self.path.rglob("*.npz"))
        if not files:
            raise SalusError(
                f"{self.path} holds neither a store (zarr.json) nor demonstrations (*.npz); give what "
                "`salus collect`, `salus bag to-zarr` or `salus train-policy` wrote."
            )
        for file in files:
            stored = _read_demonstration(file)
            if bool(stored["succeeded"]):
                yield self._of_demonstration(file, stored)

    def _of_episode(self, index: int, episode: Episode) -> Clip:
        name = f"episode {index} of {self.path}"
        missing = [camera for camera in self.cameras if not len(episode.frames.get(camera, ()))]
        if missing or not len(episode.robot) or not episode.meta.instruction:
            lacking = f"images of {missing[0]!r}" if missing else "joint states or an instruction"
            raise SalusError(f"{name} has no {lacking}; record it with frames, or name other cameras.")
        robot, first = episode.robot, episode.frames[self.cameras[0]]
        rows, views = [], []
        for row, stamp_s in enumerate(first.stamp_s):
            nearest = [int(np.abs(episode.frames[c].stamp_s - stamp_s).argmin()) for c in self.cameras]
            times = [episode.frames[c].stamp_s[i] for c, i in zip(self.cameras, nearest, strict=True)]
            if max(times) - min(times) <= SKEW_MAX_S and robot.stamp_s[0] <= stamp_s <= robot.stamp_s[-1]:
                rows.append(row)
                views.append(nearest)
        if not rows:
            raise SalusError(
                f"{name} has no frame whose views lie within {SKEW_MAX_S} s of each other while joint states "
                "were recorded; record the cameras in step, or name one of them."
            )
        stamps = first.stamp_s[rows]
        when = stamps[:, None] + self.period_s * np.arange(1, self.chunk + 1)
        joints = _interpolated(when, robot.stamp_s, robot.joint_position_rad)
        poses = self.arm.forward(joints)
        return Clip(
            name=name,
            instruction=episode.meta.instruction,
            images=(
                [episode.frames[c].image(i) for c, i in zip(self.cameras, view, strict=True)]
                for view in views
            ),
            state=self._state(
                _interpolated(stamps, robot.stamp_s, robot.joint_position_rad),
                np.interp(stamps, robot.stamp_s, robot.gripper_opening_m),
            ),
            actions=actions.to_ten(poses, _opening(episode, when)).astype(np.float32),
            is_pad=when > robot.stamp_s[-1],
        )

    def _of_demonstration(self, file: Path, stored: dict[str, NDArray[np.generic]]) -> Clip:
        missing = [camera for camera in self.cameras if f"image_{camera}" not in stored]
        steps = stored["label_opening_m"].shape[1]
        if missing or steps < self.chunk:
            lacking = f"images of {missing[0]!r}" if missing else f"{self.chunk} steps ahead, but {steps}"
            raise SalusError(
                f"The demonstration {file} has no {lacking}; name other cameras or a shorter chunk."
            )
        poses = np.tile(np.eye(4), (*stored["label_opening_m"].shape, 1, 1))
        poses[..., :3, 3], poses[..., :3, :3] = stored["label_position_m"], stored["label_rotation"]
        wanted = actions.to_ten(poses, np.asarray(stored["label_opening_m"], np.float64))[:, : self.chunk]
        views = [np.asarray(stored[f"image_{camera}"], np.uint8) for camera in self.cameras]
        return Clip(
            name=str(file),
            instruction=str(stored["instruction"]),
            images=([view[frame] for view in views] for frame in range(len(wanted))),
            state=self._state(
                np.asarray(stored["joint_position_rad"], np.float64),
                np.asarray(stored["gripper_opening_m"], np.float64),
            ),
            actions=wanted.astype(np.float32),
            is_pad=np.zeros(wanted.shape[:2], np.bool_),
        )

    def _state(self, position_rad: Floats, opening_m: Floats) -> Floats32:
        still = np.zeros_like(position_rad)
        return actions.tool_state(self.arm, position_rad, still, opening_m, STATE_DIM).astype(np.float32)


def _read_demonstration(file: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(file) as opened:
            stored = {name: opened[name] for name in opened.files}
    except (OSError, EOFError, TypeError, ValueError, BadZipFile) as error:
        raise SalusError(f"The demonstration {file} cannot be read ({error}); collect it again.") from None
    missing = [name for name in _OF_DEMONSTRATION if name not in stored]
    if missing:
        raise SalusError(
            f"{file} is no demonstration (it has no {missing[0]!r}); give a folder that "
            "holds what `salus train-policy` collected, and nothing else."
        )
    return stored


def _interpolated(when_s: Floats, stamp_s: Floats, values: Floats) -> Floats:
    """Values (N, J) at times (...): (..., J); held beyond both ends."""
    columns = [np.interp(when_s, stamp_s, values[:, j]) for j in range(values.shape[1])]
    return np.stack(columns, axis=-1)


def _opening(episode: Episode, when_s: Floats) -> Floats:
    """The opening that was commanded at each time; what was measured where nothing was commanded.

    A hand that holds something measures the thing, and a policy that learned that would not press.
    """
    commands = episode.commands
    measured = np.interp(when_s, episode.robot.stamp_s, episode.robot.gripper_opening_m)
    told = ~np.isnan(commands.gripper_opening_m)
    if not told.any():
        return measured
    latest = np.searchsorted(commands.stamp_s[told], when_s, side="right") - 1
    return np.where(latest >= 0, commands.gripper_opening_m[told][np.maximum(latest, 0)], measured)
