"""``salus inspect PATH``: what a store, a bag or a checkpoint holds, and what is wrong with it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from salus_ros.errors import SalusError

_FIRST_SALUS = (
    "Its predictor learned labels that said 'the last 16 steps of every episode are a failure', from six "
    "signals that were mostly zero, so it knows a clock and not failures; it cannot be used here: collect "
    "episodes with `salus collect` and train with `salus train-monitor`."
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the verb."""
    parser = subparsers.add_parser("inspect", help="say what a checkpoint, a store or a bag holds")
    parser.add_argument("path", type=Path, metavar="PATH", help="folder or file")
    parser.add_argument("--all", action="store_true", help="read every episode of a store, not a sample")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints tables; returns 2 when something is wrong."""
    path, console = args.path, Console()
    if not path.exists():
        raise SalusError(f"There is no {path}; give a store, a bag or a checkpoint.")
    if (path / "zarr.json").exists() or (path / ".zgroup").exists() or (path / ".zarray").exists():
        return _inspect_store(path, args.all, console)
    if _is_bag(path):
        return _inspect_bag(path, console)
    if path.suffix in (".pth", ".pt", ".ckpt"):
        raise SalusError(
            f"{path} is a pickled PyTorch file, such as best_f1.pth of the first SALUS; pickles can run "
            f"any code and are not opened. {_FIRST_SALUS}"
        )
    monitor = path / "monitor.safetensors" if path.is_dir() else path
    if monitor.exists() and monitor.name == "monitor.safetensors":
        return _inspect_monitor(monitor, console)
    if path.is_dir() and any((path / name).exists() for name in ("config.json", "adapter_config.json")):
        return _inspect_policy(path, console)
    raise SalusError(
        f"{path} is nothing that SALUS knows; give a store (zarr.json), a bag (metadata.yaml, .mcap, .db3), "
        "a policy (config.json, model.safetensors) or a monitor (monitor.safetensors)."
    )


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".mcap", ".db3")
    return (path / "metadata.yaml").exists() or any(path.glob("*.mcap")) or any(path.glob("*.db3"))


def _inspect_store(path: Path, every: bool, console: Console) -> int:
    from salus_ros.data.summary import summarise_store

    return _print(summarise_store(path, every), console)


def _inspect_bag(path: Path, console: Console) -> int:
    from salus_ros.data.summary import summarise_bag

    return _print(summarise_bag(path), console)


def _inspect_monitor(path: Path, console: Console) -> int:
    from salus_ros.monitor.monitor import Monitor

    Monitor.load(path)
    _print_facts(f"Monitor {path}", _header(path), console)
    return 0


def _inspect_policy(path: Path, console: Console) -> int:
    from salus_ros.policy.tinyvla.summary import summarise

    summary = summarise(path)
    _print_facts(summary.title, summary.facts, console)
    return _print_problems(summary.problems, console)


def _header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, JSON in it unpacked by one level."""
    from safetensors import safe_open

    with safe_open(str(path), "numpy") as file:
        metadata = file.metadata() or {}
    facts: dict[str, str] = {}
    for name, text in metadata.items():
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        facts |= _plain(value) if isinstance(value, dict) else {name: str(value)}
    return facts


def _plain(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name): json.dumps(value) if isinstance(value, dict | list) else str(value)
        for name, value in values.items()
    }


def _print(summary: Any, console: Console) -> int:
    from salus_ros.data.summary import OUTCOME_COLUMNS

    _print_facts(summary.title, summary.facts, console)
    if summary.outcomes:
        _print_table(
            "Episodes and onsets",
            ("task", "disturbance", "episodes", *OUTCOME_COLUMNS),
            summary.outcomes,
            console,
        )
    if summary.streams:
        _print_table("Streams", ("stream", "in", "rows", "rate", "widest array"), summary.streams, console)
    return _print_problems(summary.problems, console)


def _print_problems(problems: Sequence[str], console: Console) -> int:
    for problem in problems:
        console.print("[red]wrong:[/red]", Text(problem), highlight=False, soft_wrap=True)
    if not problems:
        console.print("Nothing is wrong with what was read.", highlight=False)
    return 2 if problems else 0


def _print_facts(title: str, facts: Mapping[str, str], console: Console) -> None:
    _print_table(title, ("", ""), [(name, text) for name, text in facts.items()], console, header=False)


def _print_table(
    title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], console: Console, header: bool = True
) -> None:
    table = Table(*columns, title=title, title_justify="left", show_header=header)
    for row in rows:
        table.add_row(*row)
    console.print(table)
