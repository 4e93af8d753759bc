"""The gate's diagnostics: its mode, and one status for each input, limit and mode. For people only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from salus_ros.intervention.inputs import Decision
from salus_ros.intervention.report import GateReport, InputReport, LimitReport
from salus_ros.nodes.diagnostics import ERROR, OK, WARN, Health
from salus_ros.types import InterventionState, Mode

_NEAR: Final = 0.95
"""Share of a limit from which its status is a warning."""

_LEVELS: Final = {
    Mode.INACTIVE: OK,
    Mode.NOMINAL: OK,
    Mode.ASSIST: ERROR,
    Mode.PROTECTIVE_STOP: ERROR,
    Mode.EMERGENCY_STOP: ERROR,
}
"""Of a gate that is in this mode; any other is a warning."""


def whole(decision: Decision, counts: Mapping[str, int]) -> Health:
    """The gate as a whole."""
    state = decision.state
    values: dict[str, Any] = {
        "mode": state.mode.name,
        "cause": state.cause.name,
        "speed scale": state.speed_scale,
        "refused messages": state.refused_message_count,
        "missed periods": state.overrun_count,
        **counts,
    }
    if decision.risk_would is not None:
        values["risk would have led to"] = decision.risk_would.name
    return Health(_LEVELS.get(state.mode, WARN), f"{state.mode.name}: {state.reason}", values)


def parts(
    state: InterventionState, report: GateReport, writers: Mapping[str, str], seconds_in: Mapping[Mode, float]
) -> dict[str, Health]:
    """One status for each input, limit, guarded topic and mode.

    Args:
        state: of the newest decision.
        report: how near the gate is to acting.
        writers: for each guarded topic, who else publishes there; empty if nobody.
        seconds_in: time spent in each mode since the start.
    """
    entered = {
        Mode.REPLAN: state.replan_count,
        Mode.ASSIST: state.assist_count,
        Mode.PROTECTIVE_STOP: state.protective_stop_count,
        Mode.EMERGENCY_STOP: state.emergency_stop_count,
    }
    found = {f"input {one.name}": _input(one) for one in report.inputs}
    found |= {f"limit {one.name}": _limit(one) for one in report.limits}
    found |= {
        f"writers of {topic}": Health(ERROR, others) if others else Health(OK, "one at most")
        for topic, others in writers.items()
    }
    for mode in Mode:
        current = mode == state.mode
        values: dict[str, Any] = {"time in it [s]": seconds_in.get(mode, 0.0)}
        if mode in entered:
            values["entered"] = entered[mode]
        level = _LEVELS.get(mode, WARN) if current else OK
        found[f"mode {mode.name}"] = Health(level, state.reason if current else "not in it", values)
    return found


def _input(one: InputReport) -> Health:
    values = {"silent for [s]": one.silence_s, "deadline [s]": one.deadline_s}
    if not one.required:
        return Health(OK, "not required", values)
    if one.late:
        return Health(ERROR, "silent", values)
    return Health(OK, "heard in time", values)


def _limit(one: LimitReport) -> Health:
    level = OK if one.used < _NEAR else ERROR if one.used > 1.0 else WARN
    return Health(level, one.detail, {"used": one.used})
