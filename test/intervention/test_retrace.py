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
        result.note(step_s, HOME + RATE * step_s * i)
    return result


def ends(path: JointPath | None) -> tuple[float, Floats, Floats]:
    """Its length, and where it begins and ends."""
    assert path is not None
    first, last = path.at(np.array([path.start_s, path.end_s]))[0]
    return path.end_s - path.start_s, first, last


def test_the_driven_path_is_driven_back_from_where_the_arm_stands() -> None:
    path = driven(0.99).back(HOME + RATE * 0.99, 0.3, 0.02, 0.0)
    length_s, first, last = ends(path)
    assert first == pytest.approx(HOME + RATE * 0.99)
    assert 0.28 <= length_s <= 0.3
    assert last == pytest.approx(HOME + RATE * (0.99 - length_s))
    assert path is not None and path.start_s == 0.0
    middle = path.at(np.array([0.1]))[0][0]
    assert middle == pytest.approx(HOME + RATE * 0.89), "path time is not what it was on the way"


def test_an_arm_that_sags_drives_back_beside_its_commands() -> None:
    sag = 0.03 * (np.arange(7) == 1)
    length_s, first, last = ends(driven(0.99).back(HOME + RATE * 0.99 + sag, 0.3, 0.02, 0.03125))
    assert first == pytest.approx(HOME + RATE * 0.99 + sag)
    assert last == pytest.approx(HOME + RATE * (0.99 - length_s) + sag)


def test_an_arm_that_was_left_behind_drives_back_from_there_and_not_ahead_first() -> None:
    way = driven(0.99)
    path = way.back(HOME + RATE * 0.79, 0.5, 0.02, 0.02)
    length_s, first, last = ends(path)
    assert path is not None
    assert 0.28 <= length_s <= 0.31
    assert first == pytest.approx(HOME + RATE * 0.79)
    _, velocity, _ = path.at(np.linspace(path.start_s, path.end_s, 50))
    assert (velocity < 1e-6).all() and np.abs(velocity).max() < 1.1 * RATE
    assert last == pytest.approx(HOME + RATE * 0.49, abs=RATE * 0.02)


def test_an_arm_that_rests_where_nothing_was_driven_has_nothing_to_drive_back() -> None:
    place = HOME + RATE * 0.99 + 0.0625 * (np.arange(7) == 1)
    assert driven(0.99).back(place, 0.3, 0.02, 0.0626) is not None
    assert driven(0.99).back(place, 0.3, 0.02, 0.0624) is None


def test_no_stretch_is_driven_back_twice_and_nothing_over_a_hole() -> None:
    """An arm that did not drive all of it back would leap over the rest."""
    way = driven(0.99)
    assert way.back(HOME + RATE * 0.99, 0.3, 0.02, 0.02) is not None
    assert way.back(HOME + RATE * 0.99, 0.9, 0.02, 9.0) is None
    for i in range(11):
        way.note(0.02, HOME + RATE * (0.99 + 0.02 * i))
    length_s, _, last = ends(way.back(HOME + RATE * 1.19, 0.9, 0.02, 0.02))
    assert length_s == pytest.approx(0.2)
    assert last == pytest.approx(HOME + RATE * 0.99)


def test_no_more_is_driven_back_than_was_driven() -> None:
    length_s, _, last = ends(driven(0.2).back(HOME + RATE * 0.2, 1.0, 0.02, 0.0))
    assert length_s == pytest.approx(0.2)
    assert last == pytest.approx(HOME)


def test_a_second_and_a_little_is_remembered() -> None:
    way = driven(9.0, step_s=0.0200001)
    length_s, _, _ = ends(way.back(HOME + RATE * 9.0, 5.0, 0.02, 0.02))
    assert 1.2 <= length_s <= 1.3


def test_exactly_the_length_asked_for_is_driven_back() -> None:
    length_s, _, _ = ends(driven(0.5, step_s=0.03125).back(HOME + RATE * 0.5, 0.25, 0.02, 0.02))
    assert length_s == 0.25


def test_places_are_noted_a_fiftieth_of_a_second_of_path_time_apart_and_the_newest_always() -> None:
    way = DrivenPath()
    for place in (0.0, 5.0, 0.002, 5.0, 0.004, 0.005):
        way.note(0.01, HOME + place)
    length_s, first, last = ends(way.back(HOME + 0.005, 1.0, 0.001, 1e-9))
    assert length_s == pytest.approx(0.05)
    assert (first, last) == (pytest.approx(HOME + 0.005), pytest.approx(HOME))


@pytest.mark.parametrize(("rest_s", "kept"), [(0.005, False), (0.01, True)])
def test_a_place_that_is_all_but_where_the_arm_stands_is_left_out(rest_s: float, kept: bool) -> None:
    way = DrivenPath()
    for at_s, place in ((0.02, 0.0), (0.02, 0.0), (0.02, RATE), (rest_s, 0.0)):
        way.note(at_s, HOME + place)
    path = way.back(HOME, 1.0, 0.4, 0.02)
    length_s, _, _ = ends(path)
    assert length_s == pytest.approx(rest_s + 0.04)
    assert path is not None
    by_way = np.abs(path.at(np.linspace(0.0, 0.05, 51))[0] - HOME).max()
    assert (by_way > 0.1) == kept


@pytest.mark.parametrize(("count", "found"), [(0, False), (2, False), (3, True)])
def test_there_is_nothing_to_drive_back_with_fewer_than_three_places(count: int, found: bool) -> None:
    way = DrivenPath()
    for _ in range(count):
        way.note(0.02, HOME)
    assert (way.back(HOME, 0.3, 0.02, 0.02) is not None) == found


def test_nothing_is_driven_back_after_a_contact() -> None:
    way = driven(0.99)
    way.clear()
    assert way.back(HOME, 0.3, 0.02, 9.0) is None


def test_a_way_too_rough_to_be_a_path_is_not_driven_back() -> None:
    way = DrivenPath()
    for i in range(20):
        way.note(0.02, HOME + 2.0 * (i % 2))
    assert way.back(HOME, 0.3, 1e-9, 0.02) is None
