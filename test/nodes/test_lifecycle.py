from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from salus_ros.errors import SalusError
from salus_ros.nodes.lifecycle import GuardedNode, ManagedNode
from salus_ros.nodes.polling import Inbox, subscribe


class Node(ManagedNode):
    """Fails where it is told to."""

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self.fails: set[str] = set()
        self.done: list[str] = []
        self.heard: list[tuple[str, str]] = []

    def _do(self, what: str) -> None:
        if what in self.fails:
            raise SalusError(f"{what} was told to fail")
        self.done.append(what)

    def configure(self) -> None:
        self._do("configure")

    def activate(self) -> None:
        self._do("activate")

    def deactivate(self) -> None:
        self._do("deactivate")

    def on_callback_error(self, where: str, error: Exception) -> None:
        self.heard.append((where, str(error)))


class PollsClock(GuardedNode):
    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name, polls_clock=True, **arguments)


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end_s, "it did not happen within 10 s"
        time.sleep(0.001)


@pytest.fixture
def node(make_node: Callable[..., Any]) -> Any:
    return make_node(node_class=Node)


def test_callbacks_pass_the_gate_only_while_the_node_is_active(node: Node) -> None:
    heard: list[int] = []
    callback = node.when_active(heard.append)
    callback(1)
    node.trigger_configure()
    callback(2)
    node.trigger_activate()
    callback(3)
    node.trigger_deactivate()
    callback(4)
    assert heard == [3]


def test_a_failed_configure_leaves_the_node_unconfigured_and_it_can_be_tried_again(node: Node) -> None:
    node.fails = {"configure"}
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    node.fails = set()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS


def test_a_failed_activate_leaves_the_node_inactive_and_its_publishers_silent(node: Node) -> None:
    node.trigger_configure()
    node.fails = {"activate"}
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert not node.active
    node.fails = set()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS, "an inactive node can be activated"


def test_an_exception_in_a_callback_is_counted_and_reported_and_goes_no_further(node: Node) -> None:
    def broken(_message: object) -> str:
        raise ValueError("cause")

    assert node.guard(broken, fallback="instead")(None) == "instead"
    assert node.callback_errors == {"broken": 1}
    assert node.heard == [("broken", "cause")]


def test_an_exception_in_a_timer_does_not_end_the_loop(make_node: Callable[..., Any]) -> None:
    node = make_node(node_class=GuardedNode)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 1:
            raise ValueError("first tick")

    node.create_steady_timer(0.001, tick)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for _ in range(200):
        executor.spin_once(timeout_sec=0.1)
        if ticks > 2:
            break
    executor.shutdown()
    assert ticks > 2
    assert node.callback_errors == {"tick": 1}


def test_a_clock_before_time_zero_is_an_error_of_its_own_and_the_rest_of_the_poll_goes_on(
    make_node: Callable[..., Any],
) -> None:
    node = make_node("use_sim_time:=true", node_class=PollsClock)
    heard: list[str] = []
    node.create_polled_subscription(String, "one", lambda message: heard.append(message.data), 10)
    sender = make_node()
    clock = sender.create_publisher(Clock, "/clock", 10)
    publisher = sender.create_publisher(String, "one", 10)
    until(lambda: clock.get_subscription_count() and publisher.get_subscription_count())
    clock.publish(Clock(clock=Time(sec=-1)))
    publisher.publish(String(data="after it"))

    def both() -> bool:
        node.poll()
        return bool(heard and node.callback_errors)

    until(both)
    assert heard == ["after it"] and set(node.callback_errors) == {"clock_callback"}


def test_a_node_that_is_told_to_use_its_own_time_again_goes_on_polling(
    make_node: Callable[..., Any],
) -> None:
    node = make_node("use_sim_time:=true", node_class=PollsClock)
    (result,) = node.set_parameters([Parameter("use_sim_time", value=False)])
    assert result.successful
    node.poll()
    assert node.get_clock().now().nanoseconds > 0


def test_polled_subscriptions_wait_for_the_poll_and_keep_the_order_of_arrival(
    make_node: Callable[..., Any],
) -> None:
    node = make_node(node_class=GuardedNode)
    heard: list[str] = []
    for topic in ("one", "two"):
        node.create_polled_subscription(String, topic, lambda message: heard.append(message.data), 10)
    publishers = [node.create_publisher(String, topic, 10) for topic in ("one", "two")]
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for publisher in publishers:
        while publisher.get_subscription_count() == 0:
            executor.spin_once(timeout_sec=0.01)
    for index, publisher in enumerate((*publishers, *publishers)):
        publisher.publish(String(data=str(index)))
    for _ in range(5):
        executor.spin_once(timeout_sec=0.01)
    assert heard == [], "the executor must not deliver them"
    for _ in range(200):
        node.poll()
        if len(heard) == 4:
            break
        executor.spin_once(timeout_sec=0.01)
    executor.shutdown()
    assert heard == ["0", "1", "2", "3"]


def test_a_polled_message_that_lies_unread_does_not_keep_the_executor_awake(
    make_node: Callable[..., Any],
) -> None:
    node, sender = make_node(node_class=GuardedNode), make_node()
    heard: list[str] = []
    node.create_polled_subscription(String, "one", lambda message: heard.append(message.data), 10)
    publisher = sender.create_publisher(String, "one", 10)
    until(publisher.get_subscription_count)
    publisher.publish(String(data="unread"))
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    executor.spin_once(timeout_sec=0.1)  # what the start left to do
    before_s, cpu_s = time.monotonic(), time.process_time()
    while time.monotonic() < before_s + 0.5:
        executor.spin_once(timeout_sec=0.1)
    busy = (time.process_time() - cpu_s) / (time.monotonic() - before_s)
    executor.shutdown()
    assert busy < 0.5, f"waiting took {busy:.0%} of a core"
    node.poll()
    assert heard == ["unread"]


def test_what_happens_to_a_polled_subscription_is_told_once_at_the_poll_after_it(
    make_node: Callable[..., Any],
) -> None:
    node, sender = make_node(node_class=GuardedNode), make_node()
    inbox, writers = Inbox(), []
    subscription = subscribe(
        node,
        inbox,
        String,
        "one",
        lambda _message, _info: None,
        QoSProfile(depth=10),
        events=SubscriptionEventCallbacks(matched=lambda event: writers.append(event.current_count)),
    )

    def told(count: int) -> Callable[[], bool]:
        def poll() -> bool:
            inbox.poll()
            return len(writers) >= count

        return poll

    publisher = sender.create_publisher(String, "one", 10)
    until(told(1))
    inbox.poll()
    assert writers == [1]
    sender.destroy_publisher(publisher)
    until(told(2))
    assert writers == [1, 0]
    inbox.remove(subscription)
    watched = Inbox()
    again = sender.create_publisher(String, "one", 10)
    until(again.get_subscription_count)
    watched.watch(subscription)
    inbox.poll()
    assert writers == [1, 0], "a subscription that was removed is not asked any more"

    def told_elsewhere() -> bool:
        watched.poll()
        return len(writers) > 2

    until(told_elsewhere)
