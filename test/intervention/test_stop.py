import numpy as np
import pytest
from gate_world import ARM, HOME
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from salus_ros.intervention.limits import Limits
from salus_ros.intervention.stop import SpeedProfile, brake, rest_move

LAST_LOOK = Limits(ARM, 0.0, (-2.0, -2.0, -2.0), (2.0, 2.0, 2.0))
V, A = ARM.velocity_limit_rad_s, ARM.acceleration_limit_rad_s2


@given(arrays(float, 7, elements=st.floats(-1.0, 1.0)), arrays(float, 7, elements=st.floats(-0.3, 0.3)))
def test_a_move_to_rest_respects_velocity_and_acceleration(velocity: np.ndarray, gap: np.ndarray) -> None:
    move = rest_move(HOME, velocity, HOME + gap, V, A, 0.03)
    t = np.linspace(0.0, move.duration_s, 120)
    rows = [move.at(float(s)) for s in t]
    speeds = np.array([row[1] for row in rows])
    assert (np.abs(speeds) <= V + 1e-9).all()
    assert (np.abs(np.diff(speeds, axis=0)) / (t[1] - t[0]) <= A * 1.001).all()
    assert np.allclose(rows[0][0], HOME)
    assert np.allclose(rows[0][1], velocity)
    assert np.allclose(rows[-1][0], HOME + gap)
    assert np.allclose(rows[-1][1], 0.0)


def test_a_move_that_no_duration_allows_is_the_gentlest() -> None:
    move = rest_move(HOME, np.full(7, 50.0), HOME, V, A, 0.03)
    assert np.isfinite(move.duration_s)
    assert move.duration_s > 1.0


@given(st.floats(0.0, 2.0))
def test_what_is_left_of_a_move_is_sent_from_where_it_is(elapsed_s: float) -> None:
    move = rest_move(HOME, np.full(7, 0.5), HOME + 0.05, V, A, 0.03)
    command = move.trajectory_from(elapsed_s, 0.03)
    first_s = float(command.time_from_start_s[0])
    left_s = move.duration_s - elapsed_s
    if not 0.0 < left_s < 0.001:
        assert first_s == pytest.approx(min(0.03, left_s) if left_s > 0.0 else 0.03)
    assert np.allclose(command.position_rad[0], move.at(elapsed_s + first_s)[0])
    assert np.allclose(command.position_rad[-1], HOME + 0.05)
    assert not command.velocity_rad_s[-1].any()


@given(
    arrays(float, 7, elements=st.floats(-0.2, 0.2)),
    arrays(float, 7, elements=st.floats(-0.1, 0.1)),
    st.floats(0.0, 0.15),
)
def test_however_late_it_is_sent_what_is_left_of_a_move_stays_inside_the_limits(
    velocity: np.ndarray, gap: np.ndarray, left_s: float
) -> None:
    move = rest_move(HOME, velocity, HOME + gap, 0.9 * V, 0.8 * A, 0.03)
    elapsed_s = max(move.duration_s - left_s, 0.0)
    assert LAST_LOOK.objection(*move.at(elapsed_s), move.trajectory_from(elapsed_s, 0.03)) == ""


def test_braking_takes_the_distance_that_the_rate_allows() -> None:
    grid = np.linspace(0.0, 1.0, 101)
    profile = brake(0.2, 1.0, grid, 2.0 * 5.0 * grid, 0.03)
    assert profile.time_s[-1] == pytest.approx(1.0 / 5.0)
    assert profile.path_time_s[-1] == pytest.approx(0.2 + 0.5 / 5.0)
    assert profile.speed[-1] == 0.0


def test_braking_is_stretched_to_what_a_controller_can_resolve() -> None:
    grid = np.linspace(0.0, 1.0, 101)
    profile = brake(0.2, 0.1, grid, 2.0 * 20.0 * grid, 0.03)
    assert profile.time_s[-1] == pytest.approx(0.03)


def test_a_profile_is_at_its_end_after_its_end_and_at_its_start_before_its_start() -> None:
    profile = SpeedProfile([0.0, 1.0], [0.0, 0.5], [1.0, 0.0])
    assert profile.at(7.0) == (0.5, 0.0)
    assert profile.at(-1.0) == (0.0, 1.0)
    assert profile.at(0.5) == pytest.approx((0.375, 0.5))


def test_a_profile_with_more_points_is_the_same_profile() -> None:
    profile = SpeedProfile([0.0, 0.01, 0.11], [0.0, 0.0095, 0.0545], [1.0, 0.9, 0.0])
    fine = profile.with_spans(0.03)
    assert fine.time_s == pytest.approx([0.0, 0.01, 0.035, 0.06, 0.085, 0.11])
    assert (fine.path_time_s[-1], fine.speed[-1]) == (0.0545, 0.0)
    for elapsed_s in np.linspace(-0.01, 0.12, 40):
        assert fine.at(elapsed_s) == pytest.approx(profile.at(elapsed_s))
