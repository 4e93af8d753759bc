"""config/salus.yaml holds nothing that its node would refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from salus_ros.nodes.console_node import ConsoleNodeSettings
from salus_ros.nodes.deadman_node import DeadmanSettings
from salus_ros.nodes.gate_settings import InterventionNodeSettings
from salus_ros.nodes.monitor_node import MonitorNodeSettings
from salus_ros.nodes.policy_node import PolicyNodeSettings
from salus_ros.nodes.recorder_node import RecorderNodeSettings
from salus_ros.nodes.sim_node import SimNodeSettings

CONFIGURATION: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "config" / "salus.yaml").read_text()
)
MODELS: dict[str, type[BaseModel]] = {
    "policy_node": PolicyNodeSettings,
    "monitor_node": MonitorNodeSettings,
    "intervention_node": InterventionNodeSettings,
    "deadman_node": DeadmanSettings,
    "sim_node": SimNodeSettings,
    "recorder_node": RecorderNodeSettings,
    "console_node": ConsoleNodeSettings,
}


@pytest.mark.parametrize("node", MODELS)
def test_the_shipped_parameters_are_the_nodes_own(node: str) -> None:
    MODELS[node].model_validate(CONFIGURATION[node]["ros__parameters"])


@pytest.mark.parametrize("node", MODELS)
def test_the_shipped_parameters_are_the_defaults(node: str) -> None:
    given = MODELS[node].model_validate(CONFIGURATION[node]["ros__parameters"])
    assert given == MODELS[node]()
