"""What was recorded comes back as it was, in the order in which it was seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from salus_ros.data.episode import Episode, EpisodeMeta
from salus_ros.data.images import decode_image, encode_image
from salus_ros.data.recorder import EpisodeRecorder, round_points
from salus_ros.errors import SalusError
from salus_ros.types import (
    FailurePrediction,
    InterventionState,
    JointTrajectory,
    PointCloud,
    PolicyOutput,
    RobotState,
)

Make = Callable[..., Episode]


def robot(stamp_s: float, joints: int = 7) -> RobotState:
    return RobotState(stamp_s, np.zeros(joints), np.zeros(joints), np.zeros(joints), 0.08)


def test_inputs_come_in_order_of_arrival_with_causes_before_effects(make_episode: Make) -> None:
    episode = make_episode()
    pairs = list(episode.inputs())
    arrivals = [arrival for arrival, _ in pairs]
    assert arrivals == sorted(arrivals)
    kinds = [PolicyOutput, PointCloud, FailurePrediction, InterventionState, RobotState]
    assert {type(message) for _, message in pairs} == set(kinds), "every kind of input is replayed"
    at = [type(message) for arrival, message in pairs if arrival == 0.3]
    assert at == [RobotState, FailurePrediction, InterventionState]
    first_output = next(arrival for arrival, message in pairs if isinstance(message, PolicyOutput))
    assert first_output == pytest.approx(0.083), "an output is seen when it arrives, not at its stamp"


def test_messages_come_back_as_they_were() -> None:
    recorder = EpisodeRecorder()
    state = RobotState(0.5, np.arange(7.0), np.arange(7.0) / 3, np.full(7, np.nan), 0.013)
    recorder.robot(state)
    back = recorder.finish(EpisodeMeta()).robot.item(0)
    assert back.stamp_s == state.stamp_s
    np.testing.assert_array_equal(back.joint_velocity_rad_s, state.joint_velocity_rad_s)
    assert np.isnan(back.joint_effort_nm).all(), "not available stays not available"


def test_a_recorded_state_does_not_change_with_the_array_it_came_from() -> None:
    recorder = EpisodeRecorder()
    state = robot(0.0)
    recorder.robot(state)
    state.joint_position_rad[:] = 9.0
    assert recorder.finish(EpisodeMeta()).robot.joint_position_rad.max() == 0.0


def test_stamps_count_from_the_time_origin(make_episode: Make) -> None:
    since_1970 = make_episode(time_origin_s=1.7e9)
    assert since_1970.robot.stamp_s == pytest.approx(make_episode().robot.stamp_s, abs=1e-6)
    assert since_1970.events[1].stamp_s == pytest.approx(0.7, abs=1e-6)
    assert since_1970.meta.time_origin_s == 1.7e9


def test_rows_out_of_order_are_sorted_by_stamp_and_keep_their_arrival() -> None:
    recorder = EpisodeRecorder()
    recorder.robot(robot(0.2), arrival_s=0.21)
    recorder.robot(robot(0.1), arrival_s=0.22)
    stream = recorder.finish(EpisodeMeta()).robot
    assert stream.stamp_s.tolist() == [0.1, 0.2]
    assert stream.arrival_s.tolist() == [0.22, 0.21]


def test_streams_without_messages_are_empty_not_absent() -> None:
    episode = EpisodeRecorder().finish(EpisodeMeta())
    assert [len(stream) for stream in episode.streams().values()] == [0] * 6
    assert list(episode.inputs()) == []


def test_a_command_keeps_the_first_point_ahead_and_a_gripper_command_alone_has_no_arm() -> None:
    recorder = EpisodeRecorder()
    trajectory = JointTrajectory(np.array([0.0, 0.01, 0.4]), np.arange(21.0).reshape(3, 7), np.zeros((3, 7)))
    recorder.command(1.0, trajectory, None)
    recorder.command(1.1, None, 0.02)
    commands = recorder.finish(EpisodeMeta()).commands
    assert commands.position_rad[0].tolist() == list(range(7, 14))
    assert commands.time_from_start_s[0] == 0.01
    assert commands.duration_s[0] == 0.4
    assert np.isnan(commands.position_rad[1]).all()
    assert np.isnan(commands.gripper_opening_m[0]) and commands.gripper_opening_m[1] == 0.02


def test_a_gripper_command_may_come_before_the_first_of_the_arm() -> None:
    recorder = EpisodeRecorder()
    recorder.command(0.0, None, 0.02)
    recorder.command(0.1, JointTrajectory(np.array([0.1]), np.ones((1, 7)), np.zeros((1, 7))), None)
    positions = recorder.finish(EpisodeMeta()).commands.position_rad
    assert np.isnan(positions[0]).all() and positions[1].tolist() == [1.0] * 7


def test_points_are_kept_to_a_millimetre_and_recording_them_twice_changes_nothing() -> None:
    cloud = PointCloud(0.0, "f", np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32))
    once = round_points(cloud)
    assert np.abs(once.points_m - cloud.points_m).max() < 0.0005
    np.testing.assert_array_equal(round_points(once).points_m, once.points_m)


def test_points_that_round_to_zero_have_no_sign() -> None:
    cloud = PointCloud(0.0, "f", np.full((1, 3), -0.0003, np.float32))
    assert not np.signbit(round_points(cloud).points_m).any(), "16-bit integers hold no -0.0"


def test_images_are_lossless() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encode_image(image)), image)


def test_what_is_no_image_is_refused_with_a_sentence() -> None:
    with pytest.raises(SalusError, match=r"shape \(4, 4\).*expected uint8 RGB"):
        encode_image(np.zeros((4, 4), np.uint8))
    with pytest.raises(SalusError, match="damaged"):
        decode_image(b"nonsense")


def test_another_number_of_joints_inside_an_episode_is_refused() -> None:
    recorder = EpisodeRecorder()
    recorder.robot(robot(0.0))
    recorder.robot(robot(0.01, joints=6))
    with pytest.raises(SalusError, match=r"joint_position_rad.*\(6,\).*\(7,\)"):
        recorder.finish(EpisodeMeta())
