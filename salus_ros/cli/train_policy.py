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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from salus_ros.assets import asset
from salus_ros.cli import policy_evaluation
from salus_ros.errors import SalusError
from salus_ros.policy import action as actions
from salus_ros.policy.tinyvla import checkpoint
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
        "--demos", type=int, default=1200, help="demonstrations to learn from (default %(default)s)"
    )
    parser.add_argument(
        "--demo-dir", type=Path, default=Path("runs/demos"), help="where demonstrations are kept"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=20.0, help="training time (default %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/policy"), help="checkpoint and training state"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes for simulation")
    parser.add_argument(
        "--evaluate", type=int, default=100, help="held-out episodes without and with disturbances"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Collect, train, evaluate."""
    if args.demos < 10 or args.minutes <= 0:
        raise SalusError(
            f"Got {args.demos} demonstrations and {args.minutes} minutes; give 10 or more, and some time."
        )
    collect(args.demo_dir, args.demos, args.jobs)
    train(args.demo_dir, args.demos, args.output, TrainingSettings(seed=args.seed), args.minutes)
    if args.evaluate:
        report = policy_evaluation.evaluate(args.output, args.evaluate, args.jobs)
        (args.output / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
        print(policy_evaluation.summary(report))
    return 0


def collect(folder: Path, count: int, jobs: int) -> None:
    """Record demonstrations that are not there yet, one file a seed."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(FIRST_DEMONSTRATION_SEED, FIRST_DEMONSTRATION_SEED + count)
    missing = [seed for seed in seeds if not (folder / f"{seed}.npz").exists()]
    if not missing:
        return
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


def _record(folder: Path, seeds: list[int]) -> list[bool]:
    # Imported here: the worker processes alone need the simulator.
    from salus_ros.sim.demonstrations import record
    from salus_ros.sim.simulation import Simulation

    simulation = Simulation()
    processor = ImageProcessor(IMAGE_SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    succeeded = []
    for seed in seeds:
        episode = record(simulation, seed, image_transform=processor.to_uint8)
        colours = list(episode.colours)
        arrays: dict[str, Any] = {
            field.name: getattr(episode, field.name)
            for field in dataclasses.fields(episode)
            if isinstance(getattr(episode, field.name), np.ndarray)
        }
        arrays.update({f"image_{name}": images for name, images in episode.images.items()})
        arrays.update(colours=colours, instruction=episode.instruction, succeeded=episode.succeeded)
        unfinished = folder / f"{seed}.part.npz"
        np.savez(unfinished, **arrays)
        unfinished.rename(folder / f"{seed}.npz")
        succeeded.append(episode.succeeded)
    return succeeded


def load_demonstrations(folder: Path, count: int) -> Demonstrations:
    """The succeeded ones among the first ``count`` demonstrations."""
    arm = ArmModel.from_urdf(asset("urdf/salus_arm.urdf"))
    episodes = list(_episodes(folder, count))
    if not episodes:
        raise SalusError(
            f"None of the demonstrations in {folder} succeeded; delete the folder and collect again."
        )
    colours = sorted({str(colour) for episode in episodes for colour in episode["colours"]})
    instructions = tuple(f"put the {colour} cube in the bin" for colour in colours)
    parts: dict[str, list[Any]] = {field.name: [] for field in dataclasses.fields(Demonstrations)}
    for number, episode in enumerate(episodes):
        tool = episode["tool_pose"]
        frames = len(tool)
        objects = np.full((frames, len(instructions), 3), np.nan, np.float32)
        for index, colour in enumerate(episode["colours"]):
            offset = episode["cube_position_m"][:, index] - tool[:, :3, 3]
            objects[:, colours.index(str(colour))] = offset
        parts["images"].append(np.stack([episode[f"image_{name}"] for name in CAMERAS], axis=1))
        parts["state"].append(
            actions.tool_state(
                arm,
                episode["joint_position_rad"],
                episode["joint_velocity_rad_s"],
                episode["gripper_opening_m"],
                STATE_DIM,
            )
        )
        wanted = np.tile(np.eye(4), (*episode["label_opening_m"].shape, 1, 1))
        wanted[..., :3, 3], wanted[..., :3, :3] = episode["label_position_m"], episode["label_rotation"]
        parts["actions"].append(
            np.stack(
                [
                    actions.to_relative(tool[frame], wanted[frame], episode["label_opening_m"][frame])
                    for frame in range(frames)
                ]
            )
        )
        parts["instruction"].append(np.full(frames, instructions.index(str(episode["instruction"]))))
        parts["objects_m"].append(objects)
        parts["goal_m"].append(episode["bin_position_m"] - tool[:, :3, 3])
        parts["held"].append(episode["gripped"])
        parts["episode"].append(np.full(frames, number))
    del parts["instructions"]
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    for name in ("state", "actions", "objects_m", "goal_m", "held"):
        joined[name] = joined[name].astype(np.float32)
    return Demonstrations(instructions=instructions, **joined)


def _episodes(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    for seed in tqdm(
        range(FIRST_DEMONSTRATION_SEED, FIRST_DEMONSTRATION_SEED + count), desc="loading", unit="episode"
    ):
        path = folder / f"{seed}.npz"
        if not path.exists():
            continue
        with np.load(path) as stored:
            if bool(stored["succeeded"]):
                yield {name: stored[name] for name in stored.files}


def _split(data: Demonstrations, validation: int) -> tuple[Demonstrations, Demonstrations]:
    """Training and validation frames, by episode."""
    last = int(data.episode.max())
    kept = data.episode <= last - validation

    def part(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Demonstrations:
        arrays = {
            field.name: getattr(data, field.name)[mask]
            for field in dataclasses.fields(data)
            if field.name != "instructions"
        }
        return Demonstrations(instructions=data.instructions, **arrays)

    return part(kept), part(~kept)


def train(folder: Path, demos: int, output: Path, settings: TrainingSettings, minutes: float) -> None:
    """Train for so many minutes in all, saving every few minutes; goes on from a saved state."""
    torch.set_flush_denormal(True)
    output.mkdir(parents=True, exist_ok=True)
    everything = load_demonstrations(folder, demos)
    episodes = int(everything.episode.max()) + 1
    data, held_out = _split(everything, min(VALIDATION_EPISODES, episodes // 5))
    tokenizer = train_tokenizer(data.instructions)
    config = small_configuration(tokenizer.get_vocab_size(), CHUNK, CAMERAS, PERIOD_S, settings.members)
    trainer = Trainer(data, config, tokenizer, HEAD_WIDTHS, settings)
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
        "frames": len(data),
        "first_seed": FIRST_DEMONSTRATION_SEED,
        "steps": trainer.step_count,
        "minutes": round(trainer.elapsed_s / 60, 2),
        "settings": settings.model_dump(),
    }
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def count_parameters(trainer: Trainer) -> int:
    """Parameters of the whole ensemble."""
    return sum(parameter.numel() for parameter in trainer.model.parameters())
