"""Episodes as fewer members of the policy's ensemble would have judged themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from salus_ros.data.episode import Episode
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.evaluation.detectors import Data
from salus_ros.evaluation.records import Record
from salus_ros.evaluation.smaller_ensembles import of_members, with_members
from salus_ros.monitor.dataset import sample
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import SignalSet


def test_one_member_knows_its_own_draws_and_nothing_of_other_members(
    make_episode: Callable[..., Episode],
) -> None:
    episode = make_episode()
    alone = of_members(episode, 1).policy
    drawn = episode.policy.samples[:, 0].astype(float)
    assert alone.samples.shape[1] == 1 and set(alone.ensemble_size) == {1}
    assert np.isnan(alone.epistemic).all() and np.isnan(alone.velocity_field_disagreement).all()
    expected = drawn.var(axis=1, ddof=1).mean(axis=(1, 2))
    np.testing.assert_allclose(alone.aleatoric, expected, rtol=1e-4)
    np.testing.assert_array_equal(alone.joint_position_rad, episode.policy.joint_position_rad)


def test_as_many_members_as_there_were_are_refused(make_episode: Callable[..., Episode]) -> None:
    with pytest.raises(SalusError, match="the policy had 2 members; expected more than 2"):
        of_members(make_episode(), 2)


def test_only_what_members_say_changes_in_the_signals(small_records: list[Record]) -> None:
    test = small_records[:1]
    fewer = with_members(Data(small_records, test, test, {"test": test}), 1, MonitorSettings())
    assert len(fewer.train) == len(small_records)
    names = np.array(SignalSet().names)
    before, after = (r.sample.frames for r in (test[0], fewer.tests["test"][0]))
    changed = names[
        [not np.array_equal(before[:, i], after[:, i], equal_nan=True) for i in range(len(names))]
    ]
    assert {"uncertainty.epistemic", "uncertainty.aleatoric", "uncertainty.field_disagreement"} <= set(
        changed
    )
    families = {name.split(".")[0] for name in changed}
    assert families <= {"uncertainty", "overlap"}, f"other families changed as well: {sorted(changed)}"


def test_what_is_measured_anew_is_what_a_whole_replay_would_measure(small_records: list[Record]) -> None:
    record = small_records[0]
    fewer = with_members(Data([record], [record], [record], {}), 1, MonitorSettings()).train[0]
    episode = of_members(Store.open(record.store).episode(record.index), 1)
    whole = sample(episode, Perception(MonitorSettings()))
    assert whole is not None
    np.testing.assert_array_equal(fewer.sample.frames, whole.frames)
    np.testing.assert_array_equal(fewer.sample.judged, whole.judged)
