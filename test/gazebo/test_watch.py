"""What happens in an episode is judged alike in either simulator: MuJoCo plays Gazebo's part here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from salus_ros.sim.gazebo import ROBOT, Moment, Touch, Watch, judge, owner, scene
from salus_ros.sim.simulation import CONTROL_PERIOD_S, SimSettings, Simulation
from salus_ros.sim.start import StartPostures
from salus_ros.sim.tasks import BinTask
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import CUBES, Owner
from salus_ros.types import EventKind, FailureType, JointTrajectory

SEED, GRIPPED = 7, 1
"""A scene with a cube that is not named and lies square to the fingers, and its number."""

LEFT = f"{ROBOT}::panda_leftfinger::panda_leftfinger_pad_collision_1"
RIGHT = f"{ROBOT}::panda_rightfinger::panda_rightfinger_pad_collision_1"
FOREARM = f"{ROBOT}::panda_link5::forearm_capsule_collision"


def cube(i: int) -> str:
    return f"cube_{i}::link::cube_{i}"


def touches(simulation: Simulation) -> tuple[Touch, ...]:
    """MuJoCo's contacts, named as Gazebo names them, each told by both sides."""
    model, data = simulation._world.model, simulation._data
    found: dict[tuple[str, str], float] = {}
    for i in range(data.ncon):
        if data.contact.efc_address[i] < 0:
            continue
        names = []
        for geom in data.contact.geom[i]:
            body = model.body(model.geom_bodyid[geom]).name
            shape = model.geom(geom).name
            names.append(
                f"{ROBOT}::{body}::{shape}" if body.startswith("panda_") else f"{body}::link::{shape}"
            )
        pair = (names[0], names[1])
        found[pair] = found.get(pair, 0.0) + float(data.efc_force[data.contact.efc_address[i]])
    both = [Touch(*pair, force) for pair, force in found.items()]
    return (*both, *(Touch(touch.second, touch.first, touch.force_n) for touch in both))


def moment(simulation: Simulation) -> Moment:
    truth = simulation.truth()
    poses = np.tile(np.eye(4), (CUBES, 1, 1))
    poses[:, :3, 3] = truth.cube_position_m
    poses[:, :3, :3] = truth.cube_rotation
    return Moment(
        time_s=truth.time_s,
        robot=simulation.robot_state(),
        cube_pose=poses,
        touches=touches(simulation),
        gripper_command_m=truth.gripper_command_m,
    )


@pytest.fixture(scope="module")
def watched() -> dict[str, list]:
    """An arm that grips a cube that is not named, drops it, and presses on the table."""
    simulation = Simulation(SimSettings(time_limit_s=6.0))
    drawn = simulation.reset(SEED)
    postures = StartPostures(simulation.arm_model)
    here = drawn.layout.cube_position_m[GRIPPED]
    stations = [  # height, opening, time
        (0.12, 0.08, 1.0),
        (0.02, 0.08, 1.0),
        (0.02, 0.0, 0.6),
        (0.12, 0.0, 0.8),
        (0.12, 0.08, 0.6),
        (-0.03, 0.0, 2.1),
    ]
    watch = Watch(scene(SEED), simulation.arm_model, simulation.settings)
    seen: dict[str, list] = {"events": [], "truths": [], "own_events": [], "own_truths": []}
    for height_m, opening_m, time_s in stations:
        goal = postures.posture(np.array([here[0], here[1], height_m]))
        still = np.zeros((2, len(goal)))
        path = np.array([simulation.robot_state().joint_position_rad, goal])
        simulation.arm.accept(JointTrajectory(np.array([0.0, 0.8 * time_s]), path, still))
        simulation.gripper.accept(opening_m)
        for _ in range(round(time_s / CONTROL_PERIOD_S)):
            if not simulation.done:
                seen["own_events"] += simulation.step()
                seen["own_truths"].append(simulation.truth())
                seen["events"] += watch.update(moment(simulation))
                seen["truths"].append(watch.truth)
    return seen


def test_events_are_those_of_the_simulations_own_referee(watched: dict[str, list]) -> None:
    failures = [event.failure for event in watched["own_events"] if event.kind == EventKind.FAILURE_ONSET]
    assert {FailureType.COLLISION, FailureType.DROP} <= set(failures), "this episode tests too little"
    expected = [event for event in watched["own_events"] if event.kind != EventKind.EPISODE_START]
    given = [event for event in watched["events"] if event.kind != EventKind.EPISODE_START]
    assert [replace(event, detail="") for event in given] == [replace(event, detail="") for event in expected]


def test_an_episode_starts_once_and_ends_once(watched: dict[str, list]) -> None:
    kinds = [event.kind for event in watched["events"]]
    assert kinds[0] == EventKind.EPISODE_START
    assert kinds.count(EventKind.EPISODE_START) == kinds.count(EventKind.EPISODE_END) == 1


@pytest.mark.parametrize(
    "name",
    ["contact_force_n", "cube_contact_force_n", "press_force_n", "gripped", "held", "touched", "tool_pose"],
)
def test_the_truth_is_the_simulations_own(watched: dict[str, list], name: str) -> None:
    own: list[Truth] = watched["own_truths"]
    assert any(np.any(getattr(truth, name) != getattr(own[0], name)) for truth in own), "nothing changes"
    for mine, theirs in zip(watched["truths"], own, strict=True):
        assert np.asarray(getattr(mine, name)) == pytest.approx(np.asarray(getattr(theirs, name)), abs=1e-6)


def test_speeds_are_near_the_simulations_own(watched: dict[str, list]) -> None:
    mine = np.array([truth.tool_velocity for truth in watched["truths"][1:]])
    own = np.array([truth.tool_velocity for truth in watched["own_truths"][1:]])
    assert np.median(np.abs(mine - own)) < 0.005


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        (LEFT, Owner.LEFT_FINGER),
        (RIGHT, Owner.RIGHT_FINGER),
        (FOREARM, Owner.ARM),
        ("table::link::table", Owner.TABLE),
        ("bin::link::bin_far", Owner.BIN),
        ("obstacle::link::obstacle", Owner.OBSTACLE),
        (cube(2), Owner.CUBE + 2),
        ("cube_7::link::cube_7", Owner.NOTHING),
        ("ground_plane::link::collision", Owner.NOTHING),
        ("", Owner.NOTHING),
    ],
)
def test_a_shape_belongs_to_whom_its_scoped_name_says(name: str, whose: int) -> None:
    assert owner(name) == whose


def test_two_shapes_that_report_each_other_count_once() -> None:
    table = "table::link::table"
    told_twice = [Touch(FOREARM, table, 12.0), Touch(table, FOREARM, 12.0)]
    assert judge(told_twice, BinTask(), target=0, held=-1).fixed_force_n == 12.0


def test_a_cube_is_gripped_when_both_fingers_touch_it() -> None:
    one = judge([Touch(LEFT, cube(1), 1.0)], BinTask(), target=1, held=-1)
    both = judge([Touch(LEFT, cube(1), 1.0), Touch(cube(1), RIGHT, 1.0)], BinTask(), target=1, held=-1)
    assert (one.squeezed, both.squeezed) == (-1, 1)
    assert both.cube_force_n == 0.0, "the named cube may be touched"


def test_cubes_on_the_table_are_no_collision_but_a_held_cube_on_the_bin_is() -> None:
    resting = [Touch(cube(i), "table::link::table", 0.6) for i in range(CUBES)]
    assert judge(resting, BinTask(), target=0, held=-1).fixed_force_n == 0.0
    carried = [*resting, Touch(cube(0), "bin::link::bin_near", 15.0)]
    assert judge(carried, BinTask(), target=0, held=0).fixed_force_n == 15.0
    assert judge(carried, BinTask(), target=0, held=-1).fixed_force_n == 0.0, "a cube that lies in the bin"


def test_a_moment_told_twice_and_one_from_before_change_nothing(simulation: Simulation) -> None:
    watch = Watch(scene(simulation.scene.seed), simulation.arm_model)
    first = moment(simulation)
    assert [event.kind for event in watch.update(first)] == [EventKind.EPISODE_START]
    truth = watch.truth
    assert watch.update(first) == watch.update(replace(first, time_s=-1.0)) == ()
    assert watch.truth is truth


def test_a_cube_that_falls_off_the_table_ends_the_episode_as_lost(simulation: Simulation) -> None:
    watch = Watch(scene(simulation.scene.seed), simulation.arm_model)
    fallen = moment(simulation)
    watch.update(fallen)
    fallen.cube_pose[simulation.scene.layout.target, 2, 3] = -0.3
    events = watch.update(replace(fallen, time_s=0.01))
    assert [(event.kind, event.detail) for event in events] == [(EventKind.EPISODE_END, "lost")]
    assert watch.update(replace(fallen, time_s=0.02)) == (), "an episode that has ended stays so"


def test_a_collision_that_lasts_is_an_onset_at_its_beginning(simulation: Simulation) -> None:
    watch = Watch(scene(simulation.scene.seed), simulation.arm_model)
    hit = replace(moment(simulation), touches=(Touch(FOREARM, "obstacle::link::obstacle", 30.0),))
    events = [event for tick in range(8) for event in watch.update(replace(hit, time_s=0.01 * tick))]
    onsets = [event for event in events if event.kind == EventKind.FAILURE_ONSET]
    assert [(onset.failure, onset.stamp_s) for onset in onsets] == [(FailureType.COLLISION, 0.0)]
