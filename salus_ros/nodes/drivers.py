"""The stop of the arm's own driver: services that need no answer in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from std_srvs.srv import Trigger

from salus_ros.nodes.lifecycle import GuardedNode, write_log

RETRY_S: Final = 0.2
"""Time until a service that refused, or was not there, is asked again."""

ANSWER_S: Final = 1.0
"""Time until one that does not answer is asked again."""


class TriggerServices:
    """``std_srvs/Trigger`` services that are called together, without waiting."""

    def __init__(self, node: GuardedNode, names: Sequence[str]) -> None:
        self._node = node
        self._clients = [node.create_client(Trigger, name) for name in names]
        self._asked: dict[Any, Any] = {}
        """For each client that has not answered, the future of its answer."""
        self._done: set[Any] = set()
        """Clients that have done what is insisted on."""
        self._next_s: dict[Any, float] = {}
        """When each is to be asked again."""

    @property
    def answered(self) -> bool:
        """Whether each that was there at the last call has answered it."""
        return not self._asked

    def call(self) -> None:
        """Ask each of them once; one that is not there or refuses is logged."""
        for client in self._clients:
            self._ask(client)

    def insist(self, wanted: bool) -> None:
        """At each tick: as long as it is wanted, ask each until it has answered that it was done."""
        if not wanted:
            self._done.clear()
            self._next_s.clear()
            return
        now_s = time.monotonic()
        for client in self._clients:
            if client not in self._done and now_s >= self._next_s.get(client, 0.0):
                self._ask(client)

    def _ask(self, client: Any) -> None:
        unanswered = self._asked.pop(client, None)
        if unanswered is not None:
            client.remove_pending_request(unanswered)
        ready = client.service_is_ready()
        self._next_s[client] = time.monotonic() + (ANSWER_S if ready else RETRY_S)
        if not ready:
            self._node.log_throttled(
                f"the service {client.srv_name} is not there", key=client.srv_name, level="error"
            )
            return
        self._asked[client] = future = client.call_async(Trigger.Request())
        future.add_done_callback(self._node.guard(self._report(client)))

    def _report(self, client: Any) -> Callable[[Any], None]:
        def driver_answer(future: Any) -> None:
            self._asked.pop(client, None)
            answer = future.result()
            if answer.success:
                self._done.add(client)
            else:
                self._next_s[client] = time.monotonic() + RETRY_S
            text = f"{client.srv_name}: {answer.message}"
            write_log(self._node, text, "info" if answer.success else "error")

        return driver_answer
