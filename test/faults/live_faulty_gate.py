"""The gate with one more callback, which raises at each message: any callback may have a mistake in it."""

from __future__ import annotations

import sys
from typing import Any

from std_msgs.msg import Empty

from salus_ros.nodes.intervention_node import InterventionNode
from salus_ros.nodes.lifecycle import run_node


class FaultyGate(InterventionNode):
    def __init__(self, name: str = "intervention_node") -> None:
        super().__init__(name)
        self.create_subscription(Empty, "fail", self.guard(self._fail), 10)

    def _fail(self, _message: Any) -> None:
        raise ZeroDivisionError("a mistake in a callback")


if __name__ == "__main__":
    sys.exit(run_node(FaultyGate))
