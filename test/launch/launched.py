"""Launch files run in this process until they end, as ``ros2 launch`` runs them."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import scenarios
import yaml
from ament_index_python.packages import get_package_share_directory
from graph_helpers import START_S
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit, OnProcessIO, OnProcessStart, OnShutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription, LaunchService
from salus_ros.nodes.session import SHARED_CORES

SHARE = Path(get_package_share_directory("salus_ros"))


def executable(event: Any) -> str:
    """``policy_node`` of ``policy_node-3``."""
    return re.sub(r"-\d+$", "", event.process_name)


def include(name: str, arguments: dict[str, str]) -> IncludeLaunchDescription:
    """A launch file of SALUS."""
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / name)), launch_arguments=arguments.items()
    )


def plugins() -> str:
    """The PYTHONPATH with which the policy ``wave`` is found."""
    return os.pathsep.join([str(scenarios.PLUGIN_FOLDER), os.environ.get("PYTHONPATH", "")])


def write_configuration(folder: Path, **gate: Any) -> Path:
    """The shipped parameters with deadlines for a machine of few cores, and a latch file in the folder."""
    configuration = yaml.safe_load((SHARE / "config" / "salus.yaml").read_text())
    configuration["intervention_node"]["ros__parameters"].update(
        SHARED_CORES, latch_file=str(folder / "latch"), activation_timeout_s=START_S, **gate
    )
    configuration["sim_node"]["ros__parameters"]["sim.time_limit_s"] = 600.0
    configuration["console_node"]["ros__parameters"]["port"] = 8957
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return path


@dataclass
class Launched:
    """What came of a launch."""

    code: int = -1
    """Its exit code."""
    reasons: list[str] = field(default_factory=list)
    """Why it ended; one."""
    commands: dict[str, list[str]] = field(default_factory=dict)
    """The newest command line of each executable."""
    pids: dict[str, int] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)
    """Steady time at which each executable ended."""
    said: dict[str, str] = field(default_factory=dict)
    """What each executable wrote."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when every process has ended."""

    def note_start(self, event: Any, _context: Any) -> None:
        self.commands[executable(event)], self.pids[executable(event)] = event.cmd, event.pid

    def note_end(self, event: Any, _context: Any) -> None:
        self.ended_s[executable(event)] = time.monotonic()

    def note_text(self, event: Any) -> None:
        self.said[executable(event)] = self.said.get(executable(event), "") + event.text.decode()


def run(
    entities: Iterable[Any], meanwhile: Callable[[LaunchService, Launched], None] | None = None
) -> Launched:
    """Run these until they end; ``meanwhile`` runs beside them in a thread, and what it raises ends them."""
    launched = Launched()
    service = LaunchService(noninteractive=True)
    service.include_launch_description(
        LaunchDescription(
            [
                RegisterEventHandler(
                    OnShutdown(on_shutdown=lambda event, _: launched.reasons.append(event.reason))
                ),
                RegisterEventHandler(OnProcessStart(on_start=launched.note_start)),
                RegisterEventHandler(OnProcessExit(on_exit=launched.note_end)),
                RegisterEventHandler(OnProcessIO(on_stdout=launched.note_text, on_stderr=launched.note_text)),
                *entities,
            ]
        )
    )
    errors: list[BaseException] = []

    def beside() -> None:
        try:
            assert meanwhile is not None
            meanwhile(service, launched)
        except BaseException as error:
            errors.append(error)
            service.shutdown()

    thread = threading.Thread(target=beside, daemon=True)
    if meanwhile is not None:
        thread.start()
    launched.code = service.run()
    launched.ended.set()
    if meanwhile is not None:
        thread.join(timeout=START_S)
    if errors:
        raise errors[0]
    return launched
