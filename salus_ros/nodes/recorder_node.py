"""Records the graph into a rosbag2 bag (MCAP), without decoding what it records."""

from __future__ import annotations

import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.data.bags import BagWriter
from salus_ros.errors import SalusError
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.parameters import declare

# A player makes its own clock; a bag need not hold a hundred ticks a second.
DEFAULT_TOPICS: Final = tuple(topic for topic in qos.TABLE if topic != qos.CLOCK)
QUEUE_DEPTH: Final = 200


class RecorderNodeSettings(BaseModel):
    """What is recorded, and where to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        "", description="Folder of the bag; it must not exist. Empty: runs/bag_<date and time>."
    )
    topics: tuple[str, ...] = Field(
        DEFAULT_TOPICS, min_length=1, description="Topics to record, by the names of docs/topics.md."
    )


class RecorderNode(GuardedNode):
    """Takes messages as they lie on the wire and writes them.

    A failing disk is counted, reported on ``/diagnostics``, and never ends the node: what stands before the
    failure stays readable.
    """

    def __init__(self, name: str = "recorder_node") -> None:
        super().__init__(name)
        settings = declare(self, RecorderNodeSettings)
        unknown = sorted(set(settings.topics) - set(qos.TABLE))
        if unknown:
            raise SalusError(
                f"The recorder knows no topic {', '.join(unknown)}; "
                f"choose from {', '.join(sorted(qos.TABLE))}."
            )
        self.path = Path(settings.path or time.strftime("runs/bag_%Y%m%d_%H%M%S"))
        self._counts: Counter[str] = Counter()
        self._failure = ""
        self._writer = BagWriter(self.path)
        for topic in settings.topics:
            row = qos.TABLE[topic]
            callback = partial(self._record, self.resolve_topic_name(topic), row.message)
            self.create_subscription(
                qos.message_class(row.message),
                topic,
                self.guard(callback),
                qos.listening_profile(topic, QUEUE_DEPTH),
                raw=True,
            )
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self.get_logger().info(f"recording to {self.path}")

    def _record(self, topic: str, message_type: str, cdr: bytes) -> None:
        try:
            self._writer.write(topic, message_type, time.time_ns(), cdr)
        except OSError as error:
            self._counts["messages lost"] += 1
            self._failure = f"{self.path} cannot be written ({error}); free the disk or record elsewhere"
            self.log_throttled(self._failure, key="disk", level="error")
        else:
            self._counts["messages"] += 1

    def close(self) -> None:
        """End the bag so that it can be read."""
        try:
            self._writer.close()
        except OSError as error:
            self.get_logger().error(f"{self.path} may not be complete: {error}")
        else:
            self.get_logger().info(f"{self.path}: {self._counts['messages']} messages")

    def _health(self) -> diagnostics.Health:
        if self._failure:
            return diagnostics.Health(diagnostics.ERROR, self._failure, dict(self._counts))
        return diagnostics.Health(diagnostics.OK, f"recording to {self.path}", dict(self._counts))


def main() -> int:
    """Entry point of ``ros2 run salus_ros recorder_node``."""
    return run_node(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
