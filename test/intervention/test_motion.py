"""The motion in hand: where a path is entered, why it is not, and what a hold is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from gate_world import ARM, HOME
from told import PERIOD_S, REST, arm_at, limits_of, turned

from salus_ros.intervention.follower import MotionLimits
from salus_ros.intervention.motion import ArmMotion, EntryRules
from salus_ros.intervention.path import JointPath, spline
from salus_ros.intervention.settings import GateSettings
from salus_ros.intervention.stop import SOONEST_S
from salus_ros.types import Floats

LEAD_S = GateSettings().lead_s
BLEND_RAD = GateSettings().blend_rad


def path(rate_rad_s: float = 0.5, length_s: float = 1.0, joint: int = 0, start: Floats = HOME) -> JointPath:
    """One joint at a constant rate, from path time 0 on."""
    times = np.linspace(0.0, length_s, 21)
    return spline(times, start + np.outer(times, turned(joint, rate_rad_s, REST)), 0.02)


def driving(way: JointPath | None = None, ticks: int = 60) -> ArmMotion:
    """An arm that follows a path at the path's own timing."""
    way = way or path()
    motion = arm_at(way.at(np.array([way.start_s]))[0][0])
    assert motion.enter(way, 0.0, way.end_s).entered
    for _ in range(ticks):
        motion.follow(1.0)
        motion.advance(PERIOD_S)
    return motion


# Holding


def test_an_arm_that_is_placed_has_time_to_come_there_and_then_stands() -> None:
    motion = driving()
    place = motion.position + 0.03
    motion.place(place)
    assert motion.position == pytest.approx(place)
    assert motion.velocity.tolist() == [0.0] * 7
    assert not motion.standing
    assert motion.rest_in_s == pytest.approx(0.3)
    assert (motion.speed, motion.ended, motion.advanced_s) == (0.0, True, pytest.approx(0.01))
    assert math.isnan(motion.path_time_s)
    motion.advance(0.125)
    assert motion.rest_in_s == pytest.approx(0.175)
    assert motion.advanced_s == 0.0
    sent = motion.trajectory()
    assert sent.time_from_start_s == pytest.approx([0.175])
    assert sent.position_rad[0] == pytest.approx(place)
    motion.advance(0.174)
    assert not motion.standing
    motion.advance(0.001)
    assert motion.standing
    assert motion.position == pytest.approx(place)
    motion.advance(1.0)
    assert motion.rest_in_s == 0.0
    assert motion.trajectory().time_from_start_s == pytest.approx([LEAD_S])


def test_an_arm_that_is_placed_far_from_its_command_has_as_much_time_as_its_limits_need() -> None:
    """The controller may still hold it where it was commanded to be, and then drives it there."""
    motion = arm_at()
    limits = MotionLimits.of(ARM, GateSettings())
    motion.place(turned(1, 1.0))
    takes_s = motion.rest_in_s
    assert (1.5 / takes_s <= limits.velocity_rad_s[1]) and (6.0 / takes_s**2 <= limits.acceleration_rad_s2[1])
    assert motion.trajectory().time_from_start_s == pytest.approx([takes_s])
    motion.advance(takes_s - 0.01)
    assert not motion.standing
    motion.advance(0.01)
    assert motion.standing


def test_an_arm_that_is_placed_in_motion_has_time_from_the_end_of_its_command_as_well() -> None:
    settings = GateSettings(acceleration_fraction=0.1)
    motion, limits, way = arm_at(settings=settings), MotionLimits.of(ARM, settings), path()
    assert motion.enter(way, 0.0, way.end_s).entered
    for _ in range(60):
        motion.follow(1.0)
        motion.advance(PERIOD_S)
    gap = float(np.abs(motion.end - motion.position).max())
    assert 6.0 * gap / 0.3**2 > limits.acceleration_rad_s2[0], "the case needs more than the least"
    motion.place(motion.position)
    assert 6.0 * gap / motion.rest_in_s**2 <= limits.acceleration_rad_s2[0]


def test_an_arm_is_being_placed_until_it_has_come_there() -> None:
    motion = arm_at()
    assert not motion.placing
    motion.place(HOME)
    assert motion.placing
    motion.advance(0.3)
    assert not motion.placing
    motion.rest_at(turned(1, 0.2))
    assert not motion.placing
    motion.place(motion.position)
    assert motion.placing
    assert motion.end == pytest.approx(HOME)
    assert driving().placing is False


@pytest.mark.parametrize("again", [ArmMotion.place, ArmMotion.rest_at])
def test_another_place_on_the_way_to_one_gets_the_time_for_both(
    again: Callable[[ArmMotion, Floats], None],
) -> None:
    """Where the controller is by now is not known, so no near point may be sent."""
    motion = arm_at()
    motion.place(turned(1, 1.0))
    both_s = motion.rest_in_s
    motion.advance(0.25)
    again(motion, HOME)
    assert motion.position == pytest.approx(HOME)
    assert motion.rest_in_s == pytest.approx(2.0 * both_s - 0.25)
    assert motion.trajectory().time_from_start_s == pytest.approx([motion.rest_in_s])
    motion.advance(motion.rest_in_s)
    assert motion.standing
    again(motion, HOME + 0.001)
    assert motion.rest_in_s < 0.31, "it has come there, so nothing is left of before"


def test_an_arm_that_has_only_been_taken_up_has_followed_nothing() -> None:
    settings = GateSettings()
    motion = ArmMotion(HOME, MotionLimits.of(ARM, settings), limits_of(settings), EntryRules.of(settings))
    assert (motion.advanced_s, motion.speed, motion.standing) == (0.0, 0.0, False)
    assert motion.rest_in_s == pytest.approx(0.3), "the controller has one place to come to, and time for it"


def test_an_arm_that_holds_is_neither_followed_nor_stopped() -> None:
    motion = arm_at()
    motion.follow(1.0)
    motion.stop()
    motion.advance(PERIOD_S)
    assert motion.standing
    assert motion.position == pytest.approx(HOME)
    assert not motion.velocity.any()


# Where a path is entered


@pytest.mark.parametrize(
    ("rate_rad_s", "at_s", "due_s", "entry_s"),
    [
        (0.5, 0.3, 0.3, 0.3),
        (0.5, 0.35, 0.3, 0.35),  # the nearest point, when the path moves faster than time weighs
        (0.5, 0.25, 0.3, 0.25),
        (0.04, 0.4, 0.3, 0.3),  # the point due, when it moves more slowly
        (0.04, 0.2, 0.3, 0.3),
        (0.0, 0.0, 0.3, 0.3),
        (0.5, 0.6, 0.3, 0.5),  # no farther from what is due than the window
        (0.5, 0.05, 0.3, 0.1),
        (0.5, 0.0, 0.1, 0.0),
        (0.5, 0.0, -0.1, 0.0),  # not before its beginning
        (0.5, 0.0, -5.0, 0.0),
        (0.5, 0.97, 0.9, 0.97),
        (0.5, 0.99, 0.9, 0.97),  # not so near to its end that there is nothing left
        (0.5, 0.97, 1.1, 0.97),
    ],
)
def test_a_path_is_entered_where_it_is_nearest_around_the_time_due(
    rate_rad_s: float, at_s: float, due_s: float, entry_s: float
) -> None:
    motion = arm_at(HOME + turned(0, rate_rad_s * at_s, REST))
    place = motion.entry(path(rate_rad_s), due_s, 1.0)
    assert place.objection == ""
    assert place.time_s == pytest.approx(entry_s)


@pytest.mark.parametrize(
    ("at_s", "due_s", "entry_s"), [(0.3, 0.35, 0.35), (0.6, 0.55, 0.55), (0.3, -5.0, 0.0)]
)
def test_a_path_that_is_not_to_be_entered_anywhere_is_entered_at_the_time_due(
    at_s: float, due_s: float, entry_s: float
) -> None:
    motion = arm_at(HOME + turned(0, 0.3 * at_s, REST))
    assert motion.entry(path(0.3), due_s, 1.0, anywhere=False).time_s == pytest.approx(entry_s)
    assert motion.enter(path(0.3), due_s, 1.0, anywhere=False).entered
    assert motion.path_time_s == pytest.approx(entry_s)


@pytest.mark.parametrize(
    ("end_s", "due_s", "why"),
    [
        (-0.5, 0.0, "it leaves the joint limits or the workspace box at once"),
        (0.0299, 0.0, "it leaves the joint limits or the workspace box at once"),
        (0.03, 0.0, ""),
        (1.0, 1.17, ""),
        (1.0, 1.175, "it was over 0.175 s ago"),
        (9.0, 1.5, "it was over 0.500 s ago"),
        (0.5, 0.75, "it was over -0.250 s ago"),
    ],
)
def test_a_path_without_enough_left_of_it_is_not_entered(end_s: float, due_s: float, why: str) -> None:
    motion = arm_at()
    still = path(0.0)
    assert motion.entry(still, due_s, end_s).objection == why
    entry = motion.enter(still, due_s, end_s)
    assert (entry.entered, entry.objection) == (not why, why)
    assert motion.standing
    if not why:
        assert motion.path_time_s <= min(end_s, 1.0) - 0.03 + 1e-12


@pytest.mark.parametrize("joint", [0, 6])
def test_a_path_is_entered_from_as_far_as_blending_reaches(joint: int) -> None:
    for direction in (1.0, -1.0):
        near, far = turned(joint, direction * 0.125 * BLEND_RAD, HOME), turned(joint, direction * 0.13, HOME)
        assert arm_at(near).enter(path(0.0), 0.1, 1.0).entered
        assert arm_at(far).enter(path(0.0), 0.1, 1.0).objection == (
            "it lies 0.130 rad from where the arm is commanded to be"
        )
    exactly = arm_at(HOME, GateSettings(blend_rad=0.0625))
    assert exactly.enter(path(0.0, start=turned(0, 0.0625)), 0.1, 1.0).entered
    exactly = arm_at(HOME, GateSettings(blend_rad=0.0625))
    assert exactly.enter(path(0.0, start=HOME * 0), 0.1, 1.0).objection
    zero = arm_at(np.zeros(7), GateSettings(blend_rad=0.0625, workspace_upper_m=(2.0, 2.0, 2.0)))
    assert zero.entry(path(0.0, start=turned(joint, 0.0625, REST)), 0.1, 1.0).objection == ""
    assert zero.entry(path(0.0, start=turned(joint, 0.0626, REST)), 0.1, 1.0).objection != ""


def test_the_distance_told_is_that_of_the_nearest_point() -> None:
    motion = arm_at(turned(0, -0.4))
    assert motion.entry(path(1.0), 0.3, 1.0).objection == (
        "it lies 0.500 rad from where the arm is commanded to be"
    )


# What is entered


def test_from_rest_a_path_is_entered_at_rest_where_the_arm_is_and_joins_it() -> None:
    motion = arm_at(turned(0, 0.2))
    assert motion.enter(path(), 0.3, 1.0).entered
    assert (motion.speed, motion.standing, motion.ended) == (0.0, True, False)
    assert motion.path_time_s == pytest.approx(0.4)
    for _ in range(40):
        motion.follow(1.0)
        before_s = motion.path_time_s
        motion.advance(PERIOD_S)
        assert motion.advanced_s == pytest.approx(motion.path_time_s - before_s)
    assert motion.position == pytest.approx(path().at(np.array([motion.path_time_s]))[0][0])
    assert motion.velocity == pytest.approx(turned(0, 0.5 * motion.speed, REST))
    assert not motion.standing


def test_a_path_is_given_up_where_it_leaves_the_limits() -> None:
    motion = arm_at()
    assert motion.enter(path(), 0.0, 0.5).entered
    for _ in range(200):
        motion.follow(1.0)
        motion.advance(PERIOD_S)
    assert motion.standing and motion.ended
    assert motion.path_time_s == pytest.approx(0.5, abs=0.011)


def test_in_motion_a_newer_path_goes_on_at_the_speed_and_in_the_direction_of_the_one_before() -> None:
    motion = driving()
    position, velocity, speed = motion.position, motion.velocity, motion.speed
    assert speed == 1.0
    newer = path(0.6, start=position - turned(0, 0.06, REST))
    assert motion.enter(newer, 0.1, 1.0).entered
    assert motion.speed == speed
    motion.follow(1.0)
    motion.advance(1e-4)
    assert motion.position == pytest.approx(position + 1e-4 * velocity, abs=1e-7)
    assert motion.velocity == pytest.approx(velocity, abs=1e-3)


def test_a_path_too_fast_for_where_it_is_entered_is_refused_for_now_with_the_speed_that_would_do() -> None:
    motion = driving()
    at = motion.path_time_s
    short = path(0.5, length_s=0.1, start=motion.position - turned(0, 0.025, REST))
    entry = motion.enter(short, 0.05, 0.1)
    assert (entry.entered, entry.objection) == (False, "")
    assert 0.0 < entry.speed < 1.0
    assert motion.path_time_s == at, "the path in hand was given up"
    for _ in range(100):
        motion.follow(entry.speed)
        if motion.speed <= entry.speed + 1e-9:
            break
        motion.advance(PERIOD_S)
    again = path(0.5, length_s=0.1, start=motion.position - turned(0, 0.025, REST))
    assert motion.enter(again, 0.05, 0.1).entered


def test_a_join_that_swings_wide_is_refused_with_how_far() -> None:
    rush = driving(path(1.8), 80)
    back = path(-1.8, start=rush.position)
    entry = rush.enter(back, 0.0, 1.0)
    assert not entry.entered
    assert entry.objection.startswith("the way to it leads 0.1")
    assert entry.objection.endswith(" rad away from it")


def test_from_rest_it_goes_the_other_way_without_a_swing() -> None:
    rush = driving(path(1.8), 80)
    rush.stop()
    rush.advance(1.0)
    assert rush.enter(path(-1.8, start=rush.position), 0.0, 1.0).entered
    for _ in range(20):
        rush.follow(1.0)
        rush.advance(PERIOD_S)
        assert rush.velocity[0] <= 0.0, "it went on in the direction that it had come from"


def test_a_join_whose_way_begins_outside_the_box_is_refused_and_one_inside_is_not() -> None:
    height_m = float(ARM.forward(HOME)[2, 3])
    for above_m, why in (
        (1e-4, "the way to it leaves the joint limits or the workspace box"),
        (-1e-4, ""),
    ):
        motion = arm_at(HOME, GateSettings(workspace_lower_m=(-0.4, -0.9, height_m + above_m)))
        entry = motion.enter(path(0.5, start=turned(3, 0.05)), 0.0, 1.0)
        assert (entry.entered, entry.objection) == (not why, why)
        assert motion.standing


def test_a_path_is_entered_only_if_a_little_of_the_way_to_it_is_inside_the_limits() -> None:
    for left_s, entered in ((0.01, True), (-0.01, False)):
        edge = HOME.copy()
        edge[6] = ARM.position_upper_rad[6] - 0.4 * (left_s + 0.04)
        entry = arm_at(edge).enter(path(0.4, joint=6, length_s=1.0, start=edge), 0.0, 1.0)
        assert entry.entered is entered, left_s


# Stopping


def test_a_stop_brakes_on_the_path_and_stands_on_it() -> None:
    motion = driving()
    at_s = motion.path_time_s
    motion.stop()
    assert 0.0 < motion.rest_in_s < 0.2
    rest_s = motion.rest_in_s
    assert motion.trajectory().time_from_start_s[0] >= LEAD_S - 1e-9
    assert motion.trajectory(SOONEST_S).time_from_start_s[0] < LEAD_S
    motion.advance(0.5 * rest_s)
    assert 0.0 < motion.speed < 1.0
    motion.advance(0.6 * rest_s)
    assert motion.standing
    assert not motion.velocity.any()
    assert at_s < motion.path_time_s < at_s + 0.1
    assert motion.position == pytest.approx(path().at(np.array([motion.path_time_s]))[0][0])


def test_a_rest_elsewhere_leaves_the_path_and_takes_the_velocity_away_within_the_limits() -> None:
    motion = driving()
    position, velocity = motion.position, motion.velocity
    motion.rest_at(HOME)
    assert math.isnan(motion.path_time_s)
    assert (motion.speed, motion.ended, motion.standing) == (0.0, True, False)
    duration_s = motion.rest_in_s
    sent = motion.trajectory()
    assert sent.time_from_start_s[0] == pytest.approx(LEAD_S)
    assert sent.time_from_start_s[-1] == pytest.approx(duration_s)
    motion.advance(1e-5)
    assert motion.position == pytest.approx(position + 1e-5 * velocity, abs=1e-7)
    limits = MotionLimits.of(ARM, GateSettings())
    before = motion.velocity
    for _ in range(round(duration_s / 1e-3) + 1):
        motion.advance(1e-3)
        assert (np.abs(motion.velocity - before) <= limits.acceleration_rad_s2 * 1.1e-3).all()
        assert (np.abs(motion.velocity) <= limits.velocity_rad_s).all()
        before = motion.velocity
    assert motion.standing
    assert motion.position == pytest.approx(HOME)
    assert motion.rest_at(HOME + turned(6, 9.0, REST))
    motion.advance(60.0)
    assert motion.position[6] == pytest.approx(ARM.position_upper_rad[6])


def test_a_rest_that_swings_out_of_the_box_between_the_points_of_its_command_is_a_stop_as_well() -> None:
    """The points of a later command would lie there."""

    def falling(floor_m: float) -> ArmMotion:
        settings = GateSettings(workspace_lower_m=(-5.0, -5.0, floor_m), workspace_upper_m=(5.0, 5.0, 5.0))
        motion = arm_at(HOME, settings)
        motion.velocity = turned(1, 1.0, REST)  # downwards
        return motion

    def heights_m(places: Floats) -> Floats:
        return np.asarray(ARM.forward(places)[:, 2, 3])

    motion = falling(-5.0)
    assert motion.rest_at(HOME)
    sent_m = float(heights_m(motion.trajectory().position_rad).min())
    way = []
    while not motion.standing:
        motion.advance(1e-3)
        way.append(motion.position)
    lowest_m = float(heights_m(np.array(way)).min())
    assert lowest_m < sent_m - 1e-5, "the case tests nothing"
    assert falling(lowest_m - 1e-5).rest_at(HOME)
    assert not falling(0.5 * (lowest_m + sent_m)).rest_at(HOME)


def test_a_rest_that_would_swing_out_of_the_box_is_a_stop_on_the_path_instead() -> None:
    low_m = float(ARM.forward(HOME)[2, 3]) - 0.05
    settings = GateSettings(workspace_lower_m=(-0.4, -0.9, low_m))
    below = turned(1, 0.5, HOME)
    assert ARM.forward(below)[2, 3] < low_m
    motion = arm_at(HOME, settings)
    way = path(joint=0)
    assert motion.enter(way, 0.0, way.end_s).entered
    for _ in range(60):
        motion.follow(1.0)
        motion.advance(PERIOD_S)
    assert motion.rest_at(below) is False
    assert not math.isnan(motion.path_time_s), "it has left the path"
    rests_in_s = motion.rest_in_s
    motion.advance(rests_in_s)
    assert motion.standing
    assert motion.position == pytest.approx(way.at(np.array([motion.path_time_s]))[0][0])
    assert motion.rest_at(motion.position)
