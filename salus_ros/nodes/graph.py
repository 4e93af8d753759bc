"""The nodes as processes, and a node here to bring them up in order, to listen and to ask.

The demo and the tests use this where a ROS machine would use a launch file: it needs nothing but rclpy.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from salus_ros.errors import SalusError
from salus_ros.nodes import qos
from salus_ros.nodes.processes import NodeProcesses

DOMAINS: Final = range(60, 100)
"""Drawn from when ROS_DOMAIN_ID is not set: 0 is where a real robot may listen, and above 101 the ports
collide with those that Linux hands out."""

_POLL_S: Final = 0.02


@dataclass(slots=True)
class Listener:
    """What came in on one topic since the graph began to listen."""

    messages: deque[Any]
    arrival_s: deque[float]
    """Steady time of each arrival."""
    count: int = 0

    @property
    def newest(self) -> Any:
        """The newest message, None before the first."""
        return self.messages[-1] if self.messages else None

    def clear(self) -> None:
        """Forget everything heard so far."""
        self.messages.clear()
        self.arrival_s.clear()
        self.count = 0


class Graph(NodeProcesses):
    """Nodes as processes on a domain of their own, and a node in this process to talk to them.

    Use it as a context manager. Callbacks run inside :meth:`spin_until` and :meth:`spin_for` only, on the
    thread that calls them.
    """

    def __init__(
        self,
        *,
        domain_id: int | None = None,
        log_dir: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        name: str = "salus_graph",
    ) -> None:
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        given = os.environ.get("ROS_DOMAIN_ID", "")
        super().__init__(
            domain_id if domain_id is not None else int(given) if given else _draw_domain(),
            Path(log_dir) if log_dir is not None else Path(tempfile.mkdtemp(prefix="salus_graph_")),
            environment or {},
        )
        self._name = name
        self._clients: dict[str, Client] = {}
        self._closed = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Graph:
        self._context = Context()
        rclpy.init(
            args=[],
            context=self._context,
            domain_id=self.domain_id,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = Node(self._name, context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        atexit.register(self.close)
        self._hear_signals()
        return self

    def _hear_signals(self) -> None:
        """Let SIGTERM, and SIGINT also in a process that a shell started in the background, end the block."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            self._handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, _exit_on_signal)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every node, the last started first, and leave the graph. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with _deaf_to_interrupts():
            self.end()
            self._executor.shutdown(timeout_sec=1.0)
            self.node.destroy_node()
            self._context.try_shutdown()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    # Talking to the nodes

    def spin_for(self, duration_s: float) -> None:
        """Serve callbacks for a while."""
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left_s, _POLL_S))

    def spin_until(
        self, condition: Callable[[], bool], timeout_s: float, what: str, *, check: bool = True
    ) -> None:
        """Serve callbacks until a condition holds.

        Raises:
            SalusError: it did not hold in time, or (with ``check``) a node ended by itself.
        """
        end_s = time.monotonic() + timeout_s
        next_check_s = 0.0
        while not condition():
            now_s = time.monotonic()
            if check and now_s >= next_check_s:
                self.check()
                next_check_s = now_s + 0.2
            if now_s > end_s:
                raise SalusError(
                    f"Waited {timeout_s:g} s in vain for {what}; see the logs in {self.log_dir}."
                )
            self._executor.spin_once(timeout_sec=_POLL_S)

    def listen(
        self,
        topic: str,
        message_type: type[Any],
        *,
        profile: QoSProfile | None = None,
        keep: int = 10_000,
        on_message: Callable[[Any], None] | None = None,
    ) -> Listener:
        """Keep what comes in on a topic; ``on_message`` is called with each message as well."""
        listener = Listener(deque(maxlen=keep), deque(maxlen=keep))

        def heard(message: Any) -> None:
            listener.count += 1
            listener.messages.append(message)
            listener.arrival_s.append(time.monotonic())
            if on_message is not None:
                on_message(message)

        self.node.create_subscription(message_type, topic, heard, profile or _listening_profile(topic))
        return listener

    def call(
        self,
        service: str,
        service_type: type[Any],
        request: Any,
        *,
        timeout_s: float = 10.0,
        repeat_s: float = float("inf"),
    ) -> Any:
        """Call a service and return its answer; waits for the service to appear.

        ``repeat_s``: ask again after so long, for questions that change nothing. The first may have gone to a
        process that has just ended, which discovery takes a moment to notice.
        """
        if service not in self._clients:
            self._clients[service] = self.node.create_client(service_type, service)
        client = self._clients[service]
        end_s = time.monotonic() + timeout_s
        self.spin_until(client.service_is_ready, timeout_s, f"the service {service}")
        answers: list[Any] = []
        next_ask_s = 0.0

        def answered() -> bool:
            nonlocal next_ask_s
            if time.monotonic() >= next_ask_s:
                client.call_async(request).add_done_callback(lambda future: answers.append(future.result()))
                next_ask_s = time.monotonic() + repeat_s
            return bool(answers)

        self.spin_until(answered, max(0.1, end_s - time.monotonic()), f"an answer of {service}")
        return answers[0]

    def state(self, name: str, *, timeout_s: float = 10.0) -> str:
        """The lifecycle state of a node: ``unconfigured``, ``inactive``, ``active`` or ``finalized``."""
        answer = self.call(
            f"{name}/get_state", GetState, GetState.Request(), timeout_s=timeout_s, repeat_s=1.0
        )
        return str(answer.current_state.label)

    def transition(self, name: str, transition: int, *, timeout_s: float = 60.0) -> None:
        """Ask a lifecycle node for a transition (``lifecycle_msgs/Transition``); raise when it refuses."""
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self.call(f"{name}/change_state", ChangeState, request, timeout_s=timeout_s)
        if not answer.success:
            started = self._processes.get(name)
            raise SalusError(
                f"The node {name} refused the transition {_TRANSITIONS.get(transition, transition)}; "
                f"its log ends with:\n{started.log_tail() if started else ''}"
            )

    def bring_up(self, *names: str, timeout_s: float = 60.0) -> None:
        """Configure and activate lifecycle nodes, one after the other in the order given."""
        for name in names:
            if self.state(name, timeout_s=timeout_s) == "unconfigured":
                self.transition(name, Transition.TRANSITION_CONFIGURE, timeout_s=timeout_s)
            self.transition(name, Transition.TRANSITION_ACTIVATE, timeout_s=timeout_s)


_TRANSITIONS: Final = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
    Transition.TRANSITION_CLEANUP: "cleanup",
}


def _exit_on_signal(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _draw_domain() -> int:
    return random.SystemRandom().choice(DOMAINS)


def _listening_profile(topic: str) -> QoSProfile:
    known = topic if topic in qos.TABLE else topic.lstrip("/")
    return qos.listening_profile(known) if known in qos.TABLE else QoSProfile(depth=100)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A second Ctrl-C must not interrupt the end of the nodes that the first one asked for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
