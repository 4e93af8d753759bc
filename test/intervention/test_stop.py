import numpy as np
import pytest
from gate_world import ARM, HOME
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from salus_ros.intervention.limits import Limits
from salus_ros.intervention.stop import RestMove, SpeedProfile, brake, rest_due_s, rest_move

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
    if left_s >= 0.001:
        assert first_s == pytest.approx(0.03 if left_s >= 0.031 else left_s)
    elif left_s <= 0.0:
        assert first_s == pytest.approx(0.03)
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


@pytest.mark.parametrize(("left_s", "points"), [(0.0308, 1), (0.030000000001, 1), (0.03, 1), (0.0312, 8)])
def test_points_are_never_so_near_that_rounding_looks_like_acceleration(left_s: float, points: int) -> None:
    move = rest_move(HOME, np.zeros(7), HOME + 0.09, 0.9 * V, 0.8 * A, 0.03)
    elapsed_s = move.duration_s - left_s
    command = move.trajectory_from(elapsed_s, 0.03)
    assert len(command.time_from_start_s) == points
    assert LAST_LOOK.objection(*move.at(elapsed_s), command) == ""


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


def test_a_profile_goes_on_from_each_of_its_points() -> None:
    profile = SpeedProfile([0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 1.75, 2.25], [1.0, 1.0, 0.5, 0.0])
    for elapsed_s, path_time_s, speed in (
        (0.5, 0.5, 1.0),
        (1.0, 1.0, 1.0),
        (1.5, 1.4375, 0.75),
        (2.0, 1.75, 0.5),
        (3.0, 2.125, 0.25),
        (4.0, 2.25, 0.0),
    ):
        assert profile.at(elapsed_s) == (path_time_s, speed)


@pytest.mark.parametrize(
    ("left_s", "after_s", "due_s"),
    [(0.5, 0.03, 0.5), (1e-3, 0.03, 1e-3), (9e-4, 0.03, 0.03), (9e-4, 1e-3, 2.25e-3), (-1.0, 0.03, 0.03)],
)
def test_a_rest_is_due_when_it_is_reached_and_never_at_once(
    left_s: float, after_s: float, due_s: float
) -> None:
    assert rest_due_s(left_s, after_s) == pytest.approx(due_s, rel=1e-12)


def test_who_stands_goes_on_standing_where_it_is() -> None:
    grid = np.linspace(0.0, 1.0, 101)
    assert brake(0.25, 0.0, grid, 10.0 * grid, 0.03) == SpeedProfile([0.0, 0.03], [0.25, 0.25], [0.0, 0.0])


@pytest.mark.parametrize(("rate_s", "time_s"), [(20.0, 0.05), (1.0 / 0.031, 0.031), (40.0, 0.03)])
def test_braking_takes_no_longer_than_it_must(rate_s: float, time_s: float) -> None:
    grid = np.linspace(0.0, 1.0, 101)
    profile = brake(0.2, 1.0, grid, 2.0 * rate_s * grid, 0.03)
    assert profile.time_s[-1] == pytest.approx(time_s)
    assert profile.path_time_s[-1] == pytest.approx(0.2 + 0.5 * time_s)
    assert len(profile.time_s) <= 10, "a message of many points"
    for elapsed_s in np.linspace(0.0, time_s, 20):
        assert profile.at(float(elapsed_s))[1] == pytest.approx(1.0 - elapsed_s / time_s, abs=1e-6)


@pytest.mark.parametrize(
    ("time_s", "points"), [(0.55, 8), (0.65, 22), (1.0, 34), (1.9, 64), (4.0, 64)], ids=str
)
def test_a_long_stop_has_points_near_one_another_up_to_as_many_as_a_message_may_have(
    time_s: float, points: int
) -> None:
    grid = np.linspace(0.0, 5.0, 501)
    profile = brake(0.2, 1.0, grid, 2.0 / time_s * grid, 0.03)
    assert np.diff(profile.time_s) == pytest.approx(np.full(points, time_s / points))
    assert profile.path_time_s[-1] == pytest.approx(0.2 + 0.5 * time_s)
    assert (profile.path_time_s[0], profile.speed[0], profile.speed[-1]) == (0.2, 1.0, 0.0)


def test_a_stop_of_an_arm_of_low_accelerations_keeps_to_its_braking_limits() -> None:
    """At every curve of the path only a third of the rate is left to brake with."""
    grid = np.linspace(0.0, 2.0, 401)
    rate = 0.5 + 0.25 * np.cos(2.0 * np.pi * grid / 0.4)
    braking = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) * np.diff(grid))])
    profile = brake(0.1, 1.0, grid, braking, 0.03)
    at_s = np.linspace(0.0, profile.time_s[-1], 2000)
    places, speeds = np.array([profile.at(float(t)) for t in at_s]).T
    brakes = -np.diff(speeds) / np.diff(at_s)
    taken = (brakes / np.interp(places[:-1], grid, rate)).max()
    assert taken < 1.25, f"it brakes {taken:.2f} times as hard as the path allows"


def test_what_is_left_of_a_move_is_its_end_alone_when_nothing_lies_before_it() -> None:
    fast = np.full(7, 0.5)
    assert len(RestMove(HOME, fast, HOME + 0.1, 0.5).trajectory_from(0.25, 0.25).time_from_start_s) == 1
    nowhere = RestMove(HOME, np.zeros(7), HOME, 0.5).trajectory_from(0.125, 0.03)
    assert nowhere.time_from_start_s.tolist() == [0.375]
    assert nowhere.position_rad.tolist() == [HOME.tolist()]
    for leads_somewhere in (RestMove(HOME, fast, HOME, 0.5), RestMove(HOME, np.zeros(7), HOME + 0.1, 0.5)):
        sent = leads_somewhere.trajectory_from(0.125, 0.03)
        assert len(sent.time_from_start_s) > 4
        assert sent.time_from_start_s[[0, -1]] == pytest.approx([0.03, 0.375])


def excess(move: RestMove) -> float:
    """How much of the limits a move takes at its beginning, in its middle and at its end."""
    d, tiny = move.duration_s, 1e-6
    speeds = np.array([move.at(t)[1] for t in (0.0, tiny, 0.5 * d, d - tiny, d)])
    accelerations = np.array([speeds[1] - speeds[0], speeds[4] - speeds[3]]) / tiny
    return float(max((np.abs(accelerations) / A).max(), (np.abs(speeds[[0, 2]]) / V).max()))


@pytest.mark.parametrize("seed", range(40))
def test_a_move_to_rest_is_the_quickest_that_respects_the_limits(seed: int) -> None:
    random = np.random.default_rng(seed)
    joint = np.arange(7) == seed % 7
    velocity = np.where(joint | (seed % 3 == 0), random.uniform(-0.9, 0.9, 7) * V, 0.0)
    gap = np.where(joint | (seed % 2 == 0), random.choice([0.02, 0.3, 2.0]) * random.uniform(-1, 1, 7), 0.0)
    move = rest_move(HOME, velocity, HOME + gap, V, A, 0.03)
    assert excess(move) <= 1.0 + 1e-3
    quicker = RestMove(HOME, velocity, HOME + gap, move.duration_s * 0.87)
    assert excess(quicker) > 1.0 - 1e-3 or move.duration_s == pytest.approx(0.03)


def test_a_move_takes_at_least_the_shortest_time_and_the_gentlest_is_no_longer_than_it_helps() -> None:
    assert rest_move(HOME, np.zeros(7), HOME, V, A, 0.03).duration_s == pytest.approx(0.03)
    assert rest_move(HOME, np.zeros(7), HOME, V, A, 0.1).duration_s == pytest.approx(0.1)
    # Beyond the velocity limit of the fourth joint by so much that only braking may add to it.
    fast = np.where(np.arange(7) == 3, 10.0 * V, 0.0)
    assert rest_move(HOME, fast, HOME, V, A, 0.03).duration_s == pytest.approx(4.0 * V[3] / A[3], rel=0.15)
    exactly = rest_move(np.zeros(7), np.zeros(7), np.full(7, 0.0625), V, np.full(7, 6.0), 0.25)
    assert exactly.duration_s == 0.25, "a move that takes exactly what is allowed"


def test_an_arm_of_low_accelerations_gets_the_time_that_it_needs_to_come_to_rest() -> None:
    velocity, limit = np.array([0.3]), np.array([0.16])
    move = rest_move(np.zeros(1), velocity, np.array([0.2]), np.array([2.0]), limit, 0.03)
    positions = np.array([move.at(t)[0][0] for t in np.linspace(0.0, move.duration_s, 2001)])
    acceleration = np.diff(positions, 2) / (move.duration_s / 2000) ** 2
    assert np.abs(acceleration).max() <= 0.16 * 1.01, f"{np.abs(acceleration).max():.3f} rad/s^2"
    assert positions[-1] == pytest.approx(0.2)


def test_the_places_along_a_rest_lead_evenly_in_time_from_its_start_to_its_end() -> None:
    move = rest_move(HOME, 0.5 * V, HOME + 0.1, V, A, 0.03)
    places = move.along(5)
    assert places.shape == (5, 7)
    for place, share in zip(places, (0.0, 0.25, 0.5, 0.75, 1.0), strict=True):
        assert place == pytest.approx(move.at(share * move.duration_s)[0])
