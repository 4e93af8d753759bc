"""A graph with a gate in it, and what is expected of it: shared by the tests that start processes and those
that launch launch files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from graph_helpers import REACT_S, START_S, mode_is, speed, start_policy, start_simulator, trigger
from sensor_msgs.msg import JointState

from salus_msgs.msg import FailurePrediction as FailurePredictionMessage
from salus_msgs.msg import InterventionState, PolicyOutput
from salus_msgs.srv import ResolveAssistance
from salus_ros.nodes import qos
from salus_ros.nodes.conversions import prediction_to_message
from salus_ros.nodes.driver_messages import stamp_from_message
from salus_ros.nodes.graph import Graph, Listener
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType

PLUGIN_FOLDER = Path(__file__).parent / "policy_plugin"
MOVING_RAD_S = 0.05
STANDING_RAD_S = 0.01
FAST_RAD_S = 0.12
"""Near the fastest of the policy ``wave``."""
LONG_STOP = {"robot.acceleration_limit_rad_s2": [0.5] * 7, "clock_stall_s": 2.0}
"""The gate needs longer to stop the arm than it bears silent joint states (0.25 s at most), and a simulator's
clock that stands with them is not noticed before: a robot's goes on."""
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
    """What is heard of a graph with a gate in it, whoever started its nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.states = graph.listen(qos.INTERVENTION_STATE, InterventionState)
        self.joints = graph.listen(qos.JOINT_STATES, JointState)
        self.outputs = graph.listen(qos.POLICY_OUTPUT, PolicyOutput)

    def wait_for(self, *modes: int) -> None:
        names = " or ".join(str(mode) for mode in modes)
        newest = self.states.newest
        said = f"{newest.mode}, {newest.reason}" if newest else "nothing"
        self.graph.spin_until(
            lambda: mode_is(self.states, *modes), REACT_S, f"mode {names}, when the gate had said: {said}"
        )

    def wait_for_motion(self) -> None:
        self.graph.spin_until(lambda: speed(self.joints.newest) > MOVING_RAD_S, REACT_S, "motion")

    def wait_for_fast_motion(self) -> None:
        def fast() -> bool:
            if mode_is(self.states, InterventionState.EMERGENCY_STOP):
                trigger(self.graph, qos.RESET)  # a busy moment of the machine
            following = mode_is(self.states, InterventionState.NOMINAL)
            measured = self.joints.newest
            return following and measured is not None and speed(measured) > FAST_RAD_S

        self.graph.spin_until(fast, START_S, "fast motion")

    def wait_for_standstill(self) -> None:
        self.graph.spin_until(lambda: speed(self.joints.newest) < STANDING_RAD_S, REACT_S, "standstill")

    def make_nominal(self) -> None:
        """Whatever the test before left, go back to following the policy."""
        if mode_is(self.states, InterventionState.EMERGENCY_STOP):
            assert trigger(self.graph, qos.RESET).success
        if mode_is(self.states, InterventionState.ASSIST):
            answer = ResolveAssistance.Request(resolution=ResolveAssistance.Request.RESUME, person="test")
            self.graph.spin_until(
                lambda: self.graph.call(qos.RESOLVE_ASSISTANCE, ResolveAssistance, answer).accepted,
                REACT_S,
                "the answer to be accepted",
            )
        self.wait_for(InterventionState.NOMINAL)
        self.wait_for_motion()


class Rehearsal(Guarded):
    """Simulator, a policy with a known path, and the gate, started here; an oracle in the monitor's place."""

    def __init__(self, graph: Graph, folder: Path, **gate: Any) -> None:
        start_simulator(graph)
        start_policy(graph)
        super().__init__(graph)
        graph.spin_until(
            lambda: self.joints.count > 0 and self.outputs.count > 0, REACT_S, "joint states and plans"
        )
        self.oracle = Oracle(graph, self.joints, self.outputs)
        latch = {"latch_file": folder / "latch", "activation_timeout_s": START_S}
        graph.start("intervention", {"use_sim_time": True, **latch, **gate})
        graph.bring_up("intervention_node", timeout_s=START_S)

    def make_nominal(self) -> None:
        """Nothing is foreseen any more, either."""
        self.oracle.foresee_nothing()
        super().make_nominal()


def an_action_passes_from_the_cameras_to_the_arm(guarded: Guarded) -> None:
    sequence = guarded.states.newest.sequence
    guarded.graph.spin_until(
        lambda: guarded.states.newest.sequence > sequence + 3, REACT_S, "newer plans being executed"
    )
    executed = guarded.states.newest
    assert executed.speed_scale > 0.5
    assert executed.sequence in [output.sequence for output in guarded.outputs.messages]


def an_emergency_stop_latches_until_a_person_resets_it(guarded: Guarded) -> None:
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


def a_silent_policy_stops_the_arm(guarded: Guarded, silence: Callable[[], None]) -> None:
    """``silence`` kills or freezes the policy."""
    guarded.wait_for_motion()
    silence()
    guarded.wait_for(InterventionState.HOLD)
    guarded.wait_for_standstill()


def an_end_in_motion_brings_the_arm_to_rest_and_latches_nothing(
    states: Listener, ended_s: Mapping[str, float], latch: Path
) -> None:
    """``states``: of the gate from the end's beginning; ``ended_s``: steady time at which each node ended."""
    modes = [state.mode for state in states.messages]
    assert InterventionState.EMERGENCY_STOP not in modes, [state.reason for state in states.messages]
    assert modes[-1] == InterventionState.INACTIVE, "the gate did not say that it had come to rest"
    assert not latch.exists(), "the next start would find an emergency stop"
    rested_s = states.arrival_s[modes.index(InterventionState.INACTIVE)]
    early = [name for name in ("deadman_node", "sim_node") if ended_s[name] < rested_s]
    assert not early, f"{early} went before the arm stood"
