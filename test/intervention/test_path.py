import numpy as np
import pytest
from gate_world import HOME
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from salus_ros.intervention.path import PathError, spline

TIMES = 0.05 * np.arange(1, 17)
TOLERANCE = 0.02


def polyline(times: np.ndarray, points: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(at, times, column) for column in points.T], axis=1)


@given(arrays(float, (16, 7), elements=st.floats(-0.15, 0.15)))
def test_the_path_stays_within_the_tolerance_of_the_policys_points(corners: np.ndarray) -> None:
    points = HOME + corners
    try:
        path = spline(TIMES, points, TOLERANCE)
    except PathError:
        return
    at = np.linspace(TIMES[0], TIMES[-1], 1001)
    distance = np.abs(path.at(at)[0] - polyline(TIMES, points, at)).max()
    assert distance <= TOLERANCE * 1.05, f"{distance:.4f} rad from the straight lines between the points"


@given(arrays(float, (16, 7), elements=st.floats(-0.1, 0.1)))
def test_position_velocity_and_acceleration_are_continuous(corners: np.ndarray) -> None:
    try:
        path = spline(TIMES, HOME + corners, TOLERANCE)
    except PathError:
        return
    step = 1e-4
    at = np.arange(TIMES[0], TIMES[-1], step)
    position, velocity, acceleration = path.at(at)
    assert np.abs(np.diff(position, axis=0) / step - velocity[:-1]).max() < 0.1
    assert np.abs(np.diff(velocity, axis=0) / step - acceleration[:-1]).max() < 20.0
    assert np.abs(np.diff(acceleration, axis=0)).max() < 40.0, "the acceleration jumps"


def test_straight_motion_is_followed_exactly() -> None:
    points = HOME + np.outer(TIMES, np.linspace(-0.5, 0.5, 7))
    position, velocity, acceleration = spline(TIMES, points, TOLERANCE).at(TIMES)
    assert np.allclose(position, points)
    assert np.allclose(velocity, np.linspace(-0.5, 0.5, 7))
    assert np.allclose(acceleration, 0.0, atol=1e-9)


def test_uneven_steps_are_followed_too() -> None:
    times = np.array([0.05, 0.1, 0.2, 0.25, 0.45])
    points = HOME + np.outer(np.sin(4 * times), np.full(7, 0.1))
    path = spline(times, points, TOLERANCE)
    assert np.abs(path.at(times)[0] - points).max() <= TOLERANCE


def test_hopelessly_sharp_corners_are_refused() -> None:
    points = np.tile(HOME, (16, 1))
    points[::2] += 3.0
    with pytest.raises(PathError, match="too sharp"):
        spline(np.concatenate([TIMES[:8], TIMES[7] + 0.001 * np.arange(1, 9)]), points, 1e-6)


@given(
    arrays(float, 7, elements=st.floats(-0.1, 0.1)),
    arrays(float, 7, elements=st.floats(-0.5, 0.5)),
    arrays(float, 7, elements=st.floats(-2.0, 2.0)),
    st.floats(0.05, 0.5),
)
def test_a_joined_path_starts_at_the_given_state_and_fades_into_its_own_points(
    offset: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray, entry_s: float
) -> None:
    points = HOME + np.outer(np.sin(3 * TIMES), np.full(7, 0.2))
    path = spline(TIMES, points, TOLERANCE)
    joined = path.joined(entry_s, 0.15, HOME + offset, velocity, acceleration)
    start = [values[0] for values in joined.at(np.array([entry_s]))]
    assert np.allclose(start[0], HOME + offset)
    assert np.allclose(start[1], velocity)
    assert np.allclose(start[2], acceleration)
    after = np.linspace(entry_s + 0.15, TIMES[-1], 50)
    for own, blended in zip(path.at(after), joined.at(after), strict=True):
        assert np.allclose(own, blended), "still off its points after the blend"


def test_a_path_holds_its_ends() -> None:
    path = spline(TIMES, HOME + np.outer(TIMES, np.ones(7)), TOLERANCE)
    assert np.allclose(path.at(np.array([-5.0, 99.0]))[0], path.at(TIMES[[0, -1]])[0])
