"""One probability an episode, with answers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from salus_ros.evaluation.episode_metrics import ScoreTrace
from salus_ros.evaluation.timeouts import timeout_metrics, warned_at_s
from salus_ros.intervention.risk import RiskJudge
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import HORIZONS_S, Cause, FailurePrediction, FailureType

GATE = GateSettings(timeout_risk=0.9, timeout_persistence=2, timeout_grace_s=1.0)


def trace(score: list[float], timed_out: bool = False) -> ScoreTrace:
    """One value every half second, from 0.5 s on."""
    return ScoreTrace(0.5 * np.arange(1, len(score) + 1), np.array(score), timed_out)


TRACES = [
    trace([0.2, 0.3, 0.95, 0.95, 0.95, 0.95], timed_out=True),  # foreseen at 2.0 s, ends at 3.0 s
    trace([0.2, 0.2, 0.4, 0.4, 0.4, 0.4], timed_out=True),  # not foreseen
    trace([0.95, 0.1, 0.1, 0.1]),  # high at first, and before anything is acted on
    trace([0.1, 0.1, 0.92, 0.92]),  # foreseen, and wrong
]


def test_episodes_are_foreseen_late_right_or_wrong_as_counted_by_hand() -> None:
    metrics = timeout_metrics(TRACES, 2.0, np.ones((1, 4)), GATE)
    assert (metrics.episodes, metrics.timed_out, metrics.threshold) == (4, 2, 0.9)
    assert metrics.whole.precision.value == 0.5
    assert metrics.whole.recall.value == 0.5
    assert metrics.whole.false_alarm_rate.value == 0.5
    assert metrics.whole.lead_time_s == pytest.approx(1.0)
    assert metrics.within_common_length.recall.value == 0.5
    assert timeout_metrics(TRACES, 1.5, np.ones((1, 4)), GATE).within_common_length.recall.value == 0.0


def test_the_newest_probability_and_the_highest_so_far_are_told_apart() -> None:
    look = timeout_metrics(TRACES, 2.0, np.ones((1, 4)), GATE).looks[1.0]
    # Highest by 2 s: 0.95 and 0.4 in time-outs, 0.95 and 0.92 in others: half a pair of four in order.
    assert look.auroc.value == pytest.approx(0.5 / 4 + 1 / 4)
    # Newest at 2 s: 0.95 and 0.4 against 0.1 and 0.92.
    assert look.auroc_now.value == pytest.approx(3 / 4)
    assert look.brier.value == pytest.approx((0.05**2 + 0.6**2 + 0.1**2 + 0.92**2) / 4)
    assert look.brier_of_rate == pytest.approx(0.25)


def test_a_longer_look_at_time_outs_earns_nothing() -> None:
    # The probability is the clock: time-outs last twice as long.
    clock = [trace(list(np.arange(1, n + 1) / 20), timed_out=n == 12) for n in (6, 6, 12, 12)]
    looks = timeout_metrics(clock, 3.0, np.ones((1, 4)), GATE).looks
    assert [look.auroc.value for look in looks.values()] == pytest.approx([0.5] * 4)


def test_always_and_never_foreseen_are_what_they_should_be() -> None:
    for score, recall in ((0.95, 1.0), (0.1, 0.0)):
        traces = [trace([score] * 6, timed_out=i < 3) for i in range(10)]
        found = timeout_metrics(traces, 3.0, np.ones((1, 10)), GATE).whole
        assert (found.recall.value, found.false_alarm_rate.value) == (recall, recall)
        assert found.precision.value == pytest.approx(0.3) if recall else np.isnan(found.precision.value)


def test_a_time_out_is_foreseen_when_the_gate_would_act_on_it() -> None:
    """The gate's own rule, prediction by prediction, on random courses."""
    rng = np.random.default_rng(0)
    gate = GATE.model_copy(update={"timeout_persistence": 4})
    acted = 0
    for _ in range(60):
        score = np.repeat(rng.choice([0.3, 0.9, 0.95], 40, p=[0.6, 0.2, 0.2]), rng.integers(1, 3, 40))
        course = ScoreTrace(0.05 * np.arange(3, len(score) + 3), score, True)
        judge = RiskJudge(gate)
        judge.reset(since_s=float(course.time_s[0]))
        expected = np.inf
        for time_s, probability in zip(course.time_s, score, strict=True):
            judge.hear(said(float(time_s), float(probability)), float(time_s))
            if any(t.cause is Cause.FORESEEN_TIMEOUT for t in judge.verdict.triggers):
                expected = time_s
                break
        assert warned_at_s(course, gate) == expected
        acted += int(np.isfinite(expected))
    assert 10 < acted < 60, "some of these courses are acted on, and some are not"


def said(time_s: float, timeout: float) -> FailurePrediction:
    types = len(FailureType)
    return FailurePrediction(
        stamp_s=time_s,
        sequence=0,
        horizons_s=HORIZONS_S,
        probability=np.zeros((types, len(HORIZONS_S))),
        timeout_probability=timeout,
        risk=0.0,
        risk_type=FailureType.COLLISION,
        risk_horizon_s=HORIZONS_S[-1],
        alarm=False,
        threshold=np.ones(types),
        out_of_distribution=False,
    )


def test_an_episode_in_which_nothing_was_said_is_not_foreseen() -> None:
    assert warned_at_s(ScoreTrace(np.empty(0), np.empty(0), True), GATE) == np.inf
    metrics = timeout_metrics(
        [*TRACES, ScoreTrace(np.empty(0), np.empty(0), True)], 2.0, np.ones((1, 5)), GATE
    )
    assert metrics.whole.recall.value == pytest.approx(1 / 3)
