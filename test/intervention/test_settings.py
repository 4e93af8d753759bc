"""Settings that cannot work are refused, with what to change."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from salus_ros.intervention.settings import GateSettings

ORDERED = (
    ("prediction_slow_deadline_s", "prediction_hold_deadline_s"),
    ("slow_risk_clear", "slow_risk"),
    ("immediate_stop_horizon_s", "stop_horizon_s"),
    ("contact_force_n", "hard_force_n"),
    ("tracking_slow_rad", "tracking_hold_rad"),
)


@pytest.mark.parametrize(
    "values",
    [
        {"retrace_speed": 0.5},
        {"retrace_path_s": 1.5},
        {"blend_rad": 0.5},
        {"monitor": "maybe"},
        {"no_such_setting": 1},
        {"period_s": 0.0},
        {"period_s": float("nan")},
        {"acceleration_fraction": 0.95},
        {"blend_s": 0.05},
        {"workspace_lower_m": (float("nan"), -0.9, 0.0)},
    ],
)
def test_settings_out_of_their_range_are_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        GateSettings(**values)


@pytest.mark.parametrize(("low", "high"), ORDERED)
def test_a_lower_threshold_may_equal_the_higher_one_but_not_exceed_it(low: str, high: str) -> None:
    assert GateSettings(**{low: 0.25, high: 0.25})
    text = f"{low} = 0.5 is above {high} = 0.25: lower {low} or raise {high}"
    with pytest.raises(ValidationError, match=re.escape(f"Value error, {text} [")):
        GateSettings(**{low: 0.5, high: 0.25})


def test_a_command_keeps_its_speed_for_a_period_at_least() -> None:
    assert GateSettings(period_s=0.02, lead_s=0.02)
    text = "period_s = 0.02 is above lead_s = 0.015: lower period_s or raise lead_s"
    with pytest.raises(ValidationError, match=re.escape(f"Value error, {text} [")):
        GateSettings(period_s=0.02, lead_s=0.015)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("height_m", [0.0, -0.5])
def test_a_workspace_box_without_room_is_refused(axis: int, height_m: float) -> None:
    lower = tuple(1.0 if i == axis else 0.0 for i in range(3))
    upper = tuple(1.0 + height_m if i == axis else 0.5 for i in range(3))
    text = (
        f"the workspace box from {lower} to {upper} is empty: "
        "every lower corner must be below its upper corner"
    )
    with pytest.raises(ValidationError, match=re.escape(f"Value error, {text} [")):
        GateSettings(workspace_lower_m=lower, workspace_upper_m=upper)
