"""How a launch ends while the arm moves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

REASON = "a part of a ROS installation, or of its sources (docs/verification/launch.md)"
pytest.importorskip("launch", reason=f"launch is not installed: {REASON}")
pytest.importorskip("launch_ros", reason=f"launch_ros is not installed: {REASON}")

import scenarios
from graph_helpers import START_S
from launched import Launched, include, plugins, run, write_configuration

from launch import LaunchService
from salus_ros.nodes.graph import Graph, Listener

DOMAIN = 58

End = Callable[[LaunchService, Launched], None]


def ended_in_motion(folder: Path, monkeypatch: pytest.MonkeyPatch, end: End) -> tuple[Launched, Listener]:
    """The simulator with a policy whose path is known and no monitor, ended while the arm moves.

    Returns what came of it, and the states of the gate from then on.
    """
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    monkeypatch.setenv("PYTHONPATH", plugins())
    configuration = write_configuration(folder, monitor="absent", **scenarios.LONG_STOP)
    arguments = {"config_file": str(configuration), "policy": "wave"}
    heard: list[Listener] = []

    def meanwhile(service: LaunchService, launched: Launched) -> None:
        with Graph(domain_id=DOMAIN) as graph:
            guarded = scenarios.Guarded(graph)
            guarded.wait_for_fast_motion()
            guarded.states.clear()
            end(service, launched)
            graph.spin_until(lambda: launched.ended.is_set(), START_S, "the end of the launch")
            heard.append(guarded.states)

    return run([include("sim.launch.py", arguments)], meanwhile), heard[0]


def test_an_end_in_motion_brings_the_arm_to_rest_and_latches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched, states = ended_in_motion(tmp_path, monkeypatch, lambda service, _: service.shutdown())
    assert launched.code == 0
    scenarios.an_end_in_motion_brings_the_arm_to_rest_and_latches_nothing(
        states, launched.ended_s, tmp_path / "latch"
    )


def test_the_deadman_of_a_killed_gate_calls_the_drivers_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched, _ = ended_in_motion(
        tmp_path,
        monkeypatch,
        lambda _, launched: os.kill(launched.pids["intervention_node"], signal.SIGKILL),
    )
    assert "driver/stop: stopped" in launched.said["deadman_node"], "the driver's answer was not heard"
    assert launched.code == 1, "whoever started the launch is not told to start it again"
    assert "the gate has ended" in launched.reasons[0]
