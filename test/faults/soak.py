"""The gate node for a long time at full rate: no missed state, flat memory, a steady period.

``python test/faults/soak.py --duration 3600 --output runs/soak.json``; the file is written every minute. When
the machine itself stood still (both ends of the graph at once), that is counted apart and the gate is reset.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))
from gate_driver import START_S, Surroundings, surroundings
from machine import hardware

from salus_msgs.srv import ResolveAssistance
from salus_ros.nodes import qos
from salus_ros.types import Mode

PAUSE_S = 0.3
"""A gap in this process's own timers from which the whole machine stood still."""

WARM_UP_S = 60.0
STATE_PERIOD_S = 0.1


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024.0
    raise RuntimeError(f"process {pid} says nothing of its memory")


class Soak:
    """Listens to the gate, and puts right what a pause of the machine did."""

    def __init__(self, around: Surroundings, conditions: str) -> None:
        self.around = around
        self.conditions = conditions
        self.pid = around.graph.processes["intervention_node"].process.pid
        self.command_gaps_s: list[float] = []
        self.state_gaps_s: list[float] = []
        self.memory_mb: list[float] = []
        self.modes: dict[str, int] = {}
        self.active_s = 0.0
        self.pauses = 0
        self.helped = 0
        self._last_command_s = self._last_state_s = self._last_s = time.monotonic()
        self._settled_s = 0.0
        graph = around.graph
        graph.listen(qos.ARM_COMMAND, type_of(qos.ARM_COMMAND), keep=1, on_message=self._hear_command)
        graph.listen(
            qos.INTERVENTION_STATE, type_of(qos.INTERVENTION_STATE), keep=1, on_message=self._hear_state
        )
        around.node.create_timer(0.05, self._watch)

    def _counts(self) -> bool:
        return time.monotonic() >= self._settled_s

    def _hear_command(self, _message: Any) -> None:
        now_s = time.monotonic()
        if self._counts():
            self.command_gaps_s.append(now_s - self._last_command_s)
        self._last_command_s = now_s

    def _hear_state(self, message: Any) -> None:
        now_s = time.monotonic()
        if self._counts():
            self.state_gaps_s.append(now_s - self._last_state_s)
            name = Mode(message.mode).name
            self.modes[name] = self.modes.get(name, 0) + 1
        self._last_state_s = now_s

    def _watch(self) -> None:
        now_s = time.monotonic()
        step_s, self._last_s = now_s - self._last_s, now_s
        if step_s > PAUSE_S:
            self.pauses += 1
            self._settled_s = now_s + 5.0
        else:
            self.active_s += step_s

    def run(self, duration_s: float, output: Path) -> dict[str, Any]:
        """Until so much time has passed in which the machine did not stand still."""
        graph, around = self.around.graph, self.around
        next_s = 0.0
        while self.active_s < duration_s:
            graph.spin_for(0.5)
            mode = around.states.newest.mode
            if mode == Mode.EMERGENCY_STOP:
                self.helped += around.trigger(qos.RESET).success
            elif mode == Mode.ASSIST:
                self.helped += around.resolve(ResolveAssistance.Request.RESUME).accepted
            if self.active_s >= next_s:
                next_s = self.active_s + min(60.0, duration_s / 4)
                if self.active_s >= min(WARM_UP_S, 0.2 * duration_s):
                    self.memory_mb.append(resident_mb(self.pid))
                write(output, self.result())
        write(output, self.result())
        return self.result()

    def result(self) -> dict[str, Any]:
        """All figures so far."""
        commands, states = np.array(self.command_gaps_s), np.array(self.state_gaps_s)
        memory = np.array(self.memory_mb or [np.nan])
        return {
            "date": datetime.date.today().isoformat(),
            "hardware": hardware(),
            "conditions": self.conditions,
            "duration_s": round(self.active_s, 1),
            "pauses_of_the_machine": self.pauses,
            "commands": len(commands),
            "command_period_ms": {
                f"p{p:g}": round(float(np.percentile(commands, p)) * 1e3, 2) for p in (50, 99, 99.9, 100)
            }
            if len(commands)
            else {},
            "states": len(states),
            "largest_state_gap_s": round(float(states.max()), 3) if len(states) else None,
            "missed_states": int((states > 2.0 * STATE_PERIOD_S).sum()) if len(states) else 0,
            "states_by_mode": dict(sorted(self.modes.items())),
            "times_a_person_helped": self.helped,
            "missed_periods": int(self.around.states.newest.overrun_count),
            "memory_mb": {"first": round(float(memory[0]), 2), "last": round(float(memory[-1]), 2)},
        }


def type_of(topic: str) -> type[Any]:
    """The message class of a topic of the table."""
    return qos.message_class(qos.TABLE[topic].message)


def write(output: Path, result: dict[str, Any]) -> None:
    """Replace the file as a whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    new = output.with_suffix(".new")
    new.write_text(json.dumps(result, indent=1) + "\n")
    new.replace(output)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=3600.0, help="seconds (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/soak.json"), help="(%(default)s)")
    parser.add_argument("--conditions", default="nothing else ran", help="in words, for the docs")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        surroundings(Path(folder), domain_id=41) as around,
    ):
        around.graph.bring_up("intervention_node", timeout_s=START_S)
        around.until(Mode.NOMINAL, START_S)
        print(
            json.dumps(Soak(around, arguments.conditions).run(arguments.duration, arguments.output), indent=1)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
