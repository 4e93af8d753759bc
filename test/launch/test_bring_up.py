"""sim.launch.py brings everything up, an action passes, and whatever ends ends well.

The assertions about the gate are those of the process tests in ``test/integration``.
"""

from __future__ import annotations

import math
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REASON = "a part of a ROS installation, or of its sources (docs/verification/launch.md)"
launch_pytest = pytest.importorskip("launch_pytest", reason=f"launch_pytest is not installed: {REASON}")
pytest.importorskip("launch_ros", reason=f"launch_ros is not installed: {REASON}")

import scenarios
from graph_helpers import REACT_S, START_S, trigger
from launch.actions import RegisterEventHandler, SetEnvironmentVariable
from launch.event_handlers import OnProcessExit, OnProcessStart
from launched import executable, include, plugins, write_configuration
from mcap.reader import make_reader

from launch import LaunchDescription
from salus_msgs.msg import InterventionState
from salus_ros.nodes import qos
from salus_ros.nodes.graph import Graph

DOMAIN = 57
RESET_EVERY_S = 3.0
ROOT = Path(__file__).parents[2]
LIFECYCLE = ("policy_node", "monitor_node", "intervention_node")

pids: dict[str, int] = {}
"""The newest process of each executable."""
exit_codes: dict[str, list[int]] = {}


def note_start(event: Any, _context: Any) -> None:
    pids[executable(event)] = event.pid


def note_end(event: Any, _context: Any) -> None:
    exit_codes.setdefault(executable(event), []).append(event.returncode)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launched")


@launch_pytest.fixture(scope="module")
def simulation(folder: Path) -> LaunchDescription:
    """The whole of SALUS with a policy whose path is known; risk that is learned for another is muted."""
    arguments = {
        "config_file": str(write_configuration(folder)),
        "policy": "wave",
        "shadow_mode": "true",
        "record": "true",
        "bag": str(folder / "bag"),
        "console": "true",
        "markers": "true",
        "enclaves": "true",
    }
    return LaunchDescription(
        [
            SetEnvironmentVariable("ROS_DOMAIN_ID", str(DOMAIN)),
            SetEnvironmentVariable("PYTHONPATH", plugins()),
            RegisterEventHandler(OnProcessStart(on_start=note_start)),
            RegisterEventHandler(OnProcessExit(on_exit=note_end)),
            include("sim.launch.py", arguments),
        ]
    )


@pytest.fixture(scope="module")
def guarded() -> Iterator[scenarios.Guarded]:
    with Graph(domain_id=DOMAIN) as graph:
        yield scenarios.Guarded(graph)


@pytest.mark.launch(fixture=simulation)
def test_the_bring_up_reaches_active(guarded: scenarios.Guarded) -> None:
    for node in LIFECYCLE:
        guarded.graph.spin_until(
            lambda node=node: guarded.graph.state(node, timeout_s=START_S) == "active",
            START_S,
            f"{node} to become active",
        )


def documented() -> set[str]:
    """The nodes of the table in the docs."""
    text = (ROOT / "docs" / "launch.md").read_text()
    table = text.partition("## What is on the graph")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+_node)` \|", table, re.M))


@pytest.mark.launch(fixture=simulation)
def test_the_launched_graph_is_the_documented_one(guarded: scenarios.Guarded) -> None:
    node = guarded.graph.node

    def launched() -> set[str]:
        return {name for name in node.get_node_names() if name.endswith("_node")}

    guarded.graph.spin_until(
        lambda: launched() == documented(), START_S, f"{sorted(documented())} on the graph, not {launched()}"
    )
    assert {"intervention_node", "deadman_node"} <= documented(), "the safety nodes are documented"


@pytest.mark.launch(fixture=simulation)
def test_every_node_is_in_its_enclave_and_so_is_launch_itself(guarded: scenarios.Guarded) -> None:
    """Named only: this middleware may be built without security, which the name does not need."""
    found = guarded.graph.node.get_node_names_and_namespaces_with_enclaves()
    enclaves = {re.sub(r"launch_ros_\d+", "launch", name): enclave for name, _, enclave in found}
    for name in (*documented(), "launch"):
        assert enclaves[name] == f"/salus/{name}"


@pytest.mark.launch(fixture=simulation)
def test_an_action_passes_from_the_cameras_to_the_arm(guarded: scenarios.Guarded) -> None:
    guarded.make_nominal()
    scenarios.an_action_passes_from_the_cameras_to_the_arm(guarded)


@pytest.mark.launch(fixture=simulation)
def test_an_emergency_stop_latches_until_a_person_resets_it(guarded: scenarios.Guarded) -> None:
    guarded.make_nominal()
    scenarios.an_emergency_stop_latches_until_a_person_resets_it(guarded)


@pytest.mark.launch(fixture=simulation)
def test_killing_the_policy_stops_the_arm_until_a_person_takes_the_new_one(
    guarded: scenarios.Guarded,
) -> None:
    guarded.make_nominal()
    killed = pids["policy_node"]
    scenarios.a_silent_policy_stops_the_arm(guarded, lambda: os.kill(killed, signal.SIGKILL))
    guarded.graph.spin_until(lambda: pids["policy_node"] != killed, START_S, "the policy's new process")
    outputs = guarded.outputs.count
    guarded.graph.spin_until(
        lambda: guarded.outputs.count > outputs + 5, START_S, "outputs of the new policy"
    )
    assert guarded.states.newest.mode == InterventionState.HOLD, "a new policy moves the arm by itself"
    asked_s = -math.inf

    def followed() -> bool:
        nonlocal asked_s
        if scenarios.mode_is(guarded.states, InterventionState.NOMINAL):
            return True
        # Each reset waits for a plan newer than itself, so it is asked for less often than plans come.
        if time.monotonic() > asked_s + RESET_EVERY_S:
            asked_s = time.monotonic()
            trigger(guarded.graph, qos.RESET)
        return False

    # The graph forgets a killed process after its lease of twenty seconds; until then it is a second policy.
    guarded.graph.spin_until(followed, START_S, "the new policy to be followed after a reset")
    guarded.wait_for_motion()


@pytest.mark.launch(fixture=simulation)
def test_killing_the_monitor_brings_no_deactivated_gate_back(guarded: scenarios.Guarded) -> None:
    from lifecycle_msgs.msg import Transition

    guarded.make_nominal()
    guarded.graph.transition("intervention_node", Transition.TRANSITION_DEACTIVATE)
    killed = pids["monitor_node"]
    os.kill(killed, signal.SIGKILL)
    guarded.graph.spin_until(lambda: pids["monitor_node"] != killed, START_S, "the monitor's new process")
    guarded.graph.spin_until(
        lambda: guarded.graph.state("monitor_node", timeout_s=START_S) == "active", START_S, "the new monitor"
    )
    guarded.states.clear()
    guarded.graph.spin_until(lambda: guarded.states.count > 10, REACT_S, "the gate's state")
    assert {state.mode for state in guarded.states.messages} == {InterventionState.INACTIVE}
    guarded.graph.transition("intervention_node", Transition.TRANSITION_ACTIVATE)
    # Until the graph forgets the killed monitor, it is a second one whose predictions nobody could trust.
    guarded.graph.spin_until(
        lambda: scenarios.mode_is(guarded.states, InterventionState.NOMINAL),
        START_S,
        "the gate that a person activated to follow the policy",
    )


@pytest.mark.launch(fixture=simulation, shutdown=True)
def test_every_node_ends_with_exit_code_zero() -> None:
    assert set(exit_codes) == set(pids)
    assert {name: codes[-1] for name, codes in exit_codes.items()} == dict.fromkeys(pids, 0)


@pytest.mark.launch(fixture=simulation, shutdown=True)
def test_a_bag_was_recorded(folder: Path) -> None:
    assert (folder / "bag" / "metadata.yaml").is_file()
    (path,) = (folder / "bag").glob("*.mcap")
    with path.open("rb") as stream:
        channels = make_reader(stream).get_summary().channels.values()
    recorded = {channel.topic.lstrip("/") for channel in channels}
    assert {qos.JOINT_STATES, qos.FRONT_IMAGE, qos.POLICY_OUTPUT, qos.INTERVENTION_STATE} <= recorded
