from __future__ import annotations

import numpy as np

from salus_ros.policy.outputs import Outputs
from salus_ros.types import ActionChunk

from .small import observation

TIMES_S = 0.05 * np.arange(1, 17)


def chunk(stamp_s: float, offset_rad: float = 0.0) -> ActionChunk:
    return ActionChunk(stamp_s, TIMES_S, np.full((16, 7), offset_rad), np.full(16, 0.08))


def plan(outputs: Outputs, stamp_s: float, offset_rad: float = 0.0):
    samples = np.zeros((2, 3, 16, 10), np.float32)
    return outputs.next(observation(stamp_s), chunk(stamp_s, offset_rad), samples)


def test_outputs_are_numbered_on_and_compared_with_the_one_before_until_that_is_forgotten():
    outputs = Outputs("mine", "0123456789abcdef")
    first, second = plan(outputs, 0.0), plan(outputs, 0.2, 0.1)
    assert (first.policy_name, first.policy_hash, first.instruction) == (
        "mine", "0123456789abcdef", observation().instruction
    )  # fmt: skip
    assert np.isnan(first.uncertainty.overlap_divergence)
    np.testing.assert_allclose(second.uncertainty.overlap_divergence, 0.01)
    outputs.forget()
    third = plan(outputs, 0.4)
    assert np.isnan(third.uncertainty.overlap_divergence)
    assert [output.sequence for output in (first, second, third)] == [0, 1, 2]


def test_a_saved_moment_can_be_gone_back_to_many_times():
    outputs = Outputs("mine", "0123456789abcdef")
    plan(outputs, 0.0)
    moment = outputs.save()
    for _ in range(2):
        outputs.restore(moment)
        again = plan(outputs, 0.2, 0.1)
        assert again.sequence == 1
        np.testing.assert_allclose(again.uncertainty.overlap_divergence, 0.01)
