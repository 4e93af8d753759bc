"""The docs' tables of the evaluation are those of its numbers, and of nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EVALUATION = ROOT / "docs" / "results" / "evaluation.json"
TRAINING = ROOT / "models" / "monitor" / "training.json"


@pytest.fixture(name="scripts")
def fixture_scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import update_docs  # type: ignore[import-not-found]

    return update_docs


def written(name: str) -> str:
    """What stands in the docs between the two markers."""
    found = re.search(
        rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", (ROOT / "docs/results.md").read_text(), re.S
    )
    assert found is not None, f"docs/results.md has no section {name}"
    return found[1]


def test_every_figure_of_the_training_in_the_docs_is_that_of_its_report(scripts: Any) -> None:
    expected = scripts.monitor_table(json.loads(TRAINING.read_text()))
    assert written("monitor") == expected, "run scripts/update_docs.py"


@pytest.mark.skipif(not EVALUATION.exists(), reason="no evaluation is shipped yet: make results")
def test_every_figure_of_the_evaluation_in_the_docs_is_that_of_its_numbers(scripts: Any) -> None:
    expected = scripts.evaluation_tables.section(json.loads(EVALUATION.read_text()))
    assert written("evaluation") == expected, "run scripts/update_docs.py"


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (estimate(0.90, 0.86, 0.93), "met |"),
        (estimate(0.90, 0.80, 0.93), "met, not by the interval |"),
        (estimate(0.80, 0.70, 0.90), "missed |"),
        (estimate(None), "not measured |"),
    ],
)
def test_an_aim_is_met_only_by_what_was_measured(
    scripts: Any, measured: dict[str, Any], verdict: str
) -> None:
    row = scripts.evaluation_tables._row("number", ">= 0.85", measured, 0.85)
    assert row.endswith(verdict), row
