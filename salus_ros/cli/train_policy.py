"""``salus train-policy``: demonstrations, behaviour cloning, closed-loop evaluation, from nothing.

Each stage keeps what it finished, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import salus_ros.sim.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import argparse
import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from salus_ros.assets import asset
from salus_ros.cli import policy_evaluation
from salus_ros.errors import SalusError
from salus_ros.policy import action as actions
from salus_ros.policy.tinyvla import checkpoint
from salus_ros.policy.tinyvla.configuration import MemberPart
from salus_ros.policy.tinyvla.preprocessing import ImageProcessor
from salus_ros.policy.tinyvla.tokenizer import train_tokenizer
from salus_ros.policy.training import (
    STATE_DIM,
    Demonstrations,
    Trainer,
    TrainingSettings,
    image_processor,
    small_configuration,
)
from salus_ros.robot.model import ArmModel

FIRST_DEMONSTRATION_SEED: Final = 1_000_000
"""Scenes with seeds from here on are for training the policy only."""

SEEDS_PER_TASK: Final = 100_000

DEMONSTRATED: Final = ("bin", "bin_past_obstacle", "stack", "push")
"""Tasks that the policy learns."""

CAMERAS: Final = ("front", "wrist")
PERIOD_S: Final = 0.05
CHUNK: Final = 16
IMAGE_SIDE: Final = 64
HEAD_WIDTHS: Final = (48, 96)
VALIDATION_EPISODES: Final = 40
SAVE_EVERY_S: Final = 200.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser("train-policy", help="behaviour cloning of the policy, from nothing")
    parser.add_argument(
        "--demos",
        default="700",
        help="demonstrations to learn from, of each task (default %(default)s); with --heads: a store, or a "
        "folder of demonstrations",
    )
    parser.add_argument(
        "--tasks", nargs="+", default=list(DEMONSTRATED), help="tasks to learn (default: %(default)s)"
    )
    parser.add_argument(
        "--demo-dir", type=Path, default=Path("runs/demos"), help="where demonstrations are kept"
    )
    parser.add_argument(
        "--init-from",
        type=Path,
        help="a checkpoint of the same shape to start from (default: from nothing); with --heads: a "
        "Llava-Pythia backbone, or a fine-tune of it with one head",
    )
    parser.add_argument(
        "--members-own",
        choices=get_args(MemberPart),
        default="last_block",
        help="what each ensemble member has for itself (default %(default)s)",
    )
    parser.add_argument("--heads", type=int, help="train so many action heads on --init-from, left as it is")
    parser.add_argument(
        "--cameras",
        nargs="+",
        default=list(CAMERAS),
        help="with --heads: order of views",
    )
    parser.add_argument(
        "--widths",
        type=int,
        nargs="+",
        default=[256, 512, 1024],
        help="with --heads: channels of the heads, the published ones by default; without a GPU take fewer, "
        "such as 64 128",
    )
    parser.add_argument(
        "--period", type=float, default=PERIOD_S, help="with --heads: time between actions, s (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=20.0, help="training time (default %(default)s)")
    parser.add_argument(
        "--output", type=Path, help="checkpoint and training state (default runs/policy, runs/heads)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes for simulation")
    parser.add_argument("--evaluate", type=int, default=50, help="held-out episodes of each task and kind")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Collect, train, evaluate."""
    if args.heads is not None:
        return _run_heads(args)
    if not str(args.demos).isdigit():
        raise SalusError(f"--demos {args.demos} is no number; a store or a folder goes with --heads.")
    args.demos, args.output = int(args.demos), args.output or Path("runs/policy")
    if args.demos < 10 or args.minutes <= 0:
        raise SalusError(
            f"Got {args.demos} demonstrations and {args.minutes} minutes; give 10 or more, and some time."
        )
    unknown = sorted(set(args.tasks) - set(DEMONSTRATED))
    if unknown:
        raise SalusError(f"There is no task {unknown[0]!r}; choose of {', '.join(DEMONSTRATED)}.")
    counts = dict.fromkeys(args.tasks, args.demos)
    collect(args.demo_dir, counts, args.jobs)
    settings = TrainingSettings(seed=args.seed, member_part=args.members_own)
    train(args.demo_dir, counts, args.output, settings, args.minutes, args.init_from)
    if args.evaluate:
        report = policy_evaluation.evaluate(args.output, args.evaluate, args.jobs, args.tasks)
        (args.output / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
        print(policy_evaluation.summary(report))
    return 0


def _run_heads(args: argparse.Namespace) -> int:
    from salus_ros.cli import train_heads
    from salus_ros.policy.tinyvla.finetuning import HeadSettings

    if args.init_from is None or args.heads < 1 or args.minutes <= 0 or args.period <= 0:
        raise SalusError("--heads needs --init-from, and heads, minutes and period above 0; give them.")
    if any(width < 8 or width % 8 for width in args.widths):
        raise SalusError(f"--widths {args.widths} are not all multiples of 8; choose others.")
    settings = HeadSettings(
        seed=args.seed,
        heads=args.heads,
        widths=tuple(args.widths),
        cameras=tuple(args.cameras),
        period_s=args.period,
    )
    output = args.output or Path("runs/heads")
    train_heads.train(args.init_from, Path(args.demos), output, settings, args.minutes)
    return 0


def collect(folder: Path, counts: Mapping[str, int], jobs: int) -> None:
    """Record each task's demonstrations that are not there yet, one file a seed, the tasks in turn."""
    missing = []
    for task, count in counts.items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        missing += [(task, seed) for seed in _seeds(task, count) if not _path(folder, task, seed).exists()]
    if not missing:
        return
    # So that an interrupted recording has some of every task.
    missing.sort(key=lambda what: what[1] % SEEDS_PER_TASK)
    parts = [missing[start : start + 10] for start in range(0, len(missing), 10)]
    work = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_record)(folder, part) for part in parts
    )
    succeeded = done = 0
    with tqdm(total=len(missing), desc="demonstrations", unit="episode") as progress:
        for part in work:
            done += len(part)
            succeeded += sum(part)
            progress.update(len(part))
            progress.set_postfix(succeeded=f"{succeeded / done:.0%}")


def _seeds(task: str, count: int) -> range:
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
        arrays: dict[str, Any] = {
            field.name: getattr(episode, field.name)
            for field in dataclasses.fields(episode)
            if isinstance(getattr(episode, field.name), np.ndarray)
        }
        arrays.update({f"image_{name}": images for name, images in episode.images.items()})
        for name in ("task", "colours", "target", "second", "instruction", "succeeded"):
            arrays[name] = np.array(getattr(episode, name))
        path = _path(folder, task, seed)
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, **arrays)
        unfinished.rename(path)
        succeeded.append(episode.succeeded)
    return succeeded


def load_demonstrations(folder: Path, counts: Mapping[str, int]) -> Demonstrations:
    """The succeeded ones among the first so many demonstrations of each task, the tasks in turn.

    Raises:
        SalusError: of some task none succeeded.
    """
    paths = _succeeded(folder, counts)
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


def _succeeded(folder: Path, counts: Mapping[str, int]) -> list[Path]:
    """Files of the demonstrations that succeeded, the tasks in turn: the last ones are of every task."""
    found: list[tuple[float, Path]] = []
    for task, count in counts.items():
        before = len(found)
        for rank, seed in enumerate(_seeds(task, count)):
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
    return [path for _, path in sorted(found)]


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


def _split(data: Demonstrations, validation: int) -> tuple[Demonstrations, Demonstrations]:
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


def train(
    folder: Path,
    counts: Mapping[str, int],
    output: Path,
    settings: TrainingSettings,
    minutes: float,
    init_from: Path | None = None,
) -> None:
    """Train for so many minutes in all, saving every few minutes; goes on from a saved state.

    ``init_from``: a checkpoint whose weights and normalisation the run begins with.
    """
    torch.set_flush_denormal(True)
    before = checkpoint.load(init_from) if init_from else None
    output.mkdir(parents=True, exist_ok=True)
    everything = load_demonstrations(folder, counts)
    episodes = int(everything.episode.max()) + 1
    data, held_out = _split(everything, min(VALIDATION_EPISODES, episodes // 5))
    tokenizer = train_tokenizer(data.instructions)
    config = small_configuration(
        tokenizer.get_vocab_size(), CHUNK, CAMERAS, PERIOD_S, settings.members, settings.member_part
    )
    trainer = Trainer(data, config, tokenizer, HEAD_WIDTHS, settings, before.statistics if before else None)
    if before is not None:
        trainer.start_from(before.model, before.tokenizer.get_vocab(), tokenizer.get_vocab())
    saved = output / "training.pt"
    if saved.exists():
        trainer.restore(torch.load(saved, weights_only=True))
        print(f"goes on from step {trainer.step_count}, {trainer.elapsed_s / 60:.1f} min")
    budget_s = 60 * minutes
    log = (output / "log.jsonl").open("a")

    def keep() -> None:
        unfinished = output / "training.part"
        torch.save(trainer.state(), unfinished)
        unfinished.rename(saved)
        checkpoint.save(output, trainer.average, tokenizer, image_processor(config), trainer.statistics)
        figures = trainer.validate(held_out)
        entry = {"step": trainer.step_count, "minutes": round(trainer.elapsed_s / 60, 2), **figures}
        log.write(json.dumps({name: round(value, 4) for name, value in entry.items()}) + "\n")
        log.flush()
        tqdm.write(json.dumps({name: round(value, 2) for name, value in entry.items()}))

    print(f"{episodes} demonstrations, {len(data)} frames, {count_parameters(trainer)} parameters")
    last_saved_s = trainer.elapsed_s
    smooth: dict[str, float] = {}
    with tqdm(total=round(budget_s), initial=round(trainer.elapsed_s), unit="s", desc="training") as progress:
        while trainer.elapsed_s < budget_s:
            start_s = time.monotonic()
            parts = trainer.step(trainer.elapsed_s / budget_s)
            trainer.elapsed_s += time.monotonic() - start_s
            smooth = {name: 0.98 * smooth.get(name, value) + 0.02 * value for name, value in parts.items()}
            progress.n = min(round(trainer.elapsed_s), round(budget_s))
            if trainer.step_count % 20 == 0:
                progress.set_postfix(step=trainer.step_count, **{k: f"{v:.3f}" for k, v in smooth.items()})
            if trainer.elapsed_s - last_saved_s > SAVE_EVERY_S:
                last_saved_s = trainer.elapsed_s
                keep()
    keep()
    record = {
        "demonstrations": episodes,
        "recorded": dict(counts),
        "succeeded": {task: len(_succeeded(folder, {task: count})) for task, count in counts.items()},
        "started_from": before.hash if before else "",
        "frames": len(data),
        "first_seed": {task: _seeds(task, 1).start for task in counts},
        "steps": trainer.step_count,
        "minutes": round(trainer.elapsed_s / 60, 2),
        "settings": settings.model_dump(),
    }
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def count_parameters(trainer: Trainer) -> int:
    """Parameters of the whole ensemble."""
    return sum(parameter.numel() for parameter in trainer.model.parameters())
