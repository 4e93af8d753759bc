"""The signals: what they say, and what they must not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up_episodes import HOME_RAD, TIMES_S, Recipe, gate_state, make_episode, policy_output, robot_state

from salus_ros.data.episode import Episode, Outcome
from salus_ros.monitor.body import pose_from_numbers
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.replay import replay
from salus_ros.monitor.settings import FRONT_CAMERA_POSE, MonitorSettings
from salus_ros.monitor.signals import SignalSet, families
from salus_ros.types import PointCloud, PolicyOutput, Uncertainty

NAMES = SignalSet().names


@pytest.fixture(scope="module")
def episode() -> Episode:
    return make_episode(3, Recipe(length_s=2.5))


@pytest.fixture
def perception() -> Perception:
    return Perception(MonitorSettings())


def look(perception: Perception, now_s: float) -> dict[str, float]:
    seen = perception.look(now_s)
    assert seen is not None
    return dict(zip(NAMES, seen[1][-1].tolist(), strict=True))


def stand(perception: Perception, until_s: float, opening_m: float = 0.08) -> None:
    for t in np.arange(0.0, until_s + 1e-9, 0.01):
        perception.inputs.robot(robot_state(float(t), opening_m=opening_m))


def swing(first_s: float, rate: float = 1.0) -> np.ndarray:
    """Joints of a chunk that turns the first one steadily, from path time ``first_s`` on."""
    return HOME_RAD + rate * (first_s + TIMES_S)[:, None] * np.eye(7)[0]


@pytest.mark.parametrize(
    "signal",
    [pytest.param(s, id=f"{f.name}.{s.name}") for f in families() for s in f.signals],
)
def test_every_signal_says_its_unit_range_and_meaning(signal) -> None:  # type: ignore[no-untyped-def]
    assert signal.unit
    assert signal.low < signal.high
    assert len(signal.meaning) > 15


@pytest.mark.parametrize("family", families(), ids=lambda f: f.name)
def test_every_family_says_its_source(family) -> None:  # type: ignore[no-untyped-def]
    import sys

    assert "Source:" in (sys.modules[family.measure.__module__].__doc__ or "")


def test_signals_lie_inside_their_ranges(episode: Episode, perception: Perception) -> None:
    replayed = replay(episode, perception)
    for name, signal, values in zip(NAMES, perception.signals.signals, replayed.frames.T, strict=True):
        known = values[np.isfinite(values)]
        assert ((known >= signal.low) & (known <= signal.high)).all(), name


def test_signals_do_not_know_the_time(episode: Episode, perception: Perception) -> None:
    def later(stream):  # type: ignore[no-untyped-def]
        return replace(stream, stamp_s=stream.stamp_s + 512.0, arrival_s=stream.arrival_s + 512.0)

    moved = replace(
        episode,
        meta=replace(episode.meta, end_s=episode.meta.end_s + 512.0),
        robot=later(episode.robot),
        policy=later(episode.policy),
        points=later(episode.points),
        interventions=later(episode.interventions),
    )
    np.testing.assert_allclose(
        replay(moved, perception).frames, replay(episode, perception).frames, atol=1e-6, equal_nan=True
    )


def test_signals_do_not_know_the_sequence_number(episode: Episode, perception: Perception) -> None:
    shifted = replace(
        episode,
        policy=replace(episode.policy, sequence=episode.policy.sequence + 1000),
        interventions=replace(episode.interventions, sequence=episode.interventions.sequence + 1000),
    )
    np.testing.assert_array_equal(replay(shifted, perception).frames, replay(episode, perception).frames)


def test_signals_do_not_know_what_only_a_simulator_knows(episode: Episode, perception: Perception) -> None:
    meta = replace(episode.meta, seed=99, outcome=Outcome.UNKNOWN, disturbance="slippery", instruction="")
    told = replace(episode, meta=meta, events=(), frames={})
    np.testing.assert_array_equal(replay(told, perception).frames, replay(episode, perception).frames)


def test_what_a_robot_does_not_report_is_not_available_and_the_rest_is(perception: Perception) -> None:
    nothing = np.full(7, np.nan)
    for t in np.arange(0.0, 1.0, 0.01):
        perception.inputs.robot(
            replace(
                robot_state(float(t)),
                joint_velocity_rad_s=nothing,
                joint_effort_nm=nothing,
                gripper_opening_m=np.nan,
            )
        )
    bare = Uncertainty(ensemble_size=1)
    perception.inputs.policy(policy_output(0.9, samples=np.empty((0, 0, 0, 0), np.float32), uncertainty=bare))
    values = look(perception, 1.0)
    for name in ("execution.effort", "execution.opening", "uncertainty.epistemic", "overlap.joint_rms"):
        assert np.isnan(values[name]), f"{name} is {values[name]}; nobody reported it"
    assert all(np.isnan(v) for n, v in values.items() if n.startswith(("geometry.", "latent.")))
    assert values["motion.joint_speed"] == pytest.approx(0.0), "speed follows from the positions"
    assert np.isfinite(values["execution.tracking_rms"])


def test_an_ensemble_of_one_has_no_spread(perception: Perception) -> None:
    stand(perception, 1.0)
    perception.inputs.policy(policy_output(0.9, samples=np.ones((1, 1, 16, 4), np.float32)))
    assert np.isnan(look(perception, 1.0)["uncertainty.std_near"])


@pytest.mark.parametrize("speed", [1.0, 0.5, 0.0])
def test_a_plan_that_is_the_same_path_overlaps_at_any_speed(perception: Perception, speed: float) -> None:
    stand(perception, 1.0)
    perception.inputs.policy(policy_output(0.8, 0, joints=swing(0.0)))
    perception.inputs.intervention(gate_state(0.9, sequence=0, path_time_s=0.1 * speed, speed=speed))
    perception.inputs.policy(policy_output(1.0, 1, joints=swing(0.2 * speed)))
    values = look(perception, 1.05)
    assert values["overlap.joint_max"] < (0.02 if speed == 1.0 else 0.06), (
        "only the part of the path before the first point may differ"
    )
    assert values["overlap.turn"] > 0.99


def test_a_change_of_mind_shows_in_the_overlap(perception: Perception) -> None:
    stand(perception, 1.0)
    perception.inputs.policy(policy_output(0.8, 0, joints=swing(0.0)))
    perception.inputs.intervention(gate_state(0.9, sequence=0, path_time_s=0.1))
    perception.inputs.policy(policy_output(1.0, 1, joints=swing(0.2, rate=-1.0)))
    values = look(perception, 1.05)
    assert values["overlap.joint_max"] > 0.5
    assert values["overlap.turn"] < 0.0


def test_tracking_is_judged_at_the_path_time_of_the_gate(perception: Perception) -> None:
    stand(perception, 1.0)
    perception.inputs.policy(policy_output(0.5, 0, joints=swing(-0.05)))
    perception.inputs.intervention(gate_state(0.99, sequence=0, path_time_s=0.05, speed=0.0))
    assert look(perception, 1.0)["execution.tracking_max"] == pytest.approx(0.0, abs=1e-6)
    perception.inputs.intervention(gate_state(0.995, sequence=0, path_time_s=0.45, speed=0.0))
    assert look(perception, 1.0)["execution.tracking_max"] == pytest.approx(0.4, abs=1e-6)


def test_the_gate_slowing_down_is_seen(perception: Perception) -> None:
    stand(perception, 1.0)
    perception.inputs.policy(policy_output(0.9))
    perception.inputs.intervention(gate_state(0.98, speed=0.3))
    assert look(perception, 1.0)["execution.speed_scale"] == 0.3


def obstacle(perception: Perception, offset_m: np.ndarray) -> PointCloud:
    """A small block at an offset from the home pose's tool, as the front camera sees it."""
    tool = perception.inputs.view(1.0).tool
    assert tool is not None
    block = tool[:3, 3] + offset_m + np.random.default_rng(0).uniform(-0.003, 0.003, (20, 3))
    pose = pose_from_numbers(FRONT_CAMERA_POSE)
    return PointCloud(0.99, "front_optical_frame", ((block - pose[:3, 3]) @ pose[:3, :3]).astype(np.float32))


def test_an_obstacle_on_the_planned_path_is_foreseen_before_it_is_near(perception: Perception) -> None:
    stand(perception, 1.0)
    tool = perception.inputs.view(1.0).tool
    assert tool is not None
    perception.inputs.policy(policy_output(0.9, joints=swing(0.0, rate=0.5)))
    reach_m = float(np.hypot(*tool[:2, 3]))
    perception.inputs.points(obstacle(perception, np.array([0.0, 0.5 * reach_m * 0.5, 0.03])))
    towards = look(perception, 1.0)
    perception.inputs.policy(policy_output(0.95, joints=swing(0.0, rate=-0.5)))
    away = look(perception, 1.0)
    assert towards["geometry.clearance_gripper"] == pytest.approx(away["geometry.clearance_gripper"])
    assert towards["geometry.planned_clearance"] < away["geometry.planned_clearance"] - 0.03
    assert towards["geometry.time_to_contact"] < away["geometry.time_to_contact"] == 1.0


def test_a_plan_that_stands_at_its_lowest_is_there_when_it_arrives_whatever_is_rounded(
    perception: Perception,
) -> None:
    low_rad = HOME_RAD + np.array([0.0, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0])
    for t in np.arange(0.0, 1.0 + 1e-9, 0.01):
        perception.inputs.robot(robot_state(float(t), low_rad))
    joints = np.tile(low_rad, (len(TIMES_S), 1))
    arrived = float(TIMES_S[0]) + 0.25
    joints[:, 3] -= 0.2 * np.minimum(TIMES_S / arrived, 1.0)
    joints[:, 3] -= np.where(arrived < TIMES_S, 1e-12 * np.arange(len(TIMES_S)), 0.0)
    perception.inputs.policy(policy_output(1.0, joints=joints))
    perception.inputs.points(obstacle(perception, np.array([0.0, 0.6, 0.03])))
    assert look(perception, 1.0)["geometry.floor_in"] == pytest.approx(0.3), (
        f"the plan reaches its lowest place {arrived:g} s on and stays there"
    )


def test_a_closing_gripper_with_nothing_between_shows(perception: Perception) -> None:
    for t in np.arange(0.0, 1.0, 0.01):
        perception.inputs.robot(robot_state(float(t), opening_m=0.08 - 0.07 * float(t)))
    perception.inputs.policy(policy_output(0.9, opening_m=0.0))
    values = look(perception, 1.0)
    assert values["execution.opening_trend"] == pytest.approx(-0.07, abs=0.01)
    assert values["execution.opening_excess"] == pytest.approx(0.0107, abs=1e-3)


def test_a_sudden_push_shows_in_the_effort_and_a_steady_load_does_not(perception: Perception) -> None:
    load = np.full(7, 8.0)
    for t in np.arange(0.0, 2.0, 0.01):
        push = 6.0 if t > 1.9 else 0.0
        perception.inputs.robot(replace(robot_state(float(t)), joint_effort_nm=load + push))
        if abs(t - 1.85) < 1e-6:
            perception.inputs.policy(policy_output(1.8))
            before = look(perception, 1.85)
    after = look(perception, 1.99)
    assert before["execution.effort_change"] == pytest.approx(0.0, abs=1e-9)
    assert after["execution.effort_change"] > 0.2


def test_every_signal_of_the_policy_survives_nan_and_infinity(perception: Perception) -> None:
    stand(perception, 1.0)
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        wild = Uncertainty(
            ensemble_size=5,
            epistemic=bad,
            aleatoric=bad,
            std_per_dimension=np.full(4, bad),
            overlap_divergence=bad,
            velocity_field_disagreement=bad,
            latent=np.full(16, bad),
        )
        output: PolicyOutput = policy_output(0.9, samples=np.full((3, 2, 16, 4), bad), uncertainty=wild)
        perception.inputs.policy(output)
        seen = perception.look(1.0)
        assert seen is not None
        assert not np.isinf(seen[1]).any()


def closing_at(first_s: float) -> np.ndarray:
    """Openings of a chunk that closes from a path time on."""
    return np.where(first_s - 1e-6 <= TIMES_S, 0.0, 0.08)


@pytest.mark.parametrize("offset_m", [0.0, 0.03])
def test_an_object_off_the_middle_shows_before_the_fingers_close(
    perception: Perception, offset_m: float
) -> None:
    stand(perception, 1.0)
    view = perception.inputs.view(1.0)
    assert view.tool is not None
    plan = policy_output(0.9)
    plan = replace(plan, chunk=replace(plan.chunk, gripper_opening_m=closing_at(0.4)))
    perception.inputs.policy(plan)
    perception.inputs.points(obstacle(perception, view.tool[:3, :3] @ np.array([offset_m, 0.0, 0.0])))
    values = look(perception, 1.0)
    assert values["grasp.closing_in"] == pytest.approx(0.3, abs=0.051)
    assert values["grasp.planned_x"] == pytest.approx(offset_m, abs=0.003)
    assert (values["grasp.planned_overlap"] > 0.0) == (offset_m == 0.0)
    assert values["grasp.planned_room"] > 0.03


def test_an_object_that_stays_behind_slips_out_of_the_hand(perception: Perception) -> None:
    stand(perception, 0.6)
    tool = perception.inputs.view(0.6).tool
    assert tool is not None
    perception.inputs.policy(policy_output(0.55))
    pose = pose_from_numbers(FRONT_CAMERA_POSE)
    for i in range(4):
        block = (
            tool[:3, 3] + 0.01 * i * tool[:3, 2] + np.random.default_rng(0).uniform(-0.004, 0.004, (20, 3))
        )
        cloud = ((block - pose[:3, 3]) @ pose[:3, :3]).astype(np.float32)
        stamp_s = 0.6 + 0.1 * i
        perception.inputs.robot(robot_state(stamp_s))
        perception.inputs.points(PointCloud(stamp_s, "front_optical_frame", cloud))
        values = look(perception, stamp_s)
    assert values["grasp.slip_z"] == pytest.approx(0.1, abs=0.02)
    assert values["grasp.slip"] == pytest.approx(0.1, abs=0.02)


def test_an_arm_that_sags_is_taken_to_sag_along_the_plan(perception: Perception) -> None:
    stand(perception, 1.0)
    perception.inputs.points(obstacle(perception, np.array([0.0, 0.4, 0.2])))
    lower = HOME_RAD + 0.5 * np.eye(7)[1]
    perception.inputs.policy(policy_output(0.95, joints=np.tile(lower, (len(TIMES_S), 1))))
    as_planned = look(perception, 1.0)["geometry.floor"]
    perception.inputs.robot(robot_state(1.01, joints=lower + 0.05 * np.eye(7)[1]))
    assert look(perception, 1.02)["geometry.floor"] < as_planned - 0.01
