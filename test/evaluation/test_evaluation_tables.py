"""The docs' tables of the evaluation are those of its numbers, and of nothing else."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="scripts")
def fixture_scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import update_docs  # type: ignore[import-not-found]

    return update_docs


def sections() -> list[tuple[Path, str, str]]:
    """The sections of the docs that come from files of the repository."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import update_docs
    finally:
        sys.path.pop(0)
    return list(update_docs.sections())


def written(path: Path, name: str) -> str:
    """What stands in the docs between the two markers."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", path.read_text(), re.S)
    assert found is not None, f"{path} has no section {name}"
    return found[1]


SECTIONS = sections()


@pytest.mark.parametrize(
    ("path", "name", "text"), SECTIONS, ids=[f"{path.stem}-{name}" for path, name, _ in SECTIONS]
)
def test_every_figure_in_the_docs_is_that_of_its_file(path: Path, name: str, text: str) -> None:
    assert written(path, name).strip() == text.strip(), f"{path.name}, {name}: run scripts/update_docs.py"


def test_no_file_of_results_is_left_out_of_the_docs() -> None:
    """A file that no section is made from is one whose figures somebody has to type."""
    shown = {name for _, name, _ in SECTIONS}
    for file in sorted((ROOT / "docs/results").glob("*.json")):
        assert file.stem.removeprefix("tune-") in shown, f"no section is made from {file.name}"


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (estimate(0.90, 0.86, 0.93), "met |"),
        (estimate(0.90, 0.80, 0.93), "met, not by the interval |"),
        (estimate(0.80, 0.70, 0.90), "missed |"),
        (estimate(None), "not measured |"),
    ],
)
def test_an_aim_is_met_only_by_what_was_measured(
    scripts: Any, measured: dict[str, Any], verdict: str
) -> None:
    row = scripts.evaluation_tables._row("number", ">= 0.85", measured, 0.85)
    assert row.endswith(verdict), row


def events(right: int, wrong: int, missed: int, lead_s: float | None = None) -> dict[str, Any]:
    return {
        "true_positives": right,
        "false_positives": wrong,
        "misses": missed,
        "precision": right / (right + wrong) if right + wrong else None,
        "lead_time_median_s": lead_s,
        "f1": 0.5,
    }


def detector(name: str, kind: str, **others: Any) -> dict[str, Any]:
    """As ``salus evaluate`` writes one, with what the tables read."""
    none = estimate(0.0, 0.0, 0.0)
    return {
        "name": name,
        "kind": kind,
        "trials_on_tune": 1,
        "mean_auroc": estimate(0.9, 0.8, 0.95),
        "ours_minus_this": {"mean_auroc": none, "event_f1": none, "time_weighted_accuracy": none},
        "event_f1_mean_over_types": estimate(0.5, 0.4, 0.6),
        "false_alarm_rate_as_deployed": estimate(0.05, 0.01, 0.1),
        # An alarm of whatever type before an onset of any: better than each alarm for itself.
        "events": events(9, 1, 1, 0.9),
        "events_by_type": {
            "collision": events(3, 1, 1, 0.35 - 1e-12),
            "drop": events(1, 3, 3, 0.3),
            "miss": events(0, 0, 2),
        },
        "episode_alarms": [{"balanced_accuracy": 0.5, "time_weighted_accuracy": 0.5}],
        "steps": [
            {"type": kind, "horizon_s": 0.5, "auroc": estimate(0.9)} for kind in ("collision", "drop", "miss")
        ],
    } | others


def evaluated(*others: dict[str, Any]) -> dict[str, Any]:
    test = {
        "episodes": 10,
        "failures": 4,
        "onsets": {"collision": 4, "drop": 4, "miss": 2},
        "common_length_s": 3.75,
        "outside_training_data": {"episodes": 1, "of": 10},
        "detectors": [detector("SALUS", "ours"), *others],
    }
    return {
        "command": "salus evaluate",
        "started": "today",
        "hashes": {"data": "d"},
        "manifest": {"monitor": "m"},
        "alpha_of_ours": 0.05,
        "calibration_successes_of_ours": 19,
        "tests": {"test-seen": test, "test-unseen": test},
    }


def test_an_alarm_counts_for_onsets_of_its_own_type_in_the_targets(scripts: Any) -> None:
    text = scripts.evaluation_tables.targets(evaluated())
    assert "| precision of the alarms, each of its type | >= 0.80 | 0.50 | missed |" in text
    assert "| recall of the alarms, each of its type | >= 0.85 | 0.40 | missed |" in text
    assert "collision 0.35, drop 0.30, miss – | met for collision only |" in text


@pytest.mark.parametrize(("rate", "verdict"), [(0.05, "met"), (0.4, "missed")])
def test_false_alarms_are_held_against_what_that_many_calibration_episodes_promise(
    scripts: Any, rate: float, verdict: str
) -> None:
    found = evaluated()
    found["tests"]["test-seen"]["detectors"][0]["false_alarm_rate_as_deployed"] = estimate(rate, 0.0, 1.0)
    (row,) = (
        line for line in scripts.evaluation_tables.targets(found).splitlines() if "false alarms per" in line
    )
    assert "0.00 to 0.33, what a calibration on 19 successes promises" in row
    assert row.endswith(f"| {verdict} |"), row


@pytest.mark.parametrize(
    ("medians_s", "verdict"),
    [((0.35, 0.4, 0.9), "met |"), ((0.1, 0.2, 0.3), "missed |"), ((0.4, 0.4, None), "met for a, b only |")],
)
def test_lead_times_are_met_where_those_of_each_type_are(
    scripts: Any, medians_s: tuple[float | None, ...], verdict: str
) -> None:
    row = scripts.evaluation_tables._lead_times(dict(zip("abc", medians_s, strict=True)), 0.35)
    assert row.endswith(f"| {verdict}"), row


def test_what_was_chosen_before_has_no_count_of_trials(scripts: Any) -> None:
    found = evaluated(detector("SALUS, seed 1", "another seed"), detector("clock", "sanity check"))
    text = scripts.evaluation_tables.section(found)
    last = {
        line.split("|")[1].strip(): line.split("|")[-2].strip() for line in text.splitlines() if "|" in line
    }
    assert (last["SALUS"], last["SALUS, seed 1"], last["clock"]) == ("–", "–", "1")
    assert "test-ledger.md" in text


def test_every_test_set_is_told_by_type(scripts: Any) -> None:
    text = scripts.evaluation_tables.section(evaluated())
    assert text.count("| collision | 0.90 | 3 of 4 | 0.75 | 0.35 |") == 2
    assert all(f"**{name}**, SALUS by type" in text for name in ("test-seen", "test-unseen"))


def with_timeouts() -> dict[str, Any]:
    look = {name: estimate(0.7, 0.6, 0.8) for name in ("auroc", "auroc_now", "brier")}
    told = {name: estimate(0.5, 0.4, 0.6) for name in ("precision", "recall", "false_alarm_rate")}
    late = {
        "episodes": 10,
        "timed_out": 3,
        "threshold": 0.9,
        "looks": [
            look | {"share_of_common_length": s, "brier_of_rate": 0.21} for s in (0.25, 0.5, 0.75, 1.0)
        ],
        "as_deployed": told | {"lead_time_median_s": 4.5},
        "as_deployed_within_common_length": told | {"lead_time_median_s": None},
    }
    found = evaluated()
    found["tests"]["test-seen"]["detectors"][0] |= {
        "timeouts": late,
        "alarms_per_hour_as_deployed": 40.4,
        "false_alarms_per_hour_as_deployed": None,
    }
    found["tests"]["test-seen"]["failures_begun_within_common_length"] = 2
    return found


def test_time_outs_have_their_own_table_where_they_were_evaluated(scripts: Any) -> None:
    text = scripts.evaluation_tables.section(with_timeouts())
    assert "3 of 10 episodes ran out of time" in text
    assert "| AUROC of the newest | 0.70 (0.60 to 0.80) |" in text
    assert "| within the common length | 0.50 (0.40 to 0.60) |" in text
    assert "| 40, – of them false |" in text
    assert "2 of 4 failures had begun by then" in text


def test_figures_of_before_time_outs_were_evaluated_are_still_shown(scripts: Any) -> None:
    text = scripts.evaluation_tables.section(evaluated())
    assert "ran out of time" not in text and "per hour" not in text and "had begun" not in text
    assert "A rival is shown" not in text, "each was shown with the variant of the best AUROC then"


def test_a_rival_of_three_variants_is_said_to_bring_the_best_to_each_number(scripts: Any) -> None:
    found = evaluated()
    found["tests"]["test-seen"]["detectors"][0]["choice"] = {"mean_auroc": "single", "event_f1": "cumulative"}
    assert "A rival is shown in each of the three numbers" in scripts.evaluation_tables.section(found)


def test_an_ablation_that_changes_nothing_says_so(scripts: Any) -> None:
    other = detector("SALUS, 1 steps of history", "another setting", mean_auroc=estimate(0.8, 0.7, 0.9))
    same = detector("SALUS, 7 steps of history", "another setting")
    text = scripts.evaluation_tables.section(evaluated(same, other))
    assert "| 7 steps of history (what ours has) |" in text
    assert "| 1 steps of history |" in text


def test_what_lay_outside_the_training_data_has_its_interval(scripts: Any) -> None:
    text = scripts.evaluation_tables.outside(evaluated())
    assert "| test-seen, as in training | 1 of 10: 10.0 % (0.3 to 44.5) |" in text
