"""Topics of which a bystander wants the newest message now and then, and to know how they are."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from rclpy.node import Node
from rclpy.serialization import deserialize_message

from salus_ros.nodes import qos
from salus_ros.nodes.polling import Inbox, subscribe

RATE_WINDOW_S: Final = 2.0
ARRIVALS_KEPT: Final = 4096
_NANOSECONDS: Final = 1e-9


class Channel:
    """One topic, read by ``inbox.poll()``; messages stay serialized until somebody asks for the newest."""

    def __init__(
        self,
        node: Node,
        inbox: Inbox,
        topic: str,
        on_message: Callable[[Any], None] | None = None,
        *,
        depth: int = 20,
    ) -> None:
        """``on_message`` is called with each message; without it only the newest is ever deserialized.

        A camera's topic that the table of topics does not name is carried as the front camera's.
        """
        known = topic if topic in qos.TABLE else qos.FRONT_IMAGE
        self.topic = topic
        self._type = qos.message_class(qos.TABLE[known].message)
        self._on_message = on_message
        self._raw: bytes | None = None
        self._newest: Any = None
        self._arrivals_s: deque[float] = deque(maxlen=ARRIVALS_KEPT)
        self.count = 0
        """Messages so far."""
        subscribe(
            node,
            inbox,
            self._type,
            topic,
            self._take,
            qos.listening_profile(known, depth),
            raw=True,
        )

    def _take(self, raw: bytes, info: Mapping[str, int]) -> None:
        self._raw = raw
        self.count += 1
        self._arrivals_s.append(info["received_timestamp"] * _NANOSECONDS)
        if self._on_message is not None:
            self._on_message(self.newest)

    @property
    def newest(self) -> Any:
        """The newest message, None before the first."""
        if self._raw is not None:
            self._newest, self._raw = deserialize_message(self._raw, self._type), None
        return self._newest

    @property
    def age_s(self) -> float:
        """Wall time since the newest came; inf before the first."""
        return max(0.0, time.time() - self._arrivals_s[-1]) if self._arrivals_s else math.inf

    @property
    def rate_hz(self) -> float:
        """Over the last two seconds; 0 with fewer than two messages in them."""
        now_s = time.time()
        while len(self._arrivals_s) > 1 and self._arrivals_s[0] < now_s - RATE_WINDOW_S:
            self._arrivals_s.popleft()
        if len(self._arrivals_s) < 2 or self._arrivals_s[-1] < now_s - RATE_WINDOW_S:
            return 0.0
        span_s = self._arrivals_s[-1] - self._arrivals_s[0]
        return (len(self._arrivals_s) - 1) / span_s if span_s > 0 else 0.0
