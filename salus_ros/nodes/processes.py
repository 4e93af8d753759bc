"""Nodes as processes: started, watched, and every one of them ended.

No process outlives its starter: each is asked to end by SIGINT, then SIGTERM, then killed, and the kernel
sends SIGTERM to the nodes when the process that started them dies without a word.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from salus_ros.errors import SalusError
from salus_ros.nodes.lifecycle import PARENT_VARIABLE

SIGINT_GRACE_S: Final = 6.0
SIGTERM_GRACE_S: Final = 2.0
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """One node as a process of its own session."""

    name: str
    """Its node name, such as ``policy_node``."""
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def cpu_time_s(self) -> float:
        """Processor time used so far by all its threads; the last known value is lost with the process."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that it wrote."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def signal(self, number: int) -> None:
        """Send a signal to it and to whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


@dataclass(slots=True)
class _Lap:
    wall_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)


class NodeProcesses:
    """The nodes of one domain, by name."""

    def __init__(self, domain_id: int, log_dir: Path, environment: Mapping[str, str]) -> None:
        """Start nothing yet; ``environment`` is given to every node."""
        self.domain_id = domain_id
        self.log_dir = log_dir
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._environment = dict(environment)
        self._processes: dict[str, NodeProcess] = {}
        self.exit_codes: dict[str, int] = {}
        """How each node ended, by name; negative is the signal that ended it."""
        self._lap = _Lap(time.monotonic())

    @property
    def processes(self) -> Mapping[str, NodeProcess]:
        """The nodes started and not yet stopped, by name, in the order of their start."""
        return self._processes

    def start(
        self,
        kind: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        remap: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        module: str | None = None,
    ) -> NodeProcess:
        """Start a node as a process.

        Args:
            kind: ``sim``, ``policy``, ``monitor``, ``intervention``, ``deadman`` or ``recorder``.
            parameters: its parameters by (dotted) name; paths, tuples and numbers as they are.
            name: its node name, by default ``<kind>_node``.
            remap: names of topics and services to replace.
            environment: variables for this process alone.
            module: a module with a ``main`` of its own, by default ``salus_ros.nodes.<kind>_node``.
        """
        node_name = name or f"{kind}_node"
        if node_name in self._processes and self._processes[node_name].alive:
            raise SalusError(f"The node {node_name} runs already; stop it first or give another name.")
        parameter_path = self.log_dir / f"{node_name}.yaml"
        plain = {key: _plain(value) for key, value in (parameters or {}).items()}
        parameter_path.write_text(yaml.safe_dump({"/**": {"ros__parameters": plain}}))
        arguments = ["-r", f"__node:={node_name}"]
        for old, new in (remap or {}).items():
            arguments += ["-r", f"{old}:={new}"]
        if plain:
            arguments += ["--params-file", str(parameter_path)]
        log_path = self.log_dir / f"{node_name}.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module or f"salus_ros.nodes.{kind}_node", "--ros-args", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**self._child_environment(), **(environment or {})},
            )
        started = NodeProcess(node_name, process, log_path)
        self._processes[node_name] = started
        self.exit_codes.pop(node_name, None)
        return started

    def _child_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ROS_DOMAIN_ID": str(self.domain_id),
            "ROS_LOG_DIR": str(self.log_dir),
            # An emergency stop outlives its process in a file there; it must not stop the next graph.
            "ROS_HOME": str(self.log_dir),
            "RCUTILS_LOGGING_BUFFERED_STREAM": "1",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            PARENT_VARIABLE: str(os.getpid()),
            **self._environment,
        }

    def stop(self, name: str) -> int:
        """End one node: SIGINT, then SIGTERM, then SIGKILL. Returns its exit code."""
        started = self._processes.pop(name)
        started.signal(signal.SIGINT)
        return self._reap(started)

    def kill(self, name: str) -> None:
        """End one node at once, as a crash would."""
        started = self._processes.pop(name)
        started.signal(signal.SIGKILL)
        self.exit_codes[name] = started.process.wait()

    def _reap(self, started: NodeProcess) -> int:
        for grace_s, next_signal in (
            (SIGINT_GRACE_S, signal.SIGTERM),
            (SIGTERM_GRACE_S, signal.SIGKILL),
            (None, None),
        ):
            try:
                code = started.process.wait(timeout=grace_s)
                break
            except subprocess.TimeoutExpired:
                assert next_signal is not None
                started.signal(next_signal)
        started.signal(signal.SIGKILL)  # what it started in its session, if anything
        self.exit_codes[started.name] = code
        return code

    def end(self) -> None:
        """End every node, the last started first."""
        remaining = list(reversed(self._processes.values()))
        self._processes.clear()
        for started in remaining:
            started.signal(signal.SIGINT)
            self._reap(started)

    def check(self) -> None:
        """Raise when a node has ended by itself, with the last lines of its log."""
        for started in self._processes.values():
            if not started.alive:
                raise SalusError(
                    f"The node {started.name} ended by itself with exit code {started.process.returncode}; "
                    f"its log {started.log_path} ends with:\n{started.log_tail()}"
                )

    def cpu_share(self) -> dict[str, float]:
        """Processor time of each node since the last call, in cores."""
        now_s = time.monotonic()
        used = {name: started.cpu_time_s() for name, started in self._processes.items()}
        before, self._lap = self._lap, _Lap(now_s, used)
        span_s = max(now_s - before.wall_s, 1e-6)
        return {name: (cpu_s - before.cpu_s.get(name, 0.0)) / span_s for name, cpu_s in used.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
