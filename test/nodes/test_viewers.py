"""The layouts of RViz and Foxglove look at topics that exist, with the quality of service that they have; the
console bears a flood of nodes."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from salus_ros.assets import asset
from salus_ros.nodes import qos
from salus_ros.nodes.console_node import NODES_SHOWN, ConsoleNode
from salus_ros.nodes.interfaces import SERVICES
from salus_ros.nodes.markers_node import colour
from salus_ros.nodes.qos import message_class
from salus_ros.nodes.robot import RobotSettings

FOXGLOVE = asset("config/foxglove.json").read_text()
RVIZ = yaml.safe_load(asset("config/salus.rviz").read_text())
# Published by robot_state_publisher.
FOREIGN = {"robot_description"}


def test_rviz_shows_topics_as_they_are_carried() -> None:
    displays = RVIZ["Visualization Manager"]["Displays"]
    topics = [
        display[key] for display in displays for key in ("Topic", "Description Topic") if key in display
    ]
    assert len(topics) == 4
    for topic in topics:
        if topic["Value"] in FOREIGN:
            continue
        row = qos.TABLE[topic["Value"]]
        assert topic["Reliability Policy"] == ("Reliable" if row.reliable else "Best Effort")
    assert RVIZ["Visualization Manager"]["Global Options"]["Fixed Frame"] == RobotSettings().base_frame


def test_foxglove_looks_at_topics_fields_and_services_that_exist() -> None:
    layout = json.loads(FOXGLOVE)
    named = set(re.findall(r'"/([a-z_/]+)(?:\.([a-z_]+))?"', FOXGLOVE))
    assert len(named) > 8
    for topic, field in named:
        if topic in FOREIGN or topic in SERVICES:
            continue
        row = qos.TABLE.get(topic) or qos.TABLE[f"/{topic}"]
        if field:
            assert field in message_class(row.message).get_fields_and_field_types()
    assert panels(layout["layout"]) == set(layout["configById"])


def panels(node: Any) -> set[str]:
    return {node} if isinstance(node, str) else panels(node["first"]) | panels(node["second"])


@pytest.mark.parametrize(("level", "channel"), [(0.0, "g"), (1.0, "r")])
def test_calm_is_green_and_certain_is_red(level: float, channel: str) -> None:
    drawn = colour(level)
    assert max("rgb", key=lambda name: getattr(drawn, name)) == channel


def test_what_is_not_foreseen_is_grey() -> None:
    drawn = colour(float("nan"))
    assert max(drawn.r, drawn.g, drawn.b) - min(drawn.r, drawn.g, drawn.b) < 0.1


def test_the_console_hears_so_many_nodes_and_no_more() -> None:
    """A flood of names takes no memory."""
    heard = SimpleNamespace(_health_of={}, _heard_s={}, _journal=SimpleNamespace(see_health=lambda *_: None))
    for number in range(NODES_SHOWN + 5):
        status = DiagnosticStatus(name=f"node {number}", level=b"\x00")
        ConsoleNode._take_diagnostics(heard, DiagnosticArray(status=[status]))
    again = DiagnosticStatus(name="node 0", level=b"\x02")
    ConsoleNode._take_diagnostics(heard, DiagnosticArray(status=[again]))
    assert len(heard._health_of) == len(heard._heard_s) == NODES_SHOWN
    assert heard._health_of["node 0"].level == 2, "those that are known are heard all the same"
