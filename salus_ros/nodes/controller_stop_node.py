"""The driver's stop for arms whose driver has none: it deactivates their controllers, and activates them.

For every arm under ros2_control. A joint trajectory controller that is deactivated stops commanding, and the
arm holds; one that is activated again holds where the arm is, until the next trajectory.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from rclpy.callback_groups import ReentrantCallbackGroup
from std_srvs.srv import Trigger

from salus_ros.errors import SalusError
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.gate_rest import GateRest
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.parameters import declare

LOOK_PERIOD_S: Final = 2.0
"""Time between two looks at which controllers there are."""

STAY_S: Final = 10.0
"""How long it stays at most when it is asked to end while it may be needed."""

_PACKAGE: Final = "controller_manager_msgs"


class ControllerStopSettings(BaseModel):
    """Which controllers move the arm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    controllers: tuple[str, ...] = Field(
        ("arm_controller",),
        min_length=1,
        description="Controllers that are deactivated by a stop. The gripper's stays: so does what it holds.",
    )
    manager: str = Field("controller_manager", description="Name of the controller manager.")


class ControllerStopNode(GuardedNode):
    """Offers ``driver/stop`` and ``driver/resume``, which answer when the controllers have switched.

    A manager calls it well when it is asked to stop a controller that it does not know; so it is asked
    afterwards which controllers there are, and what state they are in. Asked to end, it stays until the gate
    has come to rest, or until nobody is left who could call the stop: it is the last to go.
    """

    def __init__(self, name: str = "controller_stop_node", **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self._settings = declare(self, ControllerStopSettings)
        services = _services()
        self._service = services.SwitchController
        self._list_request = services.ListControllers.Request
        # Reentrant: an answer must be heard while a request waits for it, and a stop waits for no resume.
        group = ReentrantCallbackGroup()
        self._client = self.create_client(
            self._service, f"{self._settings.manager}/switch_controller", callback_group=group
        )
        self._list = self.create_client(
            services.ListControllers, f"{self._settings.manager}/list_controllers", callback_group=group
        )
        self._counts: Counter[str] = Counter()
        self._stopped = False
        self._missing: tuple[str, ...] = ()
        self._gate_rest = GateRest(self)
        self.create_service(Trigger, qos.DRIVER_STOP, self._stop, callback_group=group)
        self.create_service(Trigger, qos.DRIVER_RESUME, self._resume, callback_group=group)
        self.create_steady_timer(LOOK_PERIOD_S, self._look)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    async def _stop(self, _request: Any, response: Any) -> Any:
        self._stopped = True
        self._counts["stops"] += 1
        await self._switch({"deactivate_controllers": list(self._settings.controllers)}, response)
        if response.success and self._list.service_is_ready():
            self._check(await self._list.call_async(self._list_request()), response)
        return response

    async def _resume(self, _request: Any, response: Any) -> Any:
        self._stopped = False
        return await self._switch({"activate_controllers": list(self._settings.controllers)}, response)

    def _check(self, listed: Any, response: Any) -> None:
        """Fail a stop after which a controller is still active, or was never there."""
        states = self._note(listed)
        active = [name for name in self._settings.controllers if states.get(name) == "active"]
        if not active and not self._missing:
            return
        said = [f"{name} is still active" for name in active]
        said += [f"there is no controller {name}" for name in self._missing]
        response.success, response.message = False, "; ".join(said)
        self._counts["refusals"] += 1
        self.log_throttled(response.message, key="refused", level="error")

    def _look(self) -> None:
        """A wrong name must show before it is needed."""
        if self._list.service_is_ready():
            self._list.call_async(self._list_request()).add_done_callback(
                self.guard(lambda future: self._note(future.result()))
            )

    def _note(self, listed: Any) -> dict[str, str]:
        states = {controller.name: controller.state for controller in listed.controller}
        self._missing = tuple(name for name in self._settings.controllers if name not in states)
        return states

    async def _switch(self, which: dict[str, list[str]], response: Any) -> Any:
        names = ", ".join(self._settings.controllers)
        if not self._client.service_is_ready():
            response.message = f"{self._client.srv_name} is not there; is the controller manager running?"
            self.log_throttled(response.message, key="manager", level="error")
            return response
        kind = self._service.Request
        # Best effort: a controller that is already so is no failure.
        request = kind(strictness=kind.BEST_EFFORT, activate_asap=True, **which)
        answer = await self._client.call_async(request)
        response.success = bool(answer.ok)
        what = "stopped" if "deactivate_controllers" in which else "active"
        said = getattr(answer, "message", "") or "the controller manager refused"
        response.message = f"{names}: {what}" if answer.ok else f"{names}: {said}"
        if not answer.ok:
            self._counts["refusals"] += 1
            self.log_throttled(response.message, key="refused", level="error")
        return response

    @property
    def stopped(self) -> bool:
        """Nobody needs the stop any more."""
        return self._gate_rest.done_with(qos.DRIVER_STOP)

    @property
    def stay_s(self) -> float:
        """Longer than a deadman's patience: it ends with whoever could call it."""
        return STAY_S

    def _health(self) -> diagnostics.Health:
        if not self._client.service_is_ready():
            return diagnostics.Health(diagnostics.ERROR, "no controller manager: it could not stop the arm")
        if self._missing:
            names = ", ".join(self._missing)
            return diagnostics.Health(diagnostics.ERROR, f"no controller {names}: it could not stop the arm")
        if self._stopped:
            return diagnostics.Health(diagnostics.WARN, "stopped by driver/stop", dict(self._counts))
        return diagnostics.Health(diagnostics.OK, "ready", dict(self._counts))


def _services() -> Any:
    try:
        return importlib.import_module(f"{_PACKAGE}.srv")
    except ImportError as error:
        raise SalusError(
            f"{_PACKAGE} is not installed, which this node speaks to the controller manager with; install "
            "the ROS package controller-manager-msgs."
        ) from error


def main() -> int:
    """Entry point of ``ros2 run salus_ros controller_stop_node``."""
    return run_node(ControllerStopNode)


if __name__ == "__main__":
    sys.exit(main())
