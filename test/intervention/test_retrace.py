"""The driven path, driven back."""

from __future__ import annotations

import numpy as np
import pytest
from gate_world import HOME

from salus_ros.intervention.path import JointPath
from salus_ros.intervention.retrace import DrivenPath
from salus_ros.types import Floats

REST = np.zeros(7)
RATE = 0.3
"""Radians of every joint a second of path time."""


def driven(length_s: float, step_s: float = 0.01) -> DrivenPath:
    result = DrivenPath()
    for i in range(round(length_s / step_s) + 1):
        result.note(step_s * i, HOME + RATE * step_s * i)
    return result


def ends(path: JointPath | None) -> tuple[float, Floats, Floats]:
    """Its length, and where it begins and ends."""
    assert path is not None
    first, last = path.at(np.array([path.start_s, path.end_s]))[0]
    return path.end_s - path.start_s, first, last


def test_the_driven_path_is_driven_back_from_where_the_arm_stands() -> None:
    path = driven(0.99).back(0.99, HOME + RATE * 0.99, 0.3, 0.02)
    length_s, first, last = ends(path)
    assert first == pytest.approx(HOME + RATE * 0.99)
    assert 0.28 <= length_s <= 0.3
    assert last == pytest.approx(HOME + RATE * (0.99 - length_s))
    assert path is not None and path.start_s == 0.0
    middle = path.at(np.array([0.1]))[0][0]
    assert middle == pytest.approx(HOME + RATE * 0.89), "path time is not what it was on the way"


def test_no_stretch_is_driven_back_twice() -> None:
    way = driven(0.99)
    assert way.back(0.99, HOME + RATE * 0.99, 0.3, 0.02) is not None
    assert way.back(0.99, HOME + RATE * 0.99, 0.3, 0.02) is None


def test_no_more_is_driven_back_than_was_driven() -> None:
    length_s, _, last = ends(driven(0.2).back(0.2, HOME + RATE * 0.2, 1.0, 0.02))
    assert length_s == pytest.approx(0.2)
    assert last == pytest.approx(HOME)


def test_a_second_and_a_little_is_remembered() -> None:
    way = driven(9.0, step_s=0.0200001)
    length_s, _, _ = ends(way.back(9.0, HOME + RATE * 9.0, 5.0, 0.02))
    assert 1.2 <= length_s <= 1.3


def test_exactly_the_length_asked_for_is_driven_back() -> None:
    way = DrivenPath()
    for i in range(17):
        way.note(0.03125 * i, HOME + RATE * 0.03125 * i)
    length_s, _, _ = ends(way.back(0.5, HOME + RATE * 0.5, 0.25, 0.02))
    assert length_s == 0.25


def test_places_are_noted_a_fiftieth_of_a_second_of_path_time_apart() -> None:
    way = DrivenPath()
    for at_s, place in ((0.0, 0.0), (0.01, 5.0), (0.02, 0.002), (0.03, 5.0), (0.04, 0.004), (0.05, 5.0)):
        way.note(at_s, HOME + place)
    length_s, _, last = ends(way.back(0.05, HOME + 0.005, 1.0, 0.001))
    assert length_s == pytest.approx(0.05)
    assert last == pytest.approx(HOME)


@pytest.mark.parametrize(("rest_s", "kept"), [(0.005, False), (0.01, True)])
def test_a_place_that_is_all_but_where_the_arm_stands_is_left_out(rest_s: float, kept: bool) -> None:
    way = DrivenPath()
    places = (-0.04, -0.02, 0.0)
    for at_s in places:
        way.note(at_s, HOME + RATE * (at_s == 0.0))
    path = way.back(rest_s, HOME, 1.0, 0.4)
    length_s, _, _ = ends(path)
    assert length_s == pytest.approx(rest_s + 0.04)
    assert path is not None
    by_way = np.abs(path.at(np.linspace(0.0, 0.05, 51))[0] - HOME).max()
    assert (by_way > 0.1) == kept


@pytest.mark.parametrize(("count", "found"), [(0, False), (1, False), (2, True)])
def test_there_is_nothing_to_drive_back_with_fewer_than_two_places_beside_the_arms(
    count: int, found: bool
) -> None:
    way = DrivenPath()
    for i in range(count):
        way.note(1.0 + 0.02 * i, HOME)
    assert (way.back(1.0 + 0.02 * count, HOME, 0.3, 0.02) is not None) == found


def test_nothing_is_driven_back_after_a_contact() -> None:
    way = driven(0.99)
    way.clear()
    assert way.back(0.99, HOME, 0.3, 0.02) is None


def test_a_way_too_rough_to_be_a_path_is_not_driven_back() -> None:
    way = DrivenPath()
    for i in range(20):
        way.note(0.02 * i, HOME + 2.0 * (i % 2))
    assert way.back(0.4, HOME, 0.3, 1e-9) is None
