"""The gate's deadman: it calls the driver's stop when the gate falls silent, and never commands the arm."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.drivers import TriggerServices
from salus_ros.nodes.gate_rest import REST_TIMEOUT_S
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.parameters import declare

_PERIOD_S: Final = 0.02

ANSWER_S: Final = 1.5
"""For the call of the driver's stop, two repetitions, and the answer."""


class DeadmanSettings(BaseModel):
    """When the gate counts as dead, and what to call then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: float = Field(
        0.5, gt=0, description="Silence of the gate, which speaks every 0.1 s, after which it is dead [s]."
    )
    stop_services: tuple[str, ...] = Field(
        (qos.DRIVER_STOP,), description="Trigger services of the driver to call when the gate is dead."
    )
    repeat_s: float = Field(
        0.5, gt=0, description="The call is repeated at this interval while the silence lasts [s]."
    )


class DeadmanNode(GuardedNode):
    """Armed by a gate that is active; disarmed by one that says that it is not.

    Asked to end, it watches on until then: a gate that is asked to end as well has an arm to bring to rest.
    """

    def __init__(self, name: str = "deadman_node", **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self._settings = declare(self, DeadmanSettings)
        self._driver = TriggerServices(self, self._settings.stop_services)
        self._heard_s: float | None = None
        """Steady time of the last word of an active gate; None while not armed."""
        self._called_s = -self._settings.repeat_s
        self._stops = 0
        self.create_subscription(
            InterventionStateMessage,
            qos.INTERVENTION_STATE,
            self.guard(self._hear),
            qos.profile(qos.INTERVENTION_STATE),
        )
        self.create_steady_timer(_PERIOD_S, self._watch)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    def _hear(self, message: InterventionStateMessage) -> None:
        active = message.mode != InterventionStateMessage.INACTIVE
        self._heard_s = time.monotonic() if active else None

    def _watch(self) -> None:
        now_s = time.monotonic()
        if self._heard_s is None or now_s - self._heard_s <= self._settings.timeout_s:
            return
        if now_s - self._called_s < self._settings.repeat_s:
            return
        self._called_s = now_s
        self._stops += 1
        self.log_throttled("the gate is silent: calling the driver's stop", key="silent", level="error")
        self._driver.call()

    @property
    def stopped(self) -> bool:
        """The gate has said that it is inactive, or the driver was stopped in its silence."""
        if self._heard_s is None:
            return True
        return self._called_s > self._heard_s and self._driver.answered

    @property
    def stay_s(self) -> float:
        """Until a gate that is asked to end with it, and falls silent at the last moment, is found dead."""
        return REST_TIMEOUT_S + self._settings.timeout_s + ANSWER_S

    def close(self) -> None:
        """Say so when the gate goes on without it."""
        if not self.stopped:
            self.get_logger().warning("the gate is active still, and nobody watches it from here on")

    def _health(self) -> diagnostics.Health:
        values = {"stops called": self._stops, "armed": self._heard_s is not None}
        silent = self._heard_s is not None and time.monotonic() - self._heard_s > self._settings.timeout_s
        if silent:
            return diagnostics.Health(diagnostics.ERROR, "the gate is silent", values)
        return diagnostics.Health(diagnostics.OK, "watching", values)


def main() -> int:
    """Entry point of ``ros2 run salus_ros deadman_node``."""
    return run_node(DeadmanNode)


if __name__ == "__main__":
    sys.exit(main())
