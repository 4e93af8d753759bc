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


# In numbers


def test_a_blend_is_one_motion_from_its_beginning_into_the_path() -> None:
    path = spline(TIMES, HOME + np.outer(np.sin(3 * TIMES), np.full(7, 0.2)), TOLERANCE)
    joined = path.joined(0.2, 0.15, HOME + 0.05, np.full(7, 0.4), np.full(7, -1.0))
    step = 1e-5
    at = np.linspace(0.2, 0.349, 150)
    position, velocity, acceleration = joined.at(at)
    ahead = joined.at(at + step)
    assert (ahead[0] - position) / step == pytest.approx(velocity, abs=2e-3)
    assert (ahead[1] - velocity) / step == pytest.approx(acceleration, abs=0.05)
    end = np.array([0.35 - 1e-7])
    for own, blended in zip(path.at(end), joined.at(end), strict=True):
        assert blended == pytest.approx(own, abs=1e-3), "it does not meet the path smoothly"
    assert (joined.start_s, joined.end_s) == (0.2, path.end_s)


def test_a_blend_near_the_end_is_over_at_the_end() -> None:
    path = spline(TIMES, np.tile(HOME, (16, 1)), TOLERANCE)
    for entry_s, blend_s, over_s in ((0.75, 0.15, 0.8), (0.6, 0.15, 0.75), (0.6, 0.25, 0.8)):
        joined = path.joined(entry_s, blend_s, HOME + 0.05, np.zeros(7), np.zeros(7))
        places = joined.at(np.array([entry_s, over_s - 0.02, over_s - 1e-6, over_s]))[0][:, 0] - HOME[0]
        assert places[0] == pytest.approx(0.05)
        assert places[1] > 1e-6
        assert places[2:] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_how_far_a_blend_leads_away_is_told() -> None:
    path = spline(TIMES, np.tile(HOME, (16, 1)), TOLERANCE)
    still, none = np.zeros(7), np.zeros(7)
    assert path.blend_reach_rad == 0.0
    away = HOME.copy()
    away[3] -= 0.05
    assert path.joined(0.1, 0.15, away, still, none).blend_reach_rad == pytest.approx(0.05)
    swing = path.joined(0.1, 0.15, HOME, np.full(7, 1.0), none)
    looked = np.abs(swing.at(np.linspace(0.1, 0.25, 1001))[0] - HOME).max()
    assert swing.blend_reach_rad == pytest.approx(looked, rel=0.02)


def test_a_path_given_up_earlier_is_the_same_up_to_there_and_holds_from_there_on() -> None:
    path = spline(TIMES, HOME + np.outer(TIMES, np.ones(7)), TOLERANCE)
    joined = path.joined(0.2, 0.15, HOME + 0.22, np.ones(7), np.zeros(7))
    for whole in (path, joined):
        part = whole.ending_at(0.5)
        assert (part.start_s, part.end_s) == (whole.start_s, 0.5)
        for own, other in zip(part.at(np.array([0.25, 0.5])), whole.at(np.array([0.25, 0.5])), strict=True):
            assert own == pytest.approx(other)
        assert part.at(np.array([9.0]))[0] == pytest.approx(whole.at(np.array([0.5]))[0])


def test_the_ends_are_met_exactly_and_without_acceleration() -> None:
    points = HOME + 0.05 * np.sin(np.outer(np.arange(16), np.arange(1, 8)))
    path = spline(TIMES, points, 0.1)
    position, _, acceleration = path.at(TIMES[[0, -1]])
    assert position == pytest.approx(points[[0, -1]])
    assert acceleration == pytest.approx(np.zeros((2, 7)), abs=1e-6)


def test_a_smoother_path_is_preferred_to_one_nearer_to_its_points() -> None:
    points = HOME + 0.015 * (np.arange(16) % 2)[:, None]
    loose, tight = spline(TIMES, points, 0.05), spline(TIMES, points, 0.004)
    at = np.linspace(TIMES[0], TIMES[-1], 400)
    lines = polyline(TIMES, points, at)
    assert 0.004 < np.abs(loose.at(at)[0] - lines).max() <= 0.05
    assert np.abs(tight.at(at)[0] - lines).max() <= 0.004 * 1.05
    assert np.abs(loose.at(at)[2]).max() < np.abs(tight.at(at)[2]).max()


def test_almost_equal_steps_count_as_equal_and_uneven_ones_are_made_equal() -> None:
    points = HOME + np.outer(TIMES, np.full(7, 0.3))
    jitter = TIMES + 2e-7 * (-1.0) ** np.arange(16)
    assert spline(jitter, points, TOLERANCE).at(TIMES)[0] == pytest.approx(points, abs=1e-5)
    for begin_s, steps_s in ((0.0, [0.0, 0.1, 0.3, 0.35]), (1.0, [0.0, 0.1, 0.25, 0.35])):
        uneven = begin_s + np.array(steps_s)
        path = spline(uneven, HOME + np.outer(uneven, np.full(7, 0.3)), TOLERANCE)
        assert (path.start_s, path.end_s) == (begin_s, begin_s + 0.35)
        at = np.linspace(begin_s, begin_s + 0.35, 50)
        assert path.at(at)[0] == pytest.approx(HOME + np.outer(at, np.full(7, 0.3)), abs=1e-9)
        assert path.at(at)[1] == pytest.approx(np.full((50, 7), 0.3), abs=1e-9)


@pytest.mark.parametrize("jitter_s", [0.0, 2e-7])
def test_equal_steps_are_taken_as_they_are_however_short(jitter_s: float) -> None:
    times = 0.002 * np.arange(31)
    points = HOME + 0.01 * np.sin(300.0 * times)[:, None]
    path = spline(times + jitter_s * (-1.0) ** np.arange(31), points, 1e-3)
    assert np.abs(path.at(times)[0] - points).max() <= 1.05e-3


def test_uneven_steps_are_made_as_short_as_the_shortest_of_them() -> None:
    times = np.array([*0.01 * np.arange(11), 0.6])
    points = HOME + 0.03 * (np.arange(12) == 5)[:, None]
    assert np.abs(spline(times, points, 5e-3).at(times)[0] - points).max() <= 5e-3


@pytest.mark.parametrize("jump_rad", [0.02, 0.03, 0.04, 0.05, 0.1])
def test_a_jump_in_the_last_milliseconds_is_followed_within_the_tolerance_or_not_at_all(
    jump_rad: float,
) -> None:
    times = np.array([0.0, 0.1, 0.19875, 0.2])
    points = HOME + jump_rad * np.outer([0, 0, 0, 1], np.ones(7))
    at = np.linspace(0.0, 0.2, 1601)
    try:
        path = spline(times, points, TOLERANCE)
    except PathError:
        assert jump_rad > TOLERANCE
        return
    assert np.abs(path.at(at)[0] - polyline(times, points, at)).max() <= TOLERANCE * 1.05


def test_steps_too_uneven_for_the_points_allowed_are_refused_and_tiny_ones_are_not_taken_as_they_are() -> (
    None
):
    times = 0.25 + np.array([0.0, 0.01, 0.5])
    points = np.tile(HOME, (3, 1))
    assert spline(times, points, TOLERANCE, points_max=51).end_s == 0.75
    with pytest.raises(PathError) as refused:
        spline(times, points, TOLERANCE, points_max=50)
    assert str(refused.value) == "its uneven steps need 51 points, expected at most 50"
    # Steps of a millisecond would need 501 points; five milliseconds are the least.
    assert spline(np.array([0.0, 0.001, 0.5]), points, TOLERANCE, points_max=101).end_s == 0.5
    with pytest.raises(PathError, match="need 101 points"):
        spline(np.array([0.0, 0.001, 0.5]), points, TOLERANCE, points_max=100)
    with pytest.raises(PathError, match="need 401 points, expected at most 400"):
        spline(np.array([0.0, 0.005, 2.0]), points, TOLERANCE)


def test_corners_too_sharp_are_told_with_the_tolerance() -> None:
    points = HOME + 3.0 * (np.arange(16) % 2)[:, None]
    with pytest.raises(PathError) as refused:
        spline(TIMES, points, 1e-6)
    assert str(refused.value) == "its corners are too sharp for a smooth path within 1e-06 rad"


def test_two_points_are_a_straight_path() -> None:
    path = spline(np.array([0.0, 0.5]), np.array([HOME, HOME + 0.25]), TOLERANCE)
    assert path.at(np.array([0.0, 0.25, 0.5]))[0] == pytest.approx(
        np.array([HOME, HOME + 0.125, HOME + 0.25])
    )
    assert path.at(np.array([0.25]))[1] == pytest.approx(np.full((1, 7), 0.5))
