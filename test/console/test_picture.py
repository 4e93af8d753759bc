"""What the page is given: scene, journal and snapshot."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from salus_ros.console.journal import KEPT, Journal
from salus_ros.console.scene import horizon_levels, path_levels, project
from salus_ros.console.snapshot import (
    NodeHealth,
    Source,
    describe_gate,
    describe_nodes,
    describe_path,
    describe_risk,
    number,
    numbers,
)
from salus_ros.monitor.settings import FRONT_CAMERA_POSE
from salus_ros.sim.world import WorldSettings
from salus_ros.types import (
    HORIZONS_S,
    ActionChunk,
    Cause,
    EpisodeEvent,
    EventKind,
    FailurePrediction,
    FailureType,
    InterventionState,
    Mode,
)


def prediction(**more: object) -> FailurePrediction:
    probability = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 0.1], [0.0] * 4])
    fields = {
        "stamp_s": 10.0,
        "sequence": 3,
        "horizons_s": HORIZONS_S,
        "probability": probability,
        "timeout_probability": math.nan,
        "risk": 0.5,
        "risk_type": FailureType.COLLISION,
        "risk_horizon_s": 0.5,
        "alarm": True,
        "threshold": np.array([0.4, 0.4, 0.8]),
        "out_of_distribution": False,
    }
    return FailurePrediction(**{**fields, **more})  # type: ignore[arg-type]


def state(mode: Mode, cause: Cause = Cause.NONE, reason: str = "") -> InterventionState:
    return InterventionState(10.0, mode, cause, reason, 0.5, 3, math.nan, 1.0)


def test_a_level_is_half_at_the_threshold_of_its_type() -> None:
    levels = horizon_levels(prediction())
    assert levels[0, 3] == pytest.approx(0.5)
    assert levels[1, 3] == pytest.approx(0.125)


def test_a_point_of_the_path_is_as_risky_as_the_worst_until_it_is_reached() -> None:
    levels = path_levels(np.array([9.9, 10.1, 10.3, 10.35, 10.5, 10.6]), prediction())
    assert levels[0] == 0.0, "a point that is past is calm"
    assert levels[1:5] == pytest.approx([0.125, 0.25, 0.3125, 0.5])
    assert math.isnan(levels[5]), "nothing is foreseen beyond the longest horizon"


def test_without_a_prediction_nothing_is_known_of_the_path() -> None:
    assert np.isnan(path_levels(np.arange(3.0), None)).all()


def test_what_the_camera_looks_at_is_in_the_middle_of_its_image() -> None:
    world = WorldSettings()
    intrinsics = np.array([[160.0, 0, 64], [0, 160, 64], [0, 0, 1]])
    target = np.array([world.front_camera_target_m])
    assert project(target, FRONT_CAMERA_POSE, intrinsics)[0] == pytest.approx([64, 64], abs=1e-3)
    higher = project(target + np.array([0.0, 0.0, 0.1]), FRONT_CAMERA_POSE, intrinsics)[0]
    assert higher[1] < 64, "what is higher is nearer to the image's first row"


def test_what_is_behind_the_camera_is_nowhere() -> None:
    behind = np.array([[5.0, 0.0, 2.0]])
    assert np.isnan(project(behind, FRONT_CAMERA_POSE, np.eye(3))).all()


def test_everything_sent_is_json_whatever_is_not_available() -> None:
    chunk = ActionChunk(9.9, np.array([0.05, 0.2]), np.zeros((2, 7)), np.zeros(2))
    path = describe_path(
        chunk,
        np.array([[0.1, 0.2, 0.3], [0.2, 0.2, np.nan]]),
        prediction(),
        tool_m=np.zeros(3),
        now_s=10.0,
        pixels=np.array([[np.nan, np.nan], [0.5, 0.5], [0.6, 0.5]]),
    )
    picture = [path, describe_risk(prediction()), describe_gate(state(Mode.NOMINAL))]
    json.dumps(picture, allow_nan=False)
    assert path["past"] == 1
    assert path["pixels"][0] == [None, None]
    assert describe_risk(None) is None and describe_gate(None) is None
    assert describe_path(None, None, None, tool_m=None, now_s=math.nan, pixels=None)["points"] == []


def test_numbers_are_rounded_and_what_is_none_stays_none() -> None:
    assert numbers([[0.12345, math.inf]]) == [[0.123, None]]
    assert numbers(None) is None and number(math.nan) is None


@pytest.mark.parametrize(
    ("age_s", "condition"), [(math.inf, "never"), (0.1, "fresh"), (0.3, "late"), (0.9, "silent")]
)
def test_an_input_is_told_by_its_silence(age_s: float, condition: str) -> None:
    assert Source("policy", "salus/policy_output", age_s, 5.0, 0.2).condition == condition


def test_a_node_that_says_nothing_any_more_has_gone() -> None:
    (row,) = describe_nodes([NodeHealth("policy_node", 0, "running", 6.0)])
    assert row["gone"]


def test_the_journal_notes_changes_and_no_repetition() -> None:
    journal = Journal()
    journal.see_state(1.0, state(Mode.NOMINAL))
    journal.see_state(2.0, state(Mode.NOMINAL))
    journal.see_state(3.0, state(Mode.HOLD, Cause.POLICY_LATE, "no policy output in time"))
    journal.see_health(4.0, "monitor_node", 0, "running")
    journal.see_health(5.0, "monitor_node", 1, "no fresh points")
    journal.see_health(6.0, "monitor_node", 1, "no fresh points")
    journal.see_health(7.0, "monitor_node", 0, "running")
    assert [(e.source, e.level, e.text) for e in journal.entries] == [
        ("gate", "info", "nominal"),
        ("gate", "warning", "hold: no policy output in time"),
        ("monitor_node", "warning", "no fresh points"),
        ("monitor_node", "info", "well again: running"),
    ]
    assert [entry.number for entry in journal.since(2)] == [3, 4]


def test_the_journal_tells_an_episode() -> None:
    journal = Journal()
    journal.see_event(1.0, EpisodeEvent(1.0, EventKind.EPISODE_START, seed=7, disturbance="push"))
    journal.see_event(2.0, EpisodeEvent(2.0, EventKind.FAILURE_ONSET, FailureType.DROP, detail="cube_0 fell"))
    journal.see_event(3.0, EpisodeEvent(3.0, EventKind.FAILURE_ONSET))
    assert [entry.text for entry in journal.entries] == [
        "begins, seed 7: push",
        "drop: cube_0 fell",
        "failure",
    ]


def test_the_journal_forgets_the_oldest() -> None:
    journal = Journal()
    for number_ in range(KEPT + 50):
        journal.note(float(number_), "console", "word")
    assert len(journal.entries) == KEPT
    assert journal.entries[0].number == 51
