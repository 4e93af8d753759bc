from __future__ import annotations

import itertools

import pytest

from salus_ros.nodes.pacing import CATCH_UP, SLIP_S, Pacer

STEP_S = 0.01


def run(pacer: Pacer, times_s: list[float]) -> int:
    return sum(pacer.due(time_s) for time_s in times_s)


def every(period_s: float, until_s: float) -> list[float]:
    return [index * period_s for index in range(1, round(until_s / period_s) + 1)]


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_simulated_time_is_the_wall_clocks_times_the_factor(factor: float) -> None:
    assert run(Pacer(STEP_S, factor, 0.0), every(0.0025, 2.0)) == pytest.approx(2.0 * factor / STEP_S, abs=1)


def test_a_hiccup_is_caught_up_step_by_step_and_nothing_is_lost() -> None:
    pacer = Pacer(STEP_S, 1.0, 0.0)
    looks_s = [0.15 + index * pacer.wait_s for index in range(60)]
    taken_s = [time_s for time_s in looks_s if pacer.due(time_s)]
    assert len(taken_s) == pytest.approx(looks_s[-1] / STEP_S, abs=1), "a step was lost"
    gaps_s = [after - before for before, after in itertools.pairwise(taken_s)]
    assert min(gaps_s) >= STEP_S / CATCH_UP - 1e-9, "two steps between which the gate commanded nothing"
    assert (pacer.slips, pacer.lost_s) == (0, 0.0)


def test_a_long_stall_is_given_up_and_counted_and_the_rate_is_right_afterwards() -> None:
    pacer = Pacer(STEP_S, 1.0, 0.0)
    assert pacer.due(3.0)
    assert not pacer.due(3.0), "no burst of steps that no controller could follow"
    assert pacer.slips == 1
    assert pacer.lost_s == pytest.approx(3.0 - STEP_S)
    assert run(pacer, [3.0 + time_s for time_s in every(0.005, 1.0)]) == pytest.approx(100, abs=1)


def test_a_machine_at_half_speed_counts_what_it_loses() -> None:
    pacer = Pacer(STEP_S, 1.0, 0.0)
    steps, wall_s = 0, 0.0
    while wall_s < 4.0:
        steps += pacer.due(wall_s)
        wall_s += 2 * STEP_S
    assert steps * STEP_S + pacer.lost_s == pytest.approx(4.0, abs=SLIP_S + 0.1)
    assert pacer.slips > 0


def test_a_factor_of_zero_runs_a_step_whenever_asked() -> None:
    assert run(Pacer(STEP_S, 0.0, 0.0), [0.0] * 50) == 50
