"""``salus train-policy``: demonstrations, behaviour cloning, closed-loop evaluation, from nothing.

Each stage keeps what it finished, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import salus_ros.sim.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import argparse
import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, get_args

import torch
from tqdm import tqdm

from salus_ros.cli import policy_evaluation
from salus_ros.cli.demonstrations import (
    CAMERAS,
    CHUNK,
    DEMONSTRATED,
    PERIOD_S,
    collect,
    collect_corrections,
    load_demonstrations,
    recorded_corrections,
    seeds,
    split,
    successes,
)
from salus_ros.cli.training_run import train_for
from salus_ros.errors import SalusError
from salus_ros.mixture import Mixture
from salus_ros.policy.tinyvla import checkpoint
from salus_ros.policy.tinyvla.configuration import MemberPart
from salus_ros.policy.tinyvla.tokenizer import train_tokenizer
from salus_ros.policy.training.architecture import image_processor, small_configuration
from salus_ros.policy.training.settings import TrainingSettings
from salus_ros.policy.training.trainer import Trainer
from salus_ros.policy.training.validation import validate
from salus_ros.settings_file import read_settings

HEAD_WIDTHS: Final = (48, 96)
VALIDATION_EPISODES: Final = 40
LORA_BATCH: Final = 8
"""Frames per head and step with adapters."""


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
        "--corrections",
        type=int,
        default=0,
        metavar="N",
        help="let the policy of --init-from act in N scenes and learn as well what the expert would do there",
    )
    parser.add_argument(
        "--correction-mixture",
        type=Path,
        default=Path("config/mixtures/corrections.yaml"),
        help="what those scenes are drawn from (default %(default)s)",
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
        help="what each ensemble member has for itself (default last_block)",
    )
    parser.add_argument(
        "--heads", type=int, help="train so many action heads on --init-from, which stays as it is"
    )
    parser.add_argument(
        "--lora",
        type=int,
        default=0,
        metavar="RANK",
        help="with --heads: train adapters of this rank on the language model as well (released: 64)",
    )
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
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="YAML file of how it is trained, such as config/training/corrections.yaml; options go before it",
    )
    parser.add_argument("--seed", type=int, help="seed of the training (default 0)")
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
    if args.lora:
        raise SalusError("--lora goes with --heads, the heads that are trained with the adapters; give both.")
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
    if args.corrections and args.init_from is None:
        raise SalusError("--corrections are of a policy that acts; name it with --init-from.")
    counts = dict.fromkeys(args.tasks, args.demos)
    settings = _settings(args)
    collect(args.demo_dir, counts, args.jobs)
    if args.corrections:
        mixture = Mixture.read(args.correction_mixture)
        collect_corrections(args.demo_dir, args.init_from, mixture, args.corrections, args.jobs)
    train(args.demo_dir, counts, args.output, settings, args.minutes, args.init_from, args.corrections)
    if args.evaluate:
        report = policy_evaluation.evaluate(args.output, args.evaluate, args.jobs, args.tasks)
        (args.output / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
        print(policy_evaluation.summary(report))
    return 0


def _settings(args: argparse.Namespace) -> TrainingSettings:
    settings = TrainingSettings()
    if args.settings is not None:
        settings = read_settings(args.settings, TrainingSettings, "config/training/corrections.yaml")
    given = {"seed": args.seed, "member_part": args.members_own}
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def _run_heads(args: argparse.Namespace) -> int:
    from salus_ros.cli import train_heads
    from salus_ros.policy.tinyvla.finetuning import HeadSettings

    if args.init_from is None or args.heads < 1 or args.minutes <= 0 or args.period <= 0 or args.lora < 0:
        raise SalusError("--heads needs --init-from, and heads, minutes, period and rank above 0; give them.")
    if any(width < 8 or width % 8 for width in args.widths):
        raise SalusError(f"--widths {args.widths} are not all multiples of 8; choose others.")
    settings = HeadSettings(
        seed=args.seed or 0,
        heads=args.heads,
        widths=tuple(args.widths),
        cameras=tuple(args.cameras),
        period_s=args.period,
        # Under adapters every frame goes through the language model in every step.
        **({"lora_rank": args.lora, "batch": LORA_BATCH} if args.lora else {}),
    )
    output = args.output or Path("runs/heads")
    train_heads.train(args.init_from, Path(args.demos), output, settings, args.minutes)
    return 0


def train(
    folder: Path,
    counts: Mapping[str, int],
    output: Path,
    settings: TrainingSettings,
    minutes: float,
    init_from: Path | None = None,
    corrections: int = 0,
) -> None:
    """Train for so many minutes in all, saving every few minutes; goes on from a saved state.

    ``init_from``: a checkpoint whose weights and normalisation the run begins with; ``corrections``: how many
    episodes of it are learned from that the expert corrected.
    """
    torch.set_flush_denormal(True)
    before = checkpoint.load(init_from) if init_from else None
    everything = load_demonstrations(folder, counts, corrections)
    episodes = int(everything.episode.max()) + 1
    data, held_out = split(everything, min(VALIDATION_EPISODES, episodes // 5))
    tokenizer = train_tokenizer(data.instructions)
    config = small_configuration(
        tokenizer.get_vocab_size(), CHUNK, CAMERAS, PERIOD_S, settings.members, settings.member_part
    )
    trainer = Trainer(data, config, tokenizer, HEAD_WIDTHS, settings, before.statistics if before else None)
    if before is not None:
        trainer.start_from(before.model, before.tokenizer.get_vocab(), tokenizer.get_vocab())
    output.mkdir(parents=True, exist_ok=True)

    validation: dict[str, float] = {}

    def keep() -> None:
        average = copy.deepcopy(trainer.average).cpu()
        checkpoint.save(output, average, tokenizer, image_processor(config), trainer.statistics)
        figures = validate(average, trainer.inputs, trainer.statistics, held_out)
        validation.update((name, round(value, 4)) for name, value in figures.items())
        entry = {"step": trainer.step_count, "minutes": round(trainer.elapsed_s / 60, 2), **validation}
        with (output / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
        tqdm.write(json.dumps({name: round(value, 2) for name, value in entry.items()}))

    print(f"{episodes} demonstrations, {len(data)} frames, {count_parameters(trainer)} parameters")
    train_for(trainer, 60 * minutes, output / "training.pt", also=keep)
    record = {
        "demonstrations": episodes,
        "recorded": dict(counts),
        "succeeded": {task: len(successes(folder, {task: count})) for task, count in counts.items()},
        "corrections": len(recorded_corrections(folder, corrections)),
        "started_from": before.hash if before else "",
        "frames": len(data),
        "first_seed": {task: seeds(task, 1).start for task in counts},
        "steps": trainer.step_count,
        "minutes": round(trainer.elapsed_s / 60, 2),
        "instructions": dict(zip(data.instructions, data.tasks, strict=True)),
        "validation": validation,
        "settings": settings.model_dump(),
    }
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def count_parameters(trainer: Trainer) -> int:
    """Parameters of the whole ensemble."""
    return sum(parameter.numel() for parameter in trainer.model.parameters())
