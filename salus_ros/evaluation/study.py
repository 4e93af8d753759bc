"""The closed loop on paired seeds: what is run, and what came of it in numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.evaluation.arms import ARMS, CONTROLS, LISTENS, LIVE, REMEDIES, Setup
from salus_ros.evaluation.comparison import ArmSummary, compare, harm_beyond_luck, paired, share_of_gain
from salus_ros.evaluation.events import total
from salus_ros.evaluation.outcomes import ALARM_CAUSES, FORESIGHT_CAUSES, EpisodeSummary, Result
from salus_ros.evaluation.second_attempts import second_attempts
from salus_ros.evaluation.statistics import (
    Estimate,
    clopper_pearson,
    median_ratio,
    paired_difference,
    relative_change,
)
from salus_ros.intervention.settings import GateSettings
from salus_ros.placebo import PlaceboSettings
from salus_ros.types import Cause, FailureType, Mode

STREAMS = ("predictions", "interventions")
"""What the numbers need of an episode that is not drawn."""


def matched_placebo(salus: ArmSummary) -> PlaceboSettings:
    """A placebo that intervenes as often, and in the same kinds, as SALUS did on these seeds."""
    moving_s = sum(e.end_s - e.start_s for e in salus.episodes)
    foreseen = [i for e in salus.episodes for i in e.interventions if i.from_foresight]
    # One intervention may have several causes, one after another.
    slow = sum(i.causes & FORESIGHT_CAUSES == {Cause.RISK} for i in foreseen)
    late = sum(Cause.FORESEEN_TIMEOUT in i.causes for i in foreseen)
    stops = sum(Cause.FORESEEN_COLLISION in i.causes for i in foreseen)
    alarms = sum(bool(i.causes & ALARM_CAUSES) for i in foreseen)
    return PlaceboSettings(
        slow_rate_per_s=slow / max(moving_s, 1.0),
        alarm_rate_per_s=alarms / max(moving_s, 1.0),
        collision_share=stops / alarms if alarms else 0.3,
        timeout_rate_per_s=late / max(moving_s, 1.0),
    )


def identity(setup: Setup) -> dict[str, str]:
    """What the study ran, so that its numbers can be told from those of another one."""
    default = GateSettings().model_dump()
    changed = {name: value for name, value in setup.gate.model_dump().items() if value != default[name]}
    return {
        "policy": policy_hash(setup.policy),
        "monitor": monitor_digest(Path(setup.monitor)),
        "mixture": setup.mixture.describe(),
        "mixture_hash": setup.mixture.hash,
        "gate": json.dumps(changed, sort_keys=True),
    }


def describe(setup: Setup, arm: str) -> str:
    """What the episodes of an arm depend on, in one line; stores are told apart by it."""
    depends: dict[str, Any] = identity(setup) | {
        "gate": setup.gate.model_dump(),  # the defaults too, which another version may change
        "rollout": setup.rollout.model_dump(exclude={"record_frames"}),
    }
    if arm not in LISTENS:
        del depends["monitor"]
    if arm == "shuffled":
        depends["monitor"] = monitor_digest(Path(setup.shuffled))
    if arm == "random":
        depends["placebo"] = setup.placebo.model_dump()
    if arm in CONTROLS:
        depends["controls"] = setup.controls.model_dump()
    if arm in REMEDIES:
        depends["oracle"] = setup.oracle.model_dump(mode="json")
    return json.dumps(depends, sort_keys=True)


@lru_cache(maxsize=4)
def policy_hash(spec: str) -> str:
    """The policy's own hash over weights and configuration."""
    from salus_ros.policy.registry import load_policy

    return load_policy(spec).hash


def monitor_digest(path: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a monitor's file."""
    from salus_ros.monitor.checkpoint import FILE_NAME

    file = path / FILE_NAME if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def results(summaries: Mapping[str, ArmSummary]) -> dict[str, Any]:
    """All numbers of a study, ready for JSON: arms, and each pair of arms that a claim rests on."""
    pairs = [(first, second) for first in ("none", "random") for second in summaries if second != first]
    pairs += [(name, f"{name}-live") for name in ("none", "salus") if f"{name}-live" in summaries]
    pairs += [("none-live", "salus-live")]
    pairs = [pair for pair in dict.fromkeys(pairs) if set(pair) <= set(summaries)]
    found: dict[str, Any] = {
        "arms": {name: _arm(summary) for name, summary in summaries.items()},
        "comparisons": [comparison(summaries[first], summaries[second]) for first, second in pairs],
    }
    if {"none", "none2"} <= set(summaries):
        found["harm_beyond_luck"] = {
            name: _estimate(harm_beyond_luck(summaries["none"], summary, summaries["none2"]))
            for name, summary in summaries.items()
            if name not in ("none", "none2")
        }
    if {"none", "oracle", "salus"} <= set(summaries):
        found["share_of_oracle"] = _estimate(
            share_of_gain(summaries["none"], summaries["oracle"], summaries["salus"])
        )
    return found


def _arm(summary: ArmSummary) -> dict[str, Any]:
    episodes = summary.episodes
    count = len(episodes)
    times_s = summary.per_episode("completion_time_s")
    times_s = times_s[np.isfinite(times_s)]
    kinds = {m: sum(e.mode_entries.get(m, 0) for e in episodes) for m in Mode}
    return {
        "name": summary.name,
        "meaning": ARMS.get(summary.name, ""),
        "episodes": count,
        "success": _estimate(summary.success_rate),
        "results": {r.value: summary.results[r] for r in Result if summary.results[r]},
        "failures": {f.name.lower(): _estimate(clopper_pearson(summary.had(f), count)) for f in FailureType},
        "onsets": {f.name.lower(): sum(o.type is f for e in episodes for o in e.onsets) for f in FailureType},
        "any_failure": _estimate(clopper_pearson(sum(bool(e.onsets) for e in episodes), count)),
        "timeouts": sum(e.timed_out for e in episodes),
        "completion_time_median_s": float(np.median(times_s)) if times_s.size else None,
        "interventions_per_episode": float(summary.per_episode("interventions").mean()) if count else None,
        "intervention_time_per_episode_s": float(summary.per_episode("intervention_time_s").mean())
        if count
        else None,
        "mode_entries_per_episode": {m.name.lower(): n / count for m, n in kinds.items() if n},
        "human_requests_per_episode": float(summary.per_episode("human_requests").mean()) if count else None,
        "second_attempts": {f.name.lower(): _estimate(second_attempts(episodes, f)) for f in FailureType},
        "foreseen": _foreseen(summary) if summary.monitored else None,
        "by_task": _groups(episodes, lambda e: e.task),
        "by_disturbance": _groups(episodes, lambda e: e.disturbance or "undisturbed"),
    }


def _foreseen(summary: ArmSummary) -> dict[str, Any]:
    events = summary.events
    return {
        "foreseen": events.true_positives,
        "onsets": events.true_positives + events.misses,
        "false_alarms_per_episode": events.false_positives / max(len(summary.episodes), 1),
        "lead_time_median_s": float(events.median_lead_time_s) if events.lead_time_s else None,
        "by_type": {f.name.lower(): _foreseen_of(summary, f) for f in FailureType},
    }


def _foreseen_of(summary: ArmSummary, failure: FailureType) -> dict[str, int]:
    """Alarms of one type against onsets of that type."""
    events = total(e.events[failure] for e in summary.episodes)
    return {
        "foreseen": events.true_positives,
        "onsets": events.true_positives + events.misses,
        "false_alarms": events.false_positives,
    }


def _groups(
    episodes: Sequence[EpisodeSummary], group: Callable[[EpisodeSummary], str]
) -> dict[str, dict[str, Any]]:
    """Success and failures of the episodes by group, in alphabetical order."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({group(e) for e in episodes}):
        members = [e for e in episodes if group(e) == name]
        found[name] = {
            "episodes": len(members),
            "success": _estimate(clopper_pearson(sum(e.success for e in members), len(members))),
            "failures": {f.name.lower(): sum(e.had(f) for e in members) for f in FailureType},
        }
    return found


def comparison(first: ArmSummary, second: ArmSummary) -> dict[str, Any]:
    """All that is said about one arm against another, seed by seed."""
    compared = compare(first, second)
    pairs = paired(first, second)
    had = {f.name.lower(): ([a.had(f) for a, _ in pairs], [b.had(f) for _, b in pairs]) for f in FailureType}
    had["any"] = ([bool(a.onsets) for a, _ in pairs], [bool(b.onsets) for _, b in pairs])
    both = [(a.completion_time_s, b.completion_time_s) for a, b in pairs if a.success and b.success]
    return {
        "first": first.name,
        "second": second.name,
        "pairs": compared.pairs,
        "success_difference": _estimate(compared.success_difference),
        "mcnemar_p": compared.mcnemar_p,
        "saved_seeds": compared.saved_seeds,
        "harmed_seeds": compared.harmed_seeds,
        "harm": _estimate(compared.harm),
        "failure_differences": {
            name: _estimate(paired_difference(before, after)) for name, (before, after) in had.items()
        },
        "failure_changes": {
            name: _estimate(relative_change(before, after)) for name, (before, after) in had.items()
        },
        "human_requests_difference": _difference(pairs, lambda e: e.human_requests),
        "interventions_difference": _difference(pairs, lambda e: len(e.interventions)),
        "completion_time_ratio": _estimate(median_ratio(both)),
        "by_task": _grouped_differences(pairs, lambda e: e.task),
        "by_disturbance": _grouped_differences(pairs, lambda e: e.disturbance or "undisturbed"),
    }


Pairs = Sequence[tuple[EpisodeSummary, EpisodeSummary]]


def _difference(pairs: Pairs, what: Callable[[EpisodeSummary], float]) -> dict[str, float | None]:
    return _estimate(paired_difference([what(a) for a, _ in pairs], [what(b) for _, b in pairs]))


def _grouped_differences(
    pairs: Pairs, group: Callable[[EpisodeSummary], str]
) -> dict[str, dict[str, float | None]]:
    names = sorted({group(a) for a, _ in pairs})
    return {
        name: _difference([pair for pair in pairs if group(pair[0]) == name], lambda e: e.success)
        for name in names
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: float(v) if np.isfinite(v) else None for name, v in values.items()}


def parse_seeds(text: str) -> range:
    """``A:B`` as the seeds from A up to, not including, B.

    Raises:
        SalusError: anything else.
    """
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise SalusError(f"--seeds {text} was given; expected FIRST:END, e.g. 700000:700100 for a hundred.")
    return range(int(first), int(end))


def parse_arms(text: str) -> tuple[str, ...]:
    """Names separated by commas, in the order in which they are shown.

    Raises:
        SalusError: an arm that does not exist, or ``random`` without what it is matched to.
    """
    asked = [name.strip() for name in text.split(",") if name.strip()]
    known = [name for name in ARMS if name not in LIVE]
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise SalusError(
            f"--arms {text} was given; expected some of {', '.join(known)}, separated by commas."
        )
    if "random" in asked and "salus" not in asked:
        raise SalusError("--arms holds random, which intervenes as often as salus did; add salus.")
    return tuple(name for name in ARMS if name in asked)


def require_file(path: Path, what: str, remedy: str) -> None:
    """One sentence when something that all seeds need is not there."""
    if not path.exists():
        raise SalusError(f"There is no {what} at {path}; {remedy}.")
