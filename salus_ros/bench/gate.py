"""The live gate beside a bare rclpy relay: latency, stop reaction, processor share; alone and under load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from salus_ros.bench.figures import Figure
from salus_ros.errors import SalusError
from salus_ros.nodes.gate_bench import PERIOD_S, Times
from salus_ros.nodes.gate_bench import measure as measure_gate

_RELAY: Final = "bare rclpy relay"
_NAMES: Final = {"plan": "policy output to command", "stop": "foreseen collision to stop"}
_PERCENTILES: Final = (50.0, 99.0, 99.9)
BOUND: Final = 1.5
"""A stop may take this many times what the relay takes; a plan, so much more than one period."""


_OTHERWISE: Final[dict[str, dict[str, Any]]] = {
    "garbage collection left on": {"variant": "collecting"},
    "multi-threaded executor": {"variant": "multi-threaded"},
    "real-time priority 50": {"parameters": {"realtime_priority": 50}},
}
"""Other ways to run the gate, beside the shipped one."""


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the gate's times beside the relay's, first with free cores, then with every core taken.

    Then, under the same load, those of other ways to run it beside those of the shipped one.
    """
    plans, stops = (60, 10) if quick else (500, 200)
    for load, words in ((0, ""), (os.cpu_count() or 1, ", every core taken")):
        times = measure_gate(plans, stops, load=load)
        yield from _figures(times, words)
    for name, arguments in {} if quick else _OTHERWISE.items():
        try:
            other = measure_gate(plans // 2, stops // 2, load=os.cpu_count() or 1, **arguments)
        except SalusError as error:
            yield Figure(f"{name}: {error}", float("nan"), "ms")
            continue
        for what in ("plan", "stop"):
            ours, shipped = getattr(other, what), getattr(times, what)
            for percentile in (50.0, 99.0):
                yield Figure(
                    f"{name}, {_NAMES[what]}, p{percentile:g}, every core taken",
                    _ms(ours, percentile),
                    "ms",
                    _ms(shipped, percentile),
                    "as shipped",
                )


def _figures(times: Times, words: str) -> Iterator[Figure]:
    for name, ours, relay in (
        (_NAMES["plan"], times.plan, times.plan_relay),
        (_NAMES["stop"], times.stop, times.stop_relay),
    ):
        for percentile in _PERCENTILES:
            yield Figure(
                f"{name}, p{percentile:g}{words}",
                _ms(ours, percentile),
                "ms",
                _ms(relay, percentile),
                _RELAY,
            )
    bound = 1e3 * PERIOD_S + BOUND * _ms(times.plan_relay, 99.0)
    yield Figure(
        f"policy output to command, p99{words}", _ms(times.plan, 99.0), "ms", bound, "period + 1.5 x relay"
    )
    yield Figure(
        f"foreseen collision to stop, p99{words}",
        _ms(times.stop, 99.0),
        "ms",
        BOUND * _ms(times.stop_relay, 99.0),
        "1.5 x relay",
    )
    yield Figure(
        f"between commands, p99.9{words}", _ms(times.command_gap, 99.9), "ms", 1e3 * PERIOD_S, "period"
    )
    yield Figure(f"processor{words}", times.gate_cores, "cores", times.relay_cores, _RELAY)


def _ms(values: list[float], percentile: float) -> float:
    return float(np.nanpercentile(values, percentile)) * 1e3
