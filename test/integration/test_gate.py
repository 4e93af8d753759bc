"""An action passes, and is slowed, stopped and latched: simulator, policy and gate as live processes.

The monitor's place is taken by the test, which publishes the predictions that the gate is to act on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import scenarios
from graph_helpers import REACT_S, START_S, reset_simulation
from scenarios import PLUGIN_FOLDER, THRESHOLD, Rehearsal

from salus_msgs.msg import InterventionState
from salus_msgs.msg import PolicyOutput as PolicyOutputMessage
from salus_ros.nodes.driver_messages import stamp_from_message
from salus_ros.nodes.graph import Graph
from salus_ros.types import FailureType


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    folder = tmp_path_factory.mktemp("gate")
    environment = {"PYTHONPATH": os.pathsep.join([str(PLUGIN_FOLDER), os.environ.get("PYTHONPATH", "")])}
    with Graph(domain_id=58, log_dir=folder / "logs", environment=environment) as graph:
        yield Rehearsal(graph, folder)


@pytest.fixture
def guarded(running: Rehearsal) -> Rehearsal:
    running.make_nominal()
    return running


def test_an_action_passes_from_the_cameras_to_the_arm(guarded: Rehearsal) -> None:
    scenarios.an_action_passes_from_the_cameras_to_the_arm(guarded)


def test_risk_slows_the_arm_down_and_its_end_speeds_it_up_again(guarded: Rehearsal) -> None:
    guarded.oracle.foresee(FailureType.DROP, 0.9 * THRESHOLD)
    guarded.wait_for(InterventionState.SLOW_DOWN)
    guarded.graph.spin_until(
        lambda: guarded.states.newest.speed_scale < 0.5, REACT_S, "a speed scale below one half"
    )
    guarded.oracle.foresee_nothing()
    guarded.wait_for(InterventionState.NOMINAL)
    guarded.graph.spin_until(lambda: guarded.states.newest.speed_scale > 0.9, REACT_S, "full speed")


def test_a_foreseen_collision_stops_the_arm_and_a_new_plan_moves_it_again(guarded: Rehearsal) -> None:
    guarded.states.clear()
    guarded.oracle.foresee(FailureType.COLLISION, 0.99)
    guarded.graph.spin_until(
        lambda: any(state.mode == InterventionState.PROTECTIVE_STOP for state in guarded.states.messages),
        REACT_S,
        "a protective stop",
    )
    guarded.oracle.foresee_nothing()
    stop = next(s for s in guarded.states.messages if s.mode == InterventionState.PROTECTIVE_STOP)
    assert stop.cause == InterventionState.CAUSE_FORESEEN_COLLISION
    guarded.wait_for(InterventionState.NOMINAL, InterventionState.SLOW_DOWN)
    assert guarded.states.newest.sequence > stop.sequence, "the old plan was taken up again"
    guarded.wait_for_motion()


def test_an_emergency_stop_latches_until_a_person_resets_it(guarded: Rehearsal) -> None:
    scenarios.an_emergency_stop_latches_until_a_person_resets_it(guarded)


def test_a_dead_policy_leads_to_hold(guarded: Rehearsal) -> None:
    policy = guarded.graph.processes["policy_node"]
    try:
        scenarios.a_silent_policy_stops_the_arm(guarded, lambda: policy.signal(signal.SIGSTOP))
    finally:
        policy.signal(signal.SIGCONT)
    guarded.wait_for(InterventionState.NOMINAL)


def test_a_scene_is_changed_while_the_gate_is_inactive(guarded: Rehearsal) -> None:
    from lifecycle_msgs.msg import Transition

    guarded.graph.transition("intervention_node", Transition.TRANSITION_DEACTIVATE)
    guarded.wait_for(InterventionState.INACTIVE)
    assert reset_simulation(guarded.graph, 7).accepted
    guarded.graph.transition("intervention_node", Transition.TRANSITION_ACTIVATE)
    guarded.wait_for(InterventionState.NOMINAL)
    guarded.wait_for_motion()


def test_sigterm_while_moving_leaves_the_arm_at_rest_and_exit_code_zero(
    guarded: Rehearsal,
) -> None:
    guarded.wait_for_motion()
    graph = guarded.graph
    graph.processes["intervention_node"].signal(signal.SIGTERM)
    process = graph.processes["intervention_node"].process
    graph.spin_until(lambda: process.poll() is not None, REACT_S, "the end of the gate", check=False)
    assert process.returncode == 0
    guarded.wait_for_standstill()
    graph.stop("intervention_node")
    graph.start(
        "intervention",
        {"use_sim_time": True, "latch_file": graph.log_dir / "latch", "activation_timeout_s": START_S},
    )
    graph.bring_up("intervention_node", timeout_s=START_S)


def test_the_policys_outputs_count_their_time_from_the_images(guarded: Rehearsal) -> None:
    output: PolicyOutputMessage = guarded.outputs.newest
    behind_s = stamp_from_message(guarded.joints.newest.header.stamp) - stamp_from_message(
        output.header.stamp
    )
    assert 0.0 < behind_s < 1.0
