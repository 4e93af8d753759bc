"""What the gate's diagnostics make of how near it is to acting."""

from __future__ import annotations

import math

import pytest

from salus_ros.intervention.report import GateReport, LimitReport
from salus_ros.nodes import gate_health
from salus_ros.nodes.diagnostics import ERROR, OK, WARN
from salus_ros.types import Cause, InterventionState, Mode


@pytest.mark.parametrize(
    ("used", "level"), [(0.0, OK), (0.94, OK), (0.96, WARN), (1.0, WARN), (1.01, ERROR), (math.nan, WARN)]
)
def test_a_limit_warns_when_it_is_near_or_unknown_and_is_an_error_beyond(used: float, level: bytes) -> None:
    state = InterventionState(1.0, Mode.NOMINAL, Cause.NONE, "following the policy", 1.0, 1, 0.0, 0.0)
    report = GateReport((), (LimitReport("contact force", used, "in words"),))
    status = gate_health.parts(state, report, {}, {})["limit contact force"]
    assert (status.level, status.message) == (level, "in words")
