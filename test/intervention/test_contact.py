"""What is felt at the tool: how hard, for how long, and beside what the joints need anyway."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gate_world import ARM, HOME

from salus_ros.intervention.contact import ContactSense
from salus_ros.types import Floats, RobotState

REST = np.zeros(7)
STEP_S = 0.01
BASELINE_S = 0.2
ELSEWHERE = HOME + np.array([1.2, 0.4, -0.3, 0.5, 0.2, -0.4, 0.3])


def effort(force_n: float, axis: int = 2, position: Floats = HOME) -> Floats:
    """(J,) what the joints feel of a force along an axis at the tool."""
    rows = np.concatenate([position[None], position + 1e-6 * np.eye(7)])
    place = ARM.forward(rows)[:, axis, 3]
    return (place[1:] - place[0]) / 1e-6 * force_n


class Felt(ContactSense):
    """A sense with a clock."""

    def __init__(self, contact: tuple[float, float] = (80.0, 0.1), hard: tuple[float, float] = (300.0, 0.02)):
        super().__init__(ARM, contact, hard, BASELINE_S)
        self.now_s = 0.0
        self.press(0.0, 0.01)

    def press(self, force_n: float, duration_s: float, axis: int = 2, position: Floats = HOME) -> None:
        felt = effort(force_n, axis, position)
        for _ in range(round(duration_s / STEP_S)):
            self.now_s += STEP_S
            self.feel(RobotState(self.now_s, position, REST, felt, 0.08))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("position", [HOME, ELSEWHERE])
def test_the_force_at_the_tool_is_found_from_the_joints_effort(axis: int, position: Floats) -> None:
    felt = Felt()
    felt.press(0.0, 0.01, position=-position)
    felt.press(100.0, 0.01, axis, position)
    assert felt.force_n == pytest.approx(100.0, rel=0.01)


def test_nothing_is_felt_before_the_first_joint_states_nor_after_a_reset() -> None:
    felt = Felt(contact=(80.0, 0.0), hard=(300.0, 0.0))
    for _ in range(2):
        assert (felt.force_n, felt.contact, felt.hard) == (0.0, False, False)
        felt.press(0.0, 0.01)
        felt.press(400.0, 0.01)
        assert felt.contact and felt.hard
        felt.reset()


def test_after_a_reset_the_effort_of_the_moment_is_normal() -> None:
    felt = Felt()
    felt.press(200.0, 0.05)
    felt.reset()
    felt.press(200.0, 0.05)
    assert felt.force_n == pytest.approx(0.0, abs=1e-6)


def test_contact_must_last() -> None:
    felt = Felt()
    felt.press(120.0, 0.1)
    assert not felt.contact
    felt.press(120.0, 0.02)
    assert felt.contact
    assert not felt.hard
    felt.press(0.0, 0.01)
    assert not felt.contact, "felt after it was gone"


def test_a_hard_contact_is_felt_at_once() -> None:
    felt = Felt()
    felt.press(400.0, 0.02)
    assert not felt.hard
    felt.press(400.0, 0.02)
    assert felt.hard


def test_a_force_of_exactly_the_threshold_counts() -> None:
    felt = Felt()
    felt.press(100.0, 0.01)
    at_least = Felt(contact=(felt.force_n, 0.0), hard=(felt.force_n, 0.0))
    at_least.press(100.0, 0.01)
    assert at_least.contact and at_least.hard
    above = Felt(contact=(math.nextafter(felt.force_n, math.inf), 0.0))
    above.press(100.0, 0.01)
    assert not above.contact


@pytest.mark.parametrize(
    ("force_n", "constant_s"), [(50.0, BASELINE_S), (100.0, 10 * BASELINE_S)], ids=["free", "in contact"]
)
def test_what_lasts_becomes_normal_and_ten_times_more_slowly_in_contact(
    force_n: float, constant_s: float
) -> None:
    felt = Felt()
    felt.press(force_n, 0.21)
    assert felt.force_n == pytest.approx(force_n * math.exp(-0.2 / constant_s), rel=1e-3)
    felt.press(0.0, 0.01)
    assert felt.force_n == pytest.approx(force_n * (1.0 - math.exp(-0.21 / constant_s)), rel=1e-3)


def test_a_slow_change_of_load_is_no_contact() -> None:
    felt = Felt()
    for i in range(300):
        felt.press(0.5 * i, 0.01)
        assert not felt.contact


def test_a_gap_between_joint_states_counts_as_little_more_than_a_moment_and_one_backwards_as_none() -> None:
    felt = Felt(contact=(80.0, 0.25))
    felt.press(120.0, 0.01)
    felt.now_s += 60.0
    felt.press(120.0, 0.01)
    assert not felt.contact, "a minute without joint states was taken for a minute of contact"
    felt.now_s -= 60.0
    felt.press(120.0, 0.01)
    assert felt.force_n > 80.0
    felt.press(120.0, 0.04)
    assert not felt.contact
    felt.press(120.0, 0.02)
    assert felt.contact


def test_joints_without_effort_feel_nothing_and_the_others_feel_on() -> None:
    nothing = ContactSense(ARM, (80.0, 0.1), (300.0, 0.02), BASELINE_S)
    for i in range(50):
        nothing.feel(RobotState(0.01 * i, HOME, REST, np.full(7, np.nan), 0.08))
    assert not nothing.contact
    assert nothing.force_n == 0.0
    felt = Felt()
    felt.feel(RobotState(0.02, HOME, REST, np.where(np.arange(7) == 6, np.nan, effort(100.0)), 0.08))
    assert felt.force_n == pytest.approx(100.0, rel=0.05)


def test_a_joint_whose_effort_comes_late_feels_from_then_on() -> None:
    felt = Felt()
    felt.reset()
    felt.feel(RobotState(1.0, HOME, REST, np.full(7, np.nan), 0.08))
    felt.feel(RobotState(1.01, HOME, REST, effort(20.0), 0.08))
    assert felt.force_n == 0.0
    felt.feel(RobotState(1.02, HOME, REST, effort(120.0), 0.08))
    assert felt.force_n == pytest.approx(100.0, rel=0.01)
