import numpy as np
import pytest
from gate_world import prediction
from hypothesis import given
from hypothesis import strategies as st

from salus_ros.intervention.risk import RiskJudge
from salus_ros.intervention.rules import LEARNED, Trigger
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause, Mode

STOP = Trigger(Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION)
SLOW = Trigger(Mode.SLOW_DOWN, Cause.RISK)
MISS = Trigger(Mode.REPLAN, Cause.FORESEEN_MISS)
LOST = Trigger(Mode.ASSIST, Cause.OUT_OF_DISTRIBUTION)
TICK_S = 0.05


def judge(*values: dict, settings: GateSettings | None = None) -> RiskJudge:
    result = RiskJudge(settings or GateSettings())
    for i, value in enumerate(values):
        result.hear(prediction(float(i), **value), TICK_S * i)
    return result


levels = st.floats(0.0, 1.0)
histories = st.lists(
    st.tuples(levels, levels, levels, levels, levels, levels, st.booleans()), min_size=1, max_size=25
)


@given(histories, st.lists(levels, min_size=25, max_size=25))
def test_more_risk_never_means_more_speed_nor_fewer_interventions(
    history: list[tuple], additions: list[float]
) -> None:
    low, high = RiskJudge(GateSettings()), RiskJudge(GateSettings())
    for i, ((c2, c3, c4, c5, drop, miss, out), more) in enumerate(zip(history, additions, strict=False)):
        collision = np.maximum.accumulate([c2, c3, c4, c5])
        low.hear(prediction(float(i), 0, tuple(collision), drop, miss, out), TICK_S * i)
        raised = tuple(np.minimum(collision + more, 1.0))
        high.hear(
            prediction(float(i), 0, raised, min(drop + more, 1.0), min(miss + more, 1.0), out), TICK_S * i
        )
        assert high.verdict.speed <= low.verdict.speed
        assert high.verdict.triggers >= low.verdict.triggers


@given(histories)
def test_only_learned_triggers_come_from_risk(history: list[tuple]) -> None:
    result = RiskJudge(GateSettings())
    for i, (c2, _, _, c5, drop, miss, out) in enumerate(history):
        result.hear(prediction(float(i), 0, (c2, c2, c5, c5), drop, miss, out), TICK_S * i)
        assert result.verdict.triggers <= LEARNED
        assert 0.0 <= result.verdict.speed <= 1.0


def test_a_collision_within_the_shortest_horizon_needs_no_persistence() -> None:
    assert STOP in judge({"collision": (0.6, 0.6, 0.6, 0.6)}).verdict.triggers


def test_a_collision_a_little_later_must_persist() -> None:
    soon = {"collision": (0.0, 0.6, 0.6, 0.6)}
    assert STOP not in judge(soon).verdict.triggers
    assert STOP in judge(soon, soon).verdict.triggers
    assert STOP not in judge(soon, {}, soon).verdict.triggers


def test_a_collision_far_ahead_only_slows() -> None:
    far = {"collision": (0.0, 0.0, 0.0, 0.9)}
    verdict = judge(*[far] * 20).verdict
    assert verdict.triggers == {SLOW}
    assert verdict.speed == pytest.approx(GateSettings().slow_speed)


def test_a_miss_must_persist_before_a_replan() -> None:
    assert MISS not in judge(*[{"miss": 0.6}] * 2).verdict.triggers
    assert MISS in judge(*[{"miss": 0.6}] * 3).verdict.triggers


def test_out_of_the_training_data_alone_calls_nobody() -> None:
    assert LOST not in judge(*[{"out_of_distribution": True}] * 20).verdict.triggers
    assert LOST in judge(*[{"out_of_distribution": True, "miss": 0.6}] * 6).verdict.triggers


def test_slowing_has_hysteresis_in_level_and_time() -> None:
    settings = GateSettings()
    assert SLOW not in judge(*[{"miss": 0.29}] * 9).verdict.triggers
    assert SLOW not in judge({"miss": 0.31}).verdict.triggers, "slowed by a single prediction"
    between = judge(*[{"miss": 0.31}] * 2, *[{"miss": 0.25}] * 40)
    assert SLOW in between.verdict.triggers, "cleared above the lower threshold"
    short = judge(*[{"miss": 0.31}] * 2, *[{"miss": 0.1}] * 4)
    assert SLOW in short.verdict.triggers, "cleared before its time"
    enough = round(settings.slow_clear_s / TICK_S) + 2
    assert SLOW not in judge({"miss": 0.31}, *[{"miss": 0.1}] * enough).verdict.triggers


def test_own_thresholds_replace_the_monitors() -> None:
    settings = GateSettings(miss_threshold=0.2)
    assert MISS in judge(*[{"miss": 0.25}] * 3, settings=settings).verdict.triggers


def test_a_latch_on_foreseen_collisions_is_an_emergency_stop() -> None:
    settings = GateSettings(latch_on_foreseen_collision=True)
    triggers = judge({"collision": 0.6}, settings=settings).verdict.triggers
    assert Trigger(Mode.EMERGENCY_STOP, Cause.FORESEEN_COLLISION) in triggers


def test_the_grace_after_a_replan_spares_misses_but_no_collision() -> None:
    result = RiskJudge(GateSettings())
    result.reset(grace_until_s=1.0)
    for i in range(5):
        result.hear(prediction(float(i), miss=0.9, collision=0.9), TICK_S * i)
    assert MISS not in result.verdict.triggers
    assert STOP in result.verdict.triggers
    result.hear(prediction(5.0, miss=0.9), 1.0)
    assert MISS in result.verdict.triggers


def test_stops_and_replans_may_begin_at_risks_of_their_own() -> None:
    careful = GateSettings(stop_risk=0.8, replan_risk=0.2)
    barely = 0.21  # of 0.5 at the threshold, which is 0.5 here
    assert MISS in judge(*[{"miss": barely}] * 3, settings=careful).verdict.triggers
    assert MISS not in judge(*[{"miss": barely}] * 3).verdict.triggers
    assert STOP in judge({"collision": 0.6}).verdict.triggers
    assert STOP not in judge({"collision": 0.6}, settings=careful).verdict.triggers
    assert STOP in judge({"collision": 0.9}, settings=careful).verdict.triggers
