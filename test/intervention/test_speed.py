"""How fast a path may be followed where, and how a follower keeps to it, in numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from gate_world import ARM, HOME
from told import REST, turned

from salus_ros.intervention.follower import Follower, MotionLimits, SpeedLimits
from salus_ros.intervention.path import JointPath, spline
from salus_ros.intervention.settings import GateSettings
from salus_ros.intervention.stop import SOONEST_S, SpeedProfile

DT, LEAD_S = 0.01, 0.03
LIMITS = MotionLimits(
    velocity_rad_s=np.full(7, 2.0),
    acceleration_rad_s2=np.full(7, 10.0),
    braking_share=0.25,
    braking_rate_max_s=20.0,
    speeding_up_rate_s=2.0,
    period_s=DT,
    lead_s=LEAD_S,
)


def line(rate_rad_s: float, length_s: float = 1.0, joint: int = 0, begin_s: float = 0.0) -> JointPath:
    times = begin_s + np.linspace(0.0, length_s, 21)
    return spline(times, HOME + np.outer(times, turned(joint, rate_rad_s, REST)), 0.02)


def bend(acceleration_rad_s2: float, length_s: float = 0.5) -> JointPath:
    """One joint from rest at a constant acceleration, after a little of the path at which it begins."""
    times = np.linspace(0.0, length_s, 101)
    return spline(times, HOME + 0.5 * np.outer(times**2, turned(2, acceleration_rad_s2, REST)), 0.02)


def allowed(path: JointPath, at_s: float, limits: MotionLimits = LIMITS) -> float:
    """Speed scale allowed at a path time."""
    return math.sqrt(float(SpeedLimits.of(path, limits).squared_at(np.array([at_s]))[0]))


# The limits of the speed


def test_commands_may_ask_for_the_shares_of_the_arms_limits_that_are_set() -> None:
    numbers = {"braking_share": 0.375, "braking_rate_max_s": 11.0, "speeding_up_rate_s": 3.0}
    times = {"period_s": 0.02, "lead_s": 0.05}
    settings = GateSettings(velocity_fraction=0.5, acceleration_fraction=0.25, **numbers, **times)
    limits = MotionLimits.of(ARM, settings)
    assert limits.velocity_rad_s == pytest.approx(ARM.velocity_limit_rad_s / 2)
    assert limits.acceleration_rad_s2 == pytest.approx(ARM.acceleration_limit_rad_s2 / 4)
    assert {name: getattr(limits, name) for name in (*numbers, *times)} == {**numbers, **times}


@pytest.mark.parametrize(
    ("rate_rad_s", "at_s", "speed"),
    [
        (0.5, 0.5, 1.0),
        (2.0, 0.5, 1.0),
        (4.0, 0.5, 0.5),  # the velocity limit
        (-4.0, 0.0, 0.5),
        (0.5, 0.99, math.sqrt(2 * 20.0 * 0.01)),  # what 20/s can take away on what is left
        (0.5, 0.98, math.sqrt(2 * 20.0 * 0.02)),
        (1.0, 0.98, math.sqrt(2 * 10.0 * 0.02)),  # what 10 rad/s^2 can
        (2.0, 0.98, math.sqrt(2 * 5.0 * 0.02)),
        (2.0, 0.95, math.sqrt(2 * 5.0 * 0.05)),
        (2.0, 0.8, 1.0),
        (2.0, 1.0, 0.0),
        (0.0, 0.5, 1.0),
    ],
)
@pytest.mark.parametrize("joint", [0, 6])
def test_the_speed_is_that_of_the_joints_limits_and_of_the_stop_on_what_is_left(
    rate_rad_s: float, at_s: float, speed: float, joint: int
) -> None:
    assert allowed(line(rate_rad_s, joint=joint), at_s) == pytest.approx(speed, abs=2e-3)


@pytest.mark.parametrize(
    ("acceleration_rad_s2", "speed"),
    [(7.5, 1.0), (30.0, math.sqrt(0.25)), (-30.0, math.sqrt(0.25)), (75.0, math.sqrt(0.1))],
)
def test_bending_takes_no_more_than_its_share_of_the_acceleration(
    acceleration_rad_s2: float, speed: float
) -> None:
    times = np.linspace(0.0, 1.0, 201)
    sway = spline(
        times, HOME + np.outer(np.sin(20.0 * times), turned(4, acceleration_rad_s2 / 400.0, REST)), 0.02
    )
    limits = replace(LIMITS, velocity_rad_s=np.full(7, 9.0))
    slowest = min(allowed(sway, at_s, limits) for at_s in np.linspace(0.2, 0.6, 41))
    assert slowest == pytest.approx(speed, rel=0.02)


def test_a_bend_slows_its_own_place_alone() -> None:
    times = np.linspace(0.0, 1.0, 201)
    bent = np.where(times > 0.9, 50.0 * (times - 0.9) ** 2, 0.0)
    path = spline(times, HOME + np.outer(bent, turned(4, 1.0, REST)), 0.02)
    limits = replace(LIMITS, velocity_rad_s=np.full(7, 99.0))
    assert allowed(path, 0.95, limits) < 0.3
    assert allowed(path, 0.5, limits) == pytest.approx(1.0)


def test_what_bending_takes_is_not_there_for_braking() -> None:
    # At its end the path moves at 2.5 rad/s and bends with all that it may: 2.5 of 10 rad/s^2 are left.
    path, limits = bend(5.0, 0.5), replace(LIMITS, velocity_rad_s=np.full(7, 9.0))
    for left_s in (0.02, 0.03):
        rate_s = (10.0 - 5.0) / 2.5
        assert allowed(path, 0.5 - left_s, limits) == pytest.approx(math.sqrt(2 * rate_s * left_s), rel=0.05)


def test_a_slow_place_slows_what_lies_before_it_by_what_can_be_braked() -> None:
    path = slow_in_the_middle()
    limits = replace(LIMITS, acceleration_rad_s2=np.full(7, 1e6))
    slow = allowed(path, 0.7, limits)
    assert slow == pytest.approx(0.25, rel=0.01)
    gain = allowed(path, 0.47, limits) ** 2 - allowed(path, 0.48, limits) ** 2
    assert gain == pytest.approx(2 * 20.0 * 0.01, rel=0.12)
    assert allowed(path, 0.45, limits) == 1.0


def test_a_long_path_is_looked_at_coarsely_and_a_short_one_at_three_places_at_least() -> None:
    assert len(SpeedLimits.of(line(0.5, 1.0), LIMITS).grid_s) == 101
    assert len(SpeedLimits.of(line(0.5, 20.0), LIMITS).grid_s) == 801
    assert len(SpeedLimits.of(line(0.5, 0.01), LIMITS).grid_s) == 3
    grid = SpeedLimits.of(line(0.5, 1.0, begin_s=0.25), LIMITS).grid_s
    assert grid[[0, -1]].tolist() == [0.25, 1.25]
    assert len(grid) == 101


# Following


def followed(path: JointPath, speeds: list[float], limits: MotionLimits = LIMITS) -> Follower:
    follower = Follower(path, limits)
    for speed in speeds:
        follower.follow(speed)
        follower.advance(DT)
    return follower


def test_it_begins_at_the_beginning_at_rest_or_at_the_speed_given() -> None:
    follower = Follower(line(0.5, begin_s=0.25), LIMITS)
    assert (follower.path_time_s, follower.speed, follower.standing, follower.ended) == (
        0.25,
        0.0,
        True,
        False,
    )
    assert follower.rest_in_s == 0.0
    moving = Follower(line(0.5), LIMITS, 0.5)
    assert (moving.speed, moving.standing) == (0.5, False)
    assert moving.rest_in_s == pytest.approx(LEAD_S), (
        "at 20/s it would take 25 ms, and a message's lead is more"
    )
    moving.advance(1.0)
    assert moving.standing


@pytest.mark.parametrize(
    ("asked", "limits", "speeds"),
    [
        (1.0, LIMITS, [0.02, 0.04, 0.06, 0.08]),
        (0.05, LIMITS, [0.02, 0.04, 0.05, 0.05]),
        (0.9, replace(LIMITS, speeding_up_rate_s=15.0), [0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.9]),
        (2.0, replace(LIMITS, speeding_up_rate_s=15.0), [0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0, 1.0]),
        # 0.5 rad/s^2 can change the speed of a path of 0.5 rad/s by 1/s.
        (1.0, replace(LIMITS, acceleration_rad_s2=np.full(7, 0.5)), [0.01, 0.02, 0.03]),
        (0.0, LIMITS, [0.0, 0.0]),
        (5e-4, LIMITS, [0.0, 0.0]),  # slower than rest
        (1e-3, LIMITS, [1e-3, 1e-3]),
    ],
)
def test_it_speeds_up_no_faster_than_set_than_the_limits_allow_and_than_asked_for(
    asked: float, limits: MotionLimits, speeds: list[float]
) -> None:
    follower = Follower(line(0.5), limits)
    reached, places = [], [0.0]
    for _ in speeds:
        follower.follow(asked)
        follower.advance(DT)
        reached.append(follower.speed)
        places.append(follower.path_time_s)
    assert reached == pytest.approx(speeds)
    means = 0.5 * (np.array(speeds) + np.array([0.0, *speeds[:-1]]))
    assert np.diff(places) == pytest.approx(DT * means)


@pytest.mark.parametrize(
    ("asked", "speeds"),
    [(0.5, [0.8, 0.6, 0.5, 0.5]), (0.0, [0.8, 0.6, 0.4, 0.2, 0.0]), (0.95, [0.95, 0.95])],
)
def test_it_slows_down_as_fast_as_the_limits_allow(asked: float, speeds: list[float]) -> None:
    follower = followed(line(0.5, 2.0), [1.0] * 60)
    assert follower.speed == 1.0
    reached = []
    for _ in speeds:
        follower.follow(asked)
        follower.advance(DT)
        reached.append(follower.speed)
    assert reached == pytest.approx(speeds, abs=2e-3)


def test_before_a_slow_place_and_before_its_end_it_slows_in_time() -> None:
    follower = followed(line(2.0, 1.0), [1.0] * 60)
    for _ in range(300):
        squared = float(follower.speed_limits.squared_at(np.array([follower.path_time_s]))[0])
        assert follower.speed**2 <= squared + 1e-6
        follower.follow(1.0)
        follower.advance(DT)
    assert follower.ended
    assert follower.path_time_s == pytest.approx(1.0, abs=2e-4), "it stops before its end"
    follower.follow(1.0)
    assert follower.standing


def slow_in_the_middle() -> JointPath:
    """A path that may be followed at its own timing first and then at a quarter of it."""
    times = np.linspace(0.0, 1.0, 101)
    points = np.cumsum(np.where(times < 0.5, 0.25, 8.0)) * 0.01
    return spline(times, HOME + np.outer(points, turned(0, 1.0, REST)), 0.02)


def test_before_a_slow_place_it_slows_no_harder_and_no_more_than_it_must() -> None:
    limits = replace(LIMITS, acceleration_rad_s2=np.full(7, 1e6), speeding_up_rate_s=20.0)
    follower = Follower(slow_in_the_middle(), limits)
    speeds = []
    while follower.path_time_s < 0.9:
        follower.follow(1.0)
        follower.advance(DT)
        speeds.append(follower.speed)
        assert len(speeds) < 300
    assert max(speeds) == pytest.approx(1.0)
    assert np.diff(speeds).min() >= -20.0 * DT - 1e-6, "it slowed harder than the limits allow"
    assert min(speeds[8:]) > 0.2, "it slowed more than it must"


def test_a_path_entered_too_fast_is_stopped_on() -> None:
    follower = Follower(line(0.5, 0.025), LIMITS, 1.0)
    follower.follow(1.0)
    assert follower.rest_in_s == pytest.approx(0.05)
    follower.advance(0.025)
    assert follower.speed == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize(
    ("at_s", "rate_s"), [(0.0, 8.0 / 1.02), (0.0049, 8.0 / 1.02), (0.505, 8.0 / 2.02), (0.515, 8.0 / 2.04)]
)
def test_the_speed_changes_as_fast_as_the_limits_allow_at_its_place(at_s: float, rate_s: float) -> None:
    times = np.linspace(0.0, 1.0, 101)
    path = spline(times, HOME + np.outer(times + times**2, turned(0, 1.0, REST)), 0.02)
    limits = replace(LIMITS, velocity_rad_s=np.full(7, 9.0), speeding_up_rate_s=99.0)
    follower = Follower(path, limits)
    follower.path_time_s, follower.speed = at_s, 0.25
    follower.follow(1.0)
    follower.advance(DT)
    assert (follower.speed - 0.25) / DT == pytest.approx(rate_s, rel=2e-3)


def test_a_stop_in_hand_goes_on_and_following_again_takes_it_up() -> None:
    follower = followed(line(0.5, 2.0), [1.0] * 60)
    follower.stop()
    begin_s, rest_s = follower.path_time_s, follower.rest_in_s
    assert rest_s == pytest.approx(0.05)
    for k in range(1, 5):
        follower.advance(DT)
        follower.stop()
        assert follower.rest_in_s == pytest.approx(rest_s - k * DT), "the stop began anew"
    follower.advance(DT)
    assert follower.standing
    assert follower.path_time_s == pytest.approx(begin_s + 0.5 * 0.05)
    follower.follow(1.0)
    assert not follower.standing
    assert follower.rest_in_s > LEAD_S
    follower.advance(DT)
    follower.stop()
    assert follower.speed > 0.0
    assert not follower.standing


def test_silence_keeps_the_speed_for_the_lead_and_then_rests() -> None:
    follower = followed(line(0.5, 2.0), [1.0] * 60)
    follower.follow(1.0)
    begin_s = follower.path_time_s
    assert follower.rest_in_s == pytest.approx(LEAD_S + 0.05)
    for elapsed_s, speed, at_s in (
        (0.03, 1.0, 0.03),
        (0.055, 0.5, 0.03 + 0.025 - 0.00625),
        (0.08, 0.0, 0.055),
    ):
        late = followed(line(0.5, 2.0), [1.0] * 60)
        late.follow(1.0)
        late.advance(elapsed_s)
        assert late.speed == pytest.approx(speed, abs=2e-3)
        assert late.path_time_s - begin_s == pytest.approx(at_s, abs=1e-4)
    late.advance(9.0)
    assert late.standing is False, "nobody has told it to stand"
    late.follow(0.0)
    assert late.standing


def test_a_speed_below_a_thousandth_is_rest() -> None:
    follower = followed(line(0.5, 2.0), [1.0] * 60)
    follower.stop()
    follower.advance(follower.rest_in_s - 1e-6)
    assert follower.speed == 0.0


# What a path allows


def test_a_path_allows_the_speed_that_it_can_be_followed_with_here_and_over_the_lead() -> None:
    short = Follower(line(0.5, 0.04), LIMITS, 0.0)
    assert short.allows(0.0)
    assert short.allows(0.5)
    assert not short.allows(0.9), "0.013 s are left after the lead, on which 0.72 can be braked"
    exact = math.sqrt(2 * 20.0 * (0.04 - LEAD_S * 0.65))
    assert exact > 0.65
    long = Follower(line(4.0, 1.0), LIMITS, 0.0)
    assert long.allows(0.5)
    assert not long.allows(0.501)


def test_the_speed_at_which_a_path_can_be_entered_is_the_lowest_near_its_beginning() -> None:
    assert Follower(line(0.5), LIMITS).entry_speed == pytest.approx(1.0)
    assert Follower(line(4.0), LIMITS).entry_speed == pytest.approx(0.5)
    assert Follower(line(0.5, 0.05, begin_s=0.25), LIMITS).entry_speed == pytest.approx(
        math.sqrt(2 * 20.0 * 0.01)
    )


def test_a_path_has_ended_when_less_than_a_hundredth_of_a_second_is_left() -> None:
    follower = Follower(line(0.5, 1.0), LIMITS)
    for at_s, ended in ((0.5, False), (0.9899, False), (0.9901, True), (1.0, True)):
        follower.path_time_s = at_s
        assert follower.ended is ended


def test_a_rounding_beyond_its_end_a_path_is_stopped_on() -> None:
    follower = Follower(line(0.5, 1.0), LIMITS, 0.5)
    follower.path_time_s = math.nextafter(1.0, 2.0)
    follower.follow(1.0)
    assert follower.rest_in_s == pytest.approx(LEAD_S)


# What is sent


def test_what_is_sent_begins_the_lead_ahead_and_ends_in_the_rest() -> None:
    follower = followed(line(0.5, 2.0), [1.0] * 60)
    at_s = follower.path_time_s
    follower.follow(1.0)
    sent = follower.trajectory()
    assert sent.time_from_start_s[0] == pytest.approx(LEAD_S)
    assert sent.time_from_start_s[-1] == pytest.approx(LEAD_S + 0.05)
    assert sent.position_rad[0] == pytest.approx(HOME + turned(0, 0.5 * (at_s + LEAD_S), REST), abs=1e-4)
    assert sent.velocity_rad_s[0] == pytest.approx(turned(0, 0.5, REST), abs=2e-3)
    assert sent.position_rad[-1] == pytest.approx(
        HOME + turned(0, 0.5 * (at_s + LEAD_S + 0.025), REST), abs=1e-4
    )
    assert not sent.velocity_rad_s[-1].any()
    assert (np.diff(sent.time_from_start_s) > 0.0).all()


def test_velocities_are_sent_at_the_speed_of_each_point() -> None:
    follower = followed(line(0.5, 2.0), [0.5] * 60)
    follower.follow(0.5)
    sent = follower.trajectory()
    assert sent.velocity_rad_s[0] == pytest.approx(turned(0, 0.25, REST), abs=1e-3)
    assert (np.abs(sent.velocity_rad_s[:, 0]) <= 0.25 + 1e-9).all()
    assert np.isfinite(sent.velocity_rad_s).all()


def test_what_is_left_of_a_stop_is_sent_from_where_it_is() -> None:
    follower = followed(line(0.5, 2.0), [1.0] * 60)
    follower.stop()
    follower.advance(0.015)
    sent = follower.trajectory()
    assert sent.time_from_start_s[-1] == pytest.approx(0.035)
    assert sent.time_from_start_s[0] >= LEAD_S - 1e-9
    corners = follower.trajectory(SOONEST_S)
    assert corners.time_from_start_s[0] < 0.01
    assert corners.time_from_start_s[-1] == pytest.approx(0.035)
    assert np.diff(corners.time_from_start_s).max() <= 0.02 + 1e-9
    follower.advance(0.0345)
    assert follower.trajectory().time_from_start_s == pytest.approx([DT]), "a rest that is due at once"
    follower.advance(1.0)
    stands = follower.trajectory()
    assert stands.time_from_start_s == pytest.approx([DT])
    assert stands.position_rad[0] == pytest.approx(follower.state()[0])


def test_a_stop_that_is_sent_with_every_corner_has_as_many_points_as_it_is_long() -> None:
    follower = followed(line(2.0, 2.0), [1.0] * 60)
    follower.stop()
    few, many = follower.trajectory(), follower.trajectory(SOONEST_S)
    assert follower.rest_in_s == pytest.approx(0.2, abs=0.01)
    assert np.diff(many.time_from_start_s).max() <= 0.02 + 1e-9
    assert len(few.time_from_start_s) <= 9 < len(many.time_from_start_s)
    assert many.position_rad[-1] == pytest.approx(few.position_rad[-1])


def test_the_state_is_that_of_the_path_where_it_is() -> None:
    follower = followed(bend(4.0, 1.0), [1.0] * 60)
    at_s = follower.path_time_s
    position, velocity, acceleration = follower.state()
    assert position == pytest.approx(HOME + turned(2, 2.0 * at_s**2, REST), abs=1e-3)
    assert velocity == pytest.approx(turned(2, 4.0 * at_s, REST), abs=1e-2)
    assert acceleration == pytest.approx(turned(2, 4.0, REST), abs=0.1)


def test_a_profile_with_more_points_has_no_more_than_it_needs() -> None:
    profile = SpeedProfile([0.0, 0.04, 0.05], [0.0, 0.04, 0.045], [1.0, 1.0, 0.0])
    assert profile.with_spans(0.02).time_s == pytest.approx([0.0, 0.02, 0.04, 0.05])
