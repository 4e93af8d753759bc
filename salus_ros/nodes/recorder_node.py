"""Records the graph into a rosbag2 bag (MCAP), without decoding what it records."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from rosgraph_msgs.msg import Clock

from salus_ros.data.bag_writer import BagWriter
from salus_ros.errors import SalusError
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.driver_messages import NANOSECONDS
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.polling import Inbox, subscribe

# A player makes its own clock; a bag need not hold a hundred ticks a second. Markers are drawn from the rest.
DEFAULT_TOPICS: Final = tuple(topic for topic in qos.TABLE if topic not in (qos.CLOCK, qos.MARKERS))
QUEUE_DEPTH: Final = 200
POLL_PERIOD_S: Final = 0.05


class RecorderNodeSettings(BaseModel):
    """What is recorded, and where to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        "", description="Folder of the bag; it must not exist. Empty: runs/bag_<date and time>."
    )
    topics: tuple[str, ...] = Field(
        DEFAULT_TOPICS, min_length=1, description="Topics to record, by the names of docs/topics.md."
    )


class StampClock:
    """From the wall clock at reception to the clock of the stamps, which is /clock where it ticks.

    Between two ticks it goes on with the wall clock, but never past the next tick: simulated time may run
    slower than the wall clock, or stand.
    """

    def __init__(self) -> None:
        self._tick_ns: int | None = None
        self._received_ns = 0
        self._period_ns = 0

    def tick(self, tick_ns: int, received_ns: int) -> None:
        """Takes a message of /clock and when it was received."""
        if self._tick_ns is not None and tick_ns > self._tick_ns:
            # The shortest so far: a longer one tells of ticks that were lost.
            step_ns = tick_ns - self._tick_ns
            self._period_ns = min(self._period_ns or step_ns, step_ns)
        self._tick_ns, self._received_ns = tick_ns, received_ns

    def at(self, received_ns: int) -> int:
        """The time of the stamps at a reception after the last tick; the wall's without ticks."""
        if self._tick_ns is None:
            return received_ns
        return self._tick_ns + min(received_ns - self._received_ns, self._period_ns)


class RecorderNode(GuardedNode):
    """Takes messages as they lie on the wire, many at once, and writes them with the time of their arrival.

    When the disk fails or is nearly full the bag is closed, so that what stands in it can be read. The node
    lives on, counts what is lost and says so on ``/diagnostics``.
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
        self._stamp_clock = StampClock()
        self._messages = Inbox()
        self._writer = BagWriter(self.path)
        for topic in settings.topics:
            row = qos.TABLE[topic]
            subscribe(
                self,
                self._messages,
                qos.message_class(row.message),
                topic,
                self.guard(partial(self._record, self.resolve_topic_name(topic), row.message)),
                qos.listening_profile(topic, QUEUE_DEPTH),
                raw=True,
            )
        # Read here and not by the node's own clock: it tells when each message came, not what time it is.
        subscribe(self, self._messages, Clock, qos.CLOCK, self._take_clock, qos.listening_profile(qos.CLOCK))
        self.create_steady_timer(POLL_PERIOD_S, self._poll)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self.get_logger().info(f"recording to {self.path}")

    def _poll(self) -> None:
        self._messages.poll()

    def _take_clock(self, message: Clock, info: Mapping[str, int]) -> None:
        tick_ns = message.clock.sec * NANOSECONDS + message.clock.nanosec
        self._stamp_clock.tick(tick_ns, info["received_timestamp"])

    def _record(self, topic: str, message_type: str, cdr: bytes, info: Mapping[str, int]) -> None:
        if self._failure:
            self._counts["messages lost"] += 1
            return
        try:
            self._writer.write(topic, message_type, self._stamp_clock.at(info["received_timestamp"]), cdr)
        except (SalusError, OSError) as error:
            self._counts["messages lost"] += 1
            self._failure = str(error)
            self.get_logger().error(f"recording has ended: {error}")
            self.close()
        else:
            self._counts["messages"] += 1

    def close(self) -> None:
        """End the bag so that it can be read."""
        if not self._failure:
            self.guard(self._poll)()
        try:
            self._writer.close()
        except (SalusError, OSError) as error:
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
