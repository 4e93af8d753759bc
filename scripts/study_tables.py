"""The closed-loop study as Markdown, from the JSON that ``salus study`` wrote."""

from __future__ import annotations

import math
from typing import Any

Found = dict[str, Any]


def headline(found: Found) -> str:
    """What was promised, what was reached, and whether that is enough: one row a target."""
    salus, none = found["arms"]["salus"], found["arms"]["none"]
    against_none, against_random = _comparison(found, "none", "salus"), _comparison(found, "random", "salus")
    changes = against_none["failure_changes"]
    harm = found.get("harm_beyond_luck", {}).get("salus")
    share = found.get("share_of_oracle")
    enough = salus["success"]["value"] >= 0.85 or _at_least(share, 0.9)
    of_oracle = ""
    if share:
        saved = share["value"] is not None
        of_oracle = f"; {_percent(share)} of what the oracle saves" if saved else "; the oracle saves none"
    rows = [
        (
            "success",
            "85 % or more, or 90 % of what the oracle saves",
            f"{_percent(none['success'])} → {_percent(salus['success'])}{of_oracle}",
            enough,
        ),
        *(
            (
                name,
                f"{target:+.0%} or lower",
                _percent(changes[key], signed=True),
                _at_most(changes[key], target),
            )
            for name, key, target in (
                ("collisions", "collision", -0.9),
                ("drops", "drop", -0.65),
                ("all failures", "any", -0.65),
            )
        ),
    ]
    if against_random:
        better = against_random["success_difference"]
        met = better["low"] is not None and better["low"] > 0.0
        rows.append(("against random interventions", "above 0", _points(better), met))
    rows.append(("harm, luck included", "", _harm_beside_random(found), None))
    if harm:
        rows.append(("harm beyond luck", "2 % of seeds or less", _points(harm), _at_most(harm, 0.02)))
    requests = salus["human_requests_per_episode"]
    rows.append(("a person is asked, per episode", "0.3 or less", f"{requests:.2f}", requests <= 0.3))
    ratio = against_none["completion_time_ratio"]
    rows.append(("time to success", "1.5 times or less", _plain(ratio), _at_most(ratio, 1.5)))
    lines = ["| | target | reached (95 % interval) | met |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {target} | {reached} | {'' if met is None else 'yes' if met else 'no'} |"
        for what, target, reached, met in rows
    ]
    return "\n".join([*lines, "", _of_harm(found), "", _run(found)])


def section(found: Found) -> str:
    """Every arm in a row, then success by task and by disturbance."""
    lines = _arms(found)
    for group, title in (("by_task", "task"), ("by_disturbance", "disturbance")):
        lines += ["", *_groups(found, group, title)]
    lines += ["", *_second_attempts(found), *_onsets(found)]
    lines += ["", *(f"- `{name}`: {arm['meaning']}." for name, arm in found["arms"].items())]
    return "\n".join([*lines, "", _run(found)])


def brief(found: Found) -> str:
    """Every arm in a row, for a study that stands beside another one."""
    return "\n".join([*_arms(found), "", _run(found)])


def live(found: Found) -> str:
    """How far success on the ROS graph lies from that in one process, and what SALUS gains in each."""
    lines = [
        "The same seeds in one process and on the ROS graph, where time is real:",
        "",
        "| arm | in one process | on the ROS graph | difference | McNemar p |",
        "|---|---|---|---|---|",
    ]
    for name in ("none", "salus"):
        apart = _comparison(found, name, f"{name}-live")
        rates = (_percent(found["arms"][arm]["success"]) for arm in (name, f"{name}-live"))
        difference, p = _points(apart["success_difference"]), f"{apart['mcnemar_p']:.2g}"
        lines.append(f"| {name} | {' | '.join(rates)} | {difference} | {p} |")
    gains = (_comparison(found, *pair) for pair in (("none", "salus"), ("none-live", "salus-live")))
    gained = " | ".join(_points(gain["success_difference"]) for gain in gains)
    lines.append(f"| salus against none | {gained} | | |")
    return "\n".join([*lines, "", _run(found)])


def live_in_short(found: Found) -> str:
    """One sentence: success on the ROS graph beside that of the same seeds in one process."""
    rates = {arm: _percent(figures["success"]) for arm, figures in found["arms"].items()}
    seeds = found["arms"]["none"]["episodes"]
    return (
        "All of this in one process. On the ROS graph, in real time, with the simulator and all nodes on two "
        f"cores, success on {seeds} of these seeds is {rates['none-live']} without SALUS and "
        f"{rates['salus-live']} with it, as against {rates['none']} and {rates['salus']} in one process: "
        "[why](docs/results.md#on-the-ros-graph)."
    )


def _arms(found: Found) -> list[str]:
    lines = [
        "| arm | success | against none | McNemar p | collisions | drops | misses | any of them | "
        "timeouts | interventions | person asked | saved | harmed | harm beyond luck |",
        f"{'|---' * 14}|",
    ]
    for name, arm in found["arms"].items():
        compared = _comparison(found, "none", name)
        harm = found.get("harm_beyond_luck", {}).get(name)
        failures = arm["failures"]
        cells = (
            name,
            _percent(arm["success"]),
            _points(compared["success_difference"]) if compared else "",
            f"{compared['mcnemar_p']:.2g}" if compared else "",
            *(f"{failures[kind]['value']:.0%}" for kind in ("collision", "drop", "miss")),
            f"{arm['any_failure']['value']:.0%}",
            f"{arm['timeouts'] / arm['episodes']:.0%}",
            f"{arm['interventions_per_episode']:.2f}",
            f"{arm['human_requests_per_episode']:.2f}",
            str(len(compared["saved_seeds"])) if compared else "",
            _harm(compared) if compared else "",
            _points(harm) if harm else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", _of_harm(found)]


def _harm(compared: Found) -> str:
    """How many seeds are harmed, luck included, and which share that is."""
    return f"{len(compared['harmed_seeds'])}: {_tenths(compared['harm'])}"


def _harm_beside_random(found: Found) -> str:
    against_none = {name: _comparison(found, "none", name) for name in ("salus", "random", "none2")}
    said = f"{_harm(against_none['salus'])} of {against_none['salus']['pairs']} seeds"
    for name, words in (("random", "at random times"), ("none2", "other policy noise alone")):
        if against_none[name]:
            said += f"; {words} {_harm(against_none[name])}"
    return said


def _of_harm(found: Found) -> str:
    """What is counted, and what harm beyond luck cannot say."""
    said = "Harmed is a seed that succeeds in `none` and fails in the arm, saved the reverse."
    if "harm_beyond_luck" in found:
        said += (
            " Harm beyond luck is that share less the one of `none2`, whose policy noise is its own: an arm "
            "that begins with the noise of `none` harms fewer seeds and comes out below zero without any "
            "merit, so read it beside the harm itself."
        )
    return said


def _onsets(found: Found) -> list[str]:
    """How often each failure began, and of how many it was foreseen; empty for a study that did not count."""
    arms = {name: arm for name, arm in found["arms"].items() if "onsets" in arm}
    if not arms:
        return []
    kinds = ("collision", "drop", "miss")
    lines = ["", "| onsets, foreseen of them | collision | drop | miss |", "|---|---|---|---|"]
    for name, arm in arms.items():
        foreseen = (arm["foreseen"] or {}).get("by_type")
        cells = (
            f"{arm['onsets'][kind]}, {foreseen[kind]['foreseen']}" if foreseen else str(arm["onsets"][kind])
            for kind in kinds
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _groups(found: Found, group: str, title: str) -> list[str]:
    arms = found["arms"]
    names = sorted({name for arm in arms.values() for name in arm[group]})
    lines = [f"| {title} | seeds | {' | '.join(arms)} |", "|---" * (len(arms) + 2) + "|"]
    first = next(iter(arms.values()))
    for name in names:
        cells = [
            f"{arm[group][name]['success']['value']:.0%}" if name in arm[group] else ""
            for arm in arms.values()
        ]
        seeds = first[group].get(name, {}).get("episodes", "")
        lines.append(f"| {name} | {seeds} | {' | '.join(cells)} |")
    return lines


def _second_attempts(found: Found) -> list[str]:
    """After how many of the stops and replans for a foreseen failure the next attempt went well."""
    kinds = ("collision", "drop", "miss")
    lines = ["| the next attempt goes well after a foreseen | collision | drop | miss |", "|---|---|---|---|"]
    for name, arm in found["arms"].items():
        shares = [arm["second_attempts"][kind] for kind in kinds]
        if any(share["value"] is not None for share in shares):
            lines.append(f"| {name} | {' | '.join(_percent(share) for share in shares)} |")
    return lines if len(lines) > 2 else []


def _run(found: Found) -> str:
    manifest = found["manifest"]
    return (
        f"Seeds {manifest['seeds']}, policy `{manifest['policy']}`, monitor `{manifest['monitor']}`, "
        f"`{manifest['command']}`."
    )


def _comparison(found: Found, first: str, second: str) -> Found:
    for comparison in found["comparisons"]:
        if (comparison["first"], comparison["second"]) == (first, second):
            return dict(comparison)
    return {}


def _at_most(estimate: Found | None, target: float) -> bool:
    return bool(estimate) and estimate["value"] is not None and estimate["value"] <= target


def _at_least(estimate: Found | None, target: float) -> bool:
    return bool(estimate) and estimate["value"] is not None and estimate["value"] >= target


def _percent(estimate: Found, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return _interval(estimate, lambda value: f"{100 * value:{sign}.0f}", " %")


def _tenths(estimate: Found) -> str:
    return _interval(estimate, lambda value: f"{100 * value:.1f}", " %")


def _points(estimate: Found) -> str:
    return _interval(estimate, lambda value: f"{100 * value:+.1f}", " points")


def _plain(estimate: Found) -> str:
    return _interval(estimate, lambda value: f"{value:.2f}", "")


def _interval(estimate: Found, write: Any, unit: str) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "not available"
    if low is None or math.isnan(low):
        return f"{write(value)}{unit}".replace("-", "−")
    return f"{write(value)}{unit} ({write(low)} to {write(high)})".replace("-", "−")
