"""Who publishes on a guarded topic: one writer is obeyed, and any other is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node

from salus_ros.nodes import qos
from salus_ros.nodes.lifecycle import GuardedNode
from salus_ros.nodes.polling import Inbox

_UNKNOWN = "_NODE_NAME_UNKNOWN_"


def _gid(value: Sequence[int] | bytes) -> bytes:
    return bytes(value)


def _names(node: Node, topic: str) -> list[tuple[bytes, str]]:
    """Identity and full node name of every publisher on a topic, as the graph knows them now."""
    return [
        (
            _gid(info.endpoint_gid),
            "a node not known by name yet"
            if info.node_name == _UNKNOWN
            else f"{info.node_namespace.rstrip('/')}/{info.node_name}",
        )
        for info in node.get_publishers_info_by_topic(topic)
    ]


class SoleWriter:
    """A topic that this node alone may publish on."""

    def __init__(self, node: GuardedNode, topic: str, polled: Inbox) -> None:
        """A publisher that comes or goes is noticed when ``polled`` is polled."""
        self._node = node
        self._topic = node.resolve_topic_name(topic)
        self._writers = 1
        self.detail = ""
        """Who else publishes there, in words; empty if nobody."""
        # Its messages are never read: a middleware that matches a writer with it says so at once.
        profile = replace(qos.TABLE[topic], depth=1, reliable=False, latched=False).profile()
        subscription = node.create_subscription(
            qos.message_class(qos.TABLE[topic].message),
            topic,
            lambda _message: None,
            profile,
            callback_group=polled.group,
            event_callbacks=SubscriptionEventCallbacks(matched=node.guard(self._matched)),
        )
        polled.watch(subscription)

    def _matched(self, info: Any) -> None:
        self._writers = info.current_count
        self.look()
        if info.total_count_change > max(info.current_count_change, 0) and not self.detail:
            own = self._node.get_fully_qualified_name()
            self.detail = f"a node that has gone again besides {own} on {self._topic}"  # until the next look

    def look(self) -> None:
        """Ask the graph who publishes now. A second node of the same name counts too."""
        own = self._node.get_fully_qualified_name()
        names = [name for _, name in _names(self._node, self._topic)]
        others = sorted(name for name in names if name != own)
        others += [own] * max(names.count(own) - 1, 0)
        if not others and self._writers > 1:
            others = ["a node not known by name yet"]
        self.detail = f"{', '.join(others)} besides {own} on {self._topic}" if others else ""


class BoundPublisher:
    """The one publisher of a topic that is obeyed: the first heard after each binding."""

    def __init__(self, node: Node, topic: str, *, shared: bool = False) -> None:
        """``shared``: others may publish there what is none of ours; only who was :meth:`obeyed` in vain
        counts as a stranger."""
        self._node = node
        self._topic = node.resolve_topic_name(topic)
        self._shared = shared
        self._bound: bytes | None = None
        self._stranger: bytes | None = None
        self.ignored = 0
        """Messages of strangers."""
        self.detail = ""
        """Who is bound and who else publishes, in words; empty while there is nobody else."""

    def bind_anew(self) -> None:
        """Obey whoever is heard next."""
        self._bound = self._stranger = None
        self.detail = ""

    def leave_the_gone(self) -> None:
        """Obey whoever is heard next, if the one that is bound has gone."""
        if self._bound is not None and self._bound not in dict(_names(self._node, self._topic)):
            self.bind_anew()

    def obeyed(self, gid: Sequence[int] | bytes) -> bool:
        """Whether a message of this publisher counts."""
        sender = _gid(gid)
        if self._bound is None:
            self._bound = sender
        if sender == self._bound:
            return True
        self.ignored += 1
        if self._stranger is None:
            self._stranger = sender
            self.look()
        return False

    def look(self) -> None:
        """Ask the graph who publishes now: a stranger that is gone counts no more."""
        if self._bound is None:
            return
        names = dict(_names(self._node, self._topic))
        if self._stranger is not None and self._stranger not in names:
            self._stranger = None
        if self._shared:
            strangers = [self._stranger] if self._stranger is not None else []
        else:
            strangers = [gid for gid in names if gid != self._bound]
        if not strangers:
            self.detail = ""
            return
        bound = names.get(self._bound, "a publisher that is gone")
        others = ", ".join(sorted(names[gid] for gid in strangers))
        self.detail = f"{others} besides {bound} on {self._topic}"
