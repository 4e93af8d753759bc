from __future__ import annotations

import numpy as np
import pytest

from salus_ros.data.episode import Episode, EpisodeMeta
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.errors import SalusError
from salus_ros.judges import EffortThreshold, NoiseThreshold, PlainJudge, fit_controls
from salus_ros.placebo import PlaceboSettings, RandomTrigger
from salus_ros.types import (
    ActionChunk,
    Cause,
    FailurePrediction,
    FailureType,
    Floats,
    InterventionState,
    Mode,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

LIMIT_NM = np.full(7, 10.0)


def _state(time_s: float, effort_nm: float) -> RobotState:
    return RobotState(time_s, np.zeros(7), np.zeros(7), np.full(7, effort_nm), 0.08)


def _output() -> PolicyOutput:
    chunk = ActionChunk(0.0, np.array([0.1]), np.zeros((1, 7)), np.zeros(1))
    return PolicyOutput(4, "p", "h", "", chunk, Uncertainty(1), np.zeros((1, 1, 1, 1), np.float32), 0.0)


def _efforts(until_s: float, push_from_s: float = np.inf, push_nm: float = 0.0) -> list[RobotState]:
    return [_state(t, 2.0 + (push_nm if t >= push_from_s else 0.0)) for t in np.arange(0.0, until_s, 0.01)]


def _episode(seed: int, push_nm: float) -> Episode:
    recorder = EpisodeRecorder()
    for state in _efforts(2.0, 1.5, push_nm):
        recorder.robot(state)
    return recorder.finish(EpisodeMeta(seed=seed))


def test_a_plain_judge_is_silent_before_the_first_plan_and_calm_after() -> None:
    judge = PlainJudge()
    assert judge.predict(0.0) is None
    judge.observe_policy(_output())
    said = judge.predict(0.1)
    assert said is not None
    assert (said.risk, said.alarm, said.sequence) == (0.0, False, 4)


def test_a_push_is_an_alarm_and_a_steady_load_is_none() -> None:
    judge = EffortThreshold(0.1, LIMIT_NM)
    judge.observe_policy(_output())
    for state in _efforts(3.0):
        judge.observe_robot(state)
    said = judge.predict(3.0)
    assert said is not None
    assert not said.alarm
    for time_s in np.arange(3.0, 3.1, 0.01):
        judge.observe_robot(_state(time_s, 5.0))
    said = judge.predict(3.1)
    assert said is not None
    assert said.alarm
    assert said.risk_type is FailureType.COLLISION
    assert judge.change == pytest.approx(0.3 * 0.9, abs=0.02), "a tenth of the window is pushed itself"


def test_less_than_a_second_of_effort_is_no_alarm() -> None:
    judge = EffortThreshold(0.01, LIMIT_NM)
    for state in _efforts(0.5, 0.4, 5.0):
        judge.observe_robot(state)
    assert judge.change == 0.0


def test_noise_is_the_same_for_the_same_seed_and_after_a_reset() -> None:
    first, other = NoiseThreshold(1, 0.5), NoiseThreshold(2, 0.5)
    drawn = [first.draw() for _ in range(20)]
    first.reset()
    assert [first.draw() for _ in range(20)] == drawn
    assert [other.draw() for _ in range(20)] != drawn


def _heard(judge: PlainJudge, until_s: float, *, acts: bool = False) -> list[FailurePrediction]:
    """What it says; the gate ``acts`` on a foreseen time-out at once, or follows all the time."""
    judge.reset()
    judge.observe_policy(_output())
    said = []
    for now_s in np.arange(0.0, until_s, 0.05):
        prediction = judge.predict(float(now_s))
        assert prediction is not None
        said.append(prediction)
        replans = acts and prediction.timeout_probability > 0.5
        mode = Mode.REPLAN if replans else Mode.NOMINAL
        judge.observe_intervention(InterventionState(float(now_s), mode, Cause.NONE, "", 1.0, 4, 0.0, 0.0))
    return said


def test_a_placebo_foresees_time_outs_at_its_rate_and_all_else_as_without_them() -> None:
    without = _heard(RandomTrigger(5), 400.0)
    placebo = RandomTrigger(5, PlaceboSettings(timeout_rate_per_s=0.1))
    late = _heard(placebo, 400.0, acts=True)
    for a, b in zip(without, late, strict=True):
        np.testing.assert_array_equal(a.probability, b.probability)
    assert {prediction.timeout_probability for prediction in without} == {0.0}
    level = [prediction.timeout_probability for prediction in late]
    assert 25 <= level.count(1.0) <= 55, "40 are due in 400 s, and each is acted on at once"
    assert level == [p.timeout_probability for p in _heard(placebo, 400.0, acts=True)]
    patient = [prediction.timeout_probability for prediction in _heard(placebo, 400.0)]
    first = level.index(1.0)
    assert patient == [0.0] * first + [1.0] * (len(patient) - first), "it lasts until the gate acts"


def test_thresholds_are_the_conformal_rank_of_the_successes() -> None:
    pushes: Floats = np.linspace(1.0, 4.0, 20)
    fitted = fit_controls([_episode(i, p) for i, p in enumerate(pushes)], LIMIT_NM, alpha=0.1)
    judge = EffortThreshold(np.inf, LIMIT_NM)
    largest = 0.0
    for i, state in enumerate(_efforts(2.0, 1.5, float(pushes[18]))):
        judge.observe_robot(state)
        if i % 5 == 0:
            largest = max(largest, judge.change)
    assert fitted.effort == pytest.approx(largest), "rank ceil(21 * 0.9) = 19 of 20"
    assert 0.9 < fitted.noise < 1.0
    assert fitted.episodes == 20


def test_too_few_successes_for_the_rate_are_refused() -> None:
    with pytest.raises(SalusError, match="need 19"):
        fit_controls([_episode(1, 1.0)], LIMIT_NM, alpha=0.05)
