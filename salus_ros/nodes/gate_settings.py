"""The parameters of the intervention node: the gate's own settings, and what the node adds to them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import ConfigDict, Field

from salus_ros.intervention.settings import GateSettings
from salus_ros.nodes import qos
from salus_ros.nodes.robot import RobotSettings

CHANGEABLE: Final = frozenset(GateSettings.model_fields) - {"period_s"}
"""Parameters that may change at run time; they hold from the next activation on."""


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
    stamp_commands: bool = Field(
        False,
        description="Stamp each command with the time that it was computed for, so that the path is not "
        "shifted by what a command takes on its way; for a controller that shares the gate's clock. Off: "
        "zero, which begins on reception.",
    )
    stop_services: tuple[str, ...] = Field(
        (qos.DRIVER_STOP,),
        description="Trigger services of the driver to call when the gate's own hold could not win: another "
        "node commands the arm, or an emergency stop comes while the arm is taken up. Each is called again "
        "until it has answered that it was done.",
    )
    latched_stop_services: tuple[str, ...] = Field(
        (), description="Trigger services to call at every emergency stop."
    )
    resume_services: tuple[str, ...] = Field(
        (qos.DRIVER_RESUME,),
        description="Trigger services of the driver to call when the arm is taken up where it is: at an "
        "activation, after a reset, a resume and a retry.",
    )

    def gate(self) -> GateSettings:
        """The gate's part."""
        return GateSettings(**{name: getattr(self, name) for name in GateSettings.model_fields})

    def latch_path(self, node_name: str) -> Path:
        """The latch file of the node with this fully qualified name."""
        if self.latch_file:
            return Path(self.latch_file).expanduser()
        home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
        return home / "salus" / f"{node_name.strip('/').replace('/', '.')}.latch"
