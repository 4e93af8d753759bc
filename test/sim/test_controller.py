import numpy as np
import pytest

from salus_ros.errors import SalusError
from salus_ros.sim.controller import ArmController, GripperController
from salus_ros.types import JointTrajectory

NAMES = ("a", "b")
NAN = float("nan")


@pytest.fixture
def controller():
    controller = ArmController(NAMES)
    controller.reset(np.array([0.0, 1.0]))
    return controller


def trajectory(times, positions, velocities=None):
    positions = np.array(positions, dtype=float)
    velocities = np.zeros_like(positions) if velocities is None else np.array(velocities, dtype=float)
    return JointTrajectory(np.array(times, dtype=float), positions, velocities)


def test_it_holds_until_a_trajectory_comes(controller):
    controller.advance(10.0)
    position, velocity = controller.desired()
    np.testing.assert_array_equal(position, [0, 1])
    np.testing.assert_array_equal(velocity, [0, 0])


def test_it_passes_each_point_at_its_time_with_its_velocity(controller):
    controller.accept(trajectory([0.5, 1.0], [[1, 1], [2, 3]], [[2, -1], [0, 0]]))
    controller.advance(0.5)
    position, velocity = controller.desired()
    np.testing.assert_allclose(position, [1, 1], atol=1e-12)
    np.testing.assert_allclose(velocity, [2, -1], atol=1e-12)


def test_between_points_with_velocities_it_follows_the_cubic(controller):
    controller.accept(trajectory([1.0], [[1, 1]]))
    controller.advance(0.25)
    position, velocity = controller.desired()
    # Rest to rest: 3 u^2 - 2 u^3.
    np.testing.assert_allclose(position, [0.15625, 1], atol=1e-12)
    np.testing.assert_allclose(velocity, [1.125, 0], atol=1e-12)


def test_between_points_without_velocities_it_goes_straight(controller):
    controller.accept(trajectory([1.0, 2.0], [[1, 1], [2, 1]], [[NAN, NAN], [0, 0]]))
    controller.advance(0.25)
    position, velocity = controller.desired()
    np.testing.assert_allclose(position, [0.25, 1])
    np.testing.assert_allclose(velocity, [1, 0])


def test_velocity_is_the_derivative_of_position(controller):
    controller.accept(trajectory([0.4, 1.0], [[1, 0], [0, 2]], [[0.5, -2], [0, 0]]))
    step = 1e-5
    for _ in range(9):
        controller.advance(0.1)
        before, velocity = controller.desired()
        controller.advance(step)
        after, _ = controller.desired()
        controller.advance(-step)
        np.testing.assert_allclose((after - before) / step, velocity, atol=1e-3)


def test_it_holds_the_last_point_on_silence(controller):
    controller.accept(trajectory([0.5], [[2, 3]]))
    controller.advance(60.0)
    position, velocity = controller.desired()
    np.testing.assert_array_equal(position, [2, 3])
    np.testing.assert_array_equal(velocity, [0, 0])


def test_a_new_trajectory_starts_from_the_desired_state(controller):
    controller.accept(trajectory([1.0], [[1, 1]]))
    controller.advance(0.5)
    position, velocity = controller.desired()
    controller.accept(trajectory([1.0], [[5, 5]]))
    np.testing.assert_allclose(controller.desired()[0], position)
    np.testing.assert_allclose(controller.desired()[1], velocity)


def test_columns_are_put_into_the_arms_order(controller):
    controller.accept(trajectory([0.0], [[7, 8]]), joint_names=["b", "a"])
    np.testing.assert_array_equal(controller.desired()[0], [8, 7])


@pytest.mark.parametrize(
    ("bad", "names", "message"),
    [
        (trajectory([1.0], [[1, 1]]), ["a", "c"], "names the joints a, c, but the controller moves a, b"),
        (trajectory([1.0], [[1, 1]]), ["a"], "names the joints a,"),
        (trajectory([1.0], [[1, 1]]), ["a", "a"], "names the joints a, a,"),
        (trajectory([], np.zeros((0, 2))), None, "at least one point"),
        (trajectory([1.0], [[1, 1, 1]]), None, r"positions \(1, 3\)"),
        (trajectory([1.0, 2.0], [[1, 1]]), None, r"times \(2,\)"),
        (trajectory([1.0], [[1, 1]], [[0, 0], [0, 0]]), None, "one velocity per position"),
        (trajectory([1.0], [[1, NAN]]), None, "not finite"),
        (trajectory([NAN], [[1, 1]]), None, "not finite"),
        (trajectory([1.0], [[1, 1]], [[0, float("inf")]]), None, "not finite"),
        (trajectory([-0.1], [[1, 1]]), None, "negative or do not rise"),
        (trajectory([1.0, 1.0], [[1, 1], [2, 2]]), None, "negative or do not rise"),
        (trajectory([2.0, 1.0], [[1, 1], [2, 2]]), None, "negative or do not rise"),
        (trajectory([1.0], [[1, 1]], [[0.1, 0]]), None, "last velocity is not zero"),
    ],
)
def test_bad_trajectories_are_refused_and_the_one_in_hand_goes_on(controller, bad, names, message):
    controller.accept(trajectory([1.0], [[1, 1]]))
    controller.advance(0.5)
    before = controller.desired()[0]
    with pytest.raises(SalusError, match=message):
        controller.accept(bad, names)
    np.testing.assert_array_equal(controller.desired()[0], before)
    controller.advance(0.5)
    np.testing.assert_allclose(controller.desired()[0], [1, 1])


def test_later_changes_to_the_senders_arrays_change_nothing(controller):
    command = trajectory([0.0], [[7, 8]])
    controller.accept(command)
    command.position_rad[:] = 0.0
    np.testing.assert_array_equal(controller.desired()[0], [7, 8])


def test_the_gripper_moves_at_its_speed_and_stops_where_told():
    gripper = GripperController(speed_m_s=0.1, largest_opening_m=0.08)
    gripper.accept(0.03)
    gripper.advance(0.2)
    assert gripper.reference_m == pytest.approx(0.06)
    gripper.advance(5.0)
    assert gripper.reference_m == pytest.approx(0.03)


def test_a_squeezing_gripper_opens_from_where_it_is():
    gripper = GripperController(speed_m_s=0.1, largest_opening_m=0.08)
    gripper.accept(0.0)
    gripper.advance(5.0)
    gripper.accept(0.08, measured_m=0.04)
    assert gripper.reference_m == pytest.approx(0.04)


def test_openings_out_of_reach_are_limited_and_senseless_ones_refused():
    gripper = GripperController(speed_m_s=0.1, largest_opening_m=0.08)
    gripper.accept(5.0)
    assert gripper.commanded_m == 0.08
    with pytest.raises(SalusError, match="opening is nan"):
        gripper.accept(NAN)
