"""Whether the arm does what it is told: possible joint states, distance from the commands, progress."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_world import ARM, HOME

from salus_ros.intervention.tracking import PlausibilityCheck, StallCheck, TrackingCheck
from salus_ros.types import Floats, RobotState

REST = np.zeros(7)
SPEED = np.full(7, 2.0)
WIDE = replace(ARM, position_lower_rad=REST - 9.0, position_upper_rad=REST + 9.0, velocity_limit_rad_s=SPEED)
"""An arm whose limits are round numbers."""


def state(stamp_s: float, position: Floats = HOME) -> RobotState:
    return RobotState(stamp_s, position, REST, REST, 0.08)


def turned(joint: int, angle_rad: float) -> Floats:
    return REST + angle_rad * (np.arange(7) == joint)


# Jumps


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize("joint", [0, 4])
def test_a_joint_state_may_be_as_far_from_the_last_as_speed_and_margin_allow(
    joint: int, direction: float
) -> None:
    check = PlausibilityCheck(WIDE, 0.25)
    start = np.full(7, 0.5)
    assert check.objection(state(10.0, start)) == ""
    assert check.objection(state(10.5, start + turned(joint, 1.25 * direction))) == ""
    assert check.objection(state(10.5, start)) != "", "the last joint state counts, not the first"


def test_a_jump_that_no_arm_can_make_names_the_joint_that_is_farthest_off() -> None:
    quick = np.array([2.0, 2.0, 2.0, 9.0, 2.0, 2.0, 2.0])
    check = PlausibilityCheck(replace(WIDE, velocity_limit_rad_s=quick), 0.25)
    check.objection(state(10.0, REST))
    jump = turned(3, 4.0) + turned(5, -1.5) + turned(1, 1.3)
    assert check.objection(state(10.5, jump)) == "joint 6 moved -1.500 rad in 0.500 s"


def test_joint_states_with_the_same_or_an_older_stamp_may_differ_by_the_margin_only() -> None:
    check = PlausibilityCheck(WIDE, 0.25)
    check.objection(state(10.0, REST))
    assert check.objection(state(10.0, turned(0, 0.25))) == ""
    assert check.objection(state(9.0, turned(0, 0.75))) == "joint 1 moved 0.500 rad in 0.000 s"


def test_after_a_reset_the_arm_may_be_anywhere() -> None:
    check = PlausibilityCheck(WIDE, 0.25)
    check.objection(state(10.0, REST))
    check.reset()
    assert check.objection(state(10.01, turned(0, 2.0))) == ""


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_joint_outside_its_limits_by_more_than_the_margin_is_impossible_and_named(direction: float) -> None:
    check = PlausibilityCheck(WIDE, 0.25)
    there = turned(2, 9.25 * direction)
    assert check.objection(state(10.0, there)) == ""
    farther = there + turned(2, 0.125 * direction) + turned(4, 9.3 * direction)
    expected = f"joint 3 at {9.375 * direction:.3f} rad lies outside its limits"
    assert check.objection(state(20.0, farther)) == expected
    check.reset()
    assert check.objection(state(30.0, farther)) == expected, "it stays so, whatever came before"


# Following


def test_the_error_is_that_of_the_farthest_joint_from_the_nearest_recent_command() -> None:
    check = TrackingCheck(0.03, 0.01)
    check.measure(HOME)
    assert check.error_rad == 0.0, "without a command there is nothing to be off from"
    check.command(REST)
    check.command(turned(2, 1.0))
    check.measure(turned(2, 0.75) + turned(3, -0.5))
    assert check.error_rad == pytest.approx(0.5)
    check.measure(turned(2, 0.25))
    assert check.error_rad == pytest.approx(0.25)


def test_a_place_is_as_far_as_the_nearest_recent_command() -> None:
    check = TrackingCheck(0.02, 0.01)
    assert check.distance_rad(HOME) == np.inf
    for angle_rad in (0.0, 0.5, 1.0):
        check.command(turned(2, angle_rad))
    assert check.distance_rad(turned(2, 0.25)) == pytest.approx(0.25)
    assert check.error_rad == 0.0, "nothing has been measured"


@pytest.mark.parametrize(("window_s", "count"), [(0.03, 3), (0.26, 26), (0.001, 1)])
def test_commands_count_as_recent_for_the_window_and_at_least_for_one_period(
    window_s: float, count: int
) -> None:
    check = TrackingCheck(window_s, 0.01)
    check.command(REST)
    for _ in range(count - 1):
        check.command(turned(0, 1.0))
    check.measure(REST)
    assert check.error_rad == 0.0
    check.command(turned(0, 1.0))
    check.measure(REST)
    assert check.error_rad == 1.0


def test_an_arm_that_lags_is_not_off_but_one_that_stands_still_is() -> None:
    check = TrackingCheck(0.25, 0.01)
    for i in range(100):
        check.command(HOME + 0.01 * i)
        check.measure(HOME + 0.01 * max(i - 10, 0))
        assert check.error_rad < 0.001
    check.measure(HOME)
    assert check.error_rad > 0.5


def test_an_arm_must_be_beyond_a_limit_for_the_persistence_and_each_limit_has_its_own() -> None:
    check = TrackingCheck(0.25, 0.01)
    check.command(REST)
    check.measure(turned(0, 0.25))
    assert not check.off(0.25, 0.0, 1.0), "exactly at the limit"
    check.measure(turned(0, 0.375))
    assert not check.off(0.25, 0.5, 1.0)
    assert not check.off(0.25, 0.5, 1.25)
    assert not check.off(0.5, 0.0, 1.25)
    assert check.off(0.25, 0.5, 1.5)
    check.measure(turned(0, 0.75))
    assert not check.off(0.5, 0.5, 2.0), "beyond the higher limit only since now"
    assert check.off(0.25, 0.5, 2.0)


def test_an_arm_that_came_back_must_be_off_anew() -> None:
    for comes_back in (lambda check: check.measure(REST), lambda check: check.reset()):
        check = TrackingCheck(0.25, 0.01)
        check.command(REST)
        check.measure(turned(0, 0.5))
        assert not check.off(0.25, 0.5, 1.0)
        comes_back(check)
        assert check.error_rad == 0.0
        assert not check.off(0.25, 0.5, 1.5)
        check.command(REST)
        check.measure(turned(0, 0.5))
        assert not check.off(0.25, 0.5, 1.75)
        assert check.off(0.25, 0.5, 2.25)


def test_after_a_reset_old_commands_count_no_more() -> None:
    check = TrackingCheck(0.25, 0.01)
    check.command(REST)
    check.reset()
    check.measure(turned(0, 0.5))
    assert check.error_rad == 0.0
    check.command(turned(0, 0.5))
    check.measure(REST)
    assert check.error_rad == 0.5


# Progress


def checked(window_s: float = 1.0, progress: float = 0.5, holds: int = 2, renew_s: float = 3.0) -> StallCheck:
    return StallCheck(window_s, progress, holds, renew_s)


def stalls(check: StallCheck, progress_s: float, start_s: float, ticks: int) -> list[float]:
    """When a stall is told, with a tick each quarter of a second."""
    times = [start_s + 0.25 * i for i in range(ticks)]
    return [t for t in times if check.stalled(t, progress_s)]


def test_a_window_without_progress_is_a_stall_and_the_next_one_begins_after_it() -> None:
    assert stalls(checked(1.0, 0.5), 0.0, 10.0, 13) == [11.0, 12.0, 13.0]


def test_enough_progress_is_no_stall_and_a_little_less_is_one() -> None:
    # Five ticks from the first to the end of the first window, four in each one after it.
    assert stalls(checked(1.0, 0.5), 0.125, 10.0, 13) == []
    assert stalls(checked(1.0, 0.5), 0.12, 10.0, 13) == [12.0, 13.0]
    assert stalls(checked(2.0, 0.25), 0.04, 10.0, 9) == [12.0], "the share is one of the window"


def test_progress_of_one_window_does_not_count_in_the_next() -> None:
    check = checked(1.0, 0.5)
    assert not check.stalled(10.0, 100.0)
    assert not check.stalled(11.0, 0.0)
    assert check.stalled(12.0, 0.0)


def test_after_a_reset_the_window_begins_anew_with_the_next_tick() -> None:
    check = checked(1.0, 0.5)
    check.stalled(10.0, 100.0)
    check.reset()
    assert not check.stalled(10.5, 0.0)
    assert not check.stalled(11.25, 0.0)
    assert check.stalled(11.5, 0.0), "progress from before the reset counted"


@pytest.mark.parametrize("allowed", [0, 2])
def test_an_arm_that_is_held_more_often_than_allowed_is_blocked_which_is_told_once(allowed: int) -> None:
    check = checked(holds=allowed)
    for _ in range(2):
        for _ in range(allowed):
            check.hold()
            assert not check.blocked()
        check.hold()
        assert check.blocked()
        assert not check.blocked()


def test_an_arm_that_has_followed_far_enough_since_it_was_held_is_not_blocked() -> None:
    check = checked(holds=1, renew_s=1.0)

    def held_after(followed_s: float) -> bool:
        check.stalled(10.0, followed_s)
        check.hold()
        return check.blocked()

    assert [held_after(0.5), held_after(0.75), held_after(0.25)] == [False, True, False]
    assert held_after(1.0) is False, "it had followed for long enough"
    check.stalled(10.0, 0.5)
    assert held_after(0.5) is False, "it had followed for long enough, in two ticks"
    check.reset()
    assert held_after(0.5) is True, "a new window forgot the hold"
    held_after(0.0)
    check.renew()
    assert held_after(0.0) is False, "it was held before it began anew"
