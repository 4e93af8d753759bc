"""Runs episodes on the live graph: the simulator's and the person's side of the services."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_srvs.srv import Trigger

from salus_msgs.msg import EpisodeEvent, FailurePrediction, InterventionState
from salus_msgs.srv import ResetSimulation
from salus_ros.data.episode import Outcome
from salus_ros.errors import SalusError
from salus_ros.intervention.settings import GateSettings
from salus_ros.nodes import qos
from salus_ros.nodes.graph import Graph
from salus_ros.types import EventKind, Mode

GATE: Final = "intervention_node"
NOBODY_COMES_S: Final = 1.0
"""Time in ASSIST or EMERGENCY_STOP after which an episode has failed: nobody helps here."""
SOMEBODY_COMES_S: Final = 30.0
"""The same for ASSIST with a console, at which somebody may sit. A stop is left by that person alone then."""
EPISODE_WALL_LIMIT_S: Final = 60.0

SHARED_CORES: Final = {
    "joint_state_deadline_s": 0.25,
    "policy_deadline_s": 0.8,
    "plan_age_max_s": 0.9,
    "prediction_slow_deadline_s": 0.4,
    "prediction_hold_deadline_s": 0.8,
    "overruns_to_hold": 20,
}
"""Deadlines of the gate for a machine on which the simulator's physics and rendering, the policy and the
recorder share two cores: with those for a robot, a busy moment of the machine would count as a fault."""

Show = Callable[[Mode, float, float], None]
"""(mode, risk, elapsed seconds), called some times a second while an episode runs."""


class LiveSession:
    """All nodes of SALUS with the simulator, as processes; a context manager."""

    def __init__(
        self,
        output: Path,
        *,
        factor: float = 1.0,
        policy: str = "models/tinyvla-small",
        monitor: str = "models/monitor",
        gate: GateSettings | None = None,
        console_port: int | None = None,
    ) -> None:
        """``console_port``: offer the operator console there, and wait for the person at it."""
        self._graph = Graph(log_dir=output / "logs", name="salus_demo")
        self._bag = output / "bag"
        self._factor = factor
        self._policy, self._monitor = policy, monitor
        default = GateSettings().model_dump()
        self._gate = {n: v for n, v in (gate or GateSettings()).model_dump().items() if v != default[n]}
        self._console_port = console_port
        self._risk = 0.0
        self._state: InterventionState | None = None
        self._ended: EpisodeEvent | None = None
        self._seed = -1

    def __enter__(self) -> LiveSession:
        graph = self._graph.__enter__()
        try:
            self._start(graph)
        except BaseException:
            graph.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._graph.close()

    def _start(self, graph: Graph) -> None:
        simulated = {"use_sim_time": True}
        graph.start("recorder", {"path": self._bag})
        graph.start("sim", {"real_time_factor": self._factor})
        graph.start("policy", simulated | {"policy": self._policy})
        graph.start("monitor", simulated | {"monitor": self._monitor})
        latch = {"latch_file": self._bag.parent / "latch"}
        graph.start("deadman", simulated)  # before the gate, so that it ends after it
        stamped = {
            "stamp_commands": True
        }  # one clock for all, and messages that take their time on busy cores
        graph.start("intervention", simulated | SHARED_CORES | stamped | self._gate | latch)
        if self._console_port is not None:
            graph.start("console", {"port": self._console_port})
        graph.listen(qos.INTERVENTION_STATE, InterventionState, keep=1, on_message=self._hear_state)
        graph.listen(qos.FAILURE_PREDICTION, FailurePrediction, keep=1, on_message=self._hear_prediction)
        graph.listen(qos.EPISODE_EVENT, EpisodeEvent, keep=1, on_message=self._hear_event)
        graph.bring_up("policy_node", "monitor_node")
        graph.transition(GATE, Transition.TRANSITION_CONFIGURE)

    def set_shadow_mode(self, shadow: bool) -> None:
        """Mute learned risk, or listen to it."""
        value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=shadow)
        self._set(GATE, "shadow_mode", value)

    def _set(self, node: str, name: str, value: ParameterValue) -> None:
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        result = self._graph.call(f"{node}/set_parameters", SetParameters, request).results[0]
        if not result.successful:
            raise SalusError(f"{node} refused {name}: {result.reason}")

    def run_episode(self, seed: int, task: str, disturbance: str, show: Show) -> Outcome:
        """One episode from a reset of the simulator to its end, or to a call for a person."""
        self._deactivate()
        seed_value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=seed)
        self._set("policy_node", "seed", seed_value)
        self._seed, self._ended, self._state = seed, None, None
        request = ResetSimulation.Request(seed=seed, task=task, disturbance=disturbance)
        answer = self._graph.call(qos.SIM_RESET, ResetSimulation, request)
        if not answer.accepted:
            raise SalusError(f"The simulator refused seed {seed}: {answer.message}")
        self._wait_for_reset()
        self._graph.transition(GATE, Transition.TRANSITION_ACTIVATE)
        started_s = time.monotonic()
        next_show_s = started_s

        def over() -> bool:
            nonlocal next_show_s
            now_s = time.monotonic()
            if now_s >= next_show_s:
                mode = Mode(self._state.mode) if self._state else Mode.INACTIVE
                show(mode, self._risk, now_s - started_s)
                next_show_s = now_s + 0.1
            return self._ended is not None or bool(self._given_up())

        limit_s = EPISODE_WALL_LIMIT_S / self._factor if self._console_port is None else math.inf
        self._graph.spin_until(over, limit_s, f"the end of seed {seed}")
        detail = self._ended.detail if self._ended is not None else ""
        return Outcome(self._given_up() or detail or "unknown")

    def _deactivate(self) -> None:
        if self._graph.state(GATE) != "active":
            return
        self._wait_for_reset()
        if self._latched():
            self._graph.call(qos.RESET, Trigger, Trigger.Request())
        self._graph.transition(GATE, Transition.TRANSITION_DEACTIVATE)

    def _latched(self) -> bool:
        return self._state is not None and self._state.mode == Mode.EMERGENCY_STOP

    def _wait_for_reset(self) -> None:
        """With a console, an emergency stop is its person's to leave."""
        if self._console_port is not None:
            self._graph.spin_until(lambda: not self._latched(), math.inf, "a reset at the console")

    def _given_up(self) -> str:
        state = self._state
        if state is None or state.mode not in (Mode.ASSIST, Mode.EMERGENCY_STOP):
            return ""
        patience_s = NOBODY_COMES_S
        if self._console_port is not None:
            patience_s = SOMEBODY_COMES_S if state.mode == Mode.ASSIST else math.inf
        return Mode(state.mode).name.lower() if state.time_in_mode >= patience_s else ""

    def _hear_state(self, message: InterventionState) -> None:
        self._state = message

    def _hear_prediction(self, message: FailurePrediction) -> None:
        self._risk = message.risk

    def _hear_event(self, message: EpisodeEvent) -> None:
        if message.kind == EventKind.EPISODE_END and message.seed == self._seed:
            self._ended = message
