"""When a message came, on the clock of the stamps."""

from __future__ import annotations

from salus_ros.nodes.recorder_node import StampClock

MS = 1_000_000
TICK_MS = 10


def test_without_ticks_it_is_the_wall_clock() -> None:
    assert StampClock().at(5 * MS) == 5 * MS


def test_between_ticks_it_goes_on_with_the_wall_clock() -> None:
    clock = StampClock()
    for i in range(3):
        clock.tick((500 + TICK_MS * i) * MS, (7000 + TICK_MS * i) * MS)
    assert clock.at(7024 * MS) == 524 * MS


def test_simulated_time_at_a_third_of_the_speed_puts_nothing_out_of_order() -> None:
    clock, times = StampClock(), []
    for i in range(6):
        clock.tick((500 + TICK_MS * i) * MS, (7000 + 3 * TICK_MS * i) * MS)
        times += [clock.at((7000 + 3 * TICK_MS * i + late) * MS) for late in (1, 15, 29)]
    assert times == sorted(times)
    assert max(times) <= (500 + TICK_MS * 6) * MS, "later than the simulation ever was"


def test_while_simulated_time_stands_nothing_comes_later_than_its_next_tick() -> None:
    clock = StampClock()
    clock.tick(500 * MS, 7000 * MS)
    clock.tick(510 * MS, 7010 * MS)
    assert clock.at(9000 * MS) == 520 * MS


def test_a_lost_tick_lets_nothing_come_later_than_the_next() -> None:
    clock = StampClock()
    for i in (0, 1, 3):
        clock.tick((500 + TICK_MS * i) * MS, (7000 + 3 * TICK_MS * i) * MS)
    assert clock.at((7000 + 3 * TICK_MS * 4 - 1) * MS) == (500 + TICK_MS * 4) * MS


def test_a_clock_that_starts_again_is_followed_back() -> None:
    clock = StampClock()
    for tick_ms, received_ms in ((500, 7000), (510, 7010), (100, 7020)):
        clock.tick(tick_ms * MS, received_ms * MS)
    assert clock.at(7022 * MS) == 102 * MS
