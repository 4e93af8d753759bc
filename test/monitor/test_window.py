"""The window of signals."""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.window import Window

PERIOD_S = 0.05


def frame(value: float) -> np.ndarray:
    return np.array([value])


def filled(values: list[float], start_s: float = 3.0) -> tuple[Window, np.ndarray]:
    window = Window(4, 1, PERIOD_S)
    for i, value in enumerate(values):
        seen = window.push(start_s + PERIOD_S * i, frame(value))
    return window, seen


def test_the_newest_frame_stands_last() -> None:
    _, seen = filled([1, 2, 3, 4, 5, 6])
    assert seen.ravel().tolist() == [3, 4, 5, 6]


def test_the_first_frame_fills_the_window_so_that_it_does_not_tell_the_time() -> None:
    _, seen = filled([7, 8])
    assert seen.ravel().tolist() == [7, 7, 7, 8]


def test_a_skipped_tick_is_not_available() -> None:
    window, _ = filled([1, 2, 3, 4])
    seen = window.push(3.0 + 5 * PERIOD_S, frame(9)).ravel()
    assert seen[[0, 1, 3]].tolist() == [3, 4, 9]
    assert np.isnan(seen[2]), "the tick between 4 and 9 did not happen"


def test_a_long_silence_leaves_nothing_of_the_past() -> None:
    window, _ = filled([1, 2, 3, 4])
    seen = window.push(100.0, frame(9)).ravel()
    assert np.isnan(seen[:3]).all()
    assert seen[3] == 9


def test_a_second_frame_of_one_tick_replaces_the_first() -> None:
    window, _ = filled([1, 2, 3, 4])
    seen = window.push(3.0 + 3 * PERIOD_S + 0.01, frame(9))
    assert seen.ravel().tolist() == [1, 2, 3, 9]


def test_jitter_of_the_ticks_does_not_matter() -> None:
    window = Window(4, 1, PERIOD_S)
    for i, jitter in enumerate([0.0, 0.01, -0.012, 0.015, -0.01]):
        seen = window.push(i * PERIOD_S + jitter, frame(i))
    assert seen.ravel().tolist() == [1, 2, 3, 4]


def test_time_that_goes_back_starts_a_new_window() -> None:
    window, _ = filled([1, 2, 3, 4])
    assert window.push(0.0, frame(9)).ravel().tolist() == [9, 9, 9, 9]


def test_a_window_handed_out_does_not_change_later() -> None:
    window, seen = filled([1, 2, 3, 4])
    before = seen.copy()
    window.push(3.0 + 4 * PERIOD_S, frame(5))
    window.push(3.0 + 4 * PERIOD_S, frame(6))
    assert (seen == before).all()
