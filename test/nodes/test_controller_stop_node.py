"""An arm whose driver has no stop is stopped by its controllers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future
from std_srvs.srv import Trigger

from salus_ros.errors import SalusError
from salus_ros.nodes import controller_stop_node, qos


def switch_controller() -> Any:
    reason = "controller_manager_msgs is not installed"
    return pytest.importorskip("controller_manager_msgs.srv", reason=reason).SwitchController


def call(service: str, *nodes: Any) -> Any:
    executor = SingleThreadedExecutor(context=nodes[0].context)
    for node in nodes:
        executor.add_node(node)
    client = nodes[-1].create_client(Trigger, service)
    end_s = time.monotonic() + 15.0
    while not client.service_is_ready() and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.02)
    future = client.call_async(Trigger.Request())
    while not future.done() and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.02)
    executor.shutdown()
    assert future.done(), f"{service} did not answer"
    return future.result()


def wait_for_manager(node: Any) -> None:
    end_s = time.monotonic() + 15.0
    while not node._client.service_is_ready():
        assert time.monotonic() < end_s, "the controller manager was not found"
        time.sleep(0.01)


def test_without_the_messages_the_node_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_stop_node, "_PACKAGE", "no_such_package")
    with pytest.raises(SalusError, match="no_such_package is not installed"):
        controller_stop_node._switch_controller()


def test_without_a_controller_manager_a_stop_says_that_it_failed(make_node: Callable[..., Any]) -> None:
    switch_controller()
    node, person = make_node(node_class=controller_stop_node.ControllerStopNode), make_node()
    answer = call(qos.DRIVER_STOP, node, person)
    assert not answer.success
    assert "controller_manager/switch_controller is not there" in answer.message


def test_stop_deactivates_and_resume_activates_the_controllers(make_node: Callable[..., Any]) -> None:
    kind = switch_controller()
    node = make_node(
        "controllers:=['fr3_arm_controller']", node_class=controller_stop_node.ControllerStopNode
    )
    manager, person = make_node(), make_node()
    asked: list[Any] = []

    def switch(request: Any, response: Any) -> Any:
        asked.append(request)
        response.ok = True
        return response

    manager.create_service(kind, "controller_manager/switch_controller", switch)
    wait_for_manager(node)
    stopped, resumed = (
        call(service, node, manager, person) for service in (qos.DRIVER_STOP, qos.DRIVER_RESUME)
    )
    assert stopped.success and "fr3_arm_controller: stopped" in stopped.message
    assert resumed.success
    assert [list(request.deactivate_controllers) for request in asked] == [["fr3_arm_controller"], []]
    assert [list(request.activate_controllers) for request in asked] == [[], ["fr3_arm_controller"]]
    assert all(request.strictness == kind.Request.BEST_EFFORT for request in asked)


def test_a_manager_that_refuses_is_heard(make_node: Callable[..., Any]) -> None:
    kind = switch_controller()
    node = make_node(node_class=controller_stop_node.ControllerStopNode)
    manager, person = make_node(), make_node()
    manager.create_service(kind, "controller_manager/switch_controller", lambda _request, response: response)
    wait_for_manager(node)
    answer = call(qos.DRIVER_STOP, node, manager, person)
    assert not answer.success
    assert "arm_controller" in answer.message


def test_a_stop_does_not_wait_for_a_resume_that_hangs(make_node: Callable[..., Any]) -> None:
    kind = switch_controller()
    node = make_node(node_class=controller_stop_node.ControllerStopNode)
    manager, person = make_node(), make_node()

    async def switch(request: Any, response: Any) -> Any:
        if request.activate_controllers:
            await Future(executor=None)
        response.ok = True
        return response

    group = ReentrantCallbackGroup()
    manager.create_service(kind, "controller_manager/switch_controller", switch, callback_group=group)
    wait_for_manager(node)
    resume = person.create_client(Trigger, qos.DRIVER_RESUME)
    while not resume.service_is_ready():
        time.sleep(0.01)
    waiting = resume.call_async(Trigger.Request())
    assert call(qos.DRIVER_STOP, node, manager, person).success
    assert not waiting.done()
