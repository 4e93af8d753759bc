"""Distances of latents from those of successes."""

from __future__ import annotations

import numpy as np
import pytest

from salus_ros.monitor.latents import DISTANCES, LatentReference


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(600, 4)) @ rng.normal(size=(4, 24))).astype(np.float32)


@pytest.fixture(scope="module")
def reference(known: np.ndarray) -> LatentReference:
    return LatentReference.fit(known[:500])


@pytest.mark.parametrize("name", DISTANCES)
def test_what_was_never_seen_is_farther_than_what_was_held_out(
    reference: LatentReference, known: np.ndarray, name: str
) -> None:
    inside = reference.measure(known[500:])[name]
    outside = reference.measure(4.0 * known[500:])[name]
    assert np.median(outside) > np.quantile(inside, 0.9)


def test_its_own_latents_are_no_neighbours_of_a_training_episode(
    reference: LatentReference, known: np.ndarray
) -> None:
    own = known[:20]
    with_itself = reference.measure(own)["nearest"]
    without = reference.measure(own, apart_from=own)["nearest"]
    assert (without >= with_itself).all()
    assert without.mean() > 1.05 * with_itself.mean()


def test_a_latent_of_another_length_is_not_available(reference: LatentReference) -> None:
    assert all(np.isnan(v).all() for v in reference.measure(np.zeros((3, 7), np.float32)).values())


def test_it_comes_back_from_its_tensors(reference: LatentReference, known: np.ndarray) -> None:
    again = LatentReference.from_tensors(reference.tensors())
    assert again is not None
    for name, values in reference.measure(known).items():
        np.testing.assert_array_equal(again.measure(known)[name], values)
    assert LatentReference.from_tensors({}) is None


def test_the_same_seed_gives_the_same_reference(known: np.ndarray, reference: LatentReference) -> None:
    np.testing.assert_array_equal(LatentReference.fit(known[:500]).kept, reference.kept)
    assert not np.array_equal(LatentReference.fit(known[:500], seed=1).frozen_in, reference.frozen_in)
