"""Every row of the fault table, on live processes.

``make faults`` repeats each 20 times with the deadlines of the defaults and writes the longest times into the
JSON from which the table in ``docs/safety.md`` is made. Here each is injected once, with patient deadlines.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))
sys.path.insert(0, str(Path(__file__).parent))
from machine import hardware
from rows import ROWS, Row, scene

from salus_ros.errors import SalusError

pytestmark = [pytest.mark.graph, pytest.mark.xdist_group("graph")]

REPEATS = int(os.environ.get("SALUS_FAULT_REPEATS", "1"))
RESULTS = os.environ.get("SALUS_FAULT_RESULTS", "")
CONDITIONS = os.environ.get("SALUS_FAULT_CONDITIONS", "nothing else ran")
PAUSE_S = 0.04
"""A repeat in which the test itself, and so its joint states, paused as long is made again if it came to
something else: the gate stops for that, and rightly so."""
QUICK = {
    "policy killed",
    "joint states stop",
    "`/clock` stands, is gone (in turn)",
    "the ROS clock jumps ahead, back (in turn)",
    "a callback raises",
    "disk full: neither log nor latch can be written, a person stops it",
}
"""Rows for ``make test``: what test_intervention_node.py does not inject."""


def slug(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def record(row: Row, times_s: list[float], paused: int) -> None:
    """Add what one row took to the results."""
    path = Path(RESULTS)
    results = json.loads(path.read_text()) if path.exists() else {}
    rows = results.get("rows", {})
    entry = {"reaction": row.reaction, "repeats": len(times_s), "longest_s": round(max(times_s), 3)}
    if paused:
        entry["made_again"] = paused
    rows[row.name] = {**entry, "of": row.of} if row.of else entry
    ordered = {one.name: rows[one.name] for one in ROWS if one.name in rows}
    results = {
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(),
        "conditions": CONDITIONS,
        "rows": ordered,
    }
    path.write_text(json.dumps(results, indent=1) + "\n")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS, ids=[slug(row.name) for row in ROWS])
def test_the_fault_leads_to_its_safe_state(row: Row, tmp_path: Path) -> None:
    if REPEATS == 1 and not RESULTS and row.name not in QUICK:
        pytest.skip("runs in `make faults`; its like is in test/nodes/test_intervention_node.py")
    patient = not RESULTS
    times_s: list[float] = []
    paused = 0
    with scene(row, tmp_path, 42 + ROWS.index(row) % 8, patient) as here:
        while len(times_s) < REPEATS:
            here.round = len(times_s)
            here.go()
            here.around.longest_gap_s = 0.0
            try:
                times_s.append(row.inject(here))
            except SalusError:
                paused += 1
                if here.around.longest_gap_s < PAUSE_S or paused > REPEATS:
                    raise
    if RESULTS:
        record(row, times_s, paused)
    assert max(times_s) <= row.limit_s * (5.0 if patient else 1.0), f"{row.name}: {times_s}"


def test_every_row_of_the_docs_is_a_row_here() -> None:
    """A row that is renamed or dropped leaves the docs."""
    path = Path(__file__).parents[2] / "docs" / "faults.json"
    if path.exists():
        assert set(json.loads(path.read_text())["rows"]) <= {row.name for row in ROWS}
