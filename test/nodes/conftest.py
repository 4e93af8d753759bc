"""One rclpy context for each test, on a domain of this worker's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

# 1 to 100 lie below the ports that Linux hands out; the upper half is for tests.
DOMAIN = 51 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0) % 9


@pytest.fixture
def make_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    nodes: list[Node] = []

    def make(*parameters: str, node_class: type[Node] = Node) -> Any:
        arguments = (
            ["--ros-args", *(part for item in parameters for part in ("-p", item))] if parameters else []
        )
        node = node_class(
            "tested_" + uuid.uuid4().hex[:8], context=context, cli_args=arguments, use_global_arguments=False
        )
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()
