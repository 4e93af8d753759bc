"""The docs' tables of the study, made from what ``results`` gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from salus_ros.data.episode import Episode, Outcome
from salus_ros.evaluation.comparison import Arm, summarise_arm
from salus_ros.evaluation.study import results
from salus_ros.types import FailureType

Make = Callable[..., Episode]
MANIFEST = {"seeds": "0:40", "policy": "p" * 16, "monitor": "m" * 16, "command": "salus study --seeds 0:40"}


@pytest.fixture(name="tables")
def fixture_tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    import study_tables  # type: ignore[import-not-found]

    return study_tables


def _found(make: Make, collisions: dict[str, int]) -> dict[str, Any]:
    """Arms of forty seeds, of which the first so many collide."""
    collision = ((1.0, FailureType.COLLISION),)
    arms = {
        name: summarise_arm(
            Arm(
                name,
                tuple(
                    make(i, 2.0, Outcome.FAILURE, collision) if i < count else make(i, 2.0) for i in range(40)
                ),
            )
        )
        for name, count in collisions.items()
    }
    return {"manifest": MANIFEST, **results(arms)}


def test_targets_that_are_met_and_missed_are_told_apart(make_episode: Make, tables: Any) -> None:
    arms = {"none": 20, "none2": 20, "random": 20, "oracle": 0, "salus": 2}
    rows = {
        line.split("|")[1].strip(): line
        for line in tables.headline(_found(make_episode, arms)).splitlines()[2:]
        if line.startswith("|")
    }
    assert "50 % (34 to 66) → 95 % (83 to 99); 90 %" in rows["success"]
    assert rows["success"].endswith("| yes |")
    assert "−90 %" in rows["collisions"], "with a true minus sign"
    assert rows["collisions"].endswith("| yes |")
    assert "not available" in rows["drops"]
    assert rows["drops"].endswith("| no |"), "nothing to cut is no proof"
    assert rows["against random interventions"].endswith("| yes |")
    assert rows["harm beyond luck"].endswith("| yes |")
    assert (
        "| 0: 0.0 % (0.0 to 8.8) of 40 seeds; at random times 0: 0.0 % (0.0 to 8.8)"
        in rows["harm, luck included"]
    )
    assert rows["harm, luck included"].endswith("|  |"), "nothing was promised of it"


def test_a_salus_that_does_nothing_meets_no_target_of_gain(make_episode: Make, tables: Any) -> None:
    arms = {"none": 20, "none2": 20, "random": 20, "oracle": 5, "salus": 20}
    text = tables.headline(_found(make_episode, arms))
    gains = [
        line for line in text.splitlines() if line.startswith(("| success", "| coll", "| all", "| against"))
    ]
    assert len(gains) == 4
    assert all(line.endswith("| no |") for line in gains), text


def test_every_arm_is_a_row_and_the_command_stands_below(make_episode: Make, tables: Any) -> None:
    text = tables.section(_found(make_episode, {"none": 10, "none2": 12, "salus": 1}))
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:5]] == ["none", "none2", "salus"]
    assert "| bin | 40 | 75% | 70% | 98% |" in text
    assert text.endswith("monitor `mmmmmmmmmmmmmmmm`, `salus study --seeds 0:40`.")


def test_what_is_saved_and_harmed_stands_beside_harm_beyond_luck(make_episode: Make, tables: Any) -> None:
    """Salus fails on seeds 0 to 3, of which none fails on 0 and 1: two are harmed, of forty."""
    text = tables.section(_found(make_episode, {"none": 2, "none2": 6, "salus": 4}))
    head, _, *rows = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    saved, harmed = head.index("saved"), head.index("harmed")
    of_arm = {row[0].strip("| "): row for row in rows[:3]}
    assert (of_arm["salus"][saved], of_arm["salus"][harmed]) == ("0", "2: 5.0 % (0.6 to 16.9)")
    assert of_arm["salus"][-1].startswith("−5.0 points"), "none2 harms four"
    assert "without any merit" in text


def test_onsets_and_what_was_foreseen_of_them_are_told_by_type(make_episode: Make, tables: Any) -> None:
    found = _found(make_episode, {"none": 3, "salus": 1})
    text = tables.section(found)
    assert "| none | 3, 0 | 0, 0 | 0, 0 |" in text
    assert "| salus | 1, 0 | 0, 0 | 0, 0 |" in text
    for arm in found["arms"].values():
        del arm["onsets"]
    assert "onsets, foreseen" not in tables.section(found), "a study from before they were counted"


def test_the_graph_is_shown_beside_one_process(make_episode: Make, tables: Any) -> None:
    arms = {"none": 20, "none-live": 22, "salus": 2, "salus-live": 4}
    rows = [line for line in tables.live(_found(make_episode, arms)).splitlines() if line.startswith("|")]
    assert rows[2].startswith("| none | 50 % (34 to 66) | 45 % (29 to 62) | −5.0 points")
    assert rows[3].startswith("| salus | 95 % (83 to 99) | 90 % (76 to 97) | −5.0 points")
    assert rows[4].startswith("| salus against none | +45.0 points")


def test_the_headline_says_what_came_of_it_in_real_time(make_episode: Make, tables: Any) -> None:
    arms = {"none": 20, "salus": 2, "none-live": 20, "salus-live": 10}
    text = tables.live_in_short(_found(make_episode, arms))
    assert "success on 40 of these seeds is 50 % (34 to 66) without SALUS and 75 % (59 to 87) with it" in text
    assert "as against 50 % (34 to 66) and 95 % (83 to 99) in one process" in text
