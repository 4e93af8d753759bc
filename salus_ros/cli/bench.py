"""``salus bench``: figures as ratios against a reference measured in the same run."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from salus_ros import __version__
from salus_ros.data.files import replace_text
from salus_ros.errors import SalusError

if TYPE_CHECKING:
    from rich.table import Table

    from salus_ros.bench.figures import Figure

PARTS: Final = {
    "start": "the command line and what is shipped",
    "data": "collecting episodes, and reading them",
    "policy": "image to chunk, the shipped policy and the 400M architecture",
    "monitor": "from a policy output to a prediction",
    "gate": "the live gate beside a bare relay: latency, stops, processor share",
    "console": "the operator console's share of a core beside a bare node",
}
"""Module in ``salus_ros.bench`` to what it measures, in the order in which they run."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parts = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser = subparsers.add_parser(
        "bench",
        help="latency, throughput and size against references of the same run",
        description=f"Measures the parts named, or all. {parts}.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (all)")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, wider scatter")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/bench.json"), help="where the numbers go (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table a part, and writes all numbers into one file."""
    from rich.console import Console

    unknown = sorted(set(args.parts) - set(PARTS))
    if unknown:
        raise SalusError(f"There is no part {', '.join(unknown)} to bench; choose of {', '.join(PARTS)}.")
    console = Console()
    measured: dict[str, list[dict[str, object]]] = {}
    for part in args.parts or PARTS:
        figures: list[Figure] = []
        with console.status(f"{part}: {PARTS[part]}"):
            for figure in importlib.import_module(f"salus_ros.bench.{part}").measure(args.quick):
                figures.append(figure)
                console.log(f"{figure.name}: {figure.value:.4g} {figure.unit}")
        console.print(_table(part, figures))
        measured[part] = [_record(figure) for figure in figures]
    replace_text(args.output, json.dumps({**_machine(), "parts": measured}, indent=1) + "\n")
    console.print(f"numbers  {args.output}")
    return 0


def _table(part: str, figures: Sequence[Figure]) -> Table:
    from rich.table import Table

    table = Table(title=f"{part}: {PARTS[part]}", title_justify="left")
    table.add_column("figure")
    for heading in ("measured", "reference", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("reference is")
    for figure in figures:
        compared = math.isfinite(figure.ratio)
        table.add_row(
            figure.name,
            f"{figure.value:.4g} {figure.unit}",
            f"{figure.reference:.4g} {figure.unit}" if compared else "",
            f"{figure.ratio:.3g}" if compared else "",
            figure.reference_name,
        )
    return table


def _record(figure: Figure) -> dict[str, object]:
    record: dict[str, object] = {"name": figure.name, "value": figure.value, "unit": figure.unit}
    if math.isfinite(figure.ratio):
        record |= {
            "reference": figure.reference,
            "reference_name": figure.reference_name,
            "ratio": figure.ratio,
        }
    return record


def _machine() -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "salus_ros": __version__,
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **_torch(),
    }


def _torch() -> dict[str, object]:
    """Its version and the GPU, where a part has used it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"torch": torch.__version__, **gpu}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
