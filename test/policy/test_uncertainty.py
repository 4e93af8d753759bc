from __future__ import annotations

import numpy as np
import pytest

from salus_ros.policy.uncertainty import of_samples, overlap_divergence
from salus_ros.types import ActionChunk

RNG = np.random.default_rng(0)


def samples(members: int, draws: int, between: float, within: float) -> np.ndarray:
    """Chunks (K, S, 400, 2) whose members and draws spread as told."""
    of_member = between * RNG.normal(size=(members, 1, 400, 2))
    return (of_member + within * RNG.normal(size=(members, draws, 400, 2))).astype(np.float32)


def test_members_that_agree_leave_only_what_draws_differ_by():
    result = of_samples(samples(5, 4, 0.0, 1.0))
    assert result.aleatoric == pytest.approx(1.0, rel=0.1)
    assert result.epistemic == pytest.approx(0.25, rel=0.2), (
        "a mean of four draws has a quarter of their variance"
    )


def test_members_that_differ_show_in_the_epistemic_part_alone():
    result = of_samples(samples(5, 4, 2.0, 0.0))
    assert result.epistemic == pytest.approx(4.0, rel=0.15)
    assert result.aleatoric == pytest.approx(0.0, abs=1e-9)


def test_deviation_per_dimension_is_the_total_one():
    drawn = samples(5, 4, 0.0, 1.0)
    drawn[..., 1] *= 3
    np.testing.assert_allclose(of_samples(drawn).std_per_dimension, [1.0, 3.0], rtol=0.1)


def test_one_member_has_no_epistemic_part():
    result = of_samples(samples(1, 4, 1.0, 1.0))
    assert np.isnan(result.epistemic) and np.isfinite(result.aleatoric)


def test_one_draw_has_no_aleatoric_part():
    result = of_samples(samples(5, 1, 1.0, 1.0))
    assert np.isnan(result.aleatoric) and np.isfinite(result.epistemic)


def test_one_sample_has_nothing_to_say():
    result = of_samples(samples(1, 1, 1.0, 1.0))
    assert (
        np.isnan(result.epistemic) and np.isnan(result.aleatoric) and np.isnan(result.std_per_dimension).all()
    )


def line(stamp_s: float, offset: float = 0.0) -> ActionChunk:
    """A chunk on the line q = t in every joint, moved by an offset."""
    times = 0.05 * np.arange(1, 17)
    joints = np.repeat((stamp_s + times + offset)[:, None], 7, axis=1)
    return ActionChunk(stamp_s, times, joints, np.full(16, 0.08))


def test_chunks_on_the_same_path_do_not_diverge():
    assert overlap_divergence(line(0.0), line(0.13)) == pytest.approx(0.0, abs=1e-12)


def test_divergence_is_the_mean_squared_joint_difference():
    assert overlap_divergence(line(0.0), line(0.2, offset=0.1)) == pytest.approx(0.01)


def test_the_first_chunk_and_one_without_shared_time_have_no_overlap():
    assert np.isnan(overlap_divergence(None, line(0.0)))
    assert np.isnan(overlap_divergence(line(0.0), line(5.0)))
