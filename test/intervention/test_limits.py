"""How far a plan is admissible, and the last look at every command."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_world import ARM, HOME, Controller

from salus_ros.intervention.limits import Limits
from salus_ros.intervention.path import JointPath, spline
from salus_ros.intervention.report import LimitReport
from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats, JointTrajectory

BOX = ((-0.4, -0.9, -0.01), (0.95, 0.9, 1.3))
WIDE = ((-9.0, -9.0, -9.0), (9.0, 9.0, 9.0))
LIMITS = Limits(ARM, 0.005, *BOX)
REST = np.zeros(7)
ROUND = replace(ARM, position_lower_rad=np.full(7, -4.0), position_upper_rad=np.full(7, 4.0))
"""An arm whose limits are round numbers."""


def still(position: Floats = HOME, time_s: float = 0.03) -> JointTrajectory:
    return JointTrajectory(np.array([time_s]), position[None].copy(), np.zeros((1, 7)))


def turned(joint: int, angle_rad: float, start: Floats = HOME) -> Floats:
    return start + angle_rad * (np.arange(7) == joint)


# The last look


def test_a_command_that_stands_is_let_through() -> None:
    assert LIMITS.objection(HOME, REST, still()) == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["position_rad", "velocity_rad_s", "time_from_start_s"])
def test_a_command_that_is_not_finite_is_withheld(where: str, bad: float) -> None:
    command = still()
    getattr(command, where)[0] = bad
    assert LIMITS.objection(HOME, REST, command) == "it holds values that are not finite"


def test_a_command_from_a_place_or_speed_that_is_not_finite_is_withheld() -> None:
    nowhere = np.full(7, np.nan)
    assert LIMITS.objection(nowhere, REST, still()) == "it holds values that are not finite"
    assert LIMITS.objection(HOME, nowhere, still()) == "it holds values that are not finite"


@pytest.mark.parametrize("times", [[0.0, 0.1], [0.1, 0.1], [0.2, 0.1], [-0.1, 0.1]])
def test_a_command_whose_times_do_not_increase_from_now_on_is_withheld(times: list[float]) -> None:
    command = JointTrajectory(np.array(times), np.tile(HOME, (2, 1)), np.zeros((2, 7)))
    assert LIMITS.objection(HOME, REST, command) == "its times do not increase"


@pytest.mark.parametrize("joint", [0, 6])
def test_a_command_that_does_not_end_in_rest_is_withheld(joint: int) -> None:
    command = still(HOME + 1e-4, 0.05)
    command.velocity_rad_s[-1, joint] = 1e-3
    assert LIMITS.objection(HOME, REST, command) == "it does not end in rest"


def test_a_command_out_of_the_box_is_withheld_unless_the_arm_stands_there() -> None:
    small = Limits(ARM, 0.005, (0.4, -0.1, 0.2), (0.48, 0.1, 0.5))
    assert small.objection(HOME, REST, still(HOME, 1.0)) == ""
    assert small.objection(HOME, REST, still(turned(0, 0.3), 1.0)) == "it leaves the workspace box"
    assert small.objection(turned(0, 0.3), REST, still(turned(0, 0.3), 1.0)) == ""
    back = JointTrajectory(
        np.array([1.0, 2.0]), np.array([turned(0, 0.3), HOME]), np.array([np.zeros(7), np.zeros(7)])
    )
    assert small.objection(HOME, REST, back) == "it leaves the workspace box", "by a point on the way"


def random_command(seed: int) -> tuple[Floats, Floats, JointTrajectory]:
    random = np.random.default_rng(seed)
    times = np.cumsum(random.uniform(0.1, 0.5, 3))
    velocity = random.uniform(-1.0, 1.0, (3, 7))
    velocity[-1] = 0.0
    return (
        random.uniform(-1.0, 1.0, 7),
        random.uniform(-1.0, 1.0, 7),
        JointTrajectory(times, random.uniform(-1.0, 1.0, (3, 7)), velocity),
    )


def executed(position: Floats, velocity: Floats, command: JointTrajectory) -> tuple[Floats, Floats, Floats]:
    """What a controller makes of a command: positions and velocities at its points and halfway between them,
    accelerations at the beginning and the end of each stretch. (N, 7) each."""
    controller = Controller(position)
    controller.accept(0.0, command)
    controller._v[0] = velocity
    knots = np.concatenate([[0.0], command.time_from_start_s])
    halfway = 0.5 * (knots[:-1] + knots[1:])
    tiny = 1e-7
    rows = [controller.at(float(t)) for t in np.concatenate([knots[1:] - 1e-12, halfway])]
    begin = [(controller.at(float(t) + tiny)[1] - controller.at(float(t))[1]) / tiny for t in knots[:-1]]
    end = [
        (controller.at(float(t) - tiny)[1] - controller.at(float(t) - 2 * tiny)[1]) / tiny for t in knots[1:]
    ]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), np.array([*begin, *end])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("limited", "objection"),
    [
        ("upper", "it leaves the joint position limits"),
        ("lower", "it leaves the joint position limits"),
        ("velocity", "it exceeds a joint velocity limit"),
        ("acceleration", "it exceeds a joint acceleration limit"),
    ],
)
def test_what_the_controller_makes_of_a_command_is_let_through_up_to_each_limit_and_no_further(
    seed: int, limited: str, objection: str
) -> None:
    position, velocity, command = random_command(seed)
    q, v, a = executed(position, velocity, command)
    reserve = 1e-4
    free = {
        "position_lower_rad": q.min(axis=0) - reserve,
        "position_upper_rad": q.max(axis=0) + reserve,
        "velocity_limit_rad_s": np.abs(v).max(axis=0) + reserve,
        "acceleration_limit_rad_s2": np.abs(a).max(axis=0) + 0.01,
    }
    assert Limits(replace(ARM, **free), 0.0, *WIDE).objection(position, velocity, command) == ""
    field, step = {
        "upper": ("position_upper_rad", -2 * reserve),
        "lower": ("position_lower_rad", 2 * reserve),
        "velocity": ("velocity_limit_rad_s", -2 * reserve),
        "acceleration": ("acceleration_limit_rad_s2", -0.02),
    }[limited]
    for joint in range(7):
        tight = replace(ARM, **{**free, field: turned(joint, step, free[field])})
        assert Limits(tight, 0.0, *WIDE).objection(position, velocity, command) == objection, joint


def test_a_rounding_beyond_a_limit_is_let_through() -> None:
    arm = replace(ROUND, velocity_limit_rad_s=np.ones(7), acceleration_limit_rad_s2=np.full(7, 6.0 - 1e-6))
    limits = Limits(arm, 0.0, *WIDE)
    for edge in (np.full(7, 4.0 + 1e-6), np.full(7, -4.0 - 1e-6)):
        assert limits.objection(edge, REST, still(edge)) == ""
        assert limits.objection(2 * edge, REST, still(2 * edge)) == "it leaves the joint position limits"
    fast = np.full(7, 1.0 + 1e-6)
    command = JointTrajectory(np.array([1.0, 2.0]), np.array([REST, np.full(7, 0.5)]), np.array([fast, REST]))
    assert limits.objection(-fast, fast, command) == ""
    for end in (np.full(7, 0.25), np.full(7, -0.25)):
        assert limits.objection(REST, REST, still(end, 0.5)) == "", "6 rad/s^2 at both ends"


# Plans


def linear(start: Floats, end: Floats, length_s: float, points: int = 17, begin_s: float = 0.05) -> JointPath:
    share = np.linspace(0.0, 1.0, points)
    return spline(begin_s + length_s * share, start + share[:, None] * (end - start), 0.02)


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize(
    ("length_s", "cell_s"), [(0.8, 0.02), (16.0, 0.04), (0.01, 0.01), (0.04, 0.02)], ids=str
)
def test_a_plan_is_followed_to_a_look_before_the_last_one_inside_the_limits(
    direction: float, length_s: float, cell_s: float
) -> None:
    limits = Limits(ROUND, 0.005, *WIDE)
    # It passes the margin to the limit just before three quarters of its way.
    edge = direction * 3.995
    begin, end = edge - 0.749 * direction, edge + 0.251 * direction
    path = linear(turned(3, begin, REST), turned(3, end, REST), length_s)
    first_outside_s = 0.05 + cell_s * np.ceil(0.749 * length_s / cell_s)
    assert limits.admissible_end_s(path) == pytest.approx(first_outside_s - 2 * cell_s)


def test_a_plan_inside_the_limits_is_followed_to_its_end() -> None:
    path = linear(HOME, HOME + 0.1, 0.75)
    assert LIMITS.admissible_end_s(path) == path.end_s
    assert Limits(ARM, 0.005, *BOX).admissible_end_s(linear(HOME, HOME, 0.75)) == 0.8


def test_a_plan_that_starts_outside_the_limits_is_followed_nowhere() -> None:
    for outside in (HOME + 9.0, HOME - 9.0, turned(6, 9.0)):
        path = linear(outside, outside, 0.75)
        assert LIMITS.admissible_end_s(path) < path.start_s


def test_a_plan_is_followed_no_further_than_the_box() -> None:
    reach = float(ARM.forward(turned(0, 0.2))[1, 3])
    limits = Limits(ARM, 0.0, (-0.4, -0.9, -0.01), (0.95, reach, 1.3))
    path = linear(HOME, turned(0, 0.4), 0.8, begin_s=0.0)
    assert limits.admissible_end_s(path) == pytest.approx(0.4, abs=0.045)
    assert limits.in_box(path.at(np.array([limits.admissible_end_s(path)]))[0])[0]


def test_without_the_margin_a_plan_may_touch_a_limit_and_with_it_the_margin() -> None:
    limits = Limits(ROUND, 0.25, *WIDE)
    for touching, margin in ((3.75, True), (-3.75, True), (4.0 + 1e-6, False), (-4.0 - 1e-6, False)):
        path = linear(np.full(7, touching), np.full(7, touching), 0.5)
        assert limits.admissible_end_s(path, margin=margin) == path.end_s
    for beyond, margin in ((3.76, True), (-3.76, True), (4.01, False), (-4.01, False)):
        path = linear(turned(2, beyond, REST), turned(2, beyond, REST), 0.5)
        assert limits.admissible_end_s(path, margin=margin) < path.start_s


def test_the_nearest_position_inside_the_limits() -> None:
    assert LIMITS.inside(HOME) == pytest.approx(HOME)
    assert LIMITS.inside(HOME + 9.0) == pytest.approx(ARM.position_upper_rad)
    assert LIMITS.inside(HOME - 9.0) == pytest.approx(ARM.position_lower_rad)


# The box


def test_the_box_holds_its_own_faces() -> None:
    place = tuple(float(x) for x in ARM.forward(HOME)[:3, 3])
    assert Limits(ARM, 0.0, place, place).in_box(HOME)
    for axis in range(3):
        apart = tuple(x + (1e-6 if i == axis else 0.0) for i, x in enumerate(place))
        assert not Limits(ARM, 0.0, apart, (9.0, 9.0, 9.0)).in_box(HOME)
        below = tuple(x - (1e-6 if i == axis else 0.0) for i, x in enumerate(place))
        assert not Limits(ARM, 0.0, (-9.0, -9.0, -9.0), below).in_box(HOME)
    assert LIMITS.in_box(np.array([HOME, turned(5, 0.1)])).tolist() == [True, True]


def test_the_room_above_is_what_is_left_up_to_the_top_of_the_box() -> None:
    for position in (HOME, turned(1, 0.2)):
        x, y, z = (float(value) for value in ARM.forward(position)[:3, 3])
        for room_m in (0.25, 0.0, -0.05):
            limits = Limits(ARM, 0.0, (x - 1.0, y - 1.0, z - 1.0), (x + 2.0, y + 3.0, z + room_m))
            assert limits.room_above_m(position) == pytest.approx(room_m, abs=1e-12)


# How much is used


def used(arm: ArmModel, position: Floats, velocity: Floats, box: tuple = BOX) -> tuple[LimitReport, ...]:
    return Limits(arm, 0.005, *box).use(position, velocity)


def test_the_joint_and_axis_nearest_to_their_limits_are_named_with_the_share_they_use() -> None:
    arm = replace(ROUND, position_lower_rad=np.full(7, -2.0), velocity_limit_rad_s=np.full(7, 2.0))
    position = np.array([0.0, 0.0, 0.0, -1.0, 0.0, 3.25, 0.5])
    velocity = np.array([0.5, 0.0, -1.0, 0.0, 0.0, 0.75, 0.0])
    x, y, z = ARM.forward(position)[:3, 3]
    assert abs(y) < 0.1
    box = ((x - 3.0, -1.0, z - 1.0), (x + 1.0, 1.0, z + 1.0))
    joints, speeds, tool = used(arm, position, velocity, box)
    assert joints == LimitReport("joint positions", 0.75, "joint 6 at 3.250 rad")
    assert speeds == LimitReport("joint velocities", 0.5, "joint 3 at -1.000 rad/s")
    assert (tool.name, tool.detail) == ("workspace box", f"x = {x:.3f} m")
    assert tool.used == pytest.approx(0.5)
    low = used(arm, turned(4, -2.0, REST), REST, ((-9.0, -9.0, 0.0), (9.0, 9.0, 9.0)))
    assert low[0] == LimitReport("joint positions", 1.0, "joint 5 at -2.000 rad")
    assert low[2].detail.startswith("z = ")
