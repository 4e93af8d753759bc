"""Subscriptions that are read when the node asks, in the order in which their messages came.

Each message that wakes rclpy's executor costs about 0.6 ms of processor time, more than most callbacks. A
node that works at a rate of its own reads the topics that come faster, and the clock, when it needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import EventHandler, SubscriptionEventCallbacks
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
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


class _AllReady:
    """A wait set in which everything is ready: rclpy then takes an event without having waited for it."""

    def add_event(self, _event: Any) -> int:
        """The place of an event."""
        return 0

    def is_ready(self, _kind: str, _index: int) -> bool:
        """Always."""
        return True


_ALL_READY: Final = _AllReady()

_CHANGES: Final = (
    "total_count_change",
    "current_count_change",
    "alive_count_change",
    "not_alive_count_change",
)
"""What the kinds of event call their news since the last look."""


class Inbox:
    """The polled subscriptions of one node, and their events."""

    def __init__(self) -> None:
        self.group = PolledGroup()
        self._subscriptions: list[tuple[Subscription, Callable[[Any, Mapping[str, int]], None]]] = []
        self._watched: list[Subscription] = []

    def add(self, subscription: Subscription, callback: Callable[[Any, Mapping[str, int]], None]) -> None:
        """Read this subscription of the inbox's group too; the callback gets the message and its info, as
        rclpy's own do."""
        self.watch(subscription)
        self._subscriptions.append((subscription, callback))

    def watch(self, subscription: Subscription) -> None:
        """Ask at each poll what happened to this subscription of the inbox's group, its messages unread."""
        self._watched.append(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Read this subscription no more, if it was read at all."""
        self._subscriptions = [one for one in self._subscriptions if one[0] is not subscription]
        self._watched = [one for one in self._watched if one is not subscription]

    def poll(self) -> int:
        """Hand on what has happened and come since the last call, at most a queue's depth of each topic.

        Returns the number of messages.
        """
        for subscription in self._watched:
            for handler in subscription.event_handlers:
                event = _take(handler)
                if event is not None:
                    handler.callback(event)
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
    """A subscription that is read by ``inbox.poll()`` only, its ``events`` with it."""

    def unused(_message: Any) -> None:
        """The executor never calls it."""

    subscription = node.create_subscription(
        message_type,
        topic,
        unused,
        profile,
        callback_group=inbox.group,
        event_callbacks=events,
        raw=raw,
    )
    inbox.add(subscription, callback)
    return subscription


def _take(handler: EventHandler) -> Any:
    """What an event has to tell, or nothing: the middleware hands out its counts, changed or not."""
    with handler:
        handler.add_to_wait_set(_ALL_READY)
        handler.is_ready(_ALL_READY)
        try:
            event = handler.take_data()
        except _rclpy.RCLError:  # how a middleware may say that nothing happened; rmw_zenoh did
            return None
    if event is None:
        return None
    return event if any(getattr(event, name, 0) for name in _CHANGES) else None
