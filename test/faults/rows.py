"""The rows of the fault table: how each fault is injected into live processes, and what must come of it."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from gate_driver import ARM, DEFAULTS, PATIENT, REACT_S, START_S, Surroundings, surroundings
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from std_msgs.msg import Bool, Empty
from trajectory_msgs.msg import JointTrajectory

from salus_msgs.msg import FailurePrediction, PolicyOutput
from salus_msgs.srv import ResolveAssistance
from salus_ros.errors import SalusError
from salus_ros.nodes import qos
from salus_ros.types import Mode

GATE = "intervention_node"
MOVING_RAD_S = 0.05
RESTING_RAD_S = 1e-3
_WATCH_S = 0.3
"""How long a hold is watched for a command that moves again."""


class Scene:
    """One live graph in which a fault is injected again and again."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.graph = around.graph
        self.round = 0
        self.rogue: Any = None
        """A node of another participant, for rows that have one."""

    @property
    def speed(self) -> float:
        """Joint speed of the command in hand [rad/s]."""
        return float(np.abs(self.around.controller.at(time.monotonic())[1]).max())

    @property
    def mode(self) -> Mode:
        return Mode(self.around.states.newest.mode)

    def go(self) -> None:
        """Put everything right, and wait until the arm moves."""
        around = self.around
        around.joints_on = around.arm_follows = around.clock_on = True
        around.monitor_on = around.prediction_publisher is not None
        around.frozen_s = None
        around.effort = np.zeros(7)
        around.change_plan = lambda plan: plan
        end_s = time.monotonic() + START_S
        while not (self.mode in (Mode.NOMINAL, Mode.SLOW_DOWN) and self.speed > MOVING_RAD_S):
            assert time.monotonic() < end_s, f"the arm does not move again: {around.newest()}"
            with contextlib.suppress(SalusError):  # a service of a gate that has just ended; or not ready yet
                if self.mode == Mode.EMERGENCY_STOP:
                    around.trigger(qos.RESET)
                elif self.mode == Mode.ASSIST:
                    around.resolve(ResolveAssistance.Request.RESUME)
                elif self.mode == Mode.INACTIVE:
                    self.graph.bring_up(GATE, timeout_s=START_S)
            self.graph.spin_for(0.05)

    def until_safe(self, start_s: float, *modes: Mode) -> float:
        """Wait for one of the modes, or any, with a command at rest; returns the time since ``start_s``."""

        def reached() -> bool:
            return (not modes or self.mode in modes) and self.speed < RESTING_RAD_S

        names = " or ".join(mode.name for mode in modes)
        what = f"rest in {names} (now {self.around.newest()})"
        self.graph.spin_until(reached, REACT_S, what, check=False)
        return time.monotonic() - start_s

    def signal(self, name: str, number: int) -> None:
        self.graph.processes[name].signal(number)

    def forget_states(self) -> None:
        self.around.states.clear()


Inject = Callable[[Scene], float]
"""Injects the fault while the arm moves, and returns the time to the safe state [s]."""


@dataclass(frozen=True)
class Row:
    """One row."""

    name: str
    reaction: str
    inject: Inject
    limit_s: float
    """Longest time to the safe state that is right, on a machine that has time."""
    of: str = ""
    """What is measured, if not the time to the safe state."""
    parameters: dict[str, Any] = field(default_factory=dict)
    processes: tuple[str, ...] = ()
    module: str | None = None
    patient: bool = False
    """Not about deadlines."""


@contextlib.contextmanager
def scene(row: Row, folder: Path, domain_id: int, patient: bool) -> Iterator[Scene]:
    """The graph of one row, with the arm standing."""
    deadlines = PATIENT if patient or row.patient else DEFAULTS
    with surroundings(folder, domain_id, module=row.module, deadlines=deadlines, **row.parameters) as around:
        if "policy" in row.processes:
            around.policy_on = False
            around.node.destroy_publisher(around.policy_publisher)
            start(around, "policy")
        if "monitor" in row.processes:
            around.monitor_on = False
            around.node.destroy_publisher(around.prediction_publisher)
            around.prediction_publisher = None
            start(around, "monitor")
        if "deadman" in row.processes:
            around.graph.start("deadman")
        with rogue(around) if "rogue" in row.processes else contextlib.nullcontext() as other:
            around.graph.bring_up(GATE, timeout_s=START_S)
            here = Scene(around)
            here.rogue = other
            yield here


def start(around: Surroundings, kind: str) -> None:
    """Start a live policy or monitor, and wait until it speaks."""
    around.graph.start(kind, module=f"live_{kind}")
    topic, kind_of = (
        (qos.POLICY_OUTPUT, PolicyOutput) if kind == "policy" else (qos.FAILURE_PREDICTION, FailurePrediction)
    )
    heard = around.graph.listen(topic, kind_of, keep=1)
    around.graph.spin_until(lambda: heard.count > 0, START_S, f"the live {kind}")


def silenced(name: str, how: int, mode: Mode) -> Inject:
    """A process is killed or stopped."""

    def inject(here: Scene) -> float:
        start_s = time.monotonic()
        here.signal(name, how)
        try:
            return here.until_safe(start_s, mode)
        finally:
            if how == signal.SIGKILL:
                here.graph.kill(name)
                start(here.around, name.removesuffix("_node"))
                here.around.trigger(qos.RESET)  # one that starts again is a new one
            else:
                here.signal(name, signal.SIGCONT)

    return inject


def driver(change: Callable[[Surroundings], None], *modes: Mode) -> Inject:
    """Something around the gate changes."""

    def inject(here: Scene) -> float:
        start_s = time.monotonic()
        change(here.around)
        return here.until_safe(start_s, *modes)

    return inject


def spoil(plan: PolicyOutput, how: int) -> PolicyOutput:
    """A plan that is none, in seven ways."""
    points = plan.trajectory.points
    if how == 0:
        points[3].positions = [float("nan")] * 7
    elif how == 1:
        points[3].positions = [float("inf")] * 7
    elif how == 2:
        points[3].positions = points[3].positions[:6]
    elif how == 3:
        plan.trajectory.joint_names[2] = "elbow"
    elif how == 4:
        plan.trajectory.joint_names[2] = plan.trajectory.joint_names[1]
    elif how == 5:
        plan.trajectory.points = []
    else:
        points[4].time_from_start = points[3].time_from_start
    return plan


def corrupt(here: Scene) -> float:
    start_s, how = time.monotonic(), here.round % 7
    here.around.change_plan = lambda plan: spoil(plan, how)
    return here.until_safe(start_s, Mode.HOLD)


def wrong_stamps(here: Scene) -> float:
    shift_s = (60, -60)[here.round % 2]

    def shift(plan: PolicyOutput) -> PolicyOutput:
        plan.header.stamp.sec += shift_s
        return plan

    start_s = time.monotonic()
    here.around.change_plan = shift
    return here.until_safe(start_s, Mode.HOLD)


def far_away(here: Scene) -> float:
    def shift(plan: PolicyOutput) -> PolicyOutput:
        for point in plan.trajectory.points:
            point.positions = [value + 0.3 for value in point.positions]
        return plan

    start_s = time.monotonic()
    here.around.change_plan = shift
    return here.until_safe(start_s, Mode.REPLAN, Mode.ASSIST)


def clock_jumps(here: Scene) -> float:
    start_s = time.monotonic()
    here.around.clock_offset_s += (30.0, -30.0)[here.round % 2]
    return here.until_safe(start_s)


def clock_stands(here: Scene) -> float:
    start_s = time.monotonic()
    if here.round % 2:
        here.around.frozen_s = here.around.ros_s
    else:
        here.around.frozen_s, here.around.clock_on = here.around.ros_s, False
    return here.until_safe(start_s, Mode.HOLD)


def flood(here: Scene) -> float:
    """The longest time between two commands during a second of it."""
    here.signal("policy_node", signal.SIGUSR1)
    here.graph.spin_for(0.2)
    arrivals = here.around.commands.arrival_s
    begin = len(arrivals)
    here.graph.spin_for(1.0)
    here.signal("policy_node", signal.SIGUSR1)
    gaps = np.diff(list(arrivals)[begin:])
    assert len(gaps) > 20, f"only {len(gaps)} commands in a second of flood: {here.around.newest()}"
    return float(gaps.max())


@contextlib.contextmanager
def rogue(around: Surroundings) -> Iterator[Any]:
    """Another participant of the graph, made before the gate is active: making it takes its time."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=around.graph.domain_id)
    node = rclpy.create_node("rogue", context=context, use_global_arguments=False)
    around.graph.spin_for(0.5)
    try:
        yield node
    finally:
        node.destroy_node()
        context.try_shutdown()


def second_writer(kind: type[Any], topic: str, mode: Mode) -> Inject:
    def inject(here: Scene) -> float:
        start_s = time.monotonic()
        publisher = here.rogue.create_publisher(kind, topic, qos.profile(topic))
        taken_s = here.until_safe(start_s, mode)
        assert " besides " in here.around.newest(), here.around.newest()
        here.rogue.destroy_publisher(publisher)
        return taken_s

    return inject


def does_not_follow(here: Scene) -> float:
    def go_on(plan: PolicyOutput) -> PolicyOutput:
        for number, point in enumerate(plan.trajectory.points, 1):
            point.positions = [point.positions[0] + 0.02 * number, *point.positions[1:]]
        return plan

    start_s = time.monotonic()
    here.around.arm_follows, here.around.change_plan = False, go_on
    return here.until_safe(start_s, Mode.HOLD)


def frozen_shortly(here: Scene) -> float:
    start_s = time.monotonic()
    here.signal(GATE, signal.SIGSTOP)
    time.sleep(0.09)
    here.signal(GATE, signal.SIGCONT)
    return here.until_safe(start_s, Mode.HOLD)


def raising(here: Scene) -> float:
    publisher = here.around.node.create_publisher(Empty, "fail", 10)
    here.graph.spin_until(lambda: publisher.get_subscription_count() > 0, REACT_S, "the gate to listen")
    start_s = time.monotonic()
    publisher.publish(Empty())
    taken_s = here.until_safe(start_s, Mode.EMERGENCY_STOP)
    here.around.node.destroy_publisher(publisher)
    return taken_s


def restart_gate(here: Scene, expected: Mode) -> None:
    """After an end of the gate: what it says when it is there again, and that nothing moved."""
    around = here.around
    here.graph.processes.get(GATE) and here.graph.kill(GATE)
    here.graph.spin_for(_WATCH_S)  # what it sent last
    here.forget_states()
    before = around.commands.count
    here.graph.start("intervention", around.parameters)
    here.graph.spin_until(lambda: around.states.count > 0, START_S, "the gate's state")
    here.graph.spin_for(_WATCH_S)
    assert here.mode == expected, around.newest()
    assert around.commands.count == before, "a gate that has just started commanded the arm"


def ended_by(number: int) -> Inject:
    def inject(here: Scene) -> float:
        process = here.graph.processes[GATE]
        start_s = time.monotonic()
        here.signal(GATE, number)
        taken_s = here.until_safe(start_s)
        here.graph.spin_until(lambda: not process.alive, REACT_S, "the end of the gate", check=False)
        if number != signal.SIGKILL:
            assert process.process.returncode == 0, process.log_tail()
        restart_gate(here, Mode.INACTIVE)
        return taken_s

    return inject


def deactivated(here: Scene) -> float:
    start_s = time.monotonic()
    here.around.deactivate()
    return here.until_safe(start_s, Mode.INACTIVE)


def frozen(here: Scene) -> float:
    """Until the deadman has called the driver's stop; the command rests long before."""
    here.around.driver_stops = 0
    start_s = time.monotonic()
    here.signal(GATE, signal.SIGSTOP)
    here.graph.spin_until(lambda: here.around.driver_stops > 0, REACT_S, "the driver's stop")
    taken_s = time.monotonic() - start_s
    assert here.speed < RESTING_RAD_S, "the command did not end in rest"
    here.signal(GATE, signal.SIGCONT)
    return taken_s


def killed_while_latched(here: Scene) -> float:
    here.around.trigger(qos.EMERGENCY_STOP)
    start_s = time.monotonic()
    here.signal(GATE, signal.SIGKILL)
    taken_s = here.until_safe(start_s)
    restart_gate(here, Mode.EMERGENCY_STOP)
    return taken_s


def bad_parameters(here: Scene) -> float:
    """The longest time between two commands while parameters are attacked."""
    begin_s = time.monotonic()
    for name, value in (("slow_speed", 7.0), ("slow_risk", float("nan")), ("retrace_speed", -1.0)):
        value_message = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value_message)])
        result = here.graph.call(f"{GATE}/set_parameters", SetParameters, request).results[0]
        assert not result.successful and result.reason, f"{name} = {value} was taken"
    here.graph.spin_for(0.1)
    arrivals = [at_s for at_s in here.around.commands.arrival_s if at_s >= begin_s]
    return float(np.diff([begin_s, *arrivals]).max())


def full_disk(here: Scene) -> float:
    """No file of the gate's process can grow by a byte; then a person stops it."""
    pid = here.graph.processes[GATE].process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    start_s = time.monotonic()
    here.around.trigger(qos.EMERGENCY_STOP)
    taken_s = here.until_safe(start_s, Mode.EMERGENCY_STOP)
    restart_gate(here, Mode.EMERGENCY_STOP)
    return taken_s


def person(here: Scene) -> float:
    start_s = time.monotonic()
    assert here.around.trigger(qos.EMERGENCY_STOP).success
    return here.until_safe(start_s, Mode.EMERGENCY_STOP)


def button(here: Scene) -> float:
    node = here.around.node
    publisher = node.create_publisher(Bool, qos.EMERGENCY_STOP_BUTTON, qos.profile(qos.EMERGENCY_STOP_BUTTON))
    here.graph.spin_until(lambda: publisher.get_subscription_count() > 0, REACT_S, "the gate to listen")
    start_s = time.monotonic()
    publisher.publish(Bool(data=True))
    taken_s = here.until_safe(start_s, Mode.EMERGENCY_STOP)
    publisher.publish(Bool(data=False))
    here.graph.spin_for(0.1)
    node.destroy_publisher(publisher)
    return taken_s


def foreseen_collision(here: Scene) -> float:
    start_s = time.monotonic()
    here.around.foresee(collision=0.9)
    return here.until_safe(start_s)


def struck(around: Surroundings) -> None:
    """About 400 N at the tool, from one joint state to the next."""
    rows = np.concatenate([around.measured[None], around.measured + 1e-6 * np.eye(7)])
    place = ARM.forward(rows)[:, 2, 3]
    around.effort = (place[1:] - place[0]) / 1e-6 * 400.0


def off(name: str) -> Callable[[Surroundings], None]:
    return lambda around: setattr(around, name, False)


def jump(around: Surroundings) -> None:
    around.measured = around.measured + 0.5


def nan_predictions(here: Scene) -> float:
    start_s = time.monotonic()
    here.around.risk = {"collision": float("nan")}
    taken_s = here.until_safe(start_s, Mode.HOLD)
    here.around.risk = {}
    return taken_s


SIM = {"use_sim_time": True}
ROWS = (
    Row(
        "policy killed",
        "`HOLD`",
        silenced("policy_node", signal.SIGKILL, Mode.HOLD),
        1.2,
        processes=("policy",),
    ),
    Row(
        "policy stopped (SIGSTOP)",
        "`HOLD`",
        silenced("policy_node", signal.SIGSTOP, Mode.HOLD),
        1.2,
        processes=("policy",),
    ),
    Row(
        "monitor killed",
        "slowed, then `HOLD`",
        silenced("monitor_node", signal.SIGKILL, Mode.HOLD),
        1.2,
        processes=("monitor",),
    ),
    Row(
        "monitor stopped (SIGSTOP)",
        "slowed, then `HOLD`",
        silenced("monitor_node", signal.SIGSTOP, Mode.HOLD),
        1.2,
        processes=("monitor",),
    ),
    Row("NaN in predictions", "slowed, then `HOLD`", nan_predictions, 1.2),
    Row("joint states stop", "`EMERGENCY_STOP`", driver(off("joints_on"), Mode.EMERGENCY_STOP), 1.0),
    Row("joint states jump", "`EMERGENCY_STOP`", driver(jump, Mode.EMERGENCY_STOP), 1.0),
    Row(
        "NaN, infinity, a wrong length, an unknown or a duplicate joint, no points, "
        "times that stand (in turn)",
        "refused, then `HOLD`",
        corrupt,
        1.5,
    ),
    Row("plans from the future, from the past (in turn)", "refused, then `HOLD`", wrong_stamps, 1.5),
    Row("the ROS clock jumps ahead, back (in turn)", "`HOLD`", clock_jumps, 1.5, parameters=SIM),
    Row(
        "`/clock` stands, is gone (in turn)", "`HOLD`, and nothing is sent", clock_stands, 1.5, parameters=SIM
    ),
    Row("plans start far from the arm", "refused, then `REPLAN`", far_away, 2.5),
    Row(
        "10,000 plans a second",
        "the newest wins, the loop goes on",
        flood,
        0.2,
        "between two commands",
        processes=("policy",),
    ),
    Row(
        "second publisher of commands",
        "named, driver's stop, `EMERGENCY_STOP`",
        second_writer(JointTrajectory, qos.ARM_COMMAND, Mode.EMERGENCY_STOP),
        1.0,
        processes=("rogue",),
    ),
    Row(
        "second publisher of policy outputs",
        "named, `HOLD`",
        second_writer(PolicyOutput, qos.POLICY_OUTPUT, Mode.HOLD),
        1.0,
        processes=("rogue",),
    ),
    Row("the controller does not follow", "`SLOW_DOWN`, then `HOLD`", does_not_follow, 3.0),
    Row("the gate misses periods in a row (stopped for 90 ms)", "`HOLD`", frozen_shortly, 1.0),
    Row("a callback raises", "`EMERGENCY_STOP`, the loop lives", raising, 1.0, module="live_faulty_gate"),
    Row("SIGTERM while moving", "stops, then ends with exit code 0", ended_by(signal.SIGTERM), 1.0),
    Row("Ctrl-C while moving", "stops, then ends with exit code 0", ended_by(signal.SIGINT), 1.0),
    Row("deactivated while moving", "stops, then `INACTIVE`", deactivated, 1.5),
    Row(
        "gate killed",
        "its last command stops the arm; `INACTIVE` after the restart",
        ended_by(signal.SIGKILL),
        1.0,
    ),
    Row(
        "gate frozen",
        "its last command stops the arm; the deadman calls the driver's stop",
        frozen,
        1.2,
        "to the driver's stop",
        processes=("deadman",),
    ),
    Row("gate killed while latched", "`EMERGENCY_STOP` after the restart", killed_while_latched, 1.0),
    Row(
        "bad parameters at run time",
        "refused with the reason, the old values stay",
        bad_parameters,
        0.2,
        "between two commands",
        patient=True,
    ),
    Row(
        "disk full: neither log nor latch can be written, a person stops it",
        "`EMERGENCY_STOP`, also after a restart",
        full_disk,
        1.0,
    ),
    Row("`emergency_stop` called", "`EMERGENCY_STOP`", person, 1.0),
    Row("button pressed", "`EMERGENCY_STOP`", button, 1.0),
    Row("collision foreseen", "`PROTECTIVE_STOP`, then `REPLAN`", foreseen_collision, 1.0),
    Row("struck by 400 N", "`EMERGENCY_STOP`", driver(struck, Mode.EMERGENCY_STOP), 1.0),
)
"""In the order of the docs."""
