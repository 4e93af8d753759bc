"""How long the command line takes to answer, and how much is shipped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from salus_ros.assets import asset
from salus_ros.bench.figures import Figure, durations_s

_SHIPPED = ("models/tinyvla-small", "models/monitor")


def measure(quick: bool) -> Iterator[Figure]:
    """Yield start-up times against bare Python, and the sizes of the shipped models."""
    times = 3 if quick else 11
    bare = _run_ms("-c", "pass", times=times)
    for arguments in (("--version",), ("collect", "--help"), ("inspect", str(asset("models/monitor")))):
        taken = _run_ms("-m", "salus_ros.cli.main", *arguments, times=times)
        name = " ".join(argument.rsplit("/", 1)[-1] for argument in arguments)
        yield Figure(f"salus {name}, p50", taken, "ms", bare, "python -c pass")
    for folder in _SHIPPED:
        size = sum(path.stat().st_size for path in asset(folder).rglob("*") if path.is_file())
        yield Figure(f"{folder}, size", size / 1e6, "MB")


def _run_ms(*arguments: str, times: int) -> float:
    """Median wall time of a Python process [ms]."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    return float(np.median(durations_s(run, times))) * 1e3
