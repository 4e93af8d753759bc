"""Episodes of a store as behaviour cloning wants them."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salus_ros.assets import asset
from salus_ros.data.episode import Outcome
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.policy import action
from salus_ros.policy.tinyvla.cloning import Source
from salus_ros.robot.model import ArmModel

make_episode: Any = runpy.run_path(str(Path(__file__).parents[1] / "data" / "conftest.py"))["make_episode"]


@pytest.fixture(scope="module")
def arm():
    return ArmModel.from_urdf(asset("urdf/salus_arm.urdf"))


def stored(folder, *episodes):
    with Store.create(folder) as store:
        for episode in episodes:
            store.append(episode)
    return folder


def source(path, arm, cameras=("front",)):
    return Source(path, cameras, chunk=4, period_s=0.05, arm=arm)


def test_actions_are_where_the_arm_went_and_openings_what_was_commanded(tmp_path, arm):
    episode = make_episode(1)
    (clip,) = source(stored(tmp_path / "s", episode), arm).clips()
    stamps = episode.frames["front"].stamp_s
    robot, commands = episode.robot, episode.commands
    kept = stamps[(stamps >= robot.stamp_s[0]) & (stamps <= robot.stamp_s[-1])]
    assert clip.instruction == episode.meta.instruction
    assert clip.state.shape == (len(kept), 7) and clip.actions.shape == (len(kept), 4, 10)
    images = list(clip.images)
    assert len(images) == len(kept) and images[0][0].dtype == np.uint8
    for frame, step in ((0, 0), (len(kept) // 2, 3)):
        when = kept[frame] + 0.05 * (step + 1)
        joints = [np.interp(when, robot.stamp_s, robot.joint_position_rad[:, j]) for j in range(7)]
        pose = arm.forward(np.array(joints))
        np.testing.assert_allclose(clip.actions[frame, step, :3], pose[:3, 3], atol=1e-6)
        np.testing.assert_allclose(
            clip.actions[frame, step, 3:9], action.rotation_to_six(pose[:3, :3]), atol=1e-6
        )
        told = ~np.isnan(commands.gripper_opening_m) & (commands.stamp_s <= when)
        if told.any():
            expected = commands.gripper_opening_m[told][-1]
            np.testing.assert_allclose(clip.actions[frame, step, 9], expected, atol=1e-6)


def test_steps_past_the_end_are_marked(tmp_path, arm):
    episode = make_episode(1)
    (clip,) = source(stored(tmp_path / "s", episode), arm).clips()
    assert clip.is_pad[-1].any() and not clip.is_pad[0].any()


def test_only_what_succeeded_is_learned_from(tmp_path, arm):
    good, bad = make_episode(1), make_episode(2)
    bad = replace(bad, meta=replace(bad.meta, outcome=Outcome.FAILURE))
    assert len(list(source(stored(tmp_path / "s", good, bad), arm).clips())) == 1


def test_a_camera_that_was_not_recorded_is_named(tmp_path, arm):
    path = stored(tmp_path / "s", make_episode(1))
    with pytest.raises(SalusError, match="'side'"):
        list(source(path, arm, ("side",)).clips())


def test_a_folder_of_something_else_is_told(tmp_path, arm):
    with pytest.raises(SalusError, match="neither a store"):
        list(source(tmp_path, arm).clips())


def test_cameras_that_were_never_in_step_are_told(tmp_path, arm):
    episode = make_episode(1)
    late = replace(episode.frames["front"], stamp_s=episode.frames["front"].stamp_s + 100.0)
    path = stored(tmp_path / "s", replace(episode, frames={**episode.frames, "wrist": late}))
    with pytest.raises(SalusError, match=r"episode 0 of .* no frame whose views lie within 0.05 s"):
        list(source(path, arm, ("front", "wrist")).clips())


def test_arrays_of_something_else_are_no_demonstration(tmp_path, arm):
    np.savez(tmp_path / "other.npz", state=np.zeros(3))
    with pytest.raises(SalusError, match=r"other.npz is no demonstration \(it has no 'succeeded'\)"):
        list(source(tmp_path, arm).clips())


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half of one", None])
def test_a_broken_demonstration_is_told(tmp_path, arm, content):
    path = tmp_path / "broken.npz"
    if content is None:
        np.save(tmp_path / "one_array.npy", np.zeros(3))
        (tmp_path / "one_array.npy").rename(path)
    else:
        path.write_bytes(content)
    with pytest.raises(SalusError, match=r"broken.npz cannot be read"):
        list(source(tmp_path, arm).clips())
