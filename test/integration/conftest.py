"""Real nodes as processes, each test on a domain of its own.

The policy here is a plug-in with a known path, so that what the gate must do is known beforehand; it is
loaded by the same registry as any policy.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from salus_ros.nodes.graph import Graph

sys.path.insert(0, str(Path(__file__).parent))  # for graph_helpers

PLUGIN_FOLDER = Path(__file__).parent / "policy_plugin"
_DOMAINS = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Graph tests share the processor with nothing of their kind: one group, one worker."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.graph)
            item.add_marker(pytest.mark.xdist_group("graph"))


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    domain = 51 + (next(_DOMAINS) + int(os.environ.get("SALUS_TEST_DOMAIN", "0"))) % 9
    with Graph(
        domain_id=domain,
        log_dir=tmp_path / "logs",
        environment={"PYTHONPATH": os.pathsep.join([str(PLUGIN_FOLDER), os.environ.get("PYTHONPATH", "")])},
    ) as running:
        yield running
