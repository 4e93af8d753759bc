"""What the docs say of the gate is what the code does, and each guarantee names tests that exist."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import safety_docs

from salus_ros.intervention.exploration import Edge
from salus_ros.intervention.settings import GateSettings

pytestmark = pytest.mark.xdist_group("explored")
ROOT = Path(__file__).parents[2]
AGAIN = "is stale: run python scripts/safety_docs.py"


def test_the_tables_of_the_docs_are_those_of_the_code(explored: list[Edge]) -> None:
    text = safety_docs.SAFETY.read_text()
    assert safety_docs.fill(text, safety_docs.tables(explored)) == text, f"docs/safety.md {AGAIN}"


def test_the_interactive_page_is_that_of_the_code(explored: list[Edge]) -> None:
    # Another version of zlib may pack the same table differently.
    def unpacked(page: str) -> tuple[str, bytes]:
        packed = re.search(r'"table":"([^"]*)"', page)
        assert packed is not None
        return page.replace(packed[1], ""), safety_docs.unpack(packed[1])

    assert unpacked(safety_docs.PAGE.read_text()) == unpacked(safety_docs.page(explored)), (
        f"docs/mode-machine.html {AGAIN}"
    )


def test_the_page_needs_no_network() -> None:
    assert not re.search(r"(src|href)=|https?://|@import", safety_docs.PAGE.read_text())


def test_each_guarantee_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d+)\. .*\|$", safety_docs.SAFETY.read_text(), re.MULTILINE)
    assert rows == [str(number) for number in range(1, 11)]
    named = re.findall(r"`(test/[\w/]+\.py)(?:::(\w+))?`", safety_docs.SAFETY.read_text())
    assert len(named) >= 10
    for path, name in named:
        assert (ROOT / path).is_file(), f"docs/safety.md names {path}, which does not exist"
        tree = ast.parse((ROOT / path).read_text())
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert not name or name in defined, f"{path} has no {name}, which docs/safety.md names"


def test_every_setting_that_the_docs_name_exists() -> None:
    known = set(GateSettings.model_fields)
    text = safety_docs.SAFETY.read_text()
    for name in re.findall(r"`([a-z]+(?:_[a-z]+)*_(?:s|rad|n|m|threshold|persistence|mode|fraction))`", text):
        assert name in known, f"docs/safety.md names {name}, which is no setting of the gate"
