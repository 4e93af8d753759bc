"""The way straight up before a policy plans anew."""

from __future__ import annotations

import numpy as np
import pytest

from salus_ros.policy.lift import PATIENCE_S, SPEED_M_S, Lift
from salus_ros.types import Floats

TIMES_S = 0.05 * np.arange(1, 17)


def tool(z_m: float) -> Floats:
    """A pose at a height, turned about z."""
    pose = np.eye(4)
    pose[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    pose[:3, 3] = 0.4, 0.1, z_m
    return pose


@pytest.fixture
def lift() -> Lift:
    return Lift()


def test_without_being_asked_nothing_is_lifted(lift: Lift) -> None:
    assert lift.poses(0.0, tool(0.2), TIMES_S) is None
    lift.ask(0.0)
    assert lift.poses(0.0, tool(0.2), TIMES_S) is None


def test_the_tool_goes_straight_up_at_its_speed_and_no_higher_than_asked(lift: Lift) -> None:
    lift.ask(0.1)
    poses = lift.poses(3.0, tool(0.2), TIMES_S)
    assert poses is not None
    np.testing.assert_allclose(poses[:, 2, 3], 0.2 + np.minimum(SPEED_M_S * TIMES_S, 0.1))
    still = poses.copy()
    still[:, 2, 3] = 0.2
    np.testing.assert_array_equal(still, np.tile(tool(0.2), (len(TIMES_S), 1, 1)))


def test_it_goes_on_to_the_height_that_was_asked_for_where_it_began_and_then_ends(lift: Lift) -> None:
    lift.ask(0.1)
    lift.poses(0.0, tool(0.2), TIMES_S)
    poses = lift.poses(0.2, tool(0.26), TIMES_S)
    assert poses is not None and poses[-1, 2, 3] == pytest.approx(0.3)
    assert lift.poses(0.4, tool(0.295), TIMES_S) is None
    assert lift.poses(0.6, tool(0.2), TIMES_S) is None, "it began again"


def test_an_arm_that_cannot_go_up_is_given_up_after_a_while(lift: Lift) -> None:
    lift.ask(0.1)
    assert lift.poses(10.0, tool(0.2), TIMES_S) is not None
    assert lift.poses(10.0 + PATIENCE_S, tool(0.2), TIMES_S) is not None
    assert lift.poses(10.1 + PATIENCE_S, tool(0.2), TIMES_S) is None


def test_asked_again_it_begins_where_the_tool_is_then(lift: Lift) -> None:
    lift.ask(0.1)
    lift.poses(0.0, tool(0.2), TIMES_S)
    lift.ask(0.1)
    poses = lift.poses(0.2, tool(0.25), TIMES_S)
    assert poses is not None and poses[-1, 2, 3] == pytest.approx(0.35)


def test_a_saved_moment_goes_on_as_it_did(lift: Lift) -> None:
    lift.ask(0.1)
    lift.poses(0.0, tool(0.2), TIMES_S)
    moment = lift.save()
    once = lift.poses(0.2, tool(0.22), TIMES_S)
    lift.forget()
    lift.restore(moment)
    np.testing.assert_array_equal(lift.poses(0.2, tool(0.22), TIMES_S), once)
