"""Limits, checks, contact, tracking, retracing, settings: one question each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_world import ARM, HOME, chunk, output, prediction
from pydantic import ValidationError

from salus_ros.intervention import checks
from salus_ros.intervention.contact import ContactSense
from salus_ros.intervention.limits import Limits
from salus_ros.intervention.path import spline
from salus_ros.intervention.retrace import DrivenPath
from salus_ros.intervention.settings import GateSettings
from salus_ros.intervention.tracking import JumpCheck, StallCheck, TrackingCheck
from salus_ros.types import JointTrajectory, RobotState

LIMITS = Limits(ARM, 0.005, (-0.4, -0.9, -0.01), (0.95, 0.9, 1.3))
TIMES = 0.05 * np.arange(1, 17)
REST = np.zeros(7)


def state(stamp_s: float = 0.0, position: np.ndarray = HOME, effort: np.ndarray = REST) -> RobotState:
    return RobotState(stamp_s, position, REST, effort, 0.08)


# Limits


def still(position: np.ndarray = HOME, time_s: float = 0.03) -> JointTrajectory:
    return JointTrajectory(np.array([time_s]), position[None].copy(), np.zeros((1, 7)))


def test_a_command_that_stands_is_let_through() -> None:
    assert LIMITS.objection(HOME, REST, still()) == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_command_that_is_not_finite_is_withheld(bad: float) -> None:
    command = still()
    command.position_rad[0, 3] = bad
    assert LIMITS.objection(HOME, REST, command) == "it holds values that are not finite"


def test_a_command_beyond_a_position_limit_is_withheld() -> None:
    edge = HOME.copy()
    edge[0] = ARM.position_upper_rad[0]
    over = edge.copy()
    over[0] += 1e-3
    assert LIMITS.objection(edge, REST, still(edge)) == ""
    assert LIMITS.objection(edge, REST, still(over, 1.0)) == "it leaves the joint position limits"


def test_a_command_that_overshoots_between_its_points_is_withheld() -> None:
    edge = HOME.copy()
    edge[0] = ARM.position_upper_rad[0] - 1e-4
    out = np.array([0.5, 0, 0, 0, 0, 0, 0])
    assert LIMITS.objection(edge, out, still(edge, 0.2)) == "it leaves the joint position limits"


def test_a_command_beyond_a_velocity_limit_is_withheld() -> None:
    assert LIMITS.objection(HOME, REST, still(HOME + 0.5, 0.3)) == "it exceeds a joint velocity limit"


def test_a_command_beyond_an_acceleration_limit_is_withheld() -> None:
    assert LIMITS.objection(HOME, REST, still(HOME + 0.01, 0.05)) == "it exceeds a joint acceleration limit"


def test_a_command_that_does_not_end_in_rest_is_withheld() -> None:
    command = still(HOME + 1e-4, 0.05)
    command.velocity_rad_s[-1, 0] = 1e-3
    assert LIMITS.objection(HOME, REST, command) == "it does not end in rest"


def test_a_command_whose_times_do_not_increase_is_withheld() -> None:
    assert LIMITS.objection(HOME, REST, still(HOME, 0.0)) == "its times do not increase"


def test_a_command_out_of_the_box_is_withheld() -> None:
    small = Limits(ARM, 0.005, (0.4, -0.1, 0.2), (0.48, 0.1, 0.5))
    reach = HOME.copy()
    reach[0] += 0.3
    assert small.objection(HOME, REST, still(HOME, 1.0)) == ""
    assert small.objection(HOME, REST, still(reach, 1.0)) == "it leaves the workspace box"


def test_a_plan_is_followed_only_as_far_as_it_is_inside_the_limits() -> None:
    points = np.tile(HOME, (16, 1))
    points[:, 6] = np.linspace(2.7, 3.1, 16)
    path = spline(TIMES, points, 0.02)
    end_s = LIMITS.admissible_end_s(path)
    assert path.start_s < end_s < path.end_s
    inside = path.at(np.linspace(path.start_s, end_s, 200))[0]
    assert (inside <= ARM.position_upper_rad - 0.004).all()


def test_a_plan_that_starts_outside_the_limits_is_followed_nowhere() -> None:
    path = spline(TIMES, np.tile(HOME + 9.0, (16, 1)), 0.02)
    assert LIMITS.admissible_end_s(path) < path.start_s


# Checks


def plan(**changes: object):
    return output(1, replace(chunk(0.0, np.tile(HOME, (16, 1))), **changes))


def test_good_messages_are_accepted() -> None:
    assert checks.plan(plan(), 7, 400) == ""
    assert checks.robot_state(state(), 7) == ""
    assert checks.prediction(prediction(0.0)) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"time_from_start_s": TIMES[::-1]}, "times do not increase"),
        ({"time_from_start_s": np.full(16, 0.1)}, "times do not increase"),
        ({"time_from_start_s": TIMES - 1.0}, "times lie outside"),
        ({"time_from_start_s": np.where(TIMES > 0.4, np.nan, TIMES)}, "not finite"),
        ({"time_from_start_s": np.empty(0)}, "0 points"),
        ({"joint_position_rad": np.full((16, 7), np.inf)}, "not finite"),
        ({"joint_position_rad": np.zeros((16, 6))}, "shape"),
        ({"joint_position_rad": np.zeros((15, 7))}, "shape"),
        ({"gripper_opening_m": np.full(16, np.nan)}, "not finite"),
        ({"gripper_opening_m": np.zeros(3)}, "gripper of shape"),
        ({"stamp_s": np.nan}, "not finite"),
    ],
)
def test_a_bad_plan_is_refused_with_its_reason(changes: dict, why: str) -> None:
    assert why in checks.plan(plan(**changes), 7, 400)


def test_an_endless_plan_is_refused() -> None:
    points = np.tile(HOME, (401, 1))
    assert "401 points" in checks.plan(output(1, chunk(0.0, points)), 7, 400)


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": np.full((3, 4), np.nan)},
        {"probability": np.full((3, 4), 1.1)},
        {"probability": np.full((3, 4), -0.1)},
        {"probability": np.zeros((2, 4))},
        {"threshold": np.full(3, np.nan)},
        {"threshold": np.zeros(2)},
        {"risk": np.nan},
        {"risk": 1.5},
        {"stamp_s": np.inf},
        {"horizons_s": (0.2, 0.3, 0.4, np.nan)},
        {"horizons_s": ()},
    ],
)
def test_a_bad_prediction_is_refused(changes: dict) -> None:
    assert checks.prediction(replace(prediction(0.0), **changes)).startswith("prediction: ")


def test_missing_velocity_and_effort_are_accepted_but_a_missing_position_is_not() -> None:
    nothing = np.full(7, np.nan)
    assert checks.robot_state(RobotState(0.0, HOME, nothing, nothing, 0.08), 7) == ""
    assert "not finite" in checks.robot_state(RobotState(0.0, nothing, REST, REST, 0.08), 7)
    assert "shape" in checks.robot_state(RobotState(0.0, HOME[:6], REST, REST, 0.08), 7)


@pytest.mark.parametrize(
    ("stamp_s", "why"),
    [(10.2, "ahead"), (8.9, "old"), (np.nan, "ahead"), (np.inf, "ahead"), (-np.inf, "old")],
)
def test_stamps_from_the_future_and_the_past_are_refused(stamp_s: float, why: str) -> None:
    assert why in checks.stamp("x", stamp_s, 10.0, 0.1, 1.0)


def test_without_a_clock_no_stamp_is_good() -> None:
    assert checks.stamp("x", 10.0, np.nan, 0.1, 1.0)


# Contact


def press(sense: ContactSense, force_n: float, duration_s: float, start_s: float) -> None:
    """Feel a force along the vertical at the tool."""
    rows = np.concatenate([HOME[None], HOME + 1e-6 * np.eye(7)])
    place = ARM.forward(rows)[:, 2, 3]
    effort = (place[1:] - place[0]) / 1e-6 * force_n
    for t in np.arange(start_s, start_s + duration_s, 0.01):
        sense.feel(state(float(t), effort=effort))


def sense() -> ContactSense:
    result = ContactSense(ARM, (80.0, 0.1), (300.0, 0.02), 0.2)
    result.feel(state(0.0))
    return result


def test_the_force_at_the_tool_is_found_from_the_joints_effort() -> None:
    felt = sense()
    press(felt, 100.0, 0.01, 0.01)
    assert felt.force_n == pytest.approx(100.0, rel=0.01)


def test_contact_must_last() -> None:
    felt = sense()
    press(felt, 120.0, 0.08, 0.01)
    assert not felt.contact
    press(felt, 120.0, 0.08, 0.09)
    assert felt.contact
    assert not felt.hard


def test_a_hard_contact_is_felt_at_once() -> None:
    felt = sense()
    press(felt, 400.0, 0.04, 0.01)
    assert felt.hard


def test_a_slow_change_of_load_is_no_contact() -> None:
    felt = sense()
    for i in range(300):
        press(felt, 0.5 * i, 0.01, 0.01 * (i + 1))
        assert not felt.contact


def test_joints_without_effort_feel_nothing() -> None:
    felt = ContactSense(ARM, (80.0, 0.1), (300.0, 0.02), 0.2)
    for i in range(50):
        felt.feel(state(0.01 * i, effort=np.full(7, np.nan)))
    assert not felt.contact
    assert felt.force_n == 0.0


# Tracking


def test_a_jump_that_no_arm_can_make_is_named() -> None:
    check = JumpCheck(ARM.velocity_limit_rad_s, 0.05)
    assert check.objection(state(0.0)) == ""
    assert check.objection(state(0.01, HOME + 0.06)) == ""
    assert "joint 1 moved" in check.objection(state(0.02, HOME + 0.3))
    check.reset()
    assert check.objection(state(0.03, HOME - 2.0)) == ""


def test_an_arm_that_lags_is_not_off_but_one_that_stands_still_is() -> None:
    check = TrackingCheck(0.25, 0.01)
    for i in range(100):
        check.command(HOME + 0.01 * i)
        check.measure(HOME + 0.01 * max(i - 10, 0))
        assert check.error_rad < 0.001
    check.measure(HOME)
    assert check.error_rad > 0.5
    assert not check.off(0.1, 0.1, 1.0)
    assert check.off(0.1, 0.1, 1.1)


def test_no_progress_for_a_while_is_a_stall() -> None:
    check = StallCheck(1.0, 0.02)
    assert not any(check.stalled(0.01 * i, 0.01) for i in range(300)), "progress counted as a stall"
    check.reset()
    assert any(check.stalled(10.0 + 0.01 * i, 0.0) for i in range(200))


# Retracing


def test_the_driven_path_is_driven_back_from_where_the_arm_stands_and_never_twice() -> None:
    driven = DrivenPath()
    for i in range(100):
        driven.note(0.01 * i, HOME + 0.003 * i)
    back = driven.back(0.99, HOME + 0.297, 0.3, 0.02)
    assert back is not None
    ends = back.at(np.array([back.start_s, back.end_s]))[0]
    assert np.allclose(ends[0], HOME + 0.297)
    assert np.allclose(ends[1], HOME + 0.207, atol=0.01)
    again = driven.back(0.99, HOME + 0.297, 0.3, 0.02)
    assert again is None, "the same stretch was handed out twice"


def test_nothing_is_driven_back_after_a_contact() -> None:
    driven = DrivenPath()
    for i in range(100):
        driven.note(0.01 * i, HOME + 0.003 * i)
    driven.clear()
    assert driven.back(0.99, HOME, 0.3, 0.02) is None


# Settings


@pytest.mark.parametrize(
    "values",
    [
        {"slow_risk": 0.1, "slow_risk_clear": 0.2},
        {"prediction_slow_deadline_s": 0.5},
        {"workspace_lower_m": (1.0, 0.0, 0.0)},
        {"retrace_speed": 0.5},
        {"retrace_path_s": 1.5},
        {"blend_rad": 0.5},
        {"monitor": "maybe"},
        {"no_such_setting": 1},
        {"period_s": 0.0},
        {"period_s": float("nan")},
    ],
)
def test_settings_that_contradict_the_design_are_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        GateSettings(**values)
