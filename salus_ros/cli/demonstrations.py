"""Demonstrations and corrections of the scripted expert: a file a seed, loaded for behaviour cloning."""

from __future__ import annotations

import salus_ros.sim.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.policy import action as actions
from salus_ros.policy.tinyvla.preprocessing import ImageProcessor
from salus_ros.policy.training.architecture import STATE_DIM
from salus_ros.policy.training.demonstrations import Demonstrations
from salus_ros.robot.model import ArmModel

if TYPE_CHECKING:
    from salus_ros.mixture import Mixture
    from salus_ros.sim.demonstrations import Demonstration

FIRST_DEMONSTRATION_SEED: Final = 1_000_000
"""Scenes with seeds from here on are for training the policy only."""

SEEDS_PER_TASK: Final = 100_000

FIRST_CORRECTION_SEED: Final = 1_600_000
CORRECTIONS: Final = "corrections"
"""Folder of the episodes of a policy that the expert corrected."""

DEMONSTRATED: Final = ("bin", "bin_past_obstacle", "stack", "push")
"""Tasks that the policy learns."""

CAMERAS: Final = ("front", "wrist")
PERIOD_S: Final = 0.05
CHUNK: Final = 16
IMAGE_SIDE: Final = 64


def collect(folder: Path, counts: Mapping[str, int], jobs: int) -> None:
    """Record each task's demonstrations that are not there yet, one file a seed, the tasks in turn."""
    missing = []
    for task, count in counts.items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        missing += [(task, seed) for seed in seeds(task, count) if not _path(folder, task, seed).exists()]
    if not missing:
        return
    # So that an interrupted recording has some of every task.
    missing.sort(key=lambda what: what[1] % SEEDS_PER_TASK)
    _in_parts(functools.partial(_record, folder), missing, jobs, "demonstrations")


def collect_corrections(folder: Path, policy: Path, mixture: Mixture, count: int, jobs: int) -> None:
    """Let the policy act in scenes of the mixture and record what the expert would do at each frame."""
    (folder / CORRECTIONS).mkdir(parents=True, exist_ok=True)
    every = range(FIRST_CORRECTION_SEED, FIRST_CORRECTION_SEED + count)
    missing = [seed for seed in every if not _path(folder, CORRECTIONS, seed).exists()]
    _in_parts(functools.partial(_correct, folder, policy, mixture), missing, jobs, "corrections")


def _in_parts(record: Callable[[list[Any]], list[bool]], missing: list[Any], jobs: int, what: str) -> None:
    parts = [missing[start : start + 10] for start in range(0, len(missing), 10)]
    work = Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(record)(part) for part in parts)
    succeeded = done = 0
    with tqdm(total=len(missing), desc=what, unit="episode") as progress:
        for part in work:
            done += len(part)
            succeeded += sum(part)
            progress.update(len(part))
            progress.set_postfix(succeeded=f"{succeeded / done:.0%}")


def seeds(task: str, count: int) -> range:
    """The scenes of the first so many demonstrations of a task."""
    first = FIRST_DEMONSTRATION_SEED + SEEDS_PER_TASK * DEMONSTRATED.index(task)
    return range(first, first + count)


def _path(folder: Path, task: str, seed: int) -> Path:
    return folder / task / f"{seed}.npz"


def _record(folder: Path, parts: list[tuple[str, int]]) -> list[bool]:
    # Imported here: the worker processes alone need the simulator.
    from salus_ros.sim.demonstrations import record
    from salus_ros.sim.simulation import Simulation

    simulation = Simulation()
    processor = ImageProcessor(IMAGE_SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    succeeded = []
    for task, seed in parts:
        episode = record(simulation, seed, task=task, image_transform=processor.to_uint8)
        _keep(episode, _path(folder, task, seed))
        succeeded.append(episode.succeeded)
    return succeeded


def _correct(folder: Path, policy: Path, mixture: Mixture, seeds: list[int]) -> list[bool]:
    import torch

    from salus_ros.corrections import record_corrections
    from salus_ros.policy.registry import load_policy
    from salus_ros.sim.simulation import Simulation

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    simulation, acting = Simulation(), load_policy(str(policy))
    processor = ImageProcessor(IMAGE_SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    succeeded = []
    for seed in seeds:
        episode = record_corrections(simulation, acting, mixture.draw(seed), processor.to_uint8)
        _keep(episode, _path(folder, CORRECTIONS, seed))
        succeeded.append(episode.succeeded)
    return succeeded


def _keep(episode: Demonstration, path: Path) -> None:
    """Write one file, whole or not at all."""
    arrays: dict[str, Any] = {
        field.name: getattr(episode, field.name)
        for field in dataclasses.fields(episode)
        if isinstance(getattr(episode, field.name), np.ndarray)
    }
    arrays.update({f"image_{name}": images for name, images in episode.images.items()})
    for name in ("task", "colours", "target", "second", "instruction", "succeeded"):
        arrays[name] = np.array(getattr(episode, name))
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, **arrays)
    unfinished.rename(path)


def load_demonstrations(folder: Path, counts: Mapping[str, int], corrections: int = 0) -> Demonstrations:
    """The succeeded ones among the first so many demonstrations of each task, and corrections, in turn.

    Raises:
        SalusError: of some task none succeeded.
    """
    paths = successes(folder, counts, corrections)
    named: dict[str, tuple[str, str, str]] = {}
    colours: set[str] = set()
    frames = 0
    for path in paths:
        with np.load(path) as stored:
            cubes = [str(colour) for colour in stored["colours"]]
            below = int(stored["second"])
            named[str(stored["instruction"])] = (
                str(stored["task"]),
                cubes[int(stored["target"])],
                cubes[below] if below >= 0 else "",
            )
            colours.update(cubes)
            frames += len(stored["time_s"])
    instructions = tuple(sorted(named))
    things = {name: number for number, name in enumerate([*sorted(colours), "bin", "mark"])}
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "images": ((len(CAMERAS), IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8),
        "state": ((STATE_DIM,), np.float32),
        "actions": ((CHUNK, 10), np.float32),
        "instruction": ((), np.int64),
        "objects_m": ((len(instructions), 3), np.float32),
        "goals_m": ((len(instructions), 3), np.float32),
        "things_m": ((len(things), 3), np.float32),
        "held": ((), np.float32),
        "episode": ((), np.int64),
    }
    # Filled in place: images of a few thousand demonstrations are some gigabytes.
    arrays: dict[str, Any] = {
        name: np.empty((frames, *shape), kind) for name, (shape, kind) in shapes.items()
    }
    arm = ArmModel.from_urdf(asset("urdf/salus_arm.urdf"))
    start = 0
    for number, path in enumerate(tqdm(paths, desc="loading", unit="episode")):
        with np.load(path) as stored:
            episode = {name: stored[name] for name in stored.files}
        part = slice(start, start + len(episode["time_s"]))
        start = part.stop
        arrays["images"][part] = np.stack([episode[f"image_{name}"] for name in CAMERAS], axis=1)
        arrays["state"][part], arrays["actions"][part] = _motion(arm, episode)
        arrays["instruction"][part] = instructions.index(str(episode["instruction"]))
        arrays["things_m"][part] = _things(episode, things)
        for index, text in enumerate(instructions):
            task, target, second = named[text]
            arrays["objects_m"][part, index] = arrays["things_m"][part, things[target]]
            place = {"stack": second, "push": "mark"}.get(task, "bin")
            arrays["goals_m"][part, index] = arrays["things_m"][part, things[place]]
        arrays["held"][part] = episode["gripped"]
        arrays["episode"][part] = number
    return Demonstrations(
        instructions=instructions, tasks=tuple(named[text][0] for text in instructions), **arrays
    )


def successes(folder: Path, counts: Mapping[str, int], corrections: int = 0) -> list[Path]:
    """Files of the demonstrations that succeeded and of the corrections, in turn: the last are of every kind.

    A correction is worth learning from however its episode ended.
    """
    found: list[tuple[float, Path]] = []
    for task, count in counts.items():
        before = len(found)
        for rank, seed in enumerate(seeds(task, count)):
            path = _path(folder, task, seed)
            if path.exists():
                with np.load(path) as stored:
                    if bool(stored["succeeded"]):
                        found.append((rank / count, path))
        if len(found) == before:
            raise SalusError(
                f"None of the demonstrations in {folder / task} succeeded; delete the folder and collect "
                "again."
            )
    found += [
        (rank / corrections, path) for rank, path in enumerate(recorded_corrections(folder, corrections))
    ]
    return [path for _, path in sorted(found)]


def recorded_corrections(folder: Path, count: int) -> list[Path]:
    """Those of the first so many that are there."""
    every = range(FIRST_CORRECTION_SEED, FIRST_CORRECTION_SEED + count)
    return [path for path in (_path(folder, CORRECTIONS, seed) for seed in every) if path.exists()]


def _motion(arm: ArmModel, episode: Mapping[str, Any]) -> tuple[Any, Any]:
    """States (F, S) and actions (F, T, 10), relative to the measured tool."""
    state = actions.tool_state(
        arm,
        episode["joint_position_rad"],
        episode["joint_velocity_rad_s"],
        episode["gripper_opening_m"],
        STATE_DIM,
    )
    wanted = np.tile(np.eye(4), (*episode["label_opening_m"].shape, 1, 1))
    wanted[..., :3, 3], wanted[..., :3, :3] = episode["label_position_m"], episode["label_rotation"]
    relative = [
        actions.to_relative(tool, poses, opening)
        for tool, poses, opening in zip(episode["tool_pose"], wanted, episode["label_opening_m"], strict=True)
    ]
    return state, np.stack(relative)


def _things(episode: Mapping[str, Any], things: Mapping[str, int]) -> Any:
    """(F, O, 3), from the tool; nan for what is not in the scene."""
    tool = episode["tool_pose"][:, :3, 3]
    positions = np.full((len(tool), len(things), 3), np.nan)
    for index, colour in enumerate(episode["colours"]):
        positions[:, things[str(colour)]] = episode["cube_position_m"][:, index] - tool
    positions[:, things["bin"]] = episode["bin_position_m"] - tool
    if (episode["mark_position_m"][:, 2] > -1.0).all():
        positions[:, things["mark"]] = episode["mark_position_m"] - tool
    return positions


def split(data: Demonstrations, validation: int) -> tuple[Demonstrations, Demonstrations]:
    """Training and validation frames, by episode: the last ones are held out. Nothing is copied."""
    border = int(np.searchsorted(data.episode, data.episode.max() - validation, side="right"))

    def part(frames: slice) -> Demonstrations:
        arrays = {
            field.name: getattr(data, field.name)[frames]
            for field in dataclasses.fields(data)
            if field.name not in ("instructions", "tasks")
        }
        return dataclasses.replace(data, **arrays)

    return part(slice(border)), part(slice(border, None))
