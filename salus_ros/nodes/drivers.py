"""The stop of the arm's own driver: services that need no answer in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from std_srvs.srv import Trigger

from salus_ros.nodes.lifecycle import GuardedNode, write_log


class TriggerServices:
    """``std_srvs/Trigger`` services that are called together, without waiting."""

    def __init__(self, node: GuardedNode, names: Sequence[str]) -> None:
        self._node = node
        self._clients = [node.create_client(Trigger, name) for name in names]
        self._asked: set[Any] = set()
        """Clients of the last call that have not answered it."""

    @property
    def answered(self) -> bool:
        """Whether each that was there at the last call has answered it."""
        return not self._asked

    def call(self) -> None:
        """Ask each of them; one that is not there or refuses is logged."""
        self._asked = set()
        for client in self._clients:
            if not client.service_is_ready():
                self._node.log_throttled(
                    f"the service {client.srv_name} is not there", key=client.srv_name, level="error"
                )
                continue
            self._asked.add(client)
            client.call_async(Trigger.Request()).add_done_callback(self._node.guard(self._report(client)))

    def _report(self, client: Any) -> Callable[[Any], None]:
        def driver_answer(future: Any) -> None:
            self._asked.discard(client)
            answer = future.result()
            text = f"{client.srv_name}: {answer.message}"
            write_log(self._node, text, "info" if answer.success else "error")

        return driver_answer
