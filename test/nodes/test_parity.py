"""Law 2: a recorded episode gives the same predictions and decisions in one process and on the graph.

The episode is run by ``rollout.py``. Then its messages go, in their order, through real publishers to the
real nodes, whose clocks stand still at the moment of each message; what the nodes publish is compared with
what the episode holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState, PointCloud2
from trajectory_msgs.msg import JointTrajectory

from salus_msgs.msg import FailurePrediction as FailurePredictionMessage
from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_msgs.msg import PolicyOutput as PolicyOutputMessage
from salus_ros.assets import asset
from salus_ros.data.episode import Episode, EpisodeMeta
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.inputs import Request, RequestKind
from salus_ros.intervention.settings import GateSettings
from salus_ros.monitor import Monitor
from salus_ros.nodes import qos
from salus_ros.nodes.cameras import points_to_message
from salus_ros.nodes.conversions import (
    intervention_state_from_message,
    intervention_state_to_message,
    policy_output_to_message,
    prediction_from_message,
    prediction_to_message,
)
from salus_ros.nodes.driver_messages import (
    gripper_from_message,
    robot_state_to_message,
    stamp_to_message,
    trajectory_from_message,
)
from salus_ros.nodes.intervention_node import InterventionNode
from salus_ros.nodes.monitor_node import MonitorNode
from salus_ros.nodes.qos import profile
from salus_ros.nodes.robot import RobotSettings
from salus_ros.placebo import PlaceboSettings, RandomTrigger
from salus_ros.policy.registry import load_policy
from salus_ros.rollout import Judge, RolloutSettings, run_episode
from salus_ros.sim.simulation import SimSettings, Simulation
from salus_ros.types import FailurePrediction, InterventionState, Mode, PointCloud, PolicyOutput, RobotState

ORIGIN_S = 1000.0
"""ROS time of the episode's start: zero would mean that there is no clock."""
LENGTH_S = 4.0
DELIVERY_S = 10.0
SAME_COMMAND = {
    "stamp_s": 1e-9,
    "gripper_opening_m": 1e-9,
    "position_rad": 2e-3,
    "velocity_rad_s": 2e-2,
    "duration_s": 2e-2,
}
"""A message rounds time to nanoseconds, and the gate enters a new chunk at the best point of a grid: where
two are equally good, the rounding may tip it to the neighbour, some milliseconds away on the same path."""
SAME_SPEED_SCALE = 0.02
FINGERS = RobotSettings().finger_joints
DOMAIN = 61 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0) % 9
"""Of each worker its own: the two tests here publish on the same topics, and may run at the same time."""


def recorded(judge: Judge) -> Episode:
    """A few seconds of the shipped policy with this judge and a fresh gate."""
    torch.set_num_threads(1)  # as everywhere where cores are shared
    simulation = Simulation(SimSettings(time_limit_s=LENGTH_S))
    return run_episode(
        simulation,
        load_policy(str(asset("models/tinyvla-small"))),
        Gate(GateSettings(), simulation.arm_model),
        judge,
        EpisodeMeta(seed=7, task="bin", disturbance="nudge"),
        RolloutSettings(record_frames=False),
    )


@pytest.fixture(scope="module")
def monitored() -> Episode:
    return recorded(Monitor.load(asset("models/monitor")))


@pytest.fixture(scope="module")
def intervened() -> Episode:
    """An episode with interventions of several kinds, whatever the shipped monitor would say."""
    return recorded(RandomTrigger(3, PlaceboSettings(slow_rate_per_s=1.0, alarm_rate_per_s=0.8)))


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Node]:
    """A node of the test's own; nodes made while it lives follow its clock."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    latch = tmp_path / "latch"
    rclpy.init(
        args=["--ros-args", "-p", "use_sim_time:=true", "-p", f"intervention_node:latch_file:={latch}"],
        domain_id=DOMAIN,
    )
    node = rclpy.create_node("recording", use_global_arguments=False)
    yield node
    node.destroy_node()
    rclpy.shutdown()


class Surroundings:
    """Hands recorded messages to one node and waits until each of them is there."""

    def __init__(self, own: Node, tested: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own, self.tested = own, tested
        self.joints = tested._robot.arm.joint_names
        self.now_s = 0.0
        self._publishers = {
            kind: own.create_publisher(kind, topic, profile(topic, depth=100))
            for kind, topic in (
                (Clock, qos.CLOCK),
                (JointState, qos.JOINT_STATES),
                (PolicyOutputMessage, qos.POLICY_OUTPUT),
                (PointCloud2, qos.FRONT_POINTS),
                (InterventionStateMessage, qos.INTERVENTION_STATE),
                (FailurePredictionMessage, qos.FAILURE_PREDICTION),
            )
        }
        steady = SimpleNamespace(monotonic=lambda: self.now_s, sleep=lambda _s: None)
        monkeypatch.setattr(f"{type(tested).__module__}.time", steady, raising=False)
        polled = {subscription.topic_name for subscription, _ in tested._inbox._subscriptions}
        self._polled = {kind for kind, pub in self._publishers.items() if pub.topic_name in polled}
        until(
            lambda: all(self._publishers[kind].get_subscription_count() for kind in self._polled),
            "the node's subscriptions",
        )

    def at(self, now_s: float) -> None:
        """Let it be this time of the episode."""
        self.now_s = now_s
        self.deliver(Clock(clock=stamp_to_message(ORIGIN_S + now_s)))

    def deliver(self, message: Any) -> None:
        """Publish, and read the node's inbox until the message is in it."""
        self._publishers[type(message)].publish(message)
        if type(message) in self._polled:
            until(self.tested._inbox.poll, f"a {type(message).__name__} in the node's inbox")

    def as_message(self, item: Any) -> Any:
        """The message by which a real publisher would have sent this."""
        if isinstance(item, RobotState):
            return robot_state_to_message(shifted(item), self.joints, FINGERS)
        if isinstance(item, PolicyOutput):
            chunk = replace(item.chunk, stamp_s=item.chunk.stamp_s + ORIGIN_S)
            return policy_output_to_message(replace(item, chunk=chunk), self.joints, "panda_link0")
        if isinstance(item, PointCloud):
            return points_to_message(shifted(item))
        if isinstance(item, FailurePrediction):
            return prediction_to_message(shifted(item))
        assert isinstance(item, InterventionState)
        return intervention_state_to_message(shifted(item))


def shifted(item: Any) -> Any:
    return replace(item, stamp_s=item.stamp_s + ORIGIN_S)


def until(condition: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + DELIVERY_S
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not come within {DELIVERY_S:g} s"
        time.sleep(0.0005)


def listen(node: Node, kind: type[Any], topic: str) -> Callable[[], Any]:
    """A function that waits for the next message on a topic."""
    subscription = node.create_subscription(kind, topic, lambda _message: None, profile(topic, depth=100))
    found: list[Any] = []

    def take() -> Any:
        def look() -> object:
            handle = subscription.handle
            with handle:
                taken = handle.take_message(kind, False)
            if taken is not None:
                found.append(taken[0])
            return taken

        until(look, f"a message on {topic}")
        return found[-1]

    return take


def test_the_monitor_node_predicts_what_was_predicted_in_one_process(
    graph: Node, monitored: Episode, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(monitored.predictions) > 40, "the recorded episode holds too few predictions to compare"
    next_prediction = listen(graph, FailurePredictionMessage, qos.FAILURE_PREDICTION)
    node = MonitorNode()
    node.trigger_configure()
    around = Surroundings(graph, node, monkeypatch)
    node.trigger_activate()
    for arrival_s, item in monitored.inputs():
        around.at(arrival_s)
        if not isinstance(item, FailurePrediction):
            around.deliver(around.as_message(item))
            continue
        node._predict()
        said = prediction_from_message(next_prediction())
        where = f"at {arrival_s:.2f} s"
        assert said.stamp_s - ORIGIN_S == pytest.approx(item.stamp_s, abs=1e-6), where
        assert (said.sequence, said.alarm, said.risk_type) == (item.sequence, item.alarm, item.risk_type)
        np.testing.assert_allclose(said.probability, item.probability, atol=1e-5, err_msg=where)
        assert said.risk == pytest.approx(item.risk, abs=1e-5), where
        assert said.timeout_probability == pytest.approx(item.timeout_probability, abs=1e-5), where
        assert said.out_of_distribution == item.out_of_distribution, where
    node.destroy_node()


def test_the_gate_node_decides_what_was_decided_in_one_process(
    graph: Node, intervened: Episode, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = {Mode(int(mode)) for mode in intervened.interventions.mode}
    assert {Mode.NOMINAL, Mode.SLOW_DOWN} < modes, f"the recorded episode reached only {modes}"
    node = InterventionNode()
    node.trigger_configure()
    around = Surroundings(graph, node, monkeypatch)
    until(
        around._publishers[FailurePredictionMessage].get_subscription_count, "the prediction's subscription"
    )
    sent: dict[float, tuple[Any, Any]] = {}
    states: list[InterventionState] = []
    arm, gripper = SentBy(node._arm_publisher), SentBy(node._gripper_publisher)
    monkeypatch.setattr(node, "_arm_publisher", arm)
    monkeypatch.setattr(node, "_gripper_publisher", gripper)

    def step(now_s: float, prediction: FailurePrediction | None) -> None:
        if prediction is not None:
            around.deliver(around.as_message(prediction))
            until(lambda: received(node), "the prediction at the gate")
        if not node.active and prediction is not None:
            node.trigger_activate()
            assert node.active, "the gate did not become active with the first prediction"
        elif not node.active:
            node._step(Request(RequestKind.ACTIVATE, "lifecycle"))  # asked for from the start, as there
        elif prediction is not None:
            node._step()
        else:
            node._tick()
        assert node._decision is not None
        states.append(node._decision.state)
        sent[now_s] = (arm.take(), gripper.take())

    for now_s, items in instants(intervened):
        around.at(now_s)
        for item in items:
            if isinstance(item, RobotState | PolicyOutput):
                around.deliver(around.as_message(item))
        step(now_s, next((item for item in items if isinstance(item, FailurePrediction)), None))

    recorder = EpisodeRecorder(0.0)
    for now_s, (command, opening) in sent.items():
        if command is not None or opening is not None:
            recorder.command(
                now_s,
                None if command is None else trajectory_from_message(command, around.joints),
                None if opening is None else gripper_from_message(opening, FINGERS),
            )
    again = recorder.finish(EpisodeMeta()).commands
    assert len(again) == len(intervened.commands) > 200
    for name, tolerance in SAME_COMMAND.items():
        np.testing.assert_allclose(
            getattr(again, name), getattr(intervened.commands, name), rtol=0, atol=tolerance, err_msg=name
        )
    by_time = {round(state.stamp_s - ORIGIN_S, 6): state for state in states}
    for index in range(len(intervened.interventions)):
        before = intervened.interventions.item(index, intervened.reasons)
        now = intervention_state_from_message(
            intervention_state_to_message(by_time[round(before.stamp_s, 6)])
        )
        assert (now.mode, now.cause) == (before.mode, before.cause), f"at {before.stamp_s:.2f} s"
        assert now.speed_scale == pytest.approx(before.speed_scale, abs=SAME_SPEED_SCALE)
    node.destroy_node()


class SentBy:
    """A publisher that remembers its newest message."""

    def __init__(self, publisher: Any) -> None:
        self._publisher, self._newest = publisher, None

    def publish(self, message: JointTrajectory) -> None:
        self._newest = message
        self._publisher.publish(message)

    def take(self) -> Any:
        newest, self._newest = self._newest, None
        return newest


def received(node: Any) -> bool:
    """Take a waiting prediction as the node does in a transition."""
    node._incoming.take_waiting()
    return node._incoming._prediction is not None


def instants(episode: Episode) -> Iterator[tuple[float, list[Any]]]:
    """The robot's stamps, and what had arrived since the one before."""
    items: list[Any] = []
    now_s: float | None = None
    for arrival_s, item in episode.inputs():
        if isinstance(item, RobotState):
            if now_s is not None:
                yield now_s, items
            now_s, items = arrival_s, []
        items.append(item)
    if now_s is not None:
        yield now_s, items
