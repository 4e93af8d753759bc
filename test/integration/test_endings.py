"""How nodes that are asked to end all at once end while the arm moves, as on Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scenarios
from graph_helpers import START_S

from salus_ros.nodes.graph import Graph


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[scenarios.Rehearsal]:
    plugins = os.pathsep.join([str(scenarios.PLUGIN_FOLDER), os.environ.get("PYTHONPATH", "")])
    with Graph(domain_id=49, log_dir=tmp_path / "logs", environment={"PYTHONPATH": plugins}) as graph:
        graph.start("deadman", {"use_sim_time": True})
        rehearsal = scenarios.Rehearsal(graph, tmp_path, **scenarios.LONG_STOP)
        rehearsal.wait_for_fast_motion()
        yield rehearsal


def end_all(graph: Graph) -> None:
    for node in graph.processes.values():
        node.signal(signal.SIGINT)


def times_of_ends(graph: Graph, *names: str) -> dict[str, float]:
    """Steady time at which each of these nodes ended."""
    ended_s: dict[str, float] = {}

    def all_ended() -> bool:
        for name in names:
            if not graph.processes[name].alive:
                ended_s.setdefault(name, time.monotonic())
        return len(ended_s) == len(names)

    graph.spin_until(all_ended, START_S, f"the end of {', '.join(names)}", check=False)
    assert {name: graph.processes[name].process.returncode for name in names} == dict.fromkeys(names, 0)
    return ended_s


def test_an_end_in_motion_brings_the_arm_to_rest_and_latches_nothing(
    moving: scenarios.Rehearsal, tmp_path: Path
) -> None:
    moving.states.clear()
    end_all(moving.graph)
    ended_s = times_of_ends(moving.graph, *moving.graph.processes)
    scenarios.an_end_in_motion_brings_the_arm_to_rest_and_latches_nothing(
        moving.states, ended_s, tmp_path / "latch"
    )
    assert "driver" not in moving.graph.processes["deadman_node"].log_tail(), (
        "a gate that rested was no dead one"
    )


def test_a_gate_that_freezes_while_all_end_is_found_dead_and_the_driver_is_stopped(
    moving: scenarios.Rehearsal,
) -> None:
    end_all(moving.graph)
    moving.graph.processes["intervention_node"].signal(signal.SIGSTOP)
    times_of_ends(moving.graph, "deadman_node", "sim_node")
    said = moving.graph.processes["deadman_node"].log_tail()
    assert "driver/stop: stopped" in said, f"the driver did not answer:\n{said}"
