"""``salus inspect PATH``: what a store, a bag or a checkpoint holds, and what is wrong with it."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from salus_ros.errors import SalusError

if TYPE_CHECKING:
    from salus_ros.data.episode import Episode
    from salus_ros.data.store import Store

PRINTED_WIDTH: Final = 120
"""Characters in a line where the output goes to a file or another program."""
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
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page with frames, signals and events of what is read",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints tables; returns 2 when something is wrong."""
    path, console = args.path, Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PRINTED_WIDTH
    if not path.exists():
        raise SalusError(f"There is no {path}; give a store, a bag or a checkpoint.")
    if args.html is not None and args.html.exists():
        raise SalusError(f"{args.html} exists already; give another file for the page, or remove it first.")
    if is_store(path):
        return _inspect_store(path, args, console)
    if is_bag(path):
        return _inspect_bag(path, args, console)
    if path.suffix in (".pth", ".pt", ".ckpt"):
        raise SalusError(
            f"{path} is a pickled PyTorch file, such as best_f1.pth of the first SALUS; pickles can run "
            f"any code and are not opened. {_FIRST_SALUS}"
        )
    monitor = path / "monitor.safetensors" if path.is_dir() else path
    if monitor.exists() and monitor.name == "monitor.safetensors":
        return _inspect_monitor(monitor, console)
    if is_policy(path):
        return _inspect_policy(path, console)
    if path.is_file() and is_policy(path.parent):
        raise SalusError(f"{path} is one file of a policy; give the folder that holds it, {path.parent}.")
    raise SalusError(
        f"{path} is nothing that SALUS knows; give a store (zarr.json), a bag (metadata.yaml, .mcap, .db3), "
        "a policy (config.json, model.safetensors) or a monitor (monitor.safetensors)."
    )


def is_store(path: Path) -> bool:
    """Whether a folder looks like a store, also one of the first SALUS."""
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def is_bag(path: Path) -> bool:
    """Whether a folder or file looks like a bag."""
    if path.is_file():
        return path.suffix in (".mcap", ".db3")
    return (path / "metadata.yaml").exists() or any(path.glob("*.mcap")) or any(path.glob("*.db3"))


def is_policy(path: Path) -> bool:
    """Whether a folder looks like a policy's checkpoint or run, also one that lacks something."""
    names = ("config.json", "adapter_config.json", "model*.safetensors*", "pytorch_model*.bin*")
    return path.is_dir() and any(any(path.glob(name)) for name in (*names, "checkpoint-*"))


def _inspect_store(path: Path, args: argparse.Namespace, console: Console) -> int:
    from salus_ros.data.store import Store
    from salus_ros.data.summary import spread, summarise_store

    summary = summarise_store(path, args.all)
    if args.html is not None:
        store = Store.open(path)
        chosen = range(len(store)) if args.all else spread(len(store))
        _write_page(args.html, summary, _whole(store, chosen))
    return _print(summary, console)


def _inspect_bag(path: Path, args: argparse.Namespace, console: Console) -> int:
    from salus_ros.data.bags import read_bag
    from salus_ros.data.summary import summarise_bag

    summary = summarise_bag(path)
    if args.html is not None:
        _write_page(args.html, summary, read_bag(path))
    return _print(summary, console)


def _whole(store: Store, chosen: Iterable[int]) -> Iterator[Episode]:
    """The episodes that can be read; the summary names the others."""
    for i in chosen:
        with contextlib.suppress(SalusError):
            yield store.episode(i)


def _write_page(path: Path, summary: Any, episodes: Iterable[Any]) -> None:
    from salus_ros.viewer.page import write_page

    wrong = {"wrong": " ".join(summary.problems)} if summary.problems else {}
    write_page(path, summary.title, summary.facts | wrong, episodes)


def _inspect_monitor(path: Path, console: Console) -> int:
    from salus_ros.monitor.summary import facts_of

    _print_facts(f"Monitor {path}", facts_of(path), console)
    return _print_problems([], console)


def _inspect_policy(path: Path, console: Console) -> int:
    from salus_ros.policy.tinyvla.summary import summarise

    summary = summarise(path)
    _print_facts(summary.title, summary.facts, console)
    for note in summary.notes:
        console.print("note:", Text(note), highlight=False, soft_wrap=True)
    return _print_problems(summary.problems, console)


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
    table = Table(title=title, title_justify="left", show_header=header)
    for column in columns:
        table.add_column(column, overflow="fold")  # a name cut short might be any
    for row in rows:
        table.add_row(*row)
    console.print(table)
