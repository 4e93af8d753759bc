"""The gate's requests to the policy for a new plan."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from salus_msgs.srv import RequestReplan
from salus_ros.intervention.inputs import Decision
from salus_ros.nodes import qos
from salus_ros.nodes.lifecycle import GuardedNode
from salus_ros.types import Mode

_NO_PLAN_WANTED: Final = frozenset(
    {Mode.INACTIVE, Mode.NOMINAL, Mode.SLOW_DOWN, Mode.ASSIST, Mode.EMERGENCY_STOP}
)
"""Modes in which a request for a new plan that is still open is dropped."""

OPEN_MAX: Final = 8
"""Requests that a late answer is still heard of; a policy that answers none must not grow the memory."""


class ReplanRequests:
    """Asks the policy for a new plan until it has said that it makes one."""

    def __init__(self, node: GuardedNode) -> None:
        self._node = node
        self._client = node.create_client(RequestReplan, qos.REQUEST_REPLAN)
        self._wanted = False
        self._asks = RequestReplan.Request()
        self._next_s = 0.0
        self._open: deque[Any] = deque()

    def follow_up(self, decision: Decision, now_s: float, interval_s: float) -> bool:
        """Ask if this decision, or one before it that is still open, wants a new plan; whether it asked.

        Args:
            decision: the newest one.
            now_s: steady time.
            interval_s: after which a request that was refused or not answered is repeated.
        """
        state = decision.state
        if decision.request_replan:
            self._wanted, self._next_s = True, now_s
            self._asks = RequestReplan.Request(commit=decision.commit, lift_m=decision.lift_m)
        elif state.mode in _NO_PLAN_WANTED:
            self._wanted = False
        if not self._wanted or now_s < self._next_s:
            return False
        self._next_s = now_s + interval_s
        if not self._client.service_is_ready():
            return False
        request = RequestReplan.Request(
            after_sequence=max(state.sequence, 0),
            reason=state.reason,
            commit=self._asks.commit,
            lift_m=self._asks.lift_m,
        )
        if len(self._open) == OPEN_MAX:
            self._client.remove_pending_request(self._open.popleft())
        future = self._client.call_async(request)
        self._open.append(future)
        future.add_done_callback(self._node.guard(self._replan_answered))
        return True

    @property
    def pending(self) -> int:
        """Requests not answered yet."""
        return len(self._open)

    def _replan_answered(self, future: Any) -> None:
        self._open.remove(future)
        if future.result().accepted:
            self._wanted = False
