from dataclasses import replace

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
LATE = Trigger(Mode.REPLAN, Cause.FORESEEN_TIMEOUT)
LOST = Trigger(Mode.ASSIST, Cause.OUT_OF_DISTRIBUTION)
TICK_S = 0.05


def judge(*values: dict, settings: GateSettings | None = None) -> RiskJudge:
    result = RiskJudge(settings or GateSettings())
    for i, value in enumerate(values):
        result.hear(prediction(float(i), **value), TICK_S * i)
    return result


levels = st.floats(0.0, 1.0)
histories = st.lists(
    st.tuples(levels, levels, levels, levels, levels, levels, st.booleans(), levels), min_size=1, max_size=25
)


@given(histories, st.lists(levels, min_size=25, max_size=25))
def test_more_risk_never_means_more_speed_nor_fewer_interventions(
    history: list[tuple], additions: list[float]
) -> None:
    settings = GateSettings(timeout_persistence=1)
    low, high = RiskJudge(settings), RiskJudge(settings)
    for i, ((c2, c3, c4, c5, drop, miss, out, late), more) in enumerate(
        zip(history, additions, strict=False)
    ):
        collision = np.maximum.accumulate([c2, c3, c4, c5])
        low.hear(prediction(float(i), 0, tuple(collision), drop, miss, out, late), TICK_S * i)
        raised = tuple(np.minimum(collision + more, 1.0))
        others = (min(value + more, 1.0) for value in (drop, miss, late))
        drop, miss, late = others
        high.hear(prediction(float(i), 0, raised, drop, miss, out, late), TICK_S * i)
        assert high.verdict.speed <= low.verdict.speed
        assert high.verdict.triggers >= low.verdict.triggers


@given(histories)
def test_only_learned_triggers_come_from_risk(history: list[tuple]) -> None:
    result = RiskJudge(GateSettings())
    for i, (c2, _, _, c5, drop, miss, out, late) in enumerate(history):
        result.hear(prediction(float(i), 0, (c2, c2, c5, c5), drop, miss, out, late), TICK_S * i)
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


def test_a_time_out_must_persist_before_a_replan_and_slows_nothing_down() -> None:
    s = GateSettings()
    enough = s.timeout_persistence
    assert judge(*[{"timeout": s.timeout_risk}] * (enough - 1)).verdict.triggers == frozenset()
    verdict = judge(*[{"timeout": s.timeout_risk}] * enough).verdict
    assert (verdict.triggers, verdict.speed) == ({LATE}, 1.0)
    again = judge(*[{"timeout": 1.0}] * (enough - 1), {}, *[{"timeout": 1.0}] * (enough - 1))
    assert LATE not in again.verdict.triggers
    assert LATE not in judge(*[{"timeout": s.timeout_risk - 1e-9}] * 50).verdict.triggers
    assert LATE not in judge(*[{"timeout": float("nan")}] * 50).verdict.triggers, "left out is no risk"
    assert (
        LATE not in judge(*[{"timeout": 1.0}] * 50, settings=GateSettings(timeout_risk=1.1)).verdict.triggers
    )


def test_a_plan_has_its_time_before_a_time_out_is_acted_on() -> None:
    settings = GateSettings(timeout_grace_s=0.5, timeout_persistence=1)
    result = RiskJudge(settings)
    result.reset(1.0)
    for now_s in (1.1, 1.49):
        result.hear(prediction(now_s, timeout=1.0), now_s)
        assert result.verdict.triggers == frozenset(), now_s
    result.hear(prediction(1.5, timeout=1.0), 1.5)
    assert result.verdict.triggers == {LATE}


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
    assert SLOW not in judge(*[{"miss": 0.31}] * 2, *[{"miss": 0.1}] * enough).verdict.triggers


def test_own_thresholds_replace_the_monitors() -> None:
    settings = GateSettings(miss_threshold=0.2)
    assert MISS in judge(*[{"miss": 0.25}] * 3, settings=settings).verdict.triggers


def test_a_latch_on_foreseen_collisions_is_an_emergency_stop() -> None:
    settings = GateSettings(latch_on_foreseen_collision=True)
    triggers = judge({"collision": 0.6}, settings=settings).verdict.triggers
    assert Trigger(Mode.EMERGENCY_STOP, Cause.FORESEEN_COLLISION) in triggers


def test_the_grace_after_a_replan_spares_misses_but_no_collision() -> None:
    result = RiskJudge(GateSettings())
    since_s = 1.0 - GateSettings().replan_grace_s
    result.reset(since_s)
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


# To the last value


@pytest.mark.parametrize(
    ("value", "trigger"),
    [
        ({"collision": 0.5}, STOP),
        ({"miss": 0.5}, MISS),
        ({"drop": 0.5}, Trigger(Mode.REPLAN, Cause.FORESEEN_DROP)),
        ({"miss": 0.5, "out_of_distribution": True}, LOST),
        ({"drop": 0.3}, SLOW),
    ],
)
def test_a_risk_of_exactly_its_threshold_acts_and_one_just_below_does_not(
    value: dict, trigger: Trigger
) -> None:
    below = {name: level - 1e-9 if level is not True else True for name, level in value.items()}
    assert trigger in judge(*[value] * 6).verdict.triggers
    assert trigger not in judge(*[below] * 6).verdict.triggers


def test_a_collision_of_exactly_its_threshold_stops_at_once_when_soon_and_after_its_persistence_later() -> (
    None
):
    assert STOP in judge({"collision": 0.5}).verdict.triggers
    later = {"collision": (0.0, 0.5, 0.5, 0.5)}
    assert STOP not in judge(later).verdict.triggers
    assert STOP in judge(later, later).verdict.triggers


@pytest.mark.parametrize(("setting", "needed"), [("stop_horizon_s", 2), ("immediate_stop_horizon_s", 1)])
def test_a_collision_at_exactly_the_horizon_and_a_rounding_beyond_it_stops_the_arm(
    setting: str, needed: int
) -> None:
    horizon_s = getattr(GateSettings(), setting)
    for beyond_s, count in ((0.0, needed), (1e-6, needed), (1e-5, needed + 1)):
        horizons_s = (horizon_s + beyond_s, 0.9, 1.0, 1.1)
        result = RiskJudge(GateSettings(stop_persistence=2))
        for heard in range(1, 4):
            value = replace(prediction(0.0, collision=(0.9, 0.9, 0.9, 0.9)), horizons_s=horizons_s)
            result.hear(value, TICK_S * heard)
            stops = heard >= count and (setting == "immediate_stop_horizon_s" or beyond_s < 1e-5)
            assert (STOP in result.verdict.triggers) == stops, (beyond_s, heard)


def test_a_threshold_of_zero_is_the_smallest_there_is() -> None:
    for threshold, above in ((0.0, True), (0.002, False)):
        value = replace(prediction(0.0, collision=0.0015), threshold=np.full(3, threshold))
        result = RiskJudge(GateSettings())
        result.hear(value, 0.0)
        assert (STOP in result.verdict.triggers) is above
    own = RiskJudge(GateSettings(collision_threshold=0.75))
    own.hear(prediction(0.0, collision=0.6), 0.0)
    assert STOP not in own.verdict.triggers, "the monitor's threshold counted though there is an own one"


QUARTER = GateSettings(slow_risk=0.25, slow_risk_clear=0.125, slow_clear_s=0.25, slow_persistence=2)


def slowed(*levels: float, settings: GateSettings = QUARTER, step_s: float = 0.0625) -> list[bool]:
    """Whether the arm is slowed after each prediction."""
    result = RiskJudge(settings)
    told = []
    for i, level in enumerate(levels):
        result.hear(prediction(float(i), miss=level), step_s * i)
        told.append(SLOW in result.verdict.triggers)
        assert told[-1] or result.verdict.speed == 1.0
    return told


def test_slowing_begins_after_its_persistence_and_ends_after_its_time_below_the_lower_threshold() -> None:
    assert slowed(0.25, 0.0, 0.25, 0.25) == [False, False, False, True]
    low = 0.1249
    assert slowed(0.25, 0.25, *[low] * 6) == [False, *[True] * 5, False, False]
    assert slowed(0.25, 0.25, *[0.125] * 6) == [False, *[True] * 7], "ended at the lower threshold"
    again = slowed(0.25, 0.25, *[low] * 4, 0.2, *[low] * 5)
    assert again == [False, *[True] * 10, False], "the time below did not begin anew"
    assert slowed(0.25, 0.25, *[low] * 5, 0.25, low, 0.25, 0.25)[6:] == [*[False] * 4, True]
    assert slowed(*[low] * 9, 0.25, 0.25, *[low] * 2) == [*[False] * 10, True, True, True], (
        "the time below began before the slowing"
    )


@pytest.mark.parametrize(
    ("level", "speed"), [(0.25, 0.75), (0.375, 0.5), (0.3125, 0.625), (0.5, 0.25), (1.0, 0.25), (0.0, 1.0)]
)
def test_the_speed_falls_with_the_risk_from_the_lower_threshold_to_the_alarm(
    level: float, speed: float
) -> None:
    settings = GateSettings(slow_risk=0.25, slow_risk_clear=0.125, slow_speed=0.25)
    result = judge({"miss": 0.5}, {"miss": 0.5}, settings=settings)
    result.hear(prediction(3.0, miss=level), 0.2)
    assert result.verdict.speed == pytest.approx(speed)


def test_thresholds_at_the_alarm_make_slowing_a_step() -> None:
    step = GateSettings(slow_risk=0.5, slow_risk_clear=0.5, slow_speed=0.25)
    for level, speed in ((0.5, 1.0), (0.51, 0.25), (0.49, 1.0)):
        result = judge({"miss": 0.6}, {"miss": 0.6}, {"miss": level}, settings=step)
        assert result.verdict.speed == pytest.approx(speed)


def test_after_a_reset_nothing_that_was_predicted_counts() -> None:
    fresh = RiskJudge(GateSettings()).verdict
    assert (fresh.triggers, fresh.speed) == (frozenset(), 1.0)
    result = judge(*[{"miss": 0.6, "collision": (0.0, 0.6, 0.6, 0.6), "out_of_distribution": True}] * 6)
    assert len(result.verdict.triggers) == 4
    result.reset()
    assert (result.verdict.triggers, result.verdict.speed) == (frozenset(), 1.0)
    result.hear(prediction(9.0, miss=0.6, collision=(0.0, 0.6, 0.6, 0.6), out_of_distribution=True), 9.0)
    assert result.verdict.triggers == frozenset()
    assert result.verdict.speed == 1.0


def test_the_grace_ends_at_its_time() -> None:
    result = RiskJudge(GateSettings(replan_persistence=1))
    result.reset(0.5)
    for now_s, spared in ((0.99, True), (1.0, False)):
        result.hear(prediction(0.0, miss=0.6, drop=0.6), now_s)
        assert (MISS not in result.verdict.triggers) is spared
        assert (Trigger(Mode.REPLAN, Cause.FORESEEN_DROP) not in result.verdict.triggers) is spared
