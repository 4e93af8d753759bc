"""The bench: its verb, its file, and what a figure says."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest

from salus_ros.bench.figures import Figure, durations_s
from salus_ros.cli.bench import PARTS
from salus_ros.cli.main import main


def test_a_ratio_is_ours_over_the_reference() -> None:
    assert Figure("latency", 3.0, "ms", 2.0, "plain loop").ratio == 1.5


def test_a_figure_without_a_reference_has_no_ratio() -> None:
    assert math.isnan(Figure("size", 3.0, "MB").ratio)


def test_warm_up_calls_are_not_among_the_durations() -> None:
    calls: list[int] = []
    assert len(durations_s(lambda: calls.append(1), 3, warm_up=2)) == 3
    assert len(calls) == 5


@pytest.mark.parametrize("part", PARTS)
def test_every_part_that_is_named_can_be_measured(part: str) -> None:
    assert callable(importlib.import_module(f"salus_ros.bench.{part}").measure)


def test_the_bench_writes_what_it_printed_with_the_machine_it_ran_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new folder" / "bench.json"
    assert main(["bench", "start", "--quick", "--output", str(output)]) == 0
    written = json.loads(output.read_text())
    assert {"date", "processor", "cores", "python"} <= set(written)
    names = [figure["name"] for figure in written["parts"]["start"]]
    assert any("salus --version" in name for name in names)
    assert all(name in capsys.readouterr().out for name in names[:1])
    first = written["parts"]["start"][0]
    assert first["ratio"] == pytest.approx(first["value"] / first["reference"])


def test_an_unknown_part_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench.json"
    assert main(["bench", "start", "lunch", "--output", str(output)]) == 2
    assert "lunch" in capsys.readouterr().err
    assert not output.exists()
