"""``salus study``: the closed loop on paired seeds, arm against arm."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from salus_ros import __version__
from salus_ros.data.files import replace_text
from salus_ros.errors import SalusError

if TYPE_CHECKING:
    from salus_ros.data.store import Store
    from salus_ros.evaluation.comparison import Arm, ArmSummary
    from salus_ros.placebo import PlaceboSettings

PLACEBO_FILE: Final = "placebo.json"
RESULTS_FILE: Final = "study.json"
REPORT_FILE: Final = "report.html"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = subparsers.add_parser(
        "study",
        help="closed loop on paired seeds",
        description="Runs the same seeds in every arm, in one process a worker, and compares the arms "
        "pair by pair. Run the same command again after an interruption: it continues where it was.",
    )
    parser.add_argument("--arms", default="none,none2,random,salus", help="separated by commas (%(default)s)")
    parser.add_argument("--seeds", default="700000:700100", help="FIRST:END, END not included (%(default)s)")
    parser.add_argument("--policy", default="models/tinyvla-small", help="checkpoint folder (%(default)s)")
    parser.add_argument("--monitor", default="models/monitor", help="checkpoint folder (%(default)s)")
    parser.add_argument("--task", default="bin", help="name of the task (%(default)s)")
    parser.add_argument("--disturbance", default="mixed", help="a family, mixed, or none (%(default)s)")
    parser.add_argument("--disturbed-share", type=float, default=0.7, help="of the seeds (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    parser.add_argument(
        "--no-frames", action="store_true", help="keep no pictures: smaller, but none to show"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/study"), help="folder (%(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs what is missing, then writes numbers and report; returns 1 when episodes failed to run."""
    from rich.console import Console

    from salus_ros.evaluation.comparison import summarise_arm
    from salus_ros.evaluation.report import RunFacts, write_report
    from salus_ros.evaluation.study import ARMS, parse_arms, parse_seeds, require_file, results
    from salus_ros.evaluation.table import caveats, terminal_table

    started = time.strftime("%Y-%m-%d %H:%M")
    names, seeds = parse_arms(args.arms), parse_seeds(args.seeds)
    if args.workers < 1:
        raise SalusError(f"--workers {args.workers} was given; expected 1 or more.")
    require_file(Path(args.policy), "policy", "train one with salus train-policy, or give --policy")
    require_file(Path(args.monitor), "monitor", "train one with salus train-monitor, or give --monitor")
    console = Console(width=None if sys.stdout.isatty() else 120)
    failed = 0
    # salus comes before random, which is matched to it.
    for name in sorted(names, key=list(ARMS).index, reverse=True):
        console.print(f"arm {name}: {ARMS[name]}")
        failed += _run_arm(args, name, seeds)
    light = [_arm(args, name, seeds, detailed=()) for name in names]
    summaries = {arm.name: summarise_arm(arm) for arm in light}
    _write_json(args.output / RESULTS_FILE, {"command": _command(), **results(summaries)})
    facts = RunFacts(
        title=f"Closed loop on {len(seeds)} paired seeds",
        command=_command(),
        started=started,
        hardware=f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, no GPU used",
        versions={
            "salus_ros": __version__,
            "mixture": f"{args.task}, {args.disturbance}, {args.disturbed_share:g}",
        }
        | {name: importlib.metadata.version(name) for name in ("mujoco", "torch", "numpy")},
        notes=tuple(f"{name}: {ARMS[name]}." for name in names),
    )
    detailed = _telling(list(summaries.values()))
    write_report(args.output / REPORT_FILE, [_arm(args, n, seeds, detailed) for n in names], facts)
    console.print(terminal_table(light, title=f"{len(seeds)} paired seeds"))
    for sentence in caveats(list(summaries.values())):
        console.print(sentence)
    console.print(f"numbers  {args.output / RESULTS_FILE}\nreport   {args.output / REPORT_FILE}")
    return 1 if failed else 0


def _run_arm(args: argparse.Namespace, name: str, seeds: range) -> int:
    """Runs the seeds that the arm's store lacks; returns how many failed to run."""
    from salus_ros.cli.collect import collect_missing
    from salus_ros.collection import Mixture
    from salus_ros.data.store import Store, StoreSettings
    from salus_ros.evaluation.study import run_arm
    from salus_ros.rollout import RolloutSettings

    disturbance = "" if args.disturbance == "none" else args.disturbance
    mixture = Mixture(
        task=args.task, disturbance=disturbance, disturbed_share=args.disturbed_share, intervention_share=0.0
    )
    path = args.output / name
    described = json.dumps(
        {"mixture": mixture.describe(), "policy": args.policy, "monitor": _digest(Path(args.monitor))},
        sort_keys=True,
    )
    fresh = not (path / "zarr.json").exists()
    store = Store.create(path, StoreSettings(mixture=described)) if fresh else Store.open(path, write=True)
    with store:
        if store.settings.mixture != described:
            raise SalusError(
                f"{path} holds {store.settings.mixture}, and {described} was asked for; "
                "give another --output."
            )
        placebo = _placebo(args, seeds) if name == "random" else _default_placebo()
        rollout = RolloutSettings(record_frames=not args.no_frames)
        job = partial(run_arm, name, args.policy, args.monitor, mixture, rollout, placebo)
        failed = collect_missing(store, job, seeds, args.workers)
    for episode in failed[:3]:
        print(f"seed {episode.seed} failed to run: {episode.error}", file=sys.stderr)
    return len(failed)


def _default_placebo() -> PlaceboSettings:
    from salus_ros.placebo import PlaceboSettings

    return PlaceboSettings()


def _placebo(args: argparse.Namespace, seeds: range) -> PlaceboSettings:
    """Matched to the salus arm once, and then kept, so that a resumed run has the same placebo."""
    from salus_ros.evaluation.comparison import summarise_arm
    from salus_ros.evaluation.study import matched_placebo
    from salus_ros.placebo import PlaceboSettings

    path = args.output / PLACEBO_FILE
    if path.exists():
        return PlaceboSettings.model_validate_json(path.read_text())
    placebo = matched_placebo(summarise_arm(_arm(args, "salus", seeds, detailed=())))
    _write_json(path, placebo.model_dump())
    return placebo


def _arm(args: argparse.Namespace, name: str, seeds: range, detailed: tuple[int, ...]) -> Arm:
    """The arm's episodes, with pictures for the seeds that are drawn."""
    from salus_ros.data.store import Store
    from salus_ros.evaluation.comparison import Arm
    from salus_ros.evaluation.study import light_streams

    store: Store = Store.open(args.output / name)
    light = light_streams()
    return Arm(
        name,
        tuple(
            store.episode(i, [*light, "frames"] if meta.seed in detailed else light)
            for i, meta in enumerate(store.metas())
            if meta.seed in seeds
        ),
    )


def _telling(summaries: list[ArmSummary]) -> tuple[int, ...]:
    from salus_ros.evaluation.report import seeds_in_detail

    return seeds_in_detail(summaries)


def _digest(path: Path) -> str:
    import hashlib

    from salus_ros.monitor.checkpoint import FILE_NAME

    file = path / FILE_NAME if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _write_json(path: Path, content: object) -> None:
    replace_text(path, json.dumps(content, indent=1) + "\n")


def _command() -> str:
    return shlex.join(["salus", *sys.argv[1:]])
