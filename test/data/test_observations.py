"""Observations pair what belongs to one moment, and are left out where something is missing."""

from __future__ import annotations

import numpy as np
import pytest

from salus_ros.data.episode import Episode, EpisodeMeta
from salus_ros.data.images import encode_depth
from salus_ros.data.observations import observations
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.errors import SalusError
from salus_ros.types import RobotState


def episode(front: list[float], wrist: list[float], joints: list[float]) -> Episode:
    """Images whose pixels and joints whose positions tell when they were taken, in hundredths of a second."""
    recorder = EpisodeRecorder()
    for camera, stamps in (("front", front), ("wrist", wrist)):
        for stamp_s in stamps:
            recorder.frame(camera, stamp_s, np.full((2, 2, 3), round(100 * stamp_s), np.uint8))
    for stamp_s in joints:
        recorder.robot(RobotState(stamp_s, np.full(7, 100 * stamp_s), np.zeros(7), np.zeros(7), 0.08))
    recorder.frame("depth", 0.0, encode_depth(np.ones((2, 2), np.uint16)))
    return recorder.finish(EpisodeMeta(instruction="put the red cube in the bin"))


def moments(found: Episode, **options: float) -> list[tuple[float, ...]]:
    return [
        (o.stamp_s, *(float(image[0, 0, 0]) / 100 for image in o.images.values()), o.robot.stamp_s)
        for o in observations(found, **options)  # type: ignore[arg-type]
    ]


def test_the_nearest_of_each_camera_and_the_nearest_joint_state_are_paired() -> None:
    found = episode([0.1, 0.3, 0.5], [0.09, 0.33, 0.52], [0.1, 0.11, 0.29, 0.51])
    assert moments(found) == [(0.1, 0.1, 0.09, 0.1), (0.3, 0.3, 0.33, 0.29), (0.5, 0.5, 0.52, 0.51)]
    first = next(observations(found))
    assert first.instruction == "put the red cube in the bin"
    assert list(first.images) == ["front", "wrist"], "depth images are not for a policy's eyes"


def test_what_lies_too_far_apart_is_no_observation() -> None:
    assert moments(episode([0.1, 0.5], [0.1, 0.56], [0.1, 0.5])) == [(0.1, 0.1, 0.1, 0.1)]
    assert moments(episode([0.1, 0.5], [0.1, 0.5], [0.1, 0.44])) == [(0.1, 0.1, 0.1, 0.1)]
    assert len(moments(episode([0.1, 0.5], [0.1, 0.56], [0.1, 0.5]), skew_max_s=0.07)) == 2


def test_without_joint_states_there_is_no_observation() -> None:
    assert moments(episode([0.1], [0.1], [])) == []


def test_cameras_can_be_named_and_must_be_there() -> None:
    found = episode([0.1], [0.1], [0.1])
    assert list(next(observations(found, ("wrist",))).images) == ["wrist"]
    with pytest.raises(SalusError, match="images of depth, front, wrist, and rear were asked for"):
        next(observations(found, ("rear",)))
    with pytest.raises(SalusError, match="images of depth, and some were asked for"):
        next(observations(episode([], [], [0.1])))
