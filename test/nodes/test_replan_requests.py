"""What the gate asks the policy for, with a policy that answers or does not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor

sys.path.insert(0, str(Path(__file__).parents[1] / "intervention"))
from gate_world import World

from salus_msgs.srv import RequestReplan
from salus_ros.intervention.inputs import Decision
from salus_ros.nodes import qos
from salus_ros.nodes.lifecycle import GuardedNode
from salus_ros.nodes.replan_requests import OPEN_MAX, ReplanRequests
from salus_ros.types import Mode

REACT_S = 10.0


def deciding(
    mode: Mode, *, request_replan: bool = False, commit: bool = False, lift_m: float = 0.0
) -> Decision:
    """What the gate says in this mode."""
    decision = World().step()
    state = replace(decision.state, mode=mode)
    return replace(decision, state=state, request_replan=request_replan, commit=commit, lift_m=lift_m)


@pytest.fixture
def node(make_node: Callable[..., Any]) -> Any:
    return make_node(node_class=GuardedNode)


def served(
    node: GuardedNode, answer: Callable[[Any, Any], Any]
) -> tuple[ReplanRequests, SingleThreadedExecutor]:
    """Requests to a policy on the same node, and the executor that lets it answer."""
    node.create_service(RequestReplan, qos.REQUEST_REPLAN, answer)
    requests = ReplanRequests(node)
    end_s = time.monotonic() + REACT_S
    while not requests._client.service_is_ready():
        assert time.monotonic() < end_s, "the policy's service was not discovered"
        time.sleep(0.001)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    return requests, executor


def test_a_policy_that_never_answers_leaves_a_bounded_number_of_open_requests(node: GuardedNode) -> None:
    requests, _ = served(node, lambda _, response: response)
    assert requests.follow_up(deciding(Mode.REPLAN, request_replan=True), 0.0, 0.5)
    for now_s in np.arange(0.5, 50.0, 0.5):
        assert requests.follow_up(deciding(Mode.HOLD), float(now_s), 0.5)
    assert requests.pending == OPEN_MAX


@pytest.mark.parametrize(("commit", "lift_m"), [(True, 0.0), (False, 0.12)])
def test_a_request_that_is_repeated_asks_for_the_same_as_the_first(
    node: GuardedNode, commit: bool, lift_m: float
) -> None:
    asked: list[tuple[bool, float]] = []

    def refuse(request: Any, response: Any) -> Any:
        asked.append((request.commit, request.lift_m))
        return response

    requests, executor = served(node, refuse)
    for number, wanted in enumerate((True, False)):
        decision = deciding(
            Mode.REPLAN, request_replan=wanted, commit=wanted and commit, lift_m=wanted * lift_m
        )
        assert requests.follow_up(decision, 1.0 * number, 0.5)
        end_s = time.monotonic() + REACT_S
        while requests.pending:
            assert time.monotonic() < end_s, "the policy's answer did not come"
            executor.spin_once(timeout_sec=0.01)
    executor.shutdown()
    assert asked == [(commit, lift_m)] * 2


@pytest.mark.parametrize("accepted", [True, False])
def test_a_request_is_repeated_until_it_is_accepted(node: GuardedNode, accepted: bool) -> None:
    def answer(_request: Any, response: Any) -> Any:
        response.accepted = accepted
        return response

    requests, executor = served(node, answer)
    assert requests.follow_up(deciding(Mode.REPLAN, request_replan=True), 0.0, 0.5)
    assert not requests.follow_up(deciding(Mode.REPLAN), 0.4, 0.5)
    end_s = time.monotonic() + REACT_S
    while requests.pending:
        assert time.monotonic() < end_s, "the policy's answer did not come"
        executor.spin_once(timeout_sec=0.01)
    assert requests.follow_up(deciding(Mode.REPLAN), 0.6, 0.5) is not accepted
    executor.shutdown()
