"""Who publishes on a guarded topic: one writer is obeyed, and any other is named."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node


def _gid(value: Sequence[int] | bytes) -> bytes:
    return bytes(value)


def _names(node: Node, topic: str) -> list[tuple[bytes, str]]:
    """Identity and full node name of every publisher on a topic, as the graph knows them now."""
    return [
        (_gid(info.endpoint_gid), f"{info.node_namespace.rstrip('/')}/{info.node_name}")
        for info in node.get_publishers_info_by_topic(topic)
    ]


def foreign_writers(node: Node, topic: str) -> str:
    """Who else publishes on a topic that this node alone may publish on; empty if nobody.

    A second node of the same name counts too.
    """
    resolved = node.resolve_topic_name(topic)
    own = node.get_fully_qualified_name()
    names = [name for _, name in _names(node, resolved)]
    others = sorted(name for name in names if name != own)
    others += [own] * max(names.count(own) - 1, 0)
    return f"{', '.join(others)} besides {own} on {resolved}" if others else ""


class BoundPublisher:
    """The one publisher of a topic that is obeyed: the first heard after each binding."""

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self._topic = node.resolve_topic_name(topic)
        self._bound: bytes | None = None
        self._stranger: bytes | None = None
        self.detail = ""
        """Who is bound and who else publishes, in words; empty while there is nobody else."""

    def bind_anew(self) -> None:
        """Obey whoever is heard next."""
        self._bound = self._stranger = None
        self.detail = ""

    def obeyed(self, gid: Sequence[int] | bytes) -> bool:
        """Whether a message of this publisher counts."""
        sender = _gid(gid)
        if self._bound is None:
            self._bound = sender
        if sender == self._bound:
            return True
        if self._stranger is None:
            self._stranger = sender
            self.look()
        return False

    def look(self) -> None:
        """Ask the graph who publishes now: a stranger that is gone counts no more."""
        if self._bound is None:
            return
        names = dict(_names(self._node, self._topic))
        strangers = [gid for gid in names if gid != self._bound]
        if self._stranger is not None and self._stranger not in names:
            self._stranger = None
        if not strangers:
            self.detail = ""
            return
        bound = names.get(self._bound, "a publisher that is gone")
        others = ", ".join(sorted(names[gid] for gid in strangers))
        self.detail = f"{others} besides {bound} on {self._topic}"
