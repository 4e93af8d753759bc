"""Features are computed once for each clip, and never given to another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from salus_ros.policy.tinyvla import checkpoint
from salus_ros.policy.tinyvla.cloning import Clip
from salus_ros.policy.tinyvla.features import FeatureCache

from .reference_cases import load_cases, of_case, write_backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "backbone"
    return checkpoint.load_backbone(write_backbone(folder, of_case(load_cases(), "two_views")))


def clip(seed: int, instruction: str = "put the red cube in the bin", frames: int = 3) -> Clip:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (frames, 2, 32, 32, 3)).astype(np.uint8)
    return Clip(
        name=f"episode {seed}",
        instruction=instruction,
        images=iter([list(views) for views in images]),
        state=rng.normal(size=(frames, 7)).astype(np.float32),
        actions=rng.normal(size=(frames, 8, 10)).astype(np.float32),
        is_pad=np.zeros((frames, 8), np.bool_),
    )


def features(folder, backbone, *clips):
    return list(FeatureCache(folder, "average", {"data": "the same place"}).of(backbone, clips))


def test_what_was_computed_is_read_again_without_looking_at_an_image(backbone, tmp_path):
    (first,) = features(tmp_path, backbone, clip(1))
    (again,) = features(tmp_path, backbone, replace(clip(1), images=iter(())))
    np.testing.assert_array_equal(again.seen, first.seen)


@pytest.mark.parametrize(
    "other", [lambda: clip(1, instruction="push the cube"), lambda: clip(2)], ids=["instruction", "episode"]
)
def test_data_that_was_collected_anew_in_the_same_place_gets_features_of_its_own(backbone, tmp_path, other):
    features(tmp_path / "kept", backbone, clip(1), clip(3))
    (kept, same) = features(tmp_path / "kept", backbone, other(), clip(3))
    (expected, same_expected) = features(tmp_path / "new", backbone, other(), clip(3))
    np.testing.assert_array_equal(kept.seen, expected.seen, "features of the data before were given")
    np.testing.assert_array_equal(same.seen, same_expected.seen)
    assert kept.instruction == expected.instruction
    np.testing.assert_array_equal(kept.state, expected.state)
