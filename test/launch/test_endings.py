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
from graph_helpers import START_S, speed, trigger
from launched import Launched, include, plugins, run, write_configuration

from launch import LaunchService
from salus_msgs.msg import InterventionState
from salus_ros.nodes import qos
from salus_ros.nodes.graph import Graph

DOMAIN = 58
FAST_RAD_S = 0.12
"""Near the fastest of the policy ``wave``."""
LONG_STOP = {"robot": {"acceleration_limit_rad_s2": [0.5] * 7}, "clock_stall_s": 2.0}
"""The gate needs longer to stop the arm than it bears silent joint states (0.25 s here), and a simulator's
clock that stands with them is not noticed before: a robot's goes on."""

End = Callable[[LaunchService, Launched], None]


def ended_in_motion(folder: Path, monkeypatch: pytest.MonkeyPatch, end: End) -> tuple[Launched, list[int]]:
    """The simulator with a policy whose path is known and no monitor, ended while the arm moves.

    Returns what came of it, and the modes of the gate from then on.
    """
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    monkeypatch.setenv("PYTHONPATH", plugins())
    configuration = write_configuration(folder, monitor="absent", **LONG_STOP)
    arguments = {"config_file": str(configuration), "policy": "wave"}
    modes: list[int] = []

    def meanwhile(service: LaunchService, launched: Launched) -> None:
        with Graph(domain_id=DOMAIN) as graph:
            guarded = scenarios.Guarded(graph)

            def fast() -> bool:
                if scenarios.mode_is(guarded.states, InterventionState.EMERGENCY_STOP):
                    trigger(graph, qos.RESET)  # a busy moment of the machine
                following = scenarios.mode_is(guarded.states, InterventionState.NOMINAL)
                measured = guarded.joints.newest
                return following and measured is not None and speed(measured) > FAST_RAD_S

            graph.spin_until(fast, START_S, "fast motion")
            guarded.states.clear()
            end(service, launched)
            graph.spin_until(lambda: launched.ended.is_set(), START_S, "the end of the launch")
            modes.extend(state.mode for state in guarded.states.messages)

    return run([include("sim.launch.py", arguments)], meanwhile), modes


def test_an_end_in_motion_brings_the_arm_to_rest_and_latches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched, modes = ended_in_motion(tmp_path, monkeypatch, lambda service, _: service.shutdown())
    assert launched.code == 0
    assert InterventionState.EMERGENCY_STOP not in modes, launched.said["intervention_node"]
    assert modes[-1] == InterventionState.INACTIVE, "the gate did not say that it had come to rest"
    assert not (tmp_path / "latch").exists(), "the next launch would find an emergency stop"


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
