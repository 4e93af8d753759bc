"""``salus demo``: the live nodes on the simulator, the same seeds without and with SALUS."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from salus_ros import __version__
from salus_ros.data.episode import Episode, Outcome
from salus_ros.errors import SalusError
from salus_ros.evaluation.comparison import Arm, summarise_arm
from salus_ros.evaluation.report import RunFacts, write_report
from salus_ros.evaluation.table import caveats, terminal_table
from salus_ros.types import Mode

FIRST_SEED: Final = 900_000
"""Seeds from here on are used by the demo and by nothing else."""
CONSOLE_PORT: Final = 8080
ARMS: Final = {"without SALUS": True, "with SALUS": False}
"""Name of the arm to whether the gate runs in shadow mode."""


def add_parser(subparsers: Any) -> None:
    """Declares the verb's arguments."""
    parser = subparsers.add_parser("demo", help=__doc__.split(":")[1].strip())
    parser.add_argument("--seeds", type=int, default=10, help="paired seeds (default %(default)s)")
    parser.add_argument("--disturbance", default="mixed", help="disturbance family, mixed or none")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="replaced when it exists")
    parser.add_argument("--factor", type=float, default=1.0, help="simulated time per wall time")
    parser.add_argument(
        "--console",
        nargs="?",
        type=int,
        const=CONSOLE_PORT,
        metavar="PORT",
        help=f"offer the operator console on this machine (default port {CONSOLE_PORT}), and wait for the "
        "person at it: 30 s when the gate asks for assistance, and for a reset after a stop",
    )
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class Trial:
    """One episode of the demo."""

    seed: int
    arm: str


def trials(seeds: int) -> Iterator[Trial]:
    """Every seed in both arms, in alternating order, so that neither arm is always first."""
    names = list(ARMS)
    for k in range(seeds):
        for name in names if k % 2 == 0 else reversed(names):
            yield Trial(FIRST_SEED + k, name)


def run(args: argparse.Namespace) -> int:
    """Runs the demo; returns 0 when every episode ran to its end."""
    if args.seeds < 1:
        raise SalusError(f"--seeds {args.seeds} was given, 1 or more is expected.")
    output: Path = args.output
    if output.exists():
        if any(output.iterdir()) and not (output / "logs").is_dir():
            raise SalusError(f"{output} holds something that is no demo; give another --output.")
        shutil.rmtree(output)
    output.mkdir(parents=True)
    console = Console()
    started = time.strftime("%Y-%m-%d %H:%M")
    done = _run_graph(args, output, console)
    console.print("reading the bag ...")
    arms = _arms(output / "bag", done)
    facts = RunFacts(
        title="SALUS demo",
        command=shlex.join(["salus", *sys.argv[1:]]),
        started=started,
        hardware=f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, no GPU used",
        versions={"salus_ros": __version__}
        | {name: importlib.metadata.version(name) for name in ("mujoco", "torch", "numpy")},
        notes=(
            "Live ROS graph in real time; one seed is the same scene and disturbance in both arms.",
            f"{args.seeds} seeds show how it works, not how well: docs/results.md has the figures.",
        ),
    )
    write_report(output / "report.html", arms, facts)
    _print_table(console, args, arms)
    with (output / "table.txt").open("w") as file:
        _print_table(Console(file=file, width=80), args, arms)
    console.print(f"report  {output / 'report.html'}\nbag     {output / 'bag'}")
    return 0


def _print_table(console: Console, args: argparse.Namespace, arms: list[Arm]) -> None:
    console.print(terminal_table(arms, title=f"{args.seeds} paired seeds, disturbance: {args.disturbance}"))
    for sentence in caveats([summarise_arm(arm) for arm in arms]):
        console.print(sentence)


def _run_graph(args: argparse.Namespace, output: Path, console: Console) -> list[tuple[Trial, Outcome]]:
    from salus_ros.nodes.session import LiveSession  # rclpy re-executes the interpreter when imported

    done: list[tuple[Trial, Outcome]] = []
    columns = (
        TextColumn("{task.description}", justify="left"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[live]}"),
    )
    console.print("starting simulator, policy, monitor, gate, deadman and recorder ...")
    if args.console is not None:
        console.print(f"operator console  http://127.0.0.1:{args.console}")
    with (
        LiveSession(output, factor=args.factor, console_port=args.console) as session,
        Progress(*columns, console=console, transient=False) as progress,
    ):
        plan = list(trials(args.seeds))
        bar = progress.add_task("episodes", total=len(plan), live="")
        for trial in plan:

            def show(mode: Mode, risk: float, elapsed_s: float, trial: Trial = trial) -> None:
                live = f"seed {trial.seed} {trial.arm}  {elapsed_s:4.1f} s  {mode.name:15s} risk {risk:4.2f}"
                progress.update(bar, live=live)

            session.set_shadow_mode(ARMS[trial.arm])
            outcome = session.run_episode(trial.seed, "bin", args.disturbance, show)
            done.append((trial, outcome))
            progress.update(bar, advance=1)
    return done


def _arms(bag: Path, done: list[tuple[Trial, Outcome]]) -> list[Arm]:
    """The bag's episodes, which come in the order in which they were run, by arm."""
    from salus_ros.data.bags import read_bag

    recorded = [episode for episode in read_bag(bag) if episode.meta.seed >= FIRST_SEED]
    if [episode.meta.seed for episode in recorded] != [trial.seed for trial, _ in done]:
        raise SalusError(
            f"The bag holds the seeds {[e.meta.seed for e in recorded]}, but {[t.seed for t, _ in done]} "
            f"were run; see {bag.parent / 'logs'}."
        )
    by_arm: dict[str, list[Episode]] = {name: [] for name in ARMS}
    for episode, (trial, outcome) in zip(recorded, done, strict=True):
        meta = replace(episode.meta, arm=trial.arm, outcome=outcome)
        by_arm[trial.arm].append(replace(episode, meta=meta))
    return [Arm(name, tuple(episodes)) for name, episodes in by_arm.items()]
