"""Whether a gate still moves the arm: what it moves and stops the arm by must not go before it."""

from __future__ import annotations

import math
import time
from typing import Final

from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_ros.nodes import qos
from salus_ros.nodes.lifecycle import GuardedNode

SILENCE_S: Final = 0.5
"""A gate that was not heard for so long is gone; it speaks every 0.1 s."""

REST_TIMEOUT_S: Final = 2.0
"""The gate that is to end brings the arm to rest within this, or gives up: its last command ends in rest."""


class GateRest:
    """Hears the gate on behalf of a node that a gate in motion needs.

    Joint states that fall silent latch, and a driver's stop that is not there stops nothing. When all nodes
    are asked to end at once, those that offer either stay until the gate has come to rest.
    """

    def __init__(self, node: GuardedNode) -> None:
        self._node = node
        self._active_s = -math.inf
        """Steady time of the last word of an active gate; minus infinity once it said that it is not."""
        node.create_subscription(
            InterventionStateMessage,
            qos.INTERVENTION_STATE,
            node.guard(self._hear),
            qos.profile(qos.INTERVENTION_STATE),
        )

    def _hear(self, message: InterventionStateMessage) -> None:
        active = message.mode != InterventionStateMessage.INACTIVE
        self._active_s = time.monotonic() if active else -math.inf

    @property
    def given(self) -> bool:
        """Whether no gate is active: it said so, or is gone, or there was none."""
        return time.monotonic() - self._active_s > SILENCE_S

    def done_with(self, stop: str) -> bool:
        """Whether nobody needs this service, the driver's stop: the gate rests by its own word, or whoever
        could call it is gone; a deadman calls it when a gate went without a word."""
        if math.isinf(self._active_s):
            return True
        return bool(self._node.count_clients(self._node.resolve_service_name(stop)) == 0)
