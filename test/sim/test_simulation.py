import dataclasses

import mujoco
import numpy as np
import pytest

from salus_ros.errors import SalusError
from salus_ros.sim.disturbances import FAMILIES, HELD_OUT, MIXED
from salus_ros.sim.layout import TaskSettings
from salus_ros.sim.simulation import TIMEOUT, SimSettings, Simulation
from salus_ros.sim.tasks import TASKS
from salus_ros.sim.world import WorldSettings
from salus_ros.types import EventKind, FailureType, JointTrajectory


def hold(simulation, steps):
    return [event for _ in range(steps) for event in simulation.step()]


def move(simulation, offset_rad, duration_s=1.0):
    """Send the arm from where it is to an offset from there."""
    goal = simulation.robot_state().joint_position_rad + offset_rad
    simulation.arm.accept(JointTrajectory(np.array([duration_s]), goal[None], np.zeros((1, goal.size))))


def wave(simulation, steps=60):
    """Some motion of arm and fingers; returns everything that can be measured after it."""
    move(simulation, np.array([0.2, 0.1, 0, -0.1, 0, 0.1, 0.3]), 0.5)
    simulation.gripper.accept(0.02)
    hold(simulation, steps)
    return measured(simulation)


def measured(simulation):
    truth = dataclasses.asdict(simulation.truth())
    robot = dataclasses.asdict(simulation.robot_state())
    return {k: np.asarray(v) for k, v in {**truth, **robot}.items() if k != "colours"}


def assert_same(a, b):
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


@pytest.mark.parametrize("disturbance", ["", *sorted(FAMILIES)])
def test_the_same_seed_gives_the_same_arrays_whatever_ran_before(simulation, disturbance):
    simulation.reset(7, disturbance=disturbance)
    first = wave(simulation)
    simulation.reset(8, disturbance="slippery")
    wave(simulation)
    simulation.reset(7, disturbance=disturbance)
    assert_same(first, wave(simulation))


def test_another_simulation_gives_the_same_arrays(simulation):
    simulation.reset(3)
    other = Simulation()
    other.reset(3)
    assert_same(wave(simulation), wave(other))


def test_a_saved_moment_branches_into_the_same_future(simulation):
    simulation.reset(5, disturbance="nudge")
    wave(simulation, 30)
    saved = simulation.save()
    first = wave(simulation)
    simulation.reset(6, disturbance="payload")
    wave(simulation)
    for _ in range(2):
        simulation.restore(saved)
        assert_same(first, wave(simulation))


def test_branches_do_not_touch_each_other(simulation):
    simulation.reset(5)
    saved = simulation.save()
    wave(simulation)
    simulation.restore(saved)
    assert simulation.time_s == 0.0
    hold(simulation, 50)
    still = simulation.robot_state().joint_velocity_rad_s
    assert np.abs(still).max() < 1e-3, "a command given in one branch must not move the arm in the other"


def test_the_arm_goes_where_it_is_told_and_stays(simulation):
    start = simulation.robot_state().joint_position_rad
    offset = np.array([0.2, -0.1, 0.1, -0.2, 0.1, 0.2, -0.3])
    move(simulation, offset)
    hold(simulation, 150)
    reached = simulation.robot_state()
    np.testing.assert_allclose(reached.joint_position_rad, start + offset, atol=2e-3)
    np.testing.assert_allclose(reached.joint_velocity_rad_s, 0, atol=1e-2)


def test_the_arm_follows_closely_while_it_moves(simulation):
    move(simulation, np.full(7, 0.3), 1.0)
    start = simulation.robot_state().joint_position_rad
    hold(simulation, 50)
    np.testing.assert_allclose(simulation.robot_state().joint_position_rad, start + 0.15, atol=0.01)


def test_the_effort_is_the_torque_that_carries_the_arm(simulation):
    hold(simulation, 50)
    model, data = simulation._model, simulation._data
    weight = np.zeros(model.nv)
    mujoco.mj_rne(model, data, 0, weight)
    effort = simulation.robot_state().joint_effort_nm
    np.testing.assert_allclose(effort, weight[simulation._world.arm_dof], atol=0.3)
    assert np.abs(effort).max() > 10.0


def test_a_payload_shows_in_the_effort(simulation):
    hold(simulation, 50)
    before = simulation.robot_state().joint_effort_nm
    simulation.reset(0, disturbance="payload")
    hold(simulation, 50)
    change = np.abs(simulation.robot_state().joint_effort_nm - before).max()
    mass = simulation._current.disturbance.mass_kg
    assert change > 0.3 * mass * 9.81, (
        f"{mass:.2f} kg at half a metre changed the effort by {change:.2f} Nm only"
    )


def test_the_effort_stays_inside_the_limits_of_the_urdf(simulation):
    # Far into the table: the servos push as hard as they may.
    move(simulation, np.array([0, 1.5, 0, 1.0, 0, 0, 0]), 0.5)
    hold(simulation, 100)
    share = np.abs(simulation.robot_state().joint_effort_nm) / simulation.arm_model.effort_limit_nm
    assert share.max() == pytest.approx(1.0), (
        "pressing with all force must reach a limit, and none may be passed"
    )


def test_the_gripper_closes_at_its_speed(simulation):
    simulation.gripper.accept(0.0)
    hold(simulation, 41)
    assert simulation.gripper_opening_m == pytest.approx(0.04, abs=0.006)
    hold(simulation, 60)
    assert simulation.gripper_opening_m == pytest.approx(0.0, abs=0.002)


def test_pressing_on_the_table_is_a_collision(simulation):
    move(simulation, np.array([0, 0.8, 0, 0, 0, 0, 0]), 0.8)
    events = hold(simulation, 120)
    onsets = [e for e in events if e.kind is EventKind.FAILURE_ONSET]
    assert [e.failure for e in onsets] == [FailureType.COLLISION]
    assert 0.1 < onsets[0].stamp_s < 1.2


def test_closing_on_nothing_is_a_miss(simulation):
    simulation.gripper.accept(0.0)
    onsets = [e.failure for e in hold(simulation, 100) if e.failure is not None]
    assert onsets == [FailureType.MISS]


def test_standing_still_is_no_failure_until_the_time_is_up():
    simulation = Simulation(SimSettings(time_limit_s=0.5))
    scene = simulation.reset(1)
    events = hold(simulation, 50)
    assert [e.kind for e in events] == [EventKind.EPISODE_START, EventKind.TIMEOUT, EventKind.EPISODE_END]
    assert simulation.done and simulation.outcome == TIMEOUT
    assert {(e.seed, e.task, e.instruction) for e in events} == {(1, "bin", scene.instruction)}


def test_after_its_end_an_episode_has_no_events_but_the_arm_lives_on():
    simulation = Simulation(SimSettings(time_limit_s=0.1))
    simulation.reset(1)
    hold(simulation, 10)
    move(simulation, np.full(7, 0.1), 0.3)
    start = simulation.robot_state().joint_position_rad
    assert not hold(simulation, 40)
    assert simulation.time_s == pytest.approx(0.5)
    np.testing.assert_allclose(simulation.robot_state().joint_position_rad, start + 0.1, atol=2e-3)


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_cameras_see_a_scene_with_the_named_colours(simulation, camera):
    image = simulation.observe().images[camera].astype(float)
    assert image.shape == (128, 128, 3)
    assert image.std() > 10.0
    if camera == "front":
        for channel, colour in enumerate(("red", "green", "blue")):
            others = np.delete(image, channel, axis=2).max(axis=2)
            assert (image[..., channel] > 1.8 * others + 20).sum() >= 20, f"the {colour} cube cannot be seen"


def test_a_cube_appears_where_the_camera_pose_says(simulation):
    size = 128
    pose = simulation.camera_pose("front")
    focal = 0.5 * size / np.tan(np.deg2rad(simulation.camera_fovy_deg("front")) / 2)
    image = simulation.render("front", size, size).astype(float)
    truth = simulation.truth()
    for colour, position in zip(truth.colours, truth.cube_position_m, strict=True):
        x, y, z = pose[:3, :3].T @ (position - pose[:3, 3])
        column, row = focal * x / z + size / 2, focal * y / z + size / 2
        channel = ("red", "green", "blue").index(colour)
        pixel = image[int(row), int(column)]
        assert pixel[channel] > np.delete(pixel, channel).max(), (
            f"{colour} cube expected at {row:.0f}, {column:.0f}"
        )


def test_depth_points_lie_on_what_stands_on_the_table(simulation):
    cloud = simulation.point_cloud()
    assert cloud.frame_id == "front_optical_frame"
    assert 300 < len(cloud.points_m) <= SimSettings().cloud.points
    pose = simulation.camera_pose("front")
    points = cloud.points_m @ pose[:3, :3].T + pose[:3, 3]
    assert points[:, 2].min() > 0.0
    bin_centre = simulation.truth().bin_position_m
    near_bin = np.abs(points[:, :2] - bin_centre[:2]).max(axis=1) < 0.09
    assert near_bin.sum() > 20 and points[near_bin, 2].max() < 0.09
    np.testing.assert_array_equal(simulation.point_cloud().points_m, cloud.points_m)


@pytest.mark.parametrize("family", ["blur", "occlusion", "light"])
def test_disturbances_of_the_camera_change_images_and_nothing_else(simulation, family):
    # A disturbance may begin later: look at several moments.
    simulation.reset(2)
    clean, state = [], []
    for _ in range(5):
        hold(simulation, 60)
        clean.append(simulation.render("front", 64, 64))
        state.append(measured(simulation))
    simulation.reset(2, disturbance=family)
    changed = False
    for image, moment in zip(clean, state, strict=True):
        hold(simulation, 60)
        changed |= bool((simulation.render("front", 64, 64) != image).any())
        assert_same(moment, measured(simulation))
    assert changed


def test_scenes_are_sound_for_many_seeds(simulation):
    settings = TaskSettings()
    with_post = 0
    for seed in range(300):
        layout = TASKS["bin"].draw(np.random.default_rng(seed), settings)
        cubes = layout.cube_position_m[:, :2]
        gaps = np.linalg.norm(cubes[:, None] - cubes[None], axis=-1)[np.triu_indices(3, 1)]
        assert gaps.min() > settings.cube_distance_m
        assert layout.bin_position_m[1] - cubes[:, 1].max() > 0.15
        assert layout.colours[layout.target] in layout.instruction
        with_post += layout.obstacle_position_m[2] > -1
    assert 60 < with_post < 200


def test_mixed_draws_every_family_and_says_which(simulation):
    drawn = {simulation.reset(seed, disturbance=MIXED).disturbance for seed in range(60)}
    assert drawn == set(FAMILIES) - set(HELD_OUT)


def test_the_obstacle_stands_on_the_way_but_leaves_room(simulation):
    on_the_way = 0
    for seed in range(20):
        layout = simulation.reset(seed, disturbance="obstacle").layout
        truth = simulation.truth()
        cube, goal = truth.cube_position_m[truth.target, :2], truth.bin_position_m[:2]
        foot = layout.obstacle_position_m[:2]
        assert min(np.linalg.norm(foot - cube), np.linalg.norm(foot - goal)) > 0.14
        along = (foot - cube) @ (goal - cube) / ((goal - cube) @ (goal - cube))
        on_the_way += float(np.linalg.norm(foot - cube - along * (goal - cube))) < 0.065
    assert on_the_way >= 10


def test_a_slippery_cube_is_ordinary_again_after_the_next_reset(simulation):
    before = simulation._world.changes()
    simulation.reset(0, disturbance="slippery")
    simulation.reset(0)
    for name, value in simulation._world.changes().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_scenes_of_every_task_leave_the_hand_room(task):
    settings = TaskSettings()
    for seed in range(200):
        layout = TASKS[task].draw(np.random.default_rng(seed), settings)
        cubes, goal = layout.cube_position_m[:, :2], layout.goal_m()
        foot = layout.obstacle_position_m
        named = layout.colours[layout.target]
        assert f"the {named} cube" in layout.instruction
        if task == "bin_past_obstacle":
            assert foot[2] == 0.0 and layout.obstacle_height_m >= 0.14
            assert (
                min(np.linalg.norm(foot[:2] - cubes[layout.target]), np.linalg.norm(foot[:2] - goal)) > 0.15
            )
        if task == "stack":
            assert layout.second != layout.target
            assert layout.instruction.endswith(f"on the {layout.colours[layout.second]} cube")
        if task == "push":
            assert 0.10 <= np.linalg.norm(goal - cubes[layout.target]) <= 0.18
            others = np.delete(cubes, layout.target, axis=0)
            assert np.linalg.norm(others - goal, axis=1).min() > 0.08
            assert goal[1] < 0.08 and layout.bin_position_m[1] > 0.26, "the mark is not in the bin"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_disturbance_of_a_given_strength_is_drawn_so_and_says_so(simulation, family):
    scene = simulation.reset(4, disturbance=f"{family}:0.25")
    assert (scene.disturbance, scene.strength) == (family, 0.25)
    drawn = simulation.reset(4, disturbance=family)
    assert 0.0 <= drawn.strength <= 1.0


def test_an_undisturbed_scene_has_no_strength(simulation):
    assert np.isnan(simulation.reset(4).strength)


def test_a_moved_camera_sees_the_scene_elsewhere_and_stands_right_again_after_the_next_reset(simulation):
    simulation.reset(2)
    still, pose = simulation.render("front", 64, 64), simulation.camera_pose("front")
    simulation.reset(2, disturbance="camera:1")
    assert np.linalg.norm(simulation.camera_pose("front")[:3, 3] - pose[:3, 3]) == pytest.approx(0.05)
    assert (simulation.render("front", 64, 64) != still).any()
    simulation.reset(2)
    np.testing.assert_array_equal(simulation.render("front", 64, 64), still)


def test_a_cube_of_another_size_lies_on_the_table_and_weighs_as_its_material(simulation):
    simulation.reset(1)
    mass = simulation._model.body_mass.copy()
    scene = simulation.reset(1, disturbance="size:1")
    target, body = scene.layout.target, simulation._world.cube_body[scene.layout.target]
    size = scene.layout.cube_size_m[target]
    assert abs(size - 0.04) == pytest.approx(0.010)
    hold(simulation, 50)
    assert simulation.truth().cube_position_m[target, 2] == pytest.approx(size / 2, abs=1e-3)
    assert simulation._model.body_mass[body] == pytest.approx(mass[body] * (size / 0.04) ** 3)


def test_a_paint_that_was_never_shown_is_still_nearest_to_its_name(simulation):
    from salus_ros.sim.world import COLOURS

    for seed in range(20):
        layout = simulation.reset(seed, disturbance="colour:1").layout
        rgb = simulation._model.geom_rgba[simulation._world.cube_geom[layout.target], :3]
        shown = {name: np.array(COLOURS[name][:3]) for name in layout.colours}
        distance = {name: np.linalg.norm(rgb - colour) for name, colour in shown.items()}
        assert min(distance, key=distance.__getitem__) == layout.colours[layout.target]
        assert distance[layout.colours[layout.target]] > 0.05


def test_biased_sensors_report_what_was_commanded_while_the_tool_is_elsewhere(simulation):
    simulation.reset(6)
    right = simulation.truth().tool_pose[:3, 3]
    simulation.reset(6, disturbance="bias:1")
    reported = simulation.arm_model.forward(simulation.robot_state().joint_position_rad)[:3, 3]
    np.testing.assert_allclose(simulation.truth().tool_pose[:3, 3], right, atol=1e-9)
    assert 0.003 < np.linalg.norm(reported - right) < 0.05
    start = simulation.robot_state().joint_position_rad
    move(simulation, np.full(7, 0.1), 0.5)
    hold(simulation, 120)
    np.testing.assert_allclose(simulation.robot_state().joint_position_rad, start + 0.1, atol=2e-3)


def test_an_arm_that_lags_is_late_and_arrives(simulation):
    lateness = []
    for disturbance in ("", "lag:1"):
        simulation.reset(0, disturbance=disturbance)
        start = simulation.robot_state().joint_position_rad
        move(simulation, np.full(7, 0.3), 1.0)
        hold(simulation, 50)
        lateness.append(float(np.abs(start + 0.15 - simulation.robot_state().joint_position_rad).max()))
        hold(simulation, 250)
        np.testing.assert_allclose(simulation.robot_state().joint_position_rad, start + 0.3, atol=5e-3)
    assert lateness[1] > 5 * lateness[0]


def test_settings_and_names_that_cannot_be_are_named(simulation):
    with pytest.raises(SalusError, match="no task 'fly'"):
        simulation.reset(0, "fly")
    with pytest.raises(SalusError, match="no disturbance 'rain'"):
        simulation.reset(0, disturbance="rain")
    for wrong in ("nudge:2", "nudge:strong"):
        with pytest.raises(SalusError, match="no strength from 0 to 1"):
            simulation.reset(0, disturbance=wrong)
    with pytest.raises(SalusError, match="seed is -1"):
        simulation.reset(-1)
    with pytest.raises(SalusError, match="no camera 'back'"):
        simulation.render("back", 64, 64)
    with pytest.raises(SalusError, match="640 a side"):
        simulation.render("front", 4000, 64)
    with pytest.raises(SalusError, match="expected what save returned"):
        simulation.restore(b"")
    with pytest.raises(SalusError, match="colours is red, mauve"):
        Simulation(SimSettings(tasks=TaskSettings(colours=("red", "mauve"))))
    with pytest.raises(SalusError, match="whole number of steps"):
        Simulation(SimSettings(world=WorldSettings(time_step_s=0.003)))


def test_nothing_works_before_the_first_reset():
    simulation = Simulation()
    with pytest.raises(SalusError, match="call reset"):
        simulation.step()
