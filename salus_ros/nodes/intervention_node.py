"""The gate as a lifecycle node: the only node that commands the arm.

It carries messages to and from :class:`~salus_ros.intervention.gate.Gate` and decides nothing itself; what
comes in is gathered by :mod:`.gate_inbox`. The control loop ticks on steady time; what stops the arm (a
service, the button, a prediction) is acted on at once, outside the period.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.duration import Duration
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_msgs.srv import ResolveAssistance
from salus_ros.errors import SalusError
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.inputs import Answer, Decision, Request, RequestKind
from salus_ros.intervention.latch import LatchFile, LatchRecord
from salus_ros.nodes import diagnostics, gate_health, qos
from salus_ros.nodes.conversions import intervention_state_to_message
from salus_ros.nodes.driver_messages import gripper_to_message, trajectory_to_message
from salus_ros.nodes.drivers import TriggerServices
from salus_ros.nodes.gate_inbox import GateInbox
from salus_ros.nodes.gate_rest import REST_TIMEOUT_S
from salus_ros.nodes.gate_settings import CHANGEABLE, InterventionNodeSettings
from salus_ros.nodes.lifecycle import ManagedNode, run_node, write_log
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.priority import take_priority
from salus_ros.nodes.replan_requests import ReplanRequests
from salus_ros.nodes.robot import Robot
from salus_ros.types import InterventionState, Mode

STATE_PERIOD_S: Final = 0.1
"""The state is also the gate's heartbeat."""

GRAPH_PERIOD_S: Final = 0.2
"""Time between two looks at who publishes what."""

COLLECT_PERIOD_S: Final = 1.0

LATCH_RETRY_S: Final = 1.0
"""Time between two tries to write, or to remove, a latch file that the disk refused."""

ACKNOWLEDGE_S: Final = 0.3
"""How long the last state may take to reach its listeners when the process ends."""

LOGGED_MAX: Final = 300
"""Characters of a log line about messages that others wrote."""

_TAKEN_UP: Final = frozenset({RequestKind.RESET, RequestKind.RESUME, RequestKind.RETRY})
"""Requests after which the arm is taken up where it is, so that its driver may go on."""

_RESOLUTIONS: Final = {
    ResolveAssistance.Request.RESUME: RequestKind.RESUME,
    ResolveAssistance.Request.RETRY: RequestKind.RETRY,
    ResolveAssistance.Request.ABORT: RequestKind.ABORT,
}


class InterventionNode(ManagedNode):
    """Runs the gate at its period and publishes what it decides."""

    def __init__(self, name: str = "intervention_node") -> None:
        super().__init__(name, polls_clock=True)
        self._settings = declare(
            self, InterventionNodeSettings, apply=self._change_settings, changeable=CHANGEABLE
        )
        self._gate_settings = self._settings.gate()
        self._renewal_due = False
        self._robot = Robot.load(self._settings.robot)
        self._latch = LatchFile(self._settings.latch_path(self.get_fully_qualified_name()))
        self._latched = False
        """What the file says, as far as is known."""
        self._next_latch_s = -math.inf
        self._driver_must_stop = False
        """In this emergency stop the gate's own hold may not win."""
        self._gate = self._new_gate()
        self._counts: Counter[str] = Counter()
        self._decision: Decision | None = None
        self._now_s = math.nan
        """ROS time of the decision; nan without a clock."""
        self._published: tuple[Any, ...] = ()
        self._seconds_in = dict.fromkeys(Mode, 0.0)
        self._last_tick_s = time.monotonic()
        self._next_publication_s = self._next_look_s = self._next_collection_s = 0.0

        self._arm_publisher = self.create_lifecycle_publisher(
            JointTrajectoryMessage, qos.ARM_COMMAND, qos.profile(qos.ARM_COMMAND)
        )
        self._gripper_publisher = self.create_lifecycle_publisher(
            JointTrajectoryMessage, qos.GRIPPER_COMMAND, qos.profile(qos.GRIPPER_COMMAND)
        )
        self._state_publisher = self.create_publisher(
            InterventionStateMessage, qos.INTERVENTION_STATE, qos.profile(qos.INTERVENTION_STATE)
        )
        self._stop_services = TriggerServices(self, self._settings.stop_services)
        self._latched_stop_services = TriggerServices(self, self._settings.latched_stop_services)
        self._resume_services = TriggerServices(self, self._settings.resume_services)
        self._replans = ReplanRequests(self)
        self._incoming = GateInbox(
            self,
            self._inbox,
            self._robot.arm.joint_names,
            monitored=lambda: self._gate.settings.monitor == "required",
            on_urgent=self._act_at_once,
            on_button=self._take_button,
        )
        self._serve()
        self.create_steady_timer(self._settings.period_s, self._tick)
        self._diagnostics = diagnostics.Diagnostics(self, self._health, self._health_of_parts)

    def _change_settings(self, settings: InterventionNodeSettings) -> None:
        self._settings, self._gate_settings = settings, settings.gate()
        self._renewal_due = True

    def _new_gate(self) -> Gate:
        record = self._latch.read()
        self._latched = record is not None
        return Gate(self._gate_settings, self._robot.arm, record)

    def _renew_gate(self) -> None:
        """With the settings of now. Never while latched: the latch in memory must not depend on a file that
        could not be written."""
        if self._mode() != Mode.EMERGENCY_STOP:
            self._gate, self._renewal_due = self._new_gate(), False

    # Transitions

    def configure(self) -> None:
        """Start from the latch on disk, and keep garbage collection out of the loop from here on.

        Raises:
            SalusError: the priority asked for is not granted.
        """
        take_priority(self._settings.realtime_priority)
        self._renew_gate()
        gc.collect()
        gc.freeze()
        gc.disable()

    def activate(self) -> None:
        """Wait for fresh inputs, then let the gate follow.

        Raises:
            SalusError: the gate denies it; its reason.
        """
        if self._renewal_due:
            self._renew_gate()
        self._incoming.bind_anew()
        end_s = time.monotonic() + self._settings.activation_timeout_s
        request = Request(RequestKind.ACTIVATE, "lifecycle")
        while True:
            self._incoming.take_waiting()
            answer = self._step(request)
            if answer.accepted:
                self._resume_services.call()
                return
            if self.ending() or time.monotonic() > end_s:
                raise SalusError(f"The gate does not become active: {answer.message}.")
            time.sleep(self._settings.period_s)

    def deactivate(self) -> None:
        """Come to rest, then give no more commands."""
        self._come_to_rest(RequestKind.DEACTIVATE)

    def _come_to_rest(self, kind: RequestKind) -> None:
        self._step(Request(kind, "lifecycle"))
        end_s = time.monotonic() + REST_TIMEOUT_S
        while self._mode() not in (Mode.INACTIVE, Mode.EMERGENCY_STOP) or not self._standing():
            if time.monotonic() > end_s:
                self.get_logger().error(
                    f"the arm did not come to rest in {REST_TIMEOUT_S:g} s; its last command ends in rest"
                )
                return
            time.sleep(self._settings.period_s)
            self._incoming.take_waiting()
            self._step()

    def request_stop(self) -> None:
        """The process is to end: come to rest first."""
        if self.active:
            self._come_to_rest(RequestKind.SHUTDOWN)
            self.active = False
            # Who watches the gate must hear that this silence is meant.
            self._state_publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))

    def _mode(self) -> Mode:
        return self._decision.state.mode if self._decision is not None else Mode.INACTIVE

    def _standing(self) -> bool:
        return self._decision is None or self._decision.standing

    # Inputs

    def _act_at_once(self) -> None:
        """A prediction may stop the arm, and so may a monitor that came or went."""
        if self.active:
            self._step()

    def _take_button(self, pressed: bool) -> None:
        kind = RequestKind.BUTTON_PRESSED if pressed else RequestKind.BUTTON_RELEASED
        self._step(Request(kind, "button"))

    def on_callback_error(self, where: str, error: Exception) -> None:
        """An exception in any callback is a cause like any other."""
        self._incoming.fail(where, error)

    # Services

    def _serve(self) -> None:
        group = MutuallyExclusiveCallbackGroup()
        for name, kind in ((qos.EMERGENCY_STOP, RequestKind.EMERGENCY_STOP), (qos.RESET, RequestKind.RESET)):
            self.create_service(
                Trigger,
                name,
                self.guard(self._trigger(kind), fallback=Trigger.Response(message="an internal error")),
                callback_group=group,
            )
        self.create_service(
            ResolveAssistance,
            qos.RESOLVE_ASSISTANCE,
            self.guard(self._resolve, fallback=ResolveAssistance.Response(message="an internal error")),
            callback_group=group,
        )

    def _trigger(self, kind: RequestKind) -> Callable[[Any, Any], Any]:
        def serve(_request: Any, response: Any) -> Any:
            if kind is RequestKind.RESET:
                self._incoming.leave_the_gone()
            answer = self._step(Request(kind, "service"))
            response.success, response.message = answer.accepted, answer.message
            return response

        serve.__name__ = kind.value
        return serve

    def _resolve(self, request: Any, response: Any) -> Any:
        kind = _RESOLUTIONS.get(request.resolution)
        if kind is None:
            response.message = f"resolution {request.resolution} is unknown: 0 resume, 1 retry, 2 abort"
            return response
        answer = self._step(Request(kind, request.person))
        response.accepted, response.message = answer.accepted, answer.message
        return response

    # The loop

    def _tick(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + GRAPH_PERIOD_S
            self._incoming.look()
        self._step()
        self._seconds_in[self._mode()] += now_s - self._last_tick_s
        self._last_tick_s = now_s
        if now_s >= self._next_collection_s:
            self._next_collection_s = now_s + COLLECT_PERIOD_S
            gc.collect()  # what the start left is frozen, so this is soon done

    def _step(self, *requests: Request) -> Answer:
        """One update of the gate; returns the answer to the first request."""
        self.poll()
        ros_time_s = self.get_clock().now().nanoseconds * 1e-9
        self._now_s = ros_time_s if ros_time_s > 0.0 else math.nan
        inputs = self._incoming.take(self._now_s, requests)
        decision = self._gate.update(time.monotonic(), inputs)
        before, self._decision = self._decision, decision
        self._act(decision)
        self._follow_up(before.state.mode if before is not None else None, decision)
        return decision.answers[0] if decision.answers else Answer(Request(RequestKind.RESET), True, "")

    def _act(self, decision: Decision) -> None:
        """Commands first."""
        if decision.command is not None:
            stamp_s = self._now_s if self._settings.stamp_commands else None
            self._arm_publisher.publish(
                trajectory_to_message(decision.command, self._robot.arm.joint_names, stamp_s=stamp_s)
            )
        if decision.gripper_opening_m is not None:
            self._gripper_publisher.publish(
                gripper_to_message(decision.gripper_opening_m, self._robot.finger_joints)
            )
        self._publish_state(decision.state)

    def _publish_state(self, state: InterventionState) -> None:
        now_s = time.monotonic()
        essence = (state.mode, state.cause, state.reason)
        if essence == self._published and now_s < self._next_publication_s:
            return
        self._published = essence
        self._next_publication_s = now_s + STATE_PERIOD_S
        self._state_publisher.publish(intervention_state_to_message(state))

    def _follow_up(self, before: Mode | None, decision: Decision) -> None:
        """What may take its time, after the arm has its command."""
        state = decision.state
        if decision.refused:
            self.log_throttled("; ".join(decision.refused)[:LOGGED_MAX], key="refused")
        if before != state.mode:
            urgent = state.mode in (Mode.ASSIST, Mode.PROTECTIVE_STOP, Mode.EMERGENCY_STOP)
            write_log(self, f"{state.mode.name}: {state.reason}", "error" if urgent else "info")
        if decision.stop_driver:
            self._latched_stop_services.call()
        self._driver_must_stop = state.mode == Mode.EMERGENCY_STOP and (
            self._driver_must_stop or decision.second_writer or decision.placing
        )
        self._stop_services.insist(self._driver_must_stop)
        self._keep_latch(state)
        for answer in decision.answers:
            if not answer.accepted or state.mode == Mode.EMERGENCY_STOP:
                continue
            if answer.request.kind is RequestKind.RESET:
                self._incoming.bind_anew()
            if answer.request.kind in _TAKEN_UP:
                self._resume_services.call()
        if self._replans.follow_up(decision, time.monotonic(), self._gate.settings.replan_interval_s):
            self._counts["replans requested"] += 1

    def _keep_latch(self, state: InterventionState) -> None:
        """On disk, so that a restart finds it; motion does not depend on it. What failed is tried again."""
        latched = state.mode == Mode.EMERGENCY_STOP
        now_s = time.monotonic()
        if latched == self._latched or now_s < self._next_latch_s:
            return
        try:
            if latched:
                self._latch.write(LatchRecord(state.cause, state.reason))
            else:
                self._latch.clear()
            self._latched = latched
        except OSError as error:
            self._next_latch_s = now_s + LATCH_RETRY_S
            self._counts["latch file not written"] += 1
            self.log_throttled(f"the latch file cannot be kept: {error}", key="latch", level="error")

    def _health(self) -> diagnostics.Health:
        if self._decision is None:
            return diagnostics.Health(diagnostics.WARN, "not running yet")
        return gate_health.whole(self._decision, {**self._incoming.counts, **self._counts})

    def _health_of_parts(self) -> Mapping[str, diagnostics.Health]:
        if self._decision is None:
            return {}
        report = self._gate.report(time.monotonic())
        return gate_health.parts(self._decision.state, report, self._incoming.details(), self._seconds_in)


def main() -> int:
    """Entry point of ``ros2 run salus_ros intervention_node``."""
    return run_node(InterventionNode)


if __name__ == "__main__":
    sys.exit(main())
