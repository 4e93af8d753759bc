"""Whether a gate still moves the arm: what it moves the arm by must not fall silent before."""

from __future__ import annotations

import math
import time
from typing import Final

from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_ros.nodes import qos
from salus_ros.nodes.lifecycle import GuardedNode

SILENCE_S: Final = 0.5
"""A gate that was not heard for so long is gone; it speaks every 0.1 s."""


class GateRest:
    """Hears the gate on behalf of a node whose end would be an emergency stop to a gate in motion.

    Joint states that fall silent latch. When all nodes are asked to end at once, those that bring them stay
    until the gate has come to rest.
    """

    def __init__(self, node: GuardedNode) -> None:
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
