"""What the fingers have met, told from the opening alone."""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.grips import GripWatch
from salus_ros.monitor.view import Grips


def met(*stretches: tuple[float, float]) -> Grips:
    """After stretches of (speed in m/s, until this opening in m), or (0, duration in s), from 80 mm."""
    watch, opening, t = GripWatch(), 0.08, 0.0

    def tick() -> None:
        nonlocal t
        watch.update(t, opening)
        t += 0.01

    for speed, until in stretches:
        if speed == 0.0:
            for _ in range(round(until / 0.01)):
                tick()
        while speed and (until - opening) * speed > 1e-9:
            opening += 0.01 * speed
            tick()
    return watch.count


REST = (0.0, 0.3)
GRIP = (REST, (-0.1, 0.04), REST)


def test_a_grip_that_holds_and_is_opened_again_counts_as_nothing() -> None:
    assert met(*GRIP, (0.1, 0.08), REST) == Grips(0, 0)


def test_fingers_that_are_never_stopped_met_nothing() -> None:
    assert met(REST, (-0.1, 0.02), (0.1, 0.08), REST) == Grips(1, 0), "opened again on the way"
    assert met(REST, (-0.1, 0.0), REST, (0.1, 0.08), REST) == Grips(1, 0), "closed altogether"


def test_fingers_that_go_on_closing_lost_what_had_stopped_them() -> None:
    assert met(*GRIP, (-0.1, 0.0), REST, (0.1, 0.08)) == Grips(0, 1)


def test_a_twitch_is_no_attempt() -> None:
    assert met(REST, (-0.1, 0.07), (0.1, 0.08), REST) == Grips(0, 0)


def test_attempts_add_up() -> None:
    again = ((-0.1, 0.02), (0.1, 0.08))
    assert met(REST, *again, REST, *again, *GRIP, (-0.1, 0.01), (0.1, 0.08)) == Grips(2, 1)


def test_a_gripper_that_reports_nothing_has_met_nothing() -> None:
    watch = GripWatch()
    for t in np.arange(0.0, 1.0, 0.01):
        watch.update(float(t), float("nan"))
    assert watch.count == Grips()
