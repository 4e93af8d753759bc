"""Start the nodes as processes, bring them up in order, watch them, and end every one of them.

The demo and the tests use this where a ROS machine would use a launch file: it needs nothing but rclpy.
No process outlives it: each is asked to end by SIGINT, then SIGTERM, then killed, and the kernel sends
SIGTERM to the nodes when the process that started them dies without a word.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

import rclpy
import yaml
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
from salus_ros.nodes.lifecycle import PARENT_VARIABLE

DOMAINS: Final = range(60, 100)
"""Drawn from when ROS_DOMAIN_ID is not set: 0 is where a real robot may listen, and above 101 the ports
collide with those that Linux hands out."""

SIGINT_GRACE_S: Final = 6.0
SIGTERM_GRACE_S: Final = 2.0
_POLL_S: Final = 0.02
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """One node as a process of its own session."""

    name: str
    """Its node name, such as ``policy_node``."""
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def cpu_time_s(self) -> float:
        """Processor time used so far by all its threads; the last known value is lost with the process."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that it wrote."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def signal(self, number: int) -> None:
        """Send a signal to it and to whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


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


@dataclass(slots=True)
class _Lap:
    wall_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)


class Graph:
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
        self.domain_id = domain_id if domain_id is not None else int(given) if given else _draw_domain()
        self.log_dir = Path(log_dir) if log_dir is not None else Path(tempfile.mkdtemp(prefix="salus_graph_"))
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._environment = dict(environment or {})
        self._name = name
        self._processes: dict[str, NodeProcess] = {}
        self.exit_codes: dict[str, int] = {}
        """How each node ended, by name; negative is the signal that ended it."""
        self._clients: dict[str, Client] = {}
        self._lap = _Lap(time.monotonic())
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

    # Processes

    @property
    def processes(self) -> Mapping[str, NodeProcess]:
        """The nodes started and not yet stopped, by name, in the order of their start."""
        return self._processes

    def start(
        self,
        kind: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        remap: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        module: str | None = None,
    ) -> NodeProcess:
        """Start a node as a process.

        Args:
            kind: ``sim``, ``policy``, ``monitor``, ``intervention``, ``deadman`` or ``recorder``.
            parameters: its parameters by (dotted) name; paths, tuples and numbers as they are.
            name: its node name, by default ``<kind>_node``.
            remap: names of topics and services to replace.
            environment: variables for this process alone.
            module: a module with a ``main`` of its own, by default ``salus_ros.nodes.<kind>_node``.
        """
        node_name = name or f"{kind}_node"
        if node_name in self._processes and self._processes[node_name].alive:
            raise SalusError(f"The node {node_name} runs already; stop it first or give another name.")
        parameter_path = self.log_dir / f"{node_name}.yaml"
        plain = {key: _plain(value) for key, value in (parameters or {}).items()}
        parameter_path.write_text(yaml.safe_dump({"/**": {"ros__parameters": plain}}))
        arguments = ["-r", f"__node:={node_name}"]
        for old, new in (remap or {}).items():
            arguments += ["-r", f"{old}:={new}"]
        if plain:
            arguments += ["--params-file", str(parameter_path)]
        log_path = self.log_dir / f"{node_name}.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module or f"salus_ros.nodes.{kind}_node", "--ros-args", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**self._child_environment(), **(environment or {})},
            )
        started = NodeProcess(node_name, process, log_path)
        self._processes[node_name] = started
        self.exit_codes.pop(node_name, None)
        return started

    def _child_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ROS_DOMAIN_ID": str(self.domain_id),
            "ROS_LOG_DIR": str(self.log_dir),
            # An emergency stop outlives its process in a file there; it must not stop the next graph.
            "ROS_HOME": str(self.log_dir),
            "RCUTILS_LOGGING_BUFFERED_STREAM": "1",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            PARENT_VARIABLE: str(os.getpid()),
            **self._environment,
        }

    def stop(self, name: str) -> int:
        """End one node: SIGINT, then SIGTERM, then SIGKILL. Returns its exit code."""
        started = self._processes.pop(name)
        started.signal(signal.SIGINT)
        return self._reap(started)

    def kill(self, name: str) -> None:
        """End one node at once, as a crash would."""
        started = self._processes.pop(name)
        started.signal(signal.SIGKILL)
        self.exit_codes[name] = started.process.wait()

    def _reap(self, started: NodeProcess) -> int:
        for grace_s, next_signal in (
            (SIGINT_GRACE_S, signal.SIGTERM),
            (SIGTERM_GRACE_S, signal.SIGKILL),
            (None, None),
        ):
            try:
                code = started.process.wait(timeout=grace_s)
                break
            except subprocess.TimeoutExpired:
                assert next_signal is not None
                started.signal(next_signal)
        started.signal(signal.SIGKILL)  # what it started in its session, if anything
        self.exit_codes[started.name] = code
        return code

    def close(self) -> None:
        """End every node, the last started first, and leave the graph. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with _deaf_to_interrupts():
            remaining = list(reversed(self._processes.values()))
            self._processes.clear()
            for started in remaining:
                started.signal(signal.SIGINT)
                self._reap(started)
            self._executor.shutdown(timeout_sec=1.0)
            self.node.destroy_node()
            self._context.try_shutdown()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def check(self) -> None:
        """Raise when a node has ended by itself, with the last lines of its log."""
        for started in self._processes.values():
            if not started.alive:
                raise SalusError(
                    f"The node {started.name} ended by itself with exit code {started.process.returncode}; "
                    f"its log {started.log_path} ends with:\n{started.log_tail()}"
                )

    def cpu_share(self) -> dict[str, float]:
        """Processor time of each node since the last call, in cores."""
        now_s = time.monotonic()
        used = {name: started.cpu_time_s() for name, started in self._processes.items()}
        before, self._lap = self._lap, _Lap(now_s, used)
        span_s = max(now_s - before.wall_s, 1e-6)
        return {name: (cpu_s - before.cpu_s.get(name, 0.0)) / span_s for name, cpu_s in used.items()}

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


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


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
