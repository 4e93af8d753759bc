"""The operator console's share of a core at ten pictures a second, beside a bare rclpy node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from salus_ros.bench.figures import Figure
from salus_ros.nodes.console_bench import measure as measure_console

BOUND_PERCENT: Final = 10.0
"""The console may take so much of a core while one browser looks."""

_BARE: Final = "bare rclpy node, same topics"
_LOOKING: Final = {0: "nobody looking", 1: "one browser", 4: "four browsers"}


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the console's processor time, and how often a browser gets a picture."""
    shares = measure_console(5.0 if quick else 30.0, tuple(_LOOKING))
    for count, words in _LOOKING.items():
        yield Figure(f"processor, {words}", 100 * shares.console[count], "%", 100 * shares.bare[count], _BARE)
    yield Figure("processor, one browser", 100 * shares.console[1], "%", BOUND_PERCENT, "the bound")
    for count in (1, 4):
        yield Figure(f"pictures, {_LOOKING[count]}", shares.pictures_hz[count], "1/s", 10.0, "what is meant")
