"""The sections of the docs that come from ``salus evaluate``."""

from __future__ import annotations

from typing import Any

from salus_ros.evaluation.statistics import clopper_pearson, promised_rates

OURS, SUCCESSES_ONLY = "SALUS", "SALUS, successes only"
CHOSEN_BEFORE = ("ours", "another seed", "another setting")
"""Kinds of detectors of which nothing is chosen by ``salus evaluate``."""
SEEN, UNSEEN = "test-seen", "test-unseen"
TRIALS_OF_OURS = (
    "Trials are the variants tried on the tuning episodes. SALUS tries none there, hence the dash; that is "
    "not to say that nothing was tried. Its signals, regularisation, learning rate and history were chosen "
    "before, on episodes of earlier policies: see *What this does not show* above and "
    "[the ledger](test-ledger.md)."
)
BEST_OF_RIVALS = (
    " A rival is shown in each of the three numbers with the variant, and the aggregation over time, that did"
    " best in that number on the tuning episodes, its alarm set on the same calibration episodes as ours."
)
_EPSILON_S = 1e-6
"""Lead times are differences of stamps; a median of exactly 0.35 s counts."""


def section(found: dict[str, Any]) -> str:
    """Targets, every detector, and what an ablation showed."""
    seen = found["tests"][SEEN]
    parts = [
        _source(found),
        targets(found),
        *(detectors(name, test) for name, test in found["tests"].items()),
        TRIALS_OF_OURS + (BEST_OF_RIVALS if isinstance(_ours(seen).get("choice"), dict) else ""),
        *(by_type(name, test) for name, test in found["tests"].items()),
        *(timeouts(name, test) for name, test in found["tests"].items() if _ours(test).get("timeouts")),
    ]
    ablated = [d for d in seen["detectors"] if d["kind"] == "another setting" and d["name"] != SUCCESSES_ONLY]
    if ablated:
        parts.append(ablations(_ours(seen), ablated))
    return "\n\n".join(parts)


def _source(found: dict[str, Any]) -> str:
    tests = ", ".join(
        f"{name}: {test['episodes']} episodes, {test['failures']} of them failures, onsets "
        + ", ".join(f"{n} {kind}" for kind, n in test["onsets"].items())
        for name, test in found["tests"].items()
    )
    return (
        f"`{found['command']}`, started {found['started']}, data {found['hashes']['data']}, monitor "
        f"{found['manifest']['monitor']}. {tests}. Intervals are 95 % bootstraps over episodes."
    )


def targets(found: dict[str, Any]) -> str:
    """What was aimed at, what came out, and whether the interval lets one say so."""
    seen, unseen = found["tests"][SEEN], found["tests"].get(UNSEEN)
    ours = _ours(seen)
    by_type, alarms = ours["events_by_type"], ours["false_alarm_rate_as_deployed"]
    right, wrong, missed = (
        sum(events[count] for events in by_type.values())
        for count in ("true_positives", "false_positives", "misses")
    )
    alone = next((d for d in seen["detectors"] if d["name"] == SUCCESSES_ONLY), None)
    alpha = found["alpha_of_ours"]
    rows = [
        _row("event F1, mean over types", ">= 0.85", ours["event_f1_mean_over_types"], 0.85),
        _row("precision of the alarms, each of its type", ">= 0.80", _share(right, right + wrong), 0.80),
        _row("recall of the alarms, each of its type", ">= 0.85", _share(right, right + missed), 0.85),
        _row("AUROC over type and horizon, test-seen", ">= 0.92", ours["mean_auroc"], 0.92),
        _row(
            "AUROC over type and horizon, test-unseen",
            ">= 0.85",
            _ours(unseen)["mean_auroc"] if unseen else _value(None),
            0.85,
        ),
    ]
    for name, key, least in (
        ("balanced accuracy, successes only", "balanced_accuracy", 0.85),
        ("time-weighted accuracy, successes only", "time_weighted_accuracy", 0.75),
    ):
        value = alone["episode_alarms"][0][key] if alone else None
        rows.append(_row(name, f">= {least}", _value(value), least))
    rows.append(_lead_times({kind: events["lead_time_median_s"] for kind, events in by_type.items()}, 0.35))
    promised = promised_rates(
        alpha, found["calibration_successes_of_ours"], seen["episodes"] - seen["failures"]
    )
    kept = alarms["value"] is not None and promised[0] <= alarms["value"] <= promised[1]
    rows.append(
        f"| false alarms per success at alpha {alpha:g} | {promised[0]:.2f} to {promised[1]:.2f}, what a "
        f"calibration on {found['calibration_successes_of_ours']} successes promises | {_shown(alarms)} | "
        f"{'met' if kept else 'missed'} |"
    )
    if "alarms_per_hour_as_deployed" in ours:
        hourly = ours["alarms_per_hour_as_deployed"], ours["false_alarms_per_hour_as_deployed"]
        shown = "{}, {} of them false".format(*("–" if n is None else f"{n:.0f}" for n in hourly))
        rows.append(f"| alarms per hour in order, failures among the episodes | none set | {shown} | |")
    return "\n".join(["| number | aim | measured | |", "|---|---|---|---|", *rows])


def _lead_times(medians_s: dict[str, float | None], least_s: float) -> str:
    """The median over all types lies between those of the types: it is met for sure where each of them is."""
    met = [kind for kind, s in medians_s.items() if s is not None and s >= least_s - _EPSILON_S]
    verdict = f"met for {', '.join(met)} only" if met else "missed"
    if len(met) == len(medians_s):
        verdict = "met"
    shown = ", ".join(f"{kind} {_number(s)}" for kind, s in medians_s.items())
    return f"| median lead time of the foreseen, by type [s] | >= {least_s:g} | {shown} | {verdict} |"


def detectors(name: str, test: dict[str, Any]) -> str:
    """Every detector on one test set, ours first."""
    head = [
        f"**{name}**, every detector on the same episodes; the differences are ours minus that detector. In "
        "the event F1 an alarm of whatever type foresees an onset of any, since a rival's alarm names none. "
        f"The time-weighted accuracy is that of the first {_number(test['common_length_s'])} s of each "
        f"episode, which 95 % of the successes reach{_begun(test)}:",
        "",
        "| | AUROC | difference | event F1, any type | difference | time-weighted accuracy | difference "
        "| trials |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = {"ours": 0, "another seed": 1, "another setting": 2, "rival": 3, "sanity check": 4}
    shown = [d for d in test["detectors"] if d["kind"] != "another setting" or d["name"] == SUCCESSES_ONLY]
    rows = []
    for d in sorted(shown, key=lambda d: (order[d["kind"]], -(d["mean_auroc"]["value"] or 0.0))):
        behind = d["ours_minus_this"]
        ours = d["kind"] == "ours"
        cells = [
            _shown(d["mean_auroc"]),
            "" if ours else _shown(behind["mean_auroc"]),
            _number(d["events"]["f1"]),
            "" if ours else _shown(behind["event_f1"]),
            _number(d["episode_alarms"][0]["time_weighted_accuracy"]),
            "" if ours else _shown(behind["time_weighted_accuracy"]),
            "–" if d["kind"] in CHOSEN_BEFORE else str(d["trials_on_tune"]),
        ]
        rows.append(f"| {d['name']} | {' | '.join(cells)} |")
    return "\n".join([*head, *rows])


def _begun(test: dict[str, Any]) -> str:
    """Empty for figures of before it was counted."""
    count = test.get("failures_begun_within_common_length")
    return "" if count is None else f"; {count} of {test['failures']} failures had begun by then"


def by_type(name: str, test: dict[str, Any]) -> str:
    """AUROC per type and horizon, and the alarms of that type at their deployed threshold."""
    ours = _ours(test)
    horizons = sorted({s["horizon_s"] for s in ours["steps"]})
    rows = [
        f"**{name}**, SALUS by type: AUROC by horizon, and alarms of a type against onsets of that type:",
        "",
        "| AUROC | " + " | ".join(f"{h:g} s" for h in horizons) + " | foreseen | precision | lead time [s] |",
        "|---" * (len(horizons) + 4) + "|",
    ]
    for kind, events in ours["events_by_type"].items():
        cells = [s["auroc"]["value"] for s in ours["steps"] if s["type"] == kind]
        onsets = events["true_positives"] + events["misses"]
        rows.append(
            f"| {kind} | {' | '.join(map(_number, cells))} | {events['true_positives']} of {onsets} "
            f"| {_number(events['precision'])} | {_number(events['lead_time_median_s'])} |"
        )
    return "\n".join(rows)


def timeouts(name: str, test: dict[str, Any]) -> str:
    """How early it shows which episodes will run out of time, and what the gate would have been told."""
    late = _ours(test)["timeouts"]
    looks = late["looks"]
    rows = [
        f"**{name}**, time-outs: {late['timed_out']} of {late['episodes']} episodes ran out of time. One "
        "probability an episode, after shares of the common length of "
        f"{_number(test['common_length_s'])} s; one number for all, the share of time-outs, has a Brier "
        f"score of {looks[0]['brier_of_rate']:.3f}:",
        "",
        "| | " + " | ".join(f"{100 * look['share_of_common_length']:g} %" for look in looks) + " |",
        "|---" * (len(looks) + 1) + "|",
        *(
            f"| {what} | " + " | ".join(_shown(look[key]) for look in looks) + " |"
            for what, key in (
                ("AUROC of the highest so far", "auroc"),
                ("AUROC of the newest", "auroc_now"),
                ("Brier score of the newest", "brier"),
            )
        ),
        "",
        f"| foreseen, from a probability of {late['threshold']:g} on as the gate is set | precision | recall "
        "| false alarms | lead time [s] |",
        "|---|---|---|---|---|",
    ]
    for what, key in (
        ("in whole episodes", "as_deployed"),
        ("within the common length", "as_deployed_within_common_length"),
    ):
        told = late[key]
        cells = [_shown(told[number]) for number in ("precision", "recall", "false_alarm_rate")]
        rows.append(f"| {what} | {' | '.join(cells)} | {_number(told['lead_time_median_s'])} |")
    return "\n".join(rows)


def ablations(ours: dict[str, Any], ablated: list[dict[str, Any]]) -> str:
    """What each change cost."""
    rows = [
        "| changed | AUROC | ours minus this | event F1, any type |",
        "|---|---|---|---|",
        f"| nothing | {_shown(ours['mean_auroc'])} | | {_number(ours['events']['f1'])} |",
    ]
    for d in ablated:
        name = d["name"].removeprefix(f"{OURS}, ")
        if (d["mean_auroc"], d["events"]) == (ours["mean_auroc"], ours["events"]):
            name += " (what ours has)"
        behind = _shown(d["ours_minus_this"]["mean_auroc"])
        rows.append(f"| {name} | {_shown(d['mean_auroc'])} | {behind} | {_number(d['events']['f1'])} |")
    return "\n".join(rows)


def outside(found: dict[str, Any]) -> str:
    """In how many episodes the input was said to lie outside the training data."""
    rows = ["| episodes | said to lie outside the training data at some moment |", "|---|---|"]
    drawn = {SEEN: "as in training", UNSEEN: "a task and disturbances never seen"}
    for name, test in found["tests"].items():
        told = test["outside_training_data"]["episodes"], test["outside_training_data"]["of"]
        rate = clopper_pearson(*told)
        rows.append(
            f"| {name}, {drawn[name]} | {told[0]} of {told[1]}: {100 * rate.value:.1f} % "
            f"({100 * rate.low:.1f} to {100 * rate.high:.1f}) |"
        )
    return "\n".join([*rows, "", f"`{found['command']}`, started {found['started']}."])


def _ours(test: dict[str, Any]) -> dict[str, Any]:
    ours: dict[str, Any] = test["detectors"][0]
    return ours


def _row(name: str, aim: str, estimate: dict[str, Any], least: float) -> str:
    value, low = estimate["value"], estimate["low"]
    if value is None:
        verdict = "not measured"
    elif value < least:
        verdict = "missed"
    else:
        verdict = "met" if low is None or low >= least else "met, not by the interval"
    return f"| {name} | {aim} | {_shown(estimate)} | {verdict} |"


def _share(part: int, whole: int) -> dict[str, float | None]:
    return _value(part / whole if whole else None)


def _value(value: float | None) -> dict[str, float | None]:
    return {"value": value, "low": None, "high": None}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _shown(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    if estimate["low"] is None:
        return _number(estimate["value"])
    return f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"
