"""The gate as a lifecycle node: the only node that commands the arm.

It carries messages to and from :class:`~salus_ros.intervention.gate.Gate` and decides nothing itself. The
control loop ticks on steady time; what stops the arm (a service, the button, a prediction) is acted on at
once, outside the period.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict, Field
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from salus_msgs.msg import FailurePrediction as FailurePredictionMessage
from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_msgs.msg import PolicyOutput as PolicyOutputMessage
from salus_msgs.srv import RequestReplan, ResolveAssistance
from salus_ros.errors import SalusError
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.inputs import Answer, Decision, Fault, GateInputs, Request, RequestKind
from salus_ros.intervention.latch import LatchFile, LatchRecord
from salus_ros.intervention.settings import GateSettings
from salus_ros.nodes import diagnostics, gate_health, qos
from salus_ros.nodes.conversions import (
    gripper_to_message,
    intervention_state_to_message,
    policy_output_from_message,
    prediction_from_message,
    robot_state_from_message,
    trajectory_to_message,
)
from salus_ros.nodes.drivers import TriggerServices
from salus_ros.nodes.lifecycle import ManagedNode, run_node, write_log
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.polling import subscribe
from salus_ros.nodes.priority import take_priority
from salus_ros.nodes.publishers import BoundPublisher, SoleWriter
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.types import Cause, FailurePrediction, InterventionState, Mode, PolicyOutput, RobotState

STATE_PERIOD_S: Final = 0.1
"""The state is also the gate's heartbeat."""

GRAPH_PERIOD_S: Final = 0.2
"""Time between two looks at who publishes what."""

COLLECT_PERIOD_S: Final = 1.0

ACKNOWLEDGE_S: Final = 0.3
"""How long the last state may take to reach its listeners when the process ends."""

CHANGEABLE: Final = frozenset(GateSettings.model_fields) - {"period_s"}
"""Parameters that may change at run time; they hold from the next activation on."""

_SECOND_WRITER: Final = {
    qos.ARM_COMMAND: Cause.SECOND_COMMAND_PUBLISHER,
    qos.GRIPPER_COMMAND: Cause.SECOND_COMMAND_PUBLISHER,
    qos.POLICY_OUTPUT: Cause.SECOND_POLICY_PUBLISHER,
    qos.FAILURE_PREDICTION: Cause.PREDICTION_INVALID,
    qos.JOINT_STATES: Cause.JOINT_STATE_INVALID,
}
"""The guarded topics, and what a second publisher on each is a cause of."""

_NO_PLAN_WANTED: Final = frozenset(
    {Mode.INACTIVE, Mode.NOMINAL, Mode.SLOW_DOWN, Mode.ASSIST, Mode.EMERGENCY_STOP}
)
"""Modes in which a request for a new plan that is still open is dropped."""

_RESOLUTIONS: Final = {
    ResolveAssistance.Request.RESUME: RequestKind.RESUME,
    ResolveAssistance.Request.RETRY: RequestKind.RETRY,
    ResolveAssistance.Request.ABORT: RequestKind.ABORT,
}


class InterventionNodeSettings(GateSettings):
    """The gate's settings, and what the node adds to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    robot: RobotSettings = RobotSettings()
    latch_file: str = Field(
        "",
        description="File that keeps an emergency stop latched over a restart; empty: "
        "salus/<node name>.latch in $ROS_HOME, or in ~/.ros.",
    )
    activation_timeout_s: float = Field(
        10.0, gt=0, description="How long an activation waits for fresh inputs before it is refused [s]."
    )
    realtime_priority: int = Field(
        0,
        ge=0,
        le=99,
        description="SCHED_FIFO priority of the process from its configuration on; 0 leaves it as it is.",
    )
    stop_services: tuple[str, ...] = Field(
        (qos.DRIVER_STOP,),
        description="Trigger services of the driver to call when another node commands the arm, because "
        "the gate's own hold could not win.",
    )
    latched_stop_services: tuple[str, ...] = Field(
        (), description="Trigger services to call at every emergency stop."
    )
    resume_services: tuple[str, ...] = Field(
        (qos.DRIVER_RESUME,),
        description="Trigger services of the driver to call after a reset and at an activation.",
    )

    def gate(self) -> GateSettings:
        """The gate's part."""
        return GateSettings(**{name: getattr(self, name) for name in GateSettings.model_fields})


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
        self._arm_joints = frozenset(self._robot.arm.joint_names)
        self._latch = LatchFile(self._latch_path())
        self._latched = False
        self._gate = self._new_gate()
        self._counts: Counter[str] = Counter()
        self._newest_robot: RobotState | None = None
        self._newest_plan: PolicyOutput | None = None
        self._newest_prediction: FailurePrediction | None = None
        self._events: list[Fault] = []
        self._decision: Decision | None = None
        self._published: tuple[Any, ...] = ()
        self._seconds_in = dict.fromkeys(Mode, 0.0)
        self._last_tick_s = time.monotonic()
        self._replan_wanted = False
        self._next_request_s = 0.0
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
        self._replan_client = self.create_client(RequestReplan, qos.REQUEST_REPLAN)
        self._writers = {
            topic: SoleWriter(self, topic, self._act_on_writers)
            for topic in (qos.ARM_COMMAND, qos.GRIPPER_COMMAND)
        }
        self._bound = {
            qos.POLICY_OUTPUT: BoundPublisher(self, qos.POLICY_OUTPUT),
            qos.FAILURE_PREDICTION: BoundPublisher(self, qos.FAILURE_PREDICTION),
            # A gripper's driver may publish its own joints there.
            qos.JOINT_STATES: BoundPublisher(self, qos.JOINT_STATES, shared=True),
        }
        self._subscribe()
        self._serve()
        self.create_steady_timer(self._settings.period_s, self._tick)
        self._diagnostics = diagnostics.Diagnostics(self, self._health, self._health_of_parts)

    def _latch_path(self) -> Path:
        if self._settings.latch_file:
            return Path(self._settings.latch_file).expanduser()
        home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
        return home / "salus" / f"{self.get_fully_qualified_name().strip('/').replace('/', '.')}.latch"

    def _change_settings(self, settings: InterventionNodeSettings) -> None:
        self._settings, self._gate_settings = settings, settings.gate()
        self._renewal_due = True

    def _new_gate(self) -> Gate:
        record = self._latch.read()
        self._latched = record is not None
        return Gate(self._gate_settings, self._robot.arm, record)

    def _subscribe(self) -> None:
        subscribe(
            self,
            self._inbox,
            JointState,
            qos.JOINT_STATES,
            self.guard(self._take_joint_state),
            qos.profile(qos.JOINT_STATES, depth=20),
            events=SubscriptionEventCallbacks(matched=self._look_at(qos.JOINT_STATES)),
        )
        subscribe(
            self,
            self._inbox,
            PolicyOutputMessage,
            qos.POLICY_OUTPUT,
            self.guard(self._take_policy_output),
            qos.profile(qos.POLICY_OUTPUT),
            events=SubscriptionEventCallbacks(
                deadline=self._count("policy deadlines missed"),
                liveliness=self._count("changes of the policy's liveliness"),
                matched=self._look_at(qos.POLICY_OUTPUT),
            ),
        )
        read_prediction = self.guard(self._take_prediction)
        self._prediction_subscription = self.create_subscription(
            FailurePredictionMessage,
            qos.FAILURE_PREDICTION,
            lambda message, info: read_prediction(message, info),  # rclpy counts the arguments
            qos.profile(qos.FAILURE_PREDICTION),
            event_callbacks=SubscriptionEventCallbacks(
                deadline=self._count("prediction deadlines missed"),
                liveliness=self._count("changes of the monitor's liveliness"),
                matched=self._look_at(qos.FAILURE_PREDICTION),
            ),
        )
        self._button_subscription = self.create_subscription(
            Bool,
            qos.EMERGENCY_STOP_BUTTON,
            self.guard(self._take_button),
            qos.profile(qos.EMERGENCY_STOP_BUTTON),
        )

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

    def _count(self, what: str) -> Callable[[Any], None]:
        def count(_event: Any) -> None:
            self._counts[what] += 1

        return count

    def _look_at(self, topic: str) -> Callable[[Any], None]:
        def look(_event: Any) -> None:
            self._bound[topic].look()
            self._act_on_writers()

        return self.guard(look)

    def _act_on_writers(self) -> None:
        """Somebody came or went: what follows from it does not wait for the period."""
        if self.active:
            self._step()

    # Transitions

    def configure(self) -> None:
        """Start from the latch on disk, and keep garbage collection out of the loop from here on.

        Raises:
            SalusError: the priority asked for is not granted.
        """
        take_priority(self._settings.realtime_priority)
        self._gate = self._new_gate()
        gc.collect()
        gc.freeze()
        gc.disable()

    def activate(self) -> None:
        """Wait for fresh inputs, then let the gate follow.

        Raises:
            SalusError: the gate denies it; its reason.
        """
        if self._renewal_due and self._mode() != Mode.EMERGENCY_STOP:
            # Never while latched: the latch in memory must not depend on a file that could not be written.
            self._gate, self._renewal_due = self._new_gate(), False
        self._bind_anew()
        end_s = time.monotonic() + self._settings.activation_timeout_s
        request = Request(RequestKind.ACTIVATE, "lifecycle")
        while True:
            self._take_waiting()
            answer = self._step(request)
            if answer.accepted:
                self._resume_services.call()
                return
            if time.monotonic() > end_s:
                raise SalusError(f"The gate does not become active: {answer.message}.")
            time.sleep(self._settings.period_s)

    def deactivate(self) -> None:
        """Come to rest, then give no more commands."""
        self._come_to_rest(RequestKind.DEACTIVATE)

    def _come_to_rest(self, kind: RequestKind) -> None:
        self._step(Request(kind, "lifecycle"))
        end_s = time.monotonic() + 2.0
        while self._mode() not in (Mode.INACTIVE, Mode.EMERGENCY_STOP) or not self._standing():
            if time.monotonic() > end_s:
                self.get_logger().error("the arm did not come to rest in 2 s; its last command ends in rest")
                return
            time.sleep(self._settings.period_s)
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

    def _bind_anew(self) -> None:
        for bound in self._bound.values():
            bound.bind_anew()

    def _take_joint_state(self, message: JointState, info: Mapping[str, Any]) -> None:
        if self._arm_joints.isdisjoint(message.name):
            return
        if not self._bound[qos.JOINT_STATES].obeyed(info["publisher_gid"]["data"]):
            return
        try:
            # Without the fingers: an arm's driver and a gripper's may publish apart.
            self._newest_robot = robot_state_from_message(message, self._robot.arm.joint_names)
        except SalusError as error:
            self._refuse(Cause.JOINT_STATE_INVALID, error)

    def _take_policy_output(self, message: PolicyOutputMessage, info: Mapping[str, Any]) -> None:
        if not self._bound[qos.POLICY_OUTPUT].obeyed(info["publisher_gid"]["data"]):
            return
        try:
            self._newest_plan = policy_output_from_message(message, self._robot.arm.joint_names)
        except SalusError as error:
            self._refuse(Cause.POLICY_INVALID, error)

    def _take_prediction(self, message: FailurePredictionMessage, info: Mapping[str, Any]) -> None:
        """A prediction may stop the arm, so it does not wait for the period."""
        self._read_prediction(message, info)
        if self.active:
            self._step()

    def _take_waiting(self) -> None:
        """While a transition keeps the executor busy, what it would have read is read here."""
        for message, info in _waiting(self._prediction_subscription):
            self._read_prediction(message, info)
        for message, _ in _waiting(self._button_subscription):
            self._take_button(message)

    def _read_prediction(self, message: FailurePredictionMessage, info: Mapping[str, Any]) -> None:
        if self._gate_settings.monitor == "absent":
            return
        if not self._bound[qos.FAILURE_PREDICTION].obeyed(info["publisher_gid"]["data"]):
            return
        try:
            self._newest_prediction = prediction_from_message(message)
        except SalusError as error:
            self._refuse(Cause.PREDICTION_INVALID, error)

    def _take_button(self, message: Bool) -> None:
        pressed = RequestKind.BUTTON_PRESSED if message.data else RequestKind.BUTTON_RELEASED
        self._step(Request(pressed, "button"))

    def _refuse(self, cause: Cause, error: SalusError) -> None:
        self._events.append(Fault(cause, str(error), refused=True))
        del self._events[:-100]  # a flood between two ticks must not grow the memory
        self.log_throttled(str(error), key=cause.name)

    def on_callback_error(self, where: str, error: Exception) -> None:
        """An exception in any callback is a cause like any other."""
        self._events.append(Fault(Cause.EXCEPTION, f"{where}: {type(error).__name__}: {error}"))
        del self._events[:-100]

    def _trigger(self, kind: RequestKind) -> Callable[[Any, Any], Any]:
        def serve(_request: Any, response: Any) -> Any:
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
            for writer in self._writers.values():
                writer.look()
            for bound in self._bound.values():
                bound.look()
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
        faults, self._events = self._events, []
        for topic, cause in _SECOND_WRITER.items():
            writer = self._writers.get(topic) or self._bound[topic]
            if writer.detail:
                faults.append(Fault(cause, writer.detail))
        inputs = GateInputs(
            ros_time_s=ros_time_s if ros_time_s > 0.0 else math.nan,
            robot=self._newest_robot,
            plan=self._newest_plan,
            prediction=self._newest_prediction,
            requests=requests,
            faults=tuple(faults),
        )
        self._newest_robot = self._newest_plan = self._newest_prediction = None
        decision = self._gate.update(time.monotonic(), inputs)
        before, self._decision = self._decision, decision
        self._act(decision)
        self._follow_up(before.state.mode if before is not None else None, decision)
        return decision.answers[0] if decision.answers else Answer(Request(RequestKind.RESET), True, "")

    def _act(self, decision: Decision) -> None:
        """Commands first."""
        if decision.command is not None:
            self._arm_publisher.publish(trajectory_to_message(decision.command, self._robot.arm.joint_names))
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
        for refused in decision.refused:
            self.log_throttled(refused, key=refused.split(":")[0])
        if before != state.mode:
            urgent = state.mode in (Mode.ASSIST, Mode.PROTECTIVE_STOP, Mode.EMERGENCY_STOP)
            write_log(self, f"{state.mode.name}: {state.reason}", "error" if urgent else "info")
        if decision.stop_driver:
            self._latched_stop_services.call()
            if state.cause == Cause.SECOND_COMMAND_PUBLISHER:
                self._stop_services.call()
        latched = state.mode == Mode.EMERGENCY_STOP
        if latched != self._latched:
            self._latched = latched
            self._keep_latch(state)
        for answer in decision.answers:
            if answer.accepted and answer.request.kind is RequestKind.RESET:
                self._bind_anew()
                self._resume_services.call()
        self._ask_policy(decision)

    def _ask_policy(self, decision: Decision) -> None:
        """Ask for a new plan until the policy has said that it makes one."""
        state, now_s = decision.state, time.monotonic()
        if decision.request_replan:
            self._replan_wanted, self._next_request_s = True, now_s
        elif state.mode in _NO_PLAN_WANTED:
            self._replan_wanted = False
        if not self._replan_wanted or now_s < self._next_request_s:
            return
        self._next_request_s = now_s + self._gate_settings.replan_interval_s
        if self._replan_client.service_is_ready():
            request = RequestReplan.Request(after_sequence=max(state.sequence, 0), reason=state.reason)
            self._replan_client.call_async(request).add_done_callback(self.guard(self._replan_answered))
            self._counts["replans requested"] += 1

    def _replan_answered(self, future: Any) -> None:
        if future.result().accepted:
            self._replan_wanted = False

    def _keep_latch(self, state: InterventionState) -> None:
        """On disk, so that a restart finds it; motion does not depend on it."""
        try:
            if state.mode == Mode.EMERGENCY_STOP:
                self._latch.write(LatchRecord(state.cause, state.reason))
            else:
                self._latch.clear()
        except OSError as error:
            self._counts["latch file not written"] += 1
            self.get_logger().error(f"the latch file cannot be kept: {error}")

    def _health(self) -> diagnostics.Health:
        if self._decision is None:
            return diagnostics.Health(diagnostics.WARN, "not running yet")
        return gate_health.whole(self._decision, self._counts)

    def _health_of_parts(self) -> Mapping[str, diagnostics.Health]:
        if self._decision is None:
            return {}
        writers = {topic: (self._writers.get(topic) or self._bound[topic]).detail for topic in _SECOND_WRITER}
        report = self._gate.report(time.monotonic())
        return gate_health.parts(self._decision.state, report, writers, self._seconds_in)


def _waiting(subscription: Any) -> list[tuple[Any, Mapping[str, Any]]]:
    """What has come for a subscription that the executor does not read just now, with its info."""
    found = []
    with subscription.handle:
        for _ in range(subscription.qos_profile.depth):
            taken = subscription.handle.take_message(subscription.msg_type, False)
            if taken is None:
                break
            found.append(taken)
    return found


def main() -> int:
    """Entry point of ``ros2 run salus_ros intervention_node``."""
    return run_node(InterventionNode)


if __name__ == "__main__":
    sys.exit(main())
