import math

import pytest

from salus_ros.intervention.watchdogs import RosTime, Watchdogs


def clock() -> RosTime:
    return RosTime(period_s=0.01, stall_s=0.2, jump_s=0.2)


def test_an_input_that_never_came_is_late_once_armed() -> None:
    dogs = Watchdogs({"a": 0.1})
    assert not dogs.late("a", 5.0), "late before it was armed"
    dogs.arm(5.0)
    assert not dogs.late("a", 5.1)
    assert dogs.late("a", 5.11)


def test_a_deadline_counts_from_the_last_message() -> None:
    dogs = Watchdogs({"a": 0.1})
    dogs.arm(0.0)
    dogs.hear("a", 1.0)
    assert not dogs.late("a", 1.1)
    assert dogs.late("a", 1.11)
    assert dogs.late("a", 1.06, deadline_s=0.05)


def test_arming_again_gives_every_input_its_deadline_anew() -> None:
    dogs = Watchdogs({"a": 0.1})
    dogs.arm(0.0)
    assert dogs.late("a", 1.0)
    dogs.arm(1.0)
    assert not dogs.late("a", 1.05)
    assert dogs.late("a", 1.2), "a watchdog that fires once must fire again"


def test_nothing_is_late_while_disarmed() -> None:
    dogs = Watchdogs({"a": 0.1})
    dogs.arm(0.0)
    dogs.disarm()
    assert not dogs.late("a", 9.0)
    assert not dogs.fresh("a", 9.0)


def test_a_time_that_is_not_a_number_is_late() -> None:
    dogs = Watchdogs({"a": 0.1})
    dogs.arm(0.0)
    assert dogs.late("a", math.nan)


def test_path_time_follows_a_slow_clock() -> None:
    time = clock()
    total = 0.0
    for i in range(101):
        time.update(0.01 * i, 50.0 + 0.005 * i)
        total += time.step_s
    assert total == pytest.approx(0.5)
    assert time.sound


@pytest.mark.parametrize("jump_s", [-1e9, -1.0, -0.001, 0.3, 1e9])
def test_a_clock_that_jumps_steps_by_steady_time_once_and_is_not_sound(jump_s: float) -> None:
    time = clock()
    time.update(0.0, 50.0)
    time.update(0.01, 50.0 + jump_s)
    assert (time.step_s, time.jumped, time.sound) == (0.01, True, False)
    time.update(0.02, 50.01 + jump_s)
    assert time.sound
    assert time.step_s == pytest.approx(0.01)


def test_a_jump_seen_late_is_worth_one_period_at_most() -> None:
    time = clock()
    time.update(0.0, 50.0)
    time.update(5.0, 49.0)
    assert time.step_s == 0.01


def test_a_step_is_never_larger_than_twice_steady_time_and_a_period() -> None:
    time = clock()
    time.update(0.0, 50.0)
    time.update(0.01, 50.15)
    assert time.step_s == pytest.approx(0.03)


def test_a_paused_clock_is_unsound_after_a_while() -> None:
    time = clock()
    for i in range(30):
        time.update(0.01 * i, 50.0)
        assert time.step_s == 0.0
    assert not time.sound


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_clock_is_not_sound(value: float) -> None:
    time = clock()
    time.update(0.0, value)
    assert not time.sound
    assert time.step_s == 0.0


def test_an_input_is_fresh_up_to_its_deadline_and_never_before_it_was_heard() -> None:
    dogs = Watchdogs({"joints": 0.05, "policy": 0.3})
    assert not dogs.fresh("joints", 0.0)
    dogs.hear("joints", 1.0)
    assert dogs.fresh("joints", 1.05)
    assert not dogs.fresh("joints", 1.051)
    assert not dogs.fresh("policy", 1.0)
    assert (dogs.deadline_s("joints"), dogs.deadline_s("policy")) == (0.05, 0.3)


def test_a_clock_that_was_never_heard_stands_and_is_not_sound() -> None:
    clock = RosTime(0.01, 0.2, 0.2)
    for heard in (False, True):
        if heard:
            clock.update(5.0, float("nan"))
        assert (clock.step_s, clock.jumped, clock.stands, clock.sound) == (0.0, False, True, False)


def test_a_clock_may_gain_twice_the_steady_step_and_the_jump_but_no_more() -> None:
    for gain_s, jumped in ((0.39, False), (0.45, True), (30.0, True), (-0.01, True)):
        clock = RosTime(0.01, 0.2, 0.2)
        clock.update(100.0, 1000.0)
        clock.update(100.1, 1000.0 + gain_s)
        assert clock.jumped is jumped, f"a gain of {gain_s} s in 0.1 s"
        assert clock.stands is False


def test_over_a_jump_the_path_goes_on_by_steady_time() -> None:
    clock = RosTime(0.01, 0.2, 0.2)
    clock.update(100.0, 1000.0)
    clock.update(100.004, 2000.0)
    assert clock.step_s == pytest.approx(0.004)
    clock.update(100.104, 9000.0)
    assert clock.step_s == 0.01, "more than a period"


def test_a_deadline_is_kept_to_the_nanosecond() -> None:
    dogs = Watchdogs({"a": 0.25})
    dogs.arm(0.0)
    dogs.hear("a", 0.0)
    for now_s, kept in ((0.25, True), (0.25 + 1e-9, True), (0.25 + 3e-9, False)):
        assert dogs.fresh("a", now_s) is kept
        assert dogs.late("a", now_s) is not kept
        assert dogs.late("a", now_s, deadline_s=0.25) is not kept


def test_a_clock_may_stand_for_exactly_its_time_and_a_nanosecond_is_no_movement() -> None:
    clock = RosTime(0.01, stall_s=0.25, jump_s=0.2)
    clock.update(8.0, 0.0)
    clock.update(8.25, 1e-9)
    assert (clock.step_s, clock.stands, clock.sound) == (0.0, False, True)
    clock.update(8.26, 2e-9)
    assert (clock.step_s, clock.stands, clock.sound) == (0.0, True, False)


@pytest.mark.parametrize(
    ("ros_s", "jumped"), [(0.5, False), (0.5 + 1e-6, True), (-1e-9, False), (-3e-9, True)]
)
def test_a_clock_gains_and_loses_no_more_than_allowed(ros_s: float, jumped: bool) -> None:
    clock = RosTime(0.01, 0.2, jump_s=0.25)
    clock.update(8.0, 0.0)
    clock.update(8.125, ros_s)
    assert clock.jumped is jumped
    assert clock.sound is not jumped


@pytest.mark.parametrize(("back_s", "jumped"), [(49.0, True), (50.0, False), (50.5, False), (99.0, False)])
def test_a_clock_that_was_gone_has_jumped_if_it_comes_back_earlier(back_s: float, jumped: bool) -> None:
    time = clock()
    time.update(0.0, 50.0)
    time.update(0.01, math.nan)
    time.update(0.5, back_s)
    assert (time.step_s, time.jumped, time.stands) == (0.0, jumped, False)
    time.update(0.51, back_s + 0.01)
    assert time.sound and time.step_s == pytest.approx(0.01)
