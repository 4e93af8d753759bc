"""What the gate accepts as a message, to the last value that is still good, and how it names what is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_world import HOME, HORIZONS_S, chunk, output, prediction

from salus_ros.intervention import checks
from salus_ros.types import FailurePrediction, PolicyOutput, RobotState

TIMES = 0.05 * np.arange(1, 17)
REST = np.zeros(7)
NOTHING = np.full(7, np.nan)
STATE = RobotState(0.0, HOME, REST, REST, 0.08)


def plan(count: int = 16, **changes: object) -> PolicyOutput:
    return output(1, replace(chunk(0.0, np.tile(HOME, (count, 1))), **changes))


def foreseen(**changes: object) -> FailurePrediction:
    return replace(prediction(0.0), **changes)


# Joint states


@pytest.mark.parametrize(
    "state", [STATE, replace(STATE, joint_velocity_rad_s=NOTHING, joint_effort_nm=NOTHING)]
)
def test_joint_states_are_accepted_with_and_without_velocity_and_effort(state: RobotState) -> None:
    assert checks.robot_state(state, 7) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stamp_s": np.nan}, "joint states: the stamp is not finite"),
        ({"joint_position_rad": HOME[:6]}, "joint states: positions of shape (6,), expected (7,)"),
        ({"joint_velocity_rad_s": REST[None]}, "joint states: velocities of shape (1, 7), expected (7,)"),
        ({"joint_effort_nm": np.empty(0)}, "joint states: efforts of shape (0,), expected (7,)"),
        ({"joint_position_rad": NOTHING}, "joint states: positions are not finite"),
        (
            {"joint_position_rad": np.where(np.arange(7) == 6, np.inf, HOME)},
            "joint states: positions are not finite",
        ),
    ],
)
def test_bad_joint_states_are_refused_with_their_reason(changes: dict, why: str) -> None:
    assert checks.robot_state(replace(STATE, **changes), 7) == why


# Plans


@pytest.mark.parametrize(
    "good",
    [
        plan(),
        plan(2),
        plan(400),
        plan(2, time_from_start_s=np.array([0.0, 3600.0])),
        plan(2, time_from_start_s=np.array([1.0, 1.000101])),
    ],
)
def test_a_plan_is_accepted_up_to_the_bounds_of_its_points_and_times(good: PolicyOutput) -> None:
    assert checks.plan(good, 7, 400) == ""


NOT_FINITE = "policy output: values are not finite"
NOT_RISING = "policy output: times do not increase"
OUTSIDE = "policy output: times lie outside 0 to one hour"
GRIPPER = "policy output: gripper of shape (3,), expected (16,)"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (plan(0), "policy output: 0 points, expected 2 to 400"),
        (plan(1), "policy output: 1 points, expected 2 to 400"),
        (plan(401), "policy output: 401 points, expected 2 to 400"),
        (
            plan(time_from_start_s=TIMES[:, None]),
            "policy output: positions of shape (16, 7), expected (16, 7)",
        ),
        (
            plan(joint_position_rad=np.zeros((16, 6))),
            "policy output: positions of shape (16, 6), expected (16, 7)",
        ),
        (
            plan(joint_position_rad=np.zeros((15, 7))),
            "policy output: positions of shape (15, 7), expected (16, 7)",
        ),
        (plan(gripper_opening_m=np.zeros(3)), GRIPPER),
        (plan(time_from_start_s=np.where(TIMES > 0.4, np.nan, TIMES)), NOT_FINITE),
        (plan(joint_position_rad=np.full((16, 7), np.inf)), NOT_FINITE),
        (plan(gripper_opening_m=np.full(16, np.nan)), NOT_FINITE),
        (plan(stamp_s=np.nan), NOT_FINITE),
        (plan(time_from_start_s=TIMES[::-1]), NOT_RISING),
        (plan(time_from_start_s=np.full(16, 0.1)), NOT_RISING),
        (plan(2, time_from_start_s=np.array([0.0, 1e-4])), NOT_RISING),
        (plan(time_from_start_s=TIMES - 0.06), OUTSIDE),
        (plan(3, time_from_start_s=np.array([0.0, 1.0, 3600.5])), OUTSIDE),
    ],
)
def test_a_bad_plan_is_refused_with_its_reason(bad: PolicyOutput, why: str) -> None:
    assert checks.plan(bad, 7, 400) == why


# Predictions


@pytest.mark.parametrize(
    "good",
    [
        foreseen(),
        foreseen(horizons_s=(0.2,), probability=np.zeros((3, 1))),
        foreseen(probability=np.ones((3, 4)), threshold=np.ones(3), risk=1.0),
        foreseen(probability=np.zeros((3, 4)), threshold=np.zeros(3), risk=0.0),
        *(foreseen(timeout_probability=value) for value in (0.0, 1.0, np.nan)),
    ],
)
def test_a_prediction_is_accepted_from_no_risk_to_certainty(good: FailurePrediction) -> None:
    assert checks.prediction(good) == ""


NO_TIMEOUT_PROBABILITY = (
    "prediction: the probability of a time-out is neither within 0 and 1 nor left out (NaN)"
)
NOT_A_PROBABILITY = "prediction: probabilities or thresholds are not within 0 and 1"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"probability": np.zeros((2, 4))},
            "prediction: probabilities of shape (2, 4), expected (3, 4)",
        ),
        (
            {"horizons_s": ()},
            "prediction: probabilities of shape (3, 4), expected (3, 0)",
        ),
        (
            {"horizons_s": (), "probability": np.zeros((3, 0))},
            "prediction: probabilities of shape (3, 0), expected (3, 0)",
        ),
        ({"threshold": np.zeros(2)}, "prediction: thresholds of shape (2,), expected (3,)"),
        ({"stamp_s": np.inf}, "prediction: stamp or horizons are not finite"),
        ({"horizons_s": (*HORIZONS_S[:3], np.nan)}, "prediction: stamp or horizons are not finite"),
        ({"probability": np.full((3, 4), np.nan)}, NOT_A_PROBABILITY),
        ({"probability": np.full((3, 4), 1.1)}, NOT_A_PROBABILITY),
        ({"probability": np.full((3, 4), -0.1)}, NOT_A_PROBABILITY),
        ({"threshold": np.full(3, np.nan)}, NOT_A_PROBABILITY),
        ({"threshold": np.array([0.5, 0.5, 1.1])}, NOT_A_PROBABILITY),
        ({"timeout_probability": np.inf}, NO_TIMEOUT_PROBABILITY),
        ({"timeout_probability": 1.1}, NO_TIMEOUT_PROBABILITY),
        ({"timeout_probability": -0.1}, NO_TIMEOUT_PROBABILITY),
        ({"risk": np.nan}, "prediction: the risk is not within 0 and 1"),
        ({"risk": 1.5}, "prediction: the risk is not within 0 and 1"),
        ({"risk": -0.1}, "prediction: the risk is not within 0 and 1"),
    ],
)
def test_a_bad_prediction_is_refused_with_its_reason(changes: dict, why: str) -> None:
    assert checks.prediction(foreseen(**changes)) == why


# Stamps


@pytest.mark.parametrize(
    ("stamp_s", "now_s"),
    [(10.125, 10.0), (10.0, 10.0), (9.0, 10.0), (9.0 - 0.5e-9, 10.0), (-1.0 - 1e-9, 0.0)],
)
def test_a_stamp_may_be_as_far_ahead_and_to_a_nanosecond_as_old_as_allowed(
    stamp_s: float, now_s: float
) -> None:
    assert checks.stamp("policy output", stamp_s, now_s, 0.125, 1.0) == ""


@pytest.mark.parametrize(
    ("stamp_s", "why"),
    [
        (10.2, "policy output: stamped 0.200 s ahead of the clock"),
        (8.9, "policy output: 1.100 s old, at most 1.0 s are accepted"),
        (9.0 - 2e-9, "policy output: 1.000 s old, at most 1.0 s are accepted"),
        (np.nan, "policy output: stamped nan s ahead of the clock"),
        (np.inf, "policy output: stamped inf s ahead of the clock"),
        (-np.inf, "policy output: inf s old, at most 1.0 s are accepted"),
    ],
)
def test_stamps_from_the_future_and_the_past_are_refused(stamp_s: float, why: str) -> None:
    assert checks.stamp("policy output", stamp_s, 10.0, 0.125, 1.0) == why


def test_without_a_clock_no_stamp_is_good() -> None:
    assert checks.stamp("policy output", 10.0, np.nan, 0.1, 1.0)
