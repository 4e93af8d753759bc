"""Subscriptions that are read when the node asks, in the order in which their messages came.

Each message that wakes rclpy's executor costs about 0.6 ms of processor time, more than most callbacks. A
node that works at a rate of its own reads the topics that come faster, and the clock, when it needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription


class PolledGroup(CallbackGroup):  # type: ignore[misc]
    """Keeps its subscriptions away from the executor."""

    def can_execute(self, entity: Any) -> bool:
        """Never: they are read by :meth:`Inbox.poll`."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing was begun."""


class Inbox:
    """The polled subscriptions of one node."""

    def __init__(self) -> None:
        self.group = PolledGroup()
        self._subscriptions: list[tuple[Subscription, Callable[[Any, Mapping[str, int]], None]]] = []

    def add(self, subscription: Subscription, callback: Callable[[Any, Mapping[str, int]], None]) -> None:
        """Read this subscription too; the callback gets the message and its info, as rclpy's own do."""
        self._subscriptions.append((subscription, callback))

    def remove(self, subscription: Subscription) -> None:
        """Read this subscription no more, if it was read at all."""
        self._subscriptions = [one for one in self._subscriptions if one[0] is not subscription]

    def poll(self) -> int:
        """Hand on what has come since the last call, at most a queue's depth of each topic.

        Returns the number of messages.
        """
        arrived: list[tuple[int, Callable[..., None], Any, Mapping[str, int]]] = []
        for subscription, callback in self._subscriptions:
            handle = subscription.handle
            with handle:
                for _ in range(subscription.qos_profile.depth):
                    taken = handle.take_message(subscription.msg_type, subscription.raw)
                    if taken is None:
                        break
                    message, info = taken
                    arrived.append((info["received_timestamp"], callback, message, info))
        arrived.sort(key=itemgetter(0))
        for _, callback, message, info in arrived:
            callback(message, info)
        return len(arrived)


def subscribe(
    node: Node,
    inbox: Inbox,
    message_type: type[Any],
    topic: str,
    callback: Callable[[Any, Mapping[str, int]], None],
    profile: QoSProfile,
    *,
    raw: bool = False,
    events: SubscriptionEventCallbacks | None = None,
) -> Subscription:
    """A subscription that is read by ``inbox.poll()`` only; its ``events`` come through the executor."""

    def unused(_message: Any) -> None:
        """The executor never calls it."""

    subscription = node.create_subscription(
        message_type,
        topic,
        unused,
        profile,
        callback_group=inbox.group,
        event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        raw=raw,
    )
    add_events(node, subscription, events or SubscriptionEventCallbacks())
    inbox.add(subscription, callback)
    return subscription


def add_events(node: Node, subscription: Subscription, events: SubscriptionEventCallbacks) -> None:
    """Let the executor tell what happens to a subscription whose messages it does not read."""
    group = node.default_callback_group
    for handler in events.create_event_handlers(group, subscription.handle, subscription.topic_name):
        subscription.event_handlers.append(handler)  # what destroys the subscription destroys it too
        group.add_entity(handler)
        node.add_waitable(handler)
