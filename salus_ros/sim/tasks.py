"""Tasks: how a scene is drawn, what the instruction says, what counts as done, what may be touched.

A new task is a class registered in ``TASKS``; its expert is registered in ``expert.EXPERTS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import BIN_HEIGHT_M, BIN_INNER_HALF_M, COLOURS, CUBE_SIZE_M, CUBES, PARKED_M
from salus_ros.types import Floats

HAND_CLEARANCE_M: Final = 0.15
"""Distance of a post from where the hand goes down: half its width, the post's radius and 3 cm."""
# Short of 45 degrees, where either way of turning the hand would be as good.
_LARGEST_YAW_RAD: Final = 0.6


class TaskSettings(BaseModel):
    """From where scenes are drawn; metres in the base frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    colours: tuple[str, ...] = Field(("red", "green", "blue"), description="Colours that cubes may have.")
    cube_x_m: tuple[float, float] = Field((0.40, 0.60), description="Range of the cubes' centres.")
    cube_y_m: tuple[float, float] = Field((-0.26, 0.08), description="Range of the cubes' centres.")
    cube_distance_m: float = Field(
        0.10, gt=0.06, description="Smallest distance of cubes, so that the open fingers fit between them."
    )
    bin_x_m: tuple[float, float] = Field((0.44, 0.56), description="Range of the bin's centre.")
    bin_y_m: tuple[float, float] = Field((0.27, 0.33), description="Range of the bin's centre.")
    obstacle_share: float = Field(0.5, ge=0, le=1, description="Share of scenes with an obstacle post.")
    obstacle_height_m: tuple[float, float] = Field((0.10, 0.20), description="Range of the post's height.")
    start_m: tuple[float, float, float] = Field(
        (0.46, 0.0, 0.30), description="Mean tool position at the start."
    )
    start_range_m: float = Field(0.03, ge=0, description="Half the range of the start along each axis.")


@dataclass(frozen=True, slots=True)
class Layout:
    """One drawn scene. N cubes."""

    instruction: str
    colours: tuple[str, ...]
    """(N,)"""
    target: int
    """The cube that the instruction names."""
    cube_position_m: Floats
    """(N, 3)"""
    cube_yaw_rad: Floats
    """(N,)"""
    bin_position_m: Floats
    """(3,), centre of the bin's underside."""
    obstacle_position_m: Floats
    """(3,), foot of the post; far below the table when there is none."""
    obstacle_height_m: float
    tool_position_m: Floats
    """(3,), where the tool starts, pointing down."""


class Task(Protocol):
    """What the simulator asks a task."""

    name: str

    def draw(self, rng: np.random.Generator, settings: TaskSettings) -> Layout:
        """Draw a scene."""

    def succeeded(self, truth: Truth) -> bool:
        """Whether the goal is reached at this moment; it must stay so for a while to count."""

    def release_allowed(self, truth: Truth) -> bool:
        """Whether opening the hand here puts the held object where the task wants it."""

    def is_goal_surface(self, body: str) -> bool:
        """Whether the held object may touch this body (``table``, ``bin``, ``obstacle``, ``cube``)."""


class BinTask:
    """Put the cube of the named colour into the bin."""

    name = "bin"

    def draw(self, rng: np.random.Generator, settings: TaskSettings) -> Layout:
        """Cubes apart from each other and from the bin, sometimes with a post between them."""
        colours = tuple(str(c) for c in rng.permutation(list(settings.colours))[:CUBES])
        target = int(rng.integers(CUBES))
        bin_xy = np.array([rng.uniform(*settings.bin_x_m), rng.uniform(*settings.bin_y_m)])
        cubes = _apart(rng, settings)
        start = np.array(settings.start_m) + rng.uniform(-1, 1, 3) * settings.start_range_m
        yaw = rng.uniform(-_LARGEST_YAW_RAD, _LARGEST_YAW_RAD, CUBES)
        height = float(rng.uniform(*settings.obstacle_height_m))
        wanted = rng.random() < settings.obstacle_share
        post = _post(rng, settings, cubes, bin_xy, target) if wanted else None
        return Layout(
            instruction=f"put the {colours[target]} cube in the bin",
            colours=colours,
            target=target,
            cube_position_m=np.column_stack([cubes, np.full(CUBES, CUBE_SIZE_M / 2)]),
            cube_yaw_rad=yaw,
            bin_position_m=np.array([*bin_xy, 0.0]),
            obstacle_position_m=np.array(PARKED_M) if post is None else np.array([*post, 0.0]),
            obstacle_height_m=height,
            tool_position_m=start,
        )

    def succeeded(self, truth: Truth) -> bool:
        """The cube lies still in the bin and no finger touches it."""
        position = truth.cube_position_m[truth.target]
        slow = float(np.linalg.norm(truth.cube_velocity_m_s[truth.target])) < 0.05
        low = position[2] < BIN_HEIGHT_M
        return self._inside(truth) and low and slow and not truth.touched[truth.target]

    def release_allowed(self, truth: Truth) -> bool:
        """The cube's centre is over the bin."""
        return self._inside(truth)

    def is_goal_surface(self, body: str) -> bool:
        """The held cube starts on the table; it may touch nothing else."""
        return body == "table"

    @staticmethod
    def _inside(truth: Truth) -> bool:
        offset = truth.cube_position_m[truth.target, :2] - truth.bin_position_m[:2]
        return bool((np.abs(offset) < BIN_INNER_HALF_M).all())


TASKS: Final[dict[str, Task]] = {task.name: task for task in (BinTask(),)}


def task_named(name: str) -> Task:
    """The task of this name.

    Raises:
        SalusError: there is none.
    """
    if name not in TASKS:
        raise SalusError(f"There is no task {name!r}; choose one of {', '.join(sorted(TASKS))}.")
    return TASKS[name]


def check_settings(settings: TaskSettings) -> None:
    """Raise SalusError for colours that do not exist or are too few."""
    unknown = sorted(set(settings.colours) - set(COLOURS))
    if unknown or len(set(settings.colours)) < CUBES:
        raise SalusError(
            f"colours is {', '.join(settings.colours)}, but expected {CUBES} or more different ones "
            f"of {', '.join(COLOURS)}."
        )


def _apart(rng: np.random.Generator, settings: TaskSettings) -> Floats:
    """(CUBES, 2) positions on the table, drawn one after the other until they lie apart."""
    low = (settings.cube_x_m[0], settings.cube_y_m[0])
    high = (settings.cube_x_m[1], settings.cube_y_m[1])
    while True:
        cubes = rng.uniform(low, high, (CUBES, 2))
        distance = np.linalg.norm(cubes[:, None] - cubes[None], axis=-1) + np.eye(CUBES)
        if distance.min() > settings.cube_distance_m:
            return cubes


def _post(
    rng: np.random.Generator, settings: TaskSettings, cubes: Floats, bin_xy: Floats, target: int
) -> Floats | None:
    """(2,) foot of a post beside or on the way from the cube to the bin; None where no room is left."""
    for _ in range(20):
        along = rng.uniform(0.3, 0.7)
        foot = (
            cubes[target] + along * (bin_xy - cubes[target]) + rng.uniform(-0.12, 0.12) * np.array([1.0, 0.0])
        )
        free_of_cubes = np.linalg.norm(cubes - foot, axis=1).min() > HAND_CLEARANCE_M
        free_of_bin = float(np.linalg.norm(foot - bin_xy)) > HAND_CLEARANCE_M
        if free_of_cubes and free_of_bin:
            return np.asarray(foot)
    return None
