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
