"""Labels say what lies ahead of a step, and nothing that the clock could tell."""

from __future__ import annotations

import numpy as np
import pytest

from salus_ros.data.episode import EpisodeMeta
from salus_ros.data.labels import episode_labels, label_steps, nominal_time_s
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.types import Cause, EpisodeEvent, EventKind, FailureType, InterventionState, Mode

COLLISION, DROP = FailureType.COLLISION, FailureType.DROP


def onset(stamp_s: float, failure: FailureType = COLLISION) -> EpisodeEvent:
    return EpisodeEvent(stamp_s, EventKind.FAILURE_ONSET, failure)


def state(stamp_s: float, speed_scale: float) -> InterventionState:
    return InterventionState(stamp_s, Mode.SLOW_DOWN, Cause.RISK, "", speed_scale, 0, 0.0, 0.0)


def test_a_step_is_positive_exactly_when_an_onset_lies_after_it_and_inside_the_horizon() -> None:
    times = [0.0, 0.45, 0.5, 0.55, 0.7, 0.8, 0.9, 0.99]
    labels = label_steps(times, [onset(1.0)], end_s=3.0)
    assert labels.target[:, COLLISION].tolist() == [
        [False, False, False, False],
        [False, False, False, False],
        [False, False, False, True],
        [False, False, False, True],
        [False, True, True, True],
        [True, True, True, True],
        [True, True, True, True],
        [True, True, True, True],
    ]
    assert not labels.target[:, DROP].any(), "an onset of one type is none of another"
    assert labels.valid.all()


def test_the_step_of_the_onset_and_those_after_it_leave_the_data_until_the_episode_is_back_in_order() -> None:
    labels = label_steps([0.9, 1.0, 1.5, 1.99, 2.0], [onset(1.0)], end_s=5.0)
    assert labels.in_order.tolist() == [True, False, False, False, True]
    assert not labels.target[1:].any()


def test_a_second_onset_prolongs_the_disorder() -> None:
    labels = label_steps([1.9, 2.1, 2.6], [onset(1.0), onset(1.6, DROP)], end_s=5.0)
    assert labels.in_order.tolist() == [False, False, True]


def test_a_window_that_reaches_past_the_end_is_censored_unless_its_onset_was_seen() -> None:
    labels = label_steps([1.5, 1.75, 1.9], [onset(1.95, DROP)], end_s=2.0)
    assert labels.known[:, COLLISION].tolist() == [
        [True, True, True, True],
        [True, False, False, False],
        [False, False, False, False],
    ]
    assert labels.known[2, DROP].all(), "the drop was seen, so its label is known"
    assert labels.target[2, DROP].all()


def test_steps_after_the_end_are_out_of_order() -> None:
    assert label_steps([1.0, 2.5], [], end_s=2.0).in_order.tolist() == [True, False]


def test_the_nearest_of_several_onsets_counts() -> None:
    labels = label_steps([0.0, 2.5], [onset(3.0), onset(0.3)], end_s=9.0)
    assert labels.seconds_to_onset[:, COLLISION] == pytest.approx([0.3, 0.5])


def test_an_episode_without_onsets_has_no_positive_step() -> None:
    labels = label_steps(np.arange(0, 5, 0.05), [EpisodeEvent(5.0, EventKind.TIMEOUT)], end_s=5.0)
    assert not labels.target.any()
    assert labels.seconds_to_onset.min() == np.inf


def test_horizons_count_in_nominal_time_so_slowing_down_stretches_them() -> None:
    recorder = EpisodeRecorder()
    recorder.intervention(state(0.0, 1.0))
    recorder.intervention(state(1.0, 0.5))
    recorder.event(onset(1.6))
    episode = recorder.finish(EpisodeMeta(end_s=4.0))
    labels = episode_labels(episode, [0.8, 1.0, 1.3])
    assert labels.seconds_to_onset[:, COLLISION] == pytest.approx([0.5, 0.3, 0.15])
    assert nominal_time_s([0.5, 1.0, 2.0], episode.interventions) == pytest.approx([0.5, 1.0, 1.5])


def test_an_onset_during_a_hold_lies_ahead_of_the_hold_and_is_reached_at_once() -> None:
    recorder = EpisodeRecorder()
    recorder.intervention(state(0.0, 1.0))
    recorder.intervention(state(1.0, 0.0))
    recorder.event(onset(3.0))
    labels = episode_labels(recorder.finish(EpisodeMeta(end_s=9.0)), [0.9, 1.5, 3.0])
    assert labels.target[:, COLLISION, 0].tolist() == [True, True, False]
