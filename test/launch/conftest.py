"""Launch files as ``ros2 launch`` runs them, where launch is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "test" / "integration"), str(ROOT / "test" / "launch")]  # for scenarios, launched


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They keep time, as the tests of test/integration do."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.graph)
            item.add_marker(pytest.mark.xdist_group("graph"))
