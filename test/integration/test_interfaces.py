"""Each running node has exactly the ends that its interface names, for documents and permissions."""

from __future__ import annotations

import importlib.util

import pytest
from graph_helpers import START_S

from salus_ros.nodes import qos
from salus_ros.nodes.graph import Graph
from salus_ros.nodes.interfaces import NODES

# What rclpy gives every node.
TOPICS = {"/rosout", "/parameter_events", "/clock"}
SERVICE_MARKS = ("parameter", "_state", "_transition", "type_description")

STARTED = {
    name: {"port": 8958} if name == "console_node" else {}
    for name, node in NODES.items()
    if not node.foreign or importlib.util.find_spec(node.foreign)
}


def absolute(names: tuple[str, ...] | frozenset[str]) -> set[str]:
    return {"/" + name.lstrip("/") for name in names}


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    folder = tmp_path_factory.mktemp("interfaces")
    with Graph(domain_id=55, log_dir=folder) as graph:
        for name, parameters in STARTED.items():
            extra = {"path": folder / "bag"} if name == "recorder_node" else {}
            graph.start(name.removesuffix("_node"), parameters | extra)
        graph.spin_until(
            lambda: set(STARTED) <= set(graph.node.get_node_names()), START_S, "every node on the graph"
        )
        yield graph


@pytest.mark.parametrize("name", NODES)
def test_a_nodes_interface_is_what_it_has_on_the_graph(everybody: Graph, name: str) -> None:
    if name not in STARTED:
        pytest.skip(f"{NODES[name].foreign} is not installed")
    node, graph = NODES[name], everybody.node
    parts = {
        "publishes": (graph.get_publisher_names_and_types_by_node, absolute(node.all_publishes)),
        "subscribes": (graph.get_subscriber_names_and_types_by_node, absolute(node.subscribes)),
        "serves": (graph.get_service_names_and_types_by_node, absolute(node.serves)),
        "calls": (graph.get_client_names_and_types_by_node, absolute(node.calls)),
    }

    def found(part: str) -> set[str]:
        names = {name_ for name_, _ in parts[part][0](name, "/")}
        if part in ("publishes", "subscribes"):
            own = {topic for topic in names if topic.startswith(f"/{name}/") or "/_action/" in topic}
            ignored = TOPICS - ({"/clock"} if qos.CLOCK in getattr(node, part) else set())
            return names - ignored - own
        return {n for n in names if not any(mark in n for mark in SERVICE_MARKS) and "/_action/" not in n}

    for part, (_, expected) in parts.items():
        everybody.spin_until(
            lambda part=part, expected=expected: found(part) == expected,
            START_S / 4,
            f"what {name} {part} to be {sorted(expected)}, not {sorted(found(part))}",
        )
