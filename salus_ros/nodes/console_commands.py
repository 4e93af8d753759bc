"""What a person asks of the gate through the console, carried to its services."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future as Promise
from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import Any, Final

from rclpy.client import Client
from std_srvs.srv import Trigger

from salus_msgs.srv import ResolveAssistance
from salus_ros.console.server import Answer
from salus_ros.nodes import qos
from salus_ros.nodes.drivers import TriggerServices
from salus_ros.nodes.lifecycle import GuardedNode
from salus_ros.types import InterventionState, Mode

REPEAT_S: Final = 0.2
GIVE_UP_S: Final = 30.0
"""A stop that no gate has taken for so long is asked for no more; the driver's was called long before."""

_RESOLUTIONS: Final = {
    "resume": ResolveAssistance.Request.RESUME,
    "retry": ResolveAssistance.Request.RETRY,
    "abort": ResolveAssistance.Request.ABORT,
}


class Commands:
    """Reset, resume, retry and abort: asked once, and only of a gate in the mode that the person saw."""

    def __init__(self, node: GuardedNode) -> None:
        self._node = node
        self._reset = node.create_client(Trigger, qos.RESET)
        self._resolve = node.create_client(ResolveAssistance, qos.RESOLVE_ASSISTANCE)

    def ask(self, command: str, seen: str, mode: Mode | None, person: str, promise: Promise[Answer]) -> None:
        """Carry one command out; the promise gets the gate's answer."""
        now = mode.name if mode is not None else "silent"
        if seen != now:
            fulfil(
                promise, Answer(False, f"the gate is {_words(now)} now, no longer {_words(seen)}: look again")
            )
        elif command == "reset":
            self._call(self._reset, Trigger.Request(), "success", promise)
        else:
            request = ResolveAssistance.Request(resolution=_RESOLUTIONS[command], person=person)
            self._call(self._resolve, request, "accepted", promise)

    def _call(self, client: Client, request: Any, verdict: str, promise: Promise[Answer]) -> None:
        if not client.service_is_ready():
            fulfil(promise, Answer(False, "the gate is not there"))
            return

        def answered(future: Any) -> None:
            answer = future.result()
            fulfil(promise, Answer(bool(getattr(answer, verdict)), answer.message))

        client.call_async(request).add_done_callback(self._node.guard(answered))


class PersistentStop:
    """Once pressed, asked for again and again until the gate has latched, whatever became of the browser.

    A gate that says nothing in time is passed over: the driver's own stop is called, as the deadman does.
    """

    def __init__(
        self,
        node: GuardedNode,
        stop_services: Sequence[str],
        timeout_s: float,
        report: Callable[[str], None],
    ) -> None:
        """``report`` is told, in a sentence, what a person should know about a stop that was not taken."""
        self._node = node
        self._client = node.create_client(Trigger, qos.EMERGENCY_STOP)
        self._driver = TriggerServices(node, stop_services)
        self._timeout_s = timeout_s
        self._report = report
        self._promises: list[Promise[Answer]] = []
        self._pressed_s: float | None = None
        """Steady time of the press that waits for its confirmation."""
        self._next_call_s = self._next_driver_s = 0.0
        self._call: Any = None

    def press(self, promise: Promise[Answer]) -> None:
        """Stop now."""
        now_s = time.monotonic()
        self._promises.append(promise)
        if self._pressed_s is None:
            self._pressed_s = now_s
            self._next_driver_s = now_s + self._timeout_s
        self._next_call_s = now_s
        self.work(now_s)

    def see_state(self, state: InterventionState) -> None:
        """The gate has spoken; one that is latched needs no further word."""
        if state.mode == Mode.EMERGENCY_STOP:
            self._confirm(Answer(True, ""))

    def work(self, now_s: float) -> None:
        """Ask again when it is time to; to be called some times a second. Steady time."""
        if self._pressed_s is None:
            return
        if now_s - self._pressed_s > GIVE_UP_S:
            self._report("stop: no gate took it; nobody asks any more")
            self._confirm(Answer(False, "no gate took it"))
            return
        if now_s >= self._next_call_s and self._client.service_is_ready():
            self._next_call_s = now_s + REPEAT_S
            if self._call is not None:
                self._client.remove_pending_request(self._call)
            self._call = self._client.call_async(Trigger.Request())
            self._call.add_done_callback(self._node.guard(self._answered))
        if now_s >= self._next_driver_s:
            self._next_driver_s = now_s + self._timeout_s
            self._driver.call()
            if self._promises:
                self._report("stop: the gate does not answer; the driver's stop is called")
            self._fulfil(Answer(False, "the gate does not answer; the driver's stop was called"))

    def _answered(self, future: Any) -> None:
        answer = future.result()
        if answer is not None and answer.success:
            self._confirm(Answer(True, answer.message))

    def _confirm(self, answer: Answer) -> None:
        self._pressed_s = None
        self._fulfil(answer)

    def _fulfil(self, answer: Answer) -> None:
        promises, self._promises = self._promises, []
        for promise in promises:
            fulfil(promise, answer)


def fulfil(promise: Promise[Answer], answer: Answer) -> None:
    """Give the answer to whoever still waits for it."""
    with suppress(InvalidStateError):
        promise.set_result(answer)


def _words(mode: str) -> str:
    return mode.replace("_", " ").lower()
