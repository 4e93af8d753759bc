"""What is documented and allowed is what the code does."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from salus_ros.nodes import qos
from salus_ros.nodes.interfaces import NODES, SERVICES, changeable_of, settings_of
from salus_ros.nodes.reference import POLICY, ROOT, files


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_every_generated_file_is_what_would_be_written_now(path: Path) -> None:
    assert path.read_text() == files()[path], "it is stale: run python -m salus_ros.nodes.reference"


def test_every_node_of_the_package_has_its_interface() -> None:
    modules = {path.stem for path in (ROOT / "salus_ros" / "nodes").glob("*_node.py")}
    assert set(NODES) == modules


def test_every_topic_has_somebody_at_each_end_or_is_named_as_foreign() -> None:
    published = {topic for node in NODES.values() for topic in node.all_publishes}
    subscribed = {topic for node in NODES.values() for topic in node.subscribes}
    assert set(qos.TABLE) - published == {qos.EMERGENCY_STOP_BUTTON}, "nobody publishes it"
    assert set(qos.TABLE) - subscribed == {qos.MARKERS}, "nobody reads it"


def test_every_service_that_is_asked_is_offered_by_somebody() -> None:
    offered = {service for node in NODES.values() for service in node.serves}
    assert offered == set(SERVICES)


@pytest.mark.parametrize("node", NODES)
def test_every_parameter_is_described(node: str) -> None:
    assert set(changeable_of(node)) <= set(settings_of(node).model_fields)
    section = files()[ROOT / "docs" / "parameters.md"].split(f"## {node}\n")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert rows
    for row in rows:
        assert row[4].strip(), f"{row[0]} of {node} says nothing about itself"


def test_nobody_but_the_gate_may_command_the_arm() -> None:
    root = ElementTree.parse(POLICY).getroot()
    allowed = {
        enclave.get("path"): {topic.text for topics in enclave.iter("topics") if topics.get("publish")
                              for topic in topics.iter("topic")}
        for enclave in root.iter("enclave")
    }  # fmt: skip
    for command in (qos.ARM_COMMAND, qos.GRIPPER_COMMAND, qos.INTERVENTION_STATE):
        assert [path for path, topics in allowed.items() if command in topics] == ["/salus/intervention_node"]


def test_no_node_may_set_the_parameters_of_another() -> None:
    root = ElementTree.parse(POLICY).getroot()
    for enclave in root.iter("enclave"):
        asked = [s.text or "" for group in enclave.iter("services") if group.get("request")
                 for s in group.iter("service")]  # fmt: skip
        foreign = [service for service in asked if "set_parameters" in service or "change_state" in service]
        if enclave.get("path") == "/salus/launch":
            assert not [service for service in foreign if "set_parameters" in service]
        else:
            assert not foreign or enclave.get("path") == "/salus/operator"


def test_every_node_has_an_enclave_and_so_have_launch_and_a_person() -> None:
    paths = [enclave.get("path") for enclave in ElementTree.parse(POLICY).getroot().iter("enclave")]
    assert sorted(paths) == sorted(f"/salus/{name}" for name in (*NODES, "launch", "operator"))


def test_launch_may_bring_nodes_up_and_nothing_else() -> None:
    root = ElementTree.parse(POLICY).getroot()
    (enclave,) = (enclave for enclave in root.iter("enclave") if enclave.get("path") == "/salus/launch")

    def names(kind: str, how: str) -> set[str]:
        return {one.text or "" for group in enclave.iter(f"{kind}s") if group.get(how)
                for one in group.iter(kind)}  # fmt: skip

    managed = {name for name, node in NODES.items() if node.lifecycle}
    assert names("topic", "publish") == {"rosout", "/parameter_events"}
    assert names("topic", "subscribe") == {f"{name}/transition_event" for name in managed} | {
        "/parameter_events"
    }
    assert names("service", "request") == {
        f"{name}/{service}" for name in managed for service in ("change_state", "get_state")
    }
    assert all(name.startswith("~/") for name in names("service", "reply")), "of its own parameters only"
