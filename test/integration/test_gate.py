"""An action passes, and is slowed, stopped and latched: simulator, policy and gate as live processes.

The monitor's place is taken by the test, which publishes the predictions that the gate is to act on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graph_helpers import (
    REACT_S,
    START_S,
    mode_is,
    reset_simulation,
    speed,
    start_policy,
    start_simulator,
    trigger,
)

from salus_msgs.msg import FailurePrediction as FailurePredictionMessage
from salus_msgs.msg import InterventionState
from salus_msgs.msg import PolicyOutput as PolicyOutputMessage
from salus_ros.nodes import qos
from salus_ros.nodes.conversions import prediction_to_message, stamp_from_message
from salus_ros.nodes.graph import Graph, Listener
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType

PLUGIN_FOLDER = Path(__file__).parent / "policy_plugin"
MOVING_RAD_S = 0.05
STANDING_RAD_S = 0.01
THRESHOLD = 0.5


class Oracle:
    """Publishes predictions at 20 Hz on behalf of a monitor."""

    def __init__(self, graph: Graph, joints: Listener, outputs: Listener) -> None:
        self._joints, self._outputs = joints, outputs
        self._publisher = graph.node.create_publisher(
            FailurePredictionMessage, qos.FAILURE_PREDICTION, qos.profile(qos.FAILURE_PREDICTION)
        )
        self.probability = dict.fromkeys(FailureType, 0.0)
        self._timer = graph.node.create_timer(0.05, self._publish)

    def foresee(self, failure: FailureType, probability: float) -> None:
        self.probability = {**dict.fromkeys(FailureType, 0.0), failure: probability}

    def foresee_nothing(self) -> None:
        self.probability = dict.fromkeys(FailureType, 0.0)

    def _publish(self) -> None:
        if self._outputs.newest is None:
            return
        probability = np.array([[self.probability[kind]] * len(HORIZONS_S) for kind in FailureType])
        worst = max(FailureType, key=lambda kind: self.probability[kind])
        risk = min(1.0, 0.5 * self.probability[worst] / THRESHOLD)
        prediction = FailurePrediction(
            stamp_s=stamp_from_message(self._joints.newest.header.stamp),
            sequence=self._outputs.newest.sequence,
            horizons_s=HORIZONS_S,
            probability=probability,
            timeout_probability=0.0,
            risk=risk,
            risk_type=worst,
            risk_horizon_s=HORIZONS_S[0],
            alarm=risk >= 0.5,
            threshold=np.full(len(FailureType), THRESHOLD),
            out_of_distribution=False,
        )
        self._publisher.publish(prediction_to_message(prediction))


class Guarded:
    """A running graph with a gate in it."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph = graph
        self.states = graph.listen(qos.INTERVENTION_STATE, InterventionState)
        self.joints = start_simulator(graph)
        self.outputs = start_policy(graph)
        self.oracle = Oracle(graph, self.joints, self.outputs)
        graph.start(
            "intervention",
            {"use_sim_time": True, "latch_file": folder / "latch", "activation_timeout_s": START_S},
        )
        graph.bring_up("intervention_node", timeout_s=START_S)

    def wait_for(self, *modes: int) -> None:
        names = " or ".join(str(mode) for mode in modes)
        newest = self.states.newest
        said = f"{newest.mode}, {newest.reason}" if newest else "nothing"
        self.graph.spin_until(
            lambda: mode_is(self.states, *modes), REACT_S, f"mode {names}, when the gate had said: {said}"
        )

    def wait_for_motion(self) -> None:
        self.graph.spin_until(lambda: speed(self.joints.newest) > MOVING_RAD_S, REACT_S, "motion")

    def wait_for_standstill(self) -> None:
        self.graph.spin_until(lambda: speed(self.joints.newest) < STANDING_RAD_S, REACT_S, "standstill")

    def make_nominal(self) -> None:
        """Whatever the test before left, go back to following the policy."""
        self.oracle.foresee_nothing()
        if mode_is(self.states, InterventionState.EMERGENCY_STOP):
            assert trigger(self.graph, qos.RESET).success
        self.wait_for(InterventionState.NOMINAL)
        self.wait_for_motion()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("gate")
    environment = {"PYTHONPATH": os.pathsep.join([str(PLUGIN_FOLDER), os.environ.get("PYTHONPATH", "")])}
    with Graph(domain_id=58, log_dir=folder / "logs", environment=environment) as graph:
        yield Guarded(graph, folder)


@pytest.fixture
def guarded(running: Guarded) -> Guarded:
    running.make_nominal()
    return running


def test_an_action_passes_from_the_cameras_to_the_arm(guarded: Guarded) -> None:
    sequence = guarded.states.newest.sequence
    guarded.graph.spin_until(
        lambda: guarded.states.newest.sequence > sequence + 3, REACT_S, "newer plans being executed"
    )
    assert guarded.states.newest.speed_scale > 0.5
    executed = guarded.states.newest.sequence
    assert executed in [output.sequence for output in guarded.outputs.messages]


def test_risk_slows_the_arm_down_and_its_end_speeds_it_up_again(guarded: Guarded) -> None:
    guarded.oracle.foresee(FailureType.DROP, 0.9 * THRESHOLD)
    guarded.wait_for(InterventionState.SLOW_DOWN)
    guarded.graph.spin_until(
        lambda: guarded.states.newest.speed_scale < 0.5, REACT_S, "a speed scale below one half"
    )
    guarded.oracle.foresee_nothing()
    guarded.wait_for(InterventionState.NOMINAL)
    guarded.graph.spin_until(lambda: guarded.states.newest.speed_scale > 0.9, REACT_S, "full speed")


def test_a_foreseen_collision_stops_the_arm_and_a_new_plan_moves_it_again(guarded: Guarded) -> None:
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


def test_an_emergency_stop_latches_until_a_person_resets_it(guarded: Guarded) -> None:
    assert trigger(guarded.graph, qos.EMERGENCY_STOP).success
    guarded.wait_for(InterventionState.EMERGENCY_STOP)
    guarded.wait_for_standstill()
    count = guarded.outputs.count
    guarded.graph.spin_until(lambda: guarded.outputs.count > count + 5, REACT_S, "plans that could tempt it")
    assert mode_is(guarded.states, InterventionState.EMERGENCY_STOP)
    assert speed(guarded.joints.newest) < STANDING_RAD_S
    newest_before = guarded.outputs.newest.sequence
    assert trigger(guarded.graph, qos.RESET).success
    guarded.wait_for(InterventionState.NOMINAL)
    guarded.wait_for_motion()
    assert guarded.states.newest.sequence > newest_before, "a plan from before the reset moved the arm"


def test_a_dead_policy_leads_to_hold(guarded: Guarded) -> None:
    guarded.graph.processes["policy_node"].signal(signal.SIGSTOP)
    try:
        guarded.wait_for(InterventionState.HOLD)
        guarded.wait_for_standstill()
    finally:
        guarded.graph.processes["policy_node"].signal(signal.SIGCONT)
    guarded.wait_for(InterventionState.NOMINAL)


def test_a_scene_is_changed_while_the_gate_is_inactive(guarded: Guarded) -> None:
    from lifecycle_msgs.msg import Transition

    guarded.graph.transition("intervention_node", Transition.TRANSITION_DEACTIVATE)
    guarded.wait_for(InterventionState.INACTIVE)
    assert reset_simulation(guarded.graph, 7).accepted
    guarded.graph.transition("intervention_node", Transition.TRANSITION_ACTIVATE)
    guarded.wait_for(InterventionState.NOMINAL)
    guarded.wait_for_motion()


def test_sigterm_while_moving_leaves_the_arm_at_rest_and_exit_code_zero(
    guarded: Guarded,
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


def test_the_policys_outputs_count_their_time_from_the_images(guarded: Guarded) -> None:
    output: PolicyOutputMessage = guarded.outputs.newest
    behind_s = stamp_from_message(guarded.joints.newest.header.stamp) - stamp_from_message(
        output.header.stamp
    )
    assert 0.0 < behind_s < 1.0
