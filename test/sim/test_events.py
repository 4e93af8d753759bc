"""Each rule on moments made by hand that trigger it and that nearly trigger it."""

from dataclasses import replace

import numpy as np
import pytest

from salus_ros.sim.events import (
    CollisionRule,
    DropRule,
    EventSettings,
    MissRule,
    Referee,
    SuccessRule,
)
from salus_ros.sim.tasks import BinTask, PastObstacleTask, PushTask, StackTask
from salus_ros.sim.truth import Truth
from salus_ros.types import FailureType

SETTINGS = EventSettings()
BIN, STACK, PUSH = BinTask(), StackTask(), PushTask()
OVER_BIN = np.array([0.5, 0.3, 0.2])
OVER_TABLE = np.array([0.5, 0.0, 0.2])


def truth(**changes):
    cubes = np.array([OVER_TABLE, [0.4, 0.1, 0.02], [0.4, -0.1, 0.02]])
    quiet = Truth(
        time_s=0.0,
        colours=("red", "green", "blue"),
        target=0,
        second=-1,
        cube_position_m=cubes,
        cube_rotation=np.repeat(np.eye(3)[None], 3, axis=0),
        cube_velocity_m_s=np.zeros((3, 3)),
        cube_size_m=np.full(3, 0.04),
        gripped=-1,
        held=-1,
        touched=np.zeros(3, dtype=bool),
        bin_position_m=np.array([0.5, 0.3, 0.0]),
        mark_position_m=np.array([0.55, -0.2, 0.0]),
        obstacle_position_m=np.array([0.4, 0.0, -2.0]),
        obstacle_height_m=0.2,
        tool_pose=np.eye(4),
        tool_velocity=np.zeros(6),
        gripper_opening_m=0.08,
        gripper_command_m=0.08,
        contact_force_n=0.0,
        cube_contact_force_n=0.0,
        press_force_n=0.5,
    )
    if "cube" in changes:
        cubes = cubes.copy()
        cubes[0] = changes.pop("cube")
        changes["cube_position_m"] = cubes
    return replace(quiet, **changes)


def play(rule, moments, period_s=0.01):
    """Feed moments, one per control period; returns what the rule said."""
    seen = [rule.update(replace(m, time_s=i * period_s)) for i, m in enumerate(moments)]
    return [onset for onset in seen if onset]


def forces(values, settings=SETTINGS):
    rule = CollisionRule(settings.collision_force_n, settings.collision_time_s, settings.clear_time_s, "x")
    seen = [rule.update(0.01 * i, value) for i, value in enumerate(values)]
    return [onset for onset in seen if onset]


def test_a_force_that_lasts_is_a_collision_from_when_it_began():
    (onset,) = forces([0, 0, 11, 11, 11, 11, 11])
    assert onset.failure is FailureType.COLLISION
    assert onset.stamp_s == pytest.approx(0.02)


def test_a_force_just_too_small_is_none():
    assert not forces([9.9] * 50)


def test_a_force_just_too_short_is_none():
    assert not forces([0, 50, 50, 50, 0, 50, 50, 50, 0])


def test_one_long_contact_counts_once_even_when_it_flickers():
    assert len(forces([50] * 20 + [0] * 10 + [50] * 20)) == 1


def test_a_second_contact_after_a_clear_time_counts_again():
    assert len(forces([50] * 20 + [0] * 31 + [50] * 20)) == 2


HELD = truth(gripped=0, held=0, gripper_opening_m=0.04, gripper_command_m=0.0)
OPENING = replace(HELD, gripper_command_m=0.08)
GONE = truth(gripper_command_m=0.0, gripper_opening_m=0.03)


def at(moment, position):
    cubes = moment.cube_position_m.copy()
    cubes[0] = position
    return replace(moment, cube_position_m=cubes)


def drops(moments, task=BIN):
    return play(DropRule(SETTINGS, task), moments)


def test_a_held_object_that_slips_is_a_drop_from_when_the_fingers_lost_it():
    (onset,) = drops([HELD] * 5 + [GONE] * 20)
    assert onset.failure is FailureType.DROP
    assert onset.stamp_s == pytest.approx(0.04)


def test_an_object_let_go_over_the_bin_is_no_drop():
    assert not drops([HELD] * 5 + [at(OPENING, OVER_BIN)] * 3 + [truth(cube=OVER_BIN)] * 20)


def test_a_hand_that_opens_slowly_over_the_bin_lets_go_before_it_is_wider_than_the_object():
    opening = [replace(HELD, gripper_command_m=0.001 * i) for i in range(8)]
    assert not drops([HELD] * 5 + [at(moment, OVER_BIN) for moment in opening] + [truth(cube=OVER_BIN)] * 20)


def test_a_command_that_wavers_is_no_opening():
    wavers = [replace(HELD, gripper_command_m=0.004 * (i % 2)) for i in range(8)]
    assert drops([at(moment, OVER_BIN) for moment in wavers] + [at(GONE, OVER_BIN)] * 20)


def test_an_object_let_go_beside_the_bin_is_a_drop():
    beside = np.array([0.5, 0.3 - 0.075, 0.2])
    assert drops([HELD] * 5 + [at(OPENING, beside)] * 3 + [truth(cube=beside)] * 20)


def test_an_object_that_slips_over_the_bin_without_opening_is_a_drop():
    assert drops([at(HELD, OVER_BIN)] * 5 + [at(GONE, OVER_BIN)] * 20)


def test_a_wrong_object_let_go_over_the_bin_is_a_drop():
    wrong = replace(at(OPENING, OVER_BIN), gripped=1, held=1)
    assert drops([wrong] * 5 + [truth()] * 20)


def test_a_finger_that_loses_touch_for_a_moment_is_no_drop():
    assert not drops([HELD] * 5 + [GONE] * 4 + [HELD] * 20)


def test_an_object_that_was_gripped_but_never_lifted_is_no_drop():
    assert not drops([replace(HELD, held=-1)] * 20 + [GONE] * 20)


def closing(opening_m, **changes):
    return truth(gripper_command_m=0.0, gripper_opening_m=opening_m, **changes)


def misses(moments, task=BIN):
    return play(MissRule(SETTINGS, task), moments)


def test_fingers_that_close_on_nothing_are_a_miss_when_narrower_than_the_object():
    moments = [truth(), *(closing(0.08 - 0.001 * i) for i in range(80))]
    (onset,) = misses(moments)
    assert onset.failure is FailureType.MISS
    assert onset.stamp_s == pytest.approx(0.01 + 0.46, abs=0.011)


def test_fingers_that_stay_as_wide_as_the_object_are_no_miss():
    assert not misses([closing(0.0345)] * 100)


def test_fingers_with_the_object_between_them_are_no_miss():
    assert not misses([closing(0.030, gripped=0)] * 100)


def test_fingers_that_were_not_told_to_close_on_it_are_no_miss():
    assert not misses([truth(gripper_command_m=0.045, gripper_opening_m=0.03)] * 100)


def test_an_object_lost_after_it_was_held_is_a_drop_and_no_miss():
    assert not misses([closing(0.04, gripped=0, held=0)] * 5 + [closing(0.02)] * 20)


def test_an_object_that_slips_before_it_was_lifted_is_a_miss():
    assert misses([closing(0.04, gripped=0)] * 5 + [closing(0.02)] * 20)


@pytest.mark.parametrize("size_m", [0.03, 0.05])
def test_what_is_narrower_than_the_object_depends_on_the_object(size_m):
    sizes = np.array([size_m, 0.04, 0.04])
    assert misses([closing(size_m - 0.007, cube_size_m=sizes)] * 5)
    assert not misses([closing(size_m - 0.005, cube_size_m=sizes)] * 5)


def test_a_hand_that_is_closed_to_push_has_missed_nothing():
    assert not misses([truth(), *[closing(0.0)] * 50], PUSH)
    assert misses([truth(), *[closing(0.0)] * 50], STACK)


def test_every_closing_can_miss_once():
    assert len(misses([closing(0.02)] * 20)) == 1
    assert len(misses([closing(0.02)] * 20 + [truth()] * 5 + [closing(0.02)] * 20)) == 2


IN_BIN = np.array([0.52, 0.31, 0.03])


def succeeds(moments, task=BIN):
    return bool(play(SuccessRule(SETTINGS, task), moments))


def test_a_cube_that_lies_in_the_bin_for_a_while_is_success():
    assert succeeds([truth(cube=IN_BIN)] * 16)


@pytest.mark.parametrize(
    "moments",
    [
        [truth(cube=IN_BIN)] * 15,
        [truth(cube=[0.5, 0.3, 0.09])] * 50,
        [truth(cube=[0.5, 0.225, 0.03])] * 50,
        [truth(cube=IN_BIN, touched=np.array([True, False, False]))] * 50,
        [truth(cube=IN_BIN, cube_velocity_m_s=np.full((3, 3), 0.1))] * 50,
        [truth(cube=IN_BIN, target=1)] * 50,
    ],
    ids=["too short", "too high", "beside", "still touched", "still moving", "wrong cube"],
)
def test_what_is_nearly_success_is_none(moments):
    assert not succeeds(moments)


ON_CUBE_1 = np.array([0.4, 0.1, 0.06])


def near(position, *offset_m):
    return position + np.array(offset_m)


def stacked(position, **changes):
    return truth(cube=position, second=1, **changes)


def test_a_cube_that_stands_on_the_other_for_a_while_is_success():
    assert succeeds([stacked(ON_CUBE_1)] * 16, STACK)
    assert succeeds([stacked(near(ON_CUBE_1, 0.017, 0, 0.005))] * 16, STACK)


@pytest.mark.parametrize(
    "moment",
    [
        stacked(near(ON_CUBE_1, 0.019, 0, 0)),
        stacked(near(ON_CUBE_1, 0, 0, 0.007)),
        stacked(near(ON_CUBE_1, 0, 0, -0.04)),
        stacked(ON_CUBE_1, touched=np.array([True, False, False])),
        stacked(ON_CUBE_1, cube_velocity_m_s=np.full((3, 3), 0.1)),
        truth(cube=ON_CUBE_1, second=2),
    ],
    ids=["about to tip", "leaning", "beside", "still touched", "still moving", "on the wrong cube"],
)
def test_what_is_nearly_stacked_is_no_success(moment):
    assert not succeeds([moment] * 50, STACK)


@pytest.mark.parametrize(
    ("position", "dropped"),
    [
        (near(ON_CUBE_1, 0, 0, 0.010), False),
        (near(ON_CUBE_1, 0, 0, 0.020), True),
        (near(ON_CUBE_1, 0.025, 0, 0.005), True),
        (OVER_BIN, True),
    ],
    ids=["set down", "let fall", "beside it", "over the bin"],
)
def test_a_cube_to_be_stacked_is_dropped_unless_it_is_set_down_on_the_other(position, dropped):
    let_go = [HELD] * 5 + [at(OPENING, position)] * 3 + [truth(cube=position)] * 20
    moments = [replace(moment, second=1) for moment in let_go]
    assert bool(drops(moments, STACK)) == dropped


ON_MARK = np.array([0.55, -0.2, 0.02])


def test_a_cube_that_lies_on_the_mark_for_a_while_is_success_even_while_it_is_touched():
    assert succeeds([truth(cube=ON_MARK, touched=np.array([True, False, False]))] * 16, PUSH)
    assert succeeds([truth(cube=near(ON_MARK, 0.044, 0, 0))] * 16, PUSH)


@pytest.mark.parametrize(
    "moment",
    [
        truth(cube=near(ON_MARK, 0.046, 0, 0)),
        truth(cube=near(ON_MARK, 0, 0, 0.03)),
        truth(cube=ON_MARK, cube_velocity_m_s=np.full((3, 3), 0.1)),
        truth(cube=ON_MARK, target=1),
    ],
    ids=["short of it", "above it", "still moving", "wrong cube"],
)
def test_what_is_nearly_on_the_mark_is_no_success(moment):
    assert not succeeds([moment] * 50, PUSH)


def test_a_cube_that_was_lifted_instead_of_pushed_may_be_put_down_on_the_mark_and_nowhere_else():
    def let_go(position):
        return [HELD] * 5 + [at(OPENING, position)] * 3 + [truth(cube=position)] * 20

    assert not drops(let_go(ON_MARK), PUSH)
    assert drops(let_go(near(ON_MARK, 0.05, 0, 0)), PUSH)
    assert drops(let_go(near(ON_MARK, 0, 0, 0.05)), PUSH)


def test_past_an_obstacle_the_rules_are_those_of_the_bin():
    assert succeeds([truth(cube=IN_BIN)] * 16, PastObstacleTask())
    assert drops([HELD] * 5 + [GONE] * 20, PastObstacleTask())
    assert misses([closing(0.02)] * 5, PastObstacleTask())


@pytest.mark.parametrize(("force_n", "onsets"), [(59.0, 0), (61.0, 1)])
def test_a_hand_that_comes_down_on_the_named_cube_collides_and_one_that_takes_it_does_not(force_n, onsets):
    referee = Referee(SETTINGS, BIN)
    seen = [referee.update(truth(time_s=0.01 * i, press_force_n=force_n))[0] for i in range(10)]
    assert sum(map(len, seen)) == onsets


def test_the_referee_reports_all_that_happens_at_once():
    referee = Referee(SETTINGS, BIN)
    onsets = []
    for i in range(10):
        moment = closing(0.02, contact_force_n=50.0, cube_contact_force_n=1.0, press_force_n=100.0)
        seen, succeeded = referee.update(replace(moment, time_s=0.01 * i))
        assert not succeeded
        onsets += seen
    assert sorted(o.failure.name for o in onsets) == ["COLLISION", "COLLISION", "COLLISION", "MISS"]
