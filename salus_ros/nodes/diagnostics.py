"""A node's health on ``/diagnostics``, once a second: for people, never part of the stop path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from salus_ros.nodes import qos
from salus_ros.nodes.lifecycle import GuardedNode

PERIOD_S: Final = 1.0
OK: Final = DiagnosticStatus.OK
WARN: Final = DiagnosticStatus.WARN
ERROR: Final = DiagnosticStatus.ERROR


@dataclass(frozen=True, slots=True)
class Health:
    """How a node is: ``level`` is OK, WARN or ERROR of this module."""

    level: bytes
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


class Diagnostics:
    """Publishes what ``health`` returns; exceptions counted by the node make a warning of an OK."""

    def __init__(
        self,
        node: GuardedNode,
        health: Callable[[], Health],
        parts: Callable[[], Mapping[str, Health]] | None = None,
    ) -> None:
        """``parts``: more statuses of this node, by name."""
        self._node = node
        self._health = health
        self._parts = parts
        self._publisher = node.create_publisher(
            DiagnosticArray, qos.DIAGNOSTICS, qos.profile(qos.DIAGNOSTICS)
        )
        node.create_steady_timer(PERIOD_S, self._publish)

    def _publish(self) -> None:
        health = self._health()
        errors = {f"exceptions in {name}": count for name, count in self._node.callback_errors.items()}
        level, message = health.level, health.message
        if errors and level == OK:
            level, message = WARN, f"{message}; {sum(errors.values())} exceptions in callbacks"
        name = self._node.get_name()
        array = DiagnosticArray(status=[_status(name, Health(level, message, {**health.values, **errors}))])
        if self._parts is not None:
            array.status += [_status(f"{name}: {part}", one) for part, one in self._parts().items()]
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


def _status(name: str, health: Health) -> DiagnosticStatus:
    values = [KeyValue(key=key, value=_text(value)) for key, value in health.values.items()]
    return DiagnosticStatus(level=health.level, name=name, message=health.message, values=values)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
