from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from salus_ros.errors import SalusError
from salus_ros.nodes import conversions as convert
from salus_ros.nodes import driver_messages as driver
from salus_ros.types import (
    ActionChunk,
    Cause,
    EpisodeEvent,
    EventKind,
    FailurePrediction,
    FailureType,
    InterventionState,
    JointTrajectory,
    Mode,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

ARM = tuple(f"panda_joint{index}" for index in range(1, 8))
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
RANDOM = np.random.default_rng(0)


def same(one: Any, other: Any) -> bool:
    """Equal field by field, with nan equal to nan."""
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, np.ndarray):
        return (
            one.shape == other.shape
            and one.dtype == other.dtype
            and np.allclose(one, other, rtol=0, atol=1e-9, equal_nan=True)
        )
    if isinstance(one, float):
        return one == pytest.approx(other, abs=1e-9, nan_ok=True)
    if isinstance(one, tuple):
        return one == pytest.approx(other)
    return bool(one == other)


def over_the_wire(message: Any) -> Any:
    return deserialize_message(serialize_message(message), type(message))


def robot_state(**changes: Any) -> RobotState:
    values: dict[str, Any] = {
        "stamp_s": 12.345678901,
        "joint_position_rad": RANDOM.normal(size=7),
        "joint_velocity_rad_s": RANDOM.normal(size=7),
        "joint_effort_nm": RANDOM.normal(size=7),
        "gripper_opening_m": 0.06,
    }
    return RobotState(**{**values, **changes})


def policy_output(**changes: Any) -> PolicyOutput:
    values: dict[str, Any] = {
        "sequence": 7,
        "policy_name": "tiny",
        "policy_hash": "0123456789abcdef",
        "instruction": "put the red cube in the bin",
        "chunk": ActionChunk(
            3.25, np.arange(1, 17) * 0.05, RANDOM.normal(size=(16, 7)), RANDOM.uniform(0, 0.08, 16)
        ),
        "uncertainty": Uncertainty(
            5,
            epistemic=0.1,
            std_per_dimension=RANDOM.normal(size=10).astype(np.float32),
            latent=RANDOM.normal(size=128).astype(np.float32),
        ),
        "samples": RANDOM.normal(size=(5, 2, 16, 10)).astype(np.float32),
        "inference_time_s": 0.08,
    }
    return PolicyOutput(**{**values, **changes})


PREDICTION = FailurePrediction(
    stamp_s=4.5,
    sequence=7,
    horizons_s=(0.2, 0.3, 0.4, 0.5),
    probability=np.sort(RANDOM.uniform(size=(3, 4)), axis=1),
    timeout_probability=0.25,
    risk=0.75,
    risk_type=FailureType.DROP,
    risk_horizon_s=0.4,
    alarm=True,
    threshold=np.array([0.3, 0.4, 0.5]),
    out_of_distribution=False,
)
STATE = InterventionState(
    stamp_s=5.5,
    mode=Mode.SLOW_DOWN,
    cause=Cause.RISK,
    reason="drop foreseen",
    speed_scale=0.5,
    sequence=-1,
    path_time_s=math.nan,
    time_in_mode_s=0.1,
    replan_count=1,
    overrun_count=2,
)
EVENT = EpisodeEvent(
    6.5, EventKind.FAILURE_ONSET, FailureType.MISS, 42, "bin", "put it", "push", "closed on nothing"
)


def test_every_type_survives_the_way_over_the_wire() -> None:
    robot = robot_state()
    message = over_the_wire(driver.robot_state_to_message(robot, ARM, FINGERS))
    assert same(robot, driver.robot_state_from_message(message, ARM, FINGERS))
    output = policy_output()
    message = over_the_wire(convert.policy_output_to_message(output, ARM, "panda_link0"))
    assert same(output, convert.policy_output_from_message(message, ARM))
    trajectory = JointTrajectory(
        np.array([0.0, 0.01]), RANDOM.normal(size=(2, 7)), RANDOM.normal(size=(2, 7))
    )
    message = over_the_wire(driver.trajectory_to_message(trajectory, ARM))
    assert same(trajectory, driver.trajectory_from_message(message, ARM))
    message = over_the_wire(convert.prediction_to_message(PREDICTION))
    assert same(PREDICTION, convert.prediction_from_message(message))
    message = over_the_wire(convert.intervention_state_to_message(STATE))
    assert same(STATE, convert.intervention_state_from_message(message))
    for event in (EVENT, dataclasses.replace(EVENT, failure=None, kind=EventKind.EPISODE_START)):
        assert same(
            event, convert.episode_event_from_message(over_the_wire(convert.episode_event_to_message(event)))
        )
    message = over_the_wire(driver.gripper_to_message(0.05, FINGERS))
    assert driver.gripper_from_message(message, FINGERS) == pytest.approx(0.05)


@pytest.mark.parametrize("stamp_s", [0.0, 0.1, 0.9999999999, 1.7e9 + 0.123456])
def test_stamps_keep_their_microseconds(stamp_s: float) -> None:
    message = driver.stamp_to_message(stamp_s)
    assert 0 <= message.nanosec < 1_000_000_000
    assert driver.stamp_from_message(message) == pytest.approx(stamp_s, abs=1e-6)


def test_a_time_that_is_not_available_is_the_zero_stamp() -> None:
    assert driver.stamp_to_message(math.nan) == driver.stamp_to_message(0.0)


def test_joints_are_taken_by_name_whatever_their_order() -> None:
    robot = robot_state()
    message = driver.robot_state_to_message(robot, ARM, FINGERS)
    turned = list(range(len(message.name)))[::-1]
    message.name = [message.name[index] for index in turned]
    for field in ("position", "velocity", "effort"):
        setattr(message, field, [getattr(message, field)[index] for index in turned])
    assert same(robot, driver.robot_state_from_message(message, ARM, FINGERS))


def test_joint_states_of_other_joints_are_ignored() -> None:
    message = driver.robot_state_to_message(robot_state(), ("wheel", *ARM[:6]), FINGERS)
    assert driver.robot_state_from_message(message, ARM[:6], FINGERS).joint_position_rad.shape == (6,)


def test_what_a_driver_does_not_report_is_nan_and_not_zero() -> None:
    message = driver.robot_state_to_message(robot_state(), ARM)
    message.velocity, message.effort = [], []
    state = driver.robot_state_from_message(message, ARM)
    assert np.isnan(state.joint_velocity_rad_s).all()
    assert np.isnan(state.joint_effort_nm).all()
    assert math.isnan(state.gripper_opening_m)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (ARM[:6], "lacks the joint panda_joint7"),
        ((*ARM[:6], "panda_joint1"), "panda_joint1 more than once"),
        ((), "names none"),
    ],
)
def test_missing_and_duplicate_joints_are_refused(names: tuple[str, ...], sentence: str) -> None:
    message = driver.robot_state_to_message(robot_state(), ARM)
    message.name = list(names)
    message.position = message.position[: len(names)]
    message.velocity, message.effort = [], []
    with pytest.raises(SalusError, match=sentence):
        driver.robot_state_from_message(message, ARM)


def test_joint_states_with_too_few_numbers_are_refused() -> None:
    for field, what in (("position", "6 positions"), ("velocity", "6 velocities"), ("effort", "6 efforts")):
        message = driver.robot_state_to_message(robot_state(), ARM)
        setattr(message, field, getattr(message, field)[:6])
        with pytest.raises(SalusError, match=what):
            driver.robot_state_from_message(message, ARM)


def test_a_command_for_an_unknown_joint_is_refused() -> None:
    command = JointTrajectory(np.zeros(1), np.zeros((1, 7)), np.zeros((1, 7)))
    message = driver.trajectory_to_message(command, (*ARM[:6], "gripper"))
    with pytest.raises(SalusError, match="lacks the joint panda_joint7"):
        driver.trajectory_from_message(message, ARM)
    message = driver.trajectory_to_message(
        JointTrajectory(np.zeros(1), np.zeros((1, 8)), np.zeros((1, 8))), (*ARM, "gripper")
    )
    with pytest.raises(SalusError, match="unknown joint gripper"):
        driver.trajectory_from_message(message, ARM)


def test_malformed_trajectories_are_refused() -> None:
    def command() -> Any:
        return driver.trajectory_to_message(
            JointTrajectory(np.array([0.0, 0.1]), np.zeros((2, 7)), np.zeros((2, 7))), ARM
        )

    empty = command()
    empty.points = []
    with pytest.raises(SalusError, match="no points"):
        driver.trajectory_from_message(empty, ARM)
    short = command()
    short.points[1].positions = short.points[1].positions[:6]
    with pytest.raises(SalusError, match="Point 1 of the trajectory holds 6 positions"):
        driver.trajectory_from_message(short, ARM)
    mixed = command()
    mixed.points[0].velocities = []
    with pytest.raises(SalusError, match="Some points of the trajectory have velocities"):
        driver.trajectory_from_message(mixed, ARM)


def test_malformed_policy_outputs_are_refused() -> None:
    message = convert.policy_output_to_message(policy_output(), ARM, "panda_link0")
    message.gripper = message.gripper[:3]
    with pytest.raises(SalusError, match="3 gripper openings for 16 trajectory points"):
        convert.policy_output_from_message(message, ARM)
    message = convert.policy_output_to_message(policy_output(), ARM, "panda_link0")
    message.samples = message.samples[:-1]
    with pytest.raises(SalusError, match="1599 sample values"):
        convert.policy_output_from_message(message, ARM)


def test_predictions_are_taken_by_type_whatever_their_order() -> None:
    message = convert.prediction_to_message(PREDICTION)
    rows = PREDICTION.probability[::-1]
    message.failure_types = [2, 1, 0]
    message.probabilities = rows.reshape(-1).tolist()
    message.thresholds = PREDICTION.threshold[::-1].tolist()
    assert same(PREDICTION, convert.prediction_from_message(message))


def test_malformed_predictions_are_refused() -> None:
    message = convert.prediction_to_message(PREDICTION)
    message.failure_types = [0, 1, 1]
    with pytest.raises(SalusError, match="failure types"):
        convert.prediction_from_message(message)
    message = convert.prediction_to_message(PREDICTION)
    message.probabilities = message.probabilities[:-1]
    with pytest.raises(SalusError, match="11 probabilities"):
        convert.prediction_from_message(message)
    message = convert.prediction_to_message(PREDICTION)
    message.risk_type = 9
    with pytest.raises(SalusError, match="unknown failure type 9"):
        convert.prediction_from_message(message)


def test_an_unknown_mode_is_refused() -> None:
    message = convert.intervention_state_to_message(STATE)
    message.mode = 99
    with pytest.raises(SalusError, match="unknown mode 99"):
        convert.intervention_state_from_message(message)
