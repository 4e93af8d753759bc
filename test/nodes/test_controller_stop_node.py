"""An arm whose driver has no stop is stopped by its controllers."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future
from std_srvs.srv import Trigger

from salus_ros.errors import SalusError
from salus_ros.nodes import controller_stop_node, diagnostics, qos


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
        controller_stop_node._services()


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


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ({"arm_controller": "active"}, "arm_controller is still active"),
        ({"another": "active"}, "there is no controller arm_controller"),
        ({"arm_controller": "inactive"}, "arm_controller: stopped"),
    ],
)
def test_a_stop_has_stopped_when_the_manager_lists_it_so(
    make_node: Callable[..., Any], states: dict[str, str], said: str
) -> None:
    services = pytest.importorskip("controller_manager_msgs.srv", reason="controller_manager_msgs is missing")
    state_type = importlib.import_module("controller_manager_msgs.msg").ControllerState
    node = make_node(node_class=controller_stop_node.ControllerStopNode)
    manager, person = make_node(), make_node()

    def switch(_request: Any, response: Any) -> Any:
        response.ok = True
        return response

    def listed(_request: Any, response: Any) -> Any:
        response.controller = [state_type(name=name, state=state) for name, state in states.items()]
        return response

    manager.create_service(services.SwitchController, "controller_manager/switch_controller", switch)
    manager.create_service(services.ListControllers, "controller_manager/list_controllers", listed)
    wait_for_manager(node)
    end_s = time.monotonic() + 15.0
    while not node._list.service_is_ready():
        assert time.monotonic() < end_s, "the list of controllers was not found"
        time.sleep(0.01)
    answer = call(qos.DRIVER_STOP, node, manager, person)
    assert said in answer.message
    assert answer.success == ("stopped" in said)
    healthy = node._health().level != diagnostics.ERROR
    assert healthy == ("arm_controller" in states), "a name that is wrong shows in the node's health"
