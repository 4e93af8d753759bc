"""The closed loop on paired seeds: what each arm is, and what came of it in numbers."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from salus_ros.collection import FailedEpisode, Mixture
from salus_ros.data.episode import Episode
from salus_ros.errors import SalusError
from salus_ros.evaluation.comparison import ArmSummary, compare, harm_beyond_luck, paired
from salus_ros.evaluation.outcomes import Result
from salus_ros.evaluation.statistics import Estimate, clopper_pearson, paired_difference
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.settings import GateSettings
from salus_ros.placebo import PlaceboSettings, RandomTrigger
from salus_ros.types import FailureType, Mode, Observation, PolicyOutput

if TYPE_CHECKING:
    from salus_ros.monitor.monitor import Monitor
    from salus_ros.policy.base import Policy
    from salus_ros.rollout import RolloutSettings
    from salus_ros.sim.simulation import Simulation

ARMS = {
    "none": "the gate with learned risk off; the monitor is heard by nobody",
    "none2": "the same with other policy noise: what luck alone flips",
    "random": "as many interventions of each kind as salus made, at random times",
    "salus": "the gate with the monitor",
}
"""Name to meaning, in the order in which they are shown."""

OTHER_NOISE = 1_000_003
"""Added to the seed of the policy's noise in the second ``none``."""


class OtherNoise:
    """A policy whose noise has another seed; scene and disturbance stay those of the episode."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.name = policy.name
        self.hash = policy.hash
        self.action_period_s = policy.action_period_s

    def act(self, observation: Observation) -> PolicyOutput:
        """As the policy."""
        return self._policy.act(observation)

    def reset(self, seed: int | None = None) -> None:
        """As the policy, with another seed."""
        self._policy.reset(None if seed is None else seed + OTHER_NOISE)


def run_arm(
    arm: str,
    policy: str,
    monitor: str,
    mixture: Mixture,
    rollout: RolloutSettings,
    placebo: PlaceboSettings,
    seed: int,
) -> Episode | FailedEpisode:
    """One seed in one arm, in this process; a module's function, so that workers can be sent it.

    Raises:
        SalusError: what is missing or wrong for all seeds alike; other errors are returned.
    """
    import torch

    from salus_ros.rollout import run_episode

    torch.set_num_threads(1)
    try:
        simulation, acting, judge = _workplace(policy, monitor)
        meta = replace(mixture.draw(seed), arm=arm, random_interventions=False)
        settings = GateSettings(shadow_mode=arm in ("none", "none2"))
        gate = Gate(settings, simulation.arm_model)
        episode = run_episode(
            simulation,
            OtherNoise(acting) if arm == "none2" else acting,
            gate,
            RandomTrigger(seed, placebo) if arm == "random" else judge,
            meta,
            rollout,
        )
        # A mixture draws one of its families for each seed; the simulator knows which.
        drawn = replace(episode.meta, disturbance=simulation.scene.disturbance)
        return replace(episode, meta=drawn)
    except SalusError:
        raise
    except Exception as error:
        return FailedEpisode(seed, f"{type(error).__name__}: {error}", traceback.format_exc())


def matched_placebo(salus: ArmSummary) -> PlaceboSettings:
    """A placebo that intervenes as often, and in the same kinds, as SALUS did on these seeds."""
    moving_s = sum(e.end_s - e.start_s for e in salus.episodes)
    foreseen = [i for e in salus.episodes for i in e.interventions if i.from_foresight]
    slow = sum(i.highest_mode is Mode.SLOW_DOWN for i in foreseen)
    stops = sum(i.highest_mode is Mode.PROTECTIVE_STOP for i in foreseen)
    alarms = len(foreseen) - slow
    return PlaceboSettings(
        slow_rate_per_s=slow / max(moving_s, 1.0),
        alarm_rate_per_s=alarms / max(moving_s, 1.0),
        collision_share=stops / alarms if alarms else 0.3,
    )


def results(summaries: Mapping[str, ArmSummary]) -> dict[str, Any]:
    """All numbers of a study, ready for JSON: arms, and each pair of arms that a claim rests on."""
    pairs = [(first, second) for first in ("none", "random") for second in summaries if second != first]
    found: dict[str, Any] = {
        "arms": {name: _arm(summary) for name, summary in summaries.items()},
        "comparisons": [
            _comparison(summaries[first], summaries[second]) for first, second in pairs if first in summaries
        ],
    }
    if {"none", "none2", "salus"} <= set(summaries):
        beyond = harm_beyond_luck(summaries["none"], summaries["salus"], summaries["none2"])
        found["harm_beyond_luck"] = _estimate(beyond)
    return found


def _arm(summary: ArmSummary) -> dict[str, Any]:
    count = len(summary.episodes)
    times_s = summary.per_episode("completion_time_s")
    times_s = times_s[np.isfinite(times_s)]
    kinds = {m: sum(e.mode_entries.get(m, 0) for e in summary.episodes) for m in Mode}
    disturbances = sorted({e.disturbance for e in summary.episodes})
    return {
        "name": summary.name,
        "episodes": count,
        "success": _estimate(summary.success_rate),
        "results": {r.value: summary.results[r] for r in Result if summary.results[r]},
        "failures": {f.name.lower(): _estimate(clopper_pearson(summary.had(f), count)) for f in FailureType},
        "timeouts": sum(e.timed_out for e in summary.episodes),
        "completion_time_median_s": float(np.median(times_s)) if times_s.size else None,
        "interventions_per_episode": float(summary.per_episode("interventions").mean()) if count else None,
        "mode_entries_per_episode": {m.name.lower(): n / count for m, n in kinds.items() if n},
        "human_requests_per_episode": float(summary.per_episode("human_requests").mean()) if count else None,
        "success_by_disturbance": {
            d or "undisturbed": _estimate(
                clopper_pearson(
                    sum(e.success for e in summary.episodes if e.disturbance == d),
                    sum(e.disturbance == d for e in summary.episodes),
                )
            )
            for d in disturbances
        },
    }


def _comparison(first: ArmSummary, second: ArmSummary) -> dict[str, Any]:
    comparison = compare(first, second)
    pairs = paired(first, second)
    failures = {
        f.name.lower(): _estimate(
            paired_difference([a.had(f) for a, _ in pairs], [b.had(f) for _, b in pairs])
        )
        for f in FailureType
    }
    both = [(a.completion_time_s, b.completion_time_s) for a, b in pairs if a.success and b.success]
    return {
        "first": first.name,
        "second": second.name,
        "pairs": comparison.pairs,
        "success_difference": _estimate(comparison.success_difference),
        "mcnemar_p": comparison.mcnemar_p,
        "saved_seeds": comparison.saved_seeds,
        "harmed_seeds": comparison.harmed_seeds,
        "harm": _estimate(comparison.harm),
        "failure_differences": failures,
        "completion_time_ratio": float(np.median([b / a for a, b in both])) if both else None,
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
    unknown = [name for name in asked if name not in ARMS]
    if unknown or not asked:
        raise SalusError(f"--arms {text} was given; expected some of {', '.join(ARMS)}, separated by commas.")
    if "random" in asked and "salus" not in asked:
        raise SalusError("--arms holds random, which intervenes as often as salus did; add salus.")
    return tuple(name for name in ARMS if name in asked)


def require_file(path: Path, what: str, remedy: str) -> None:
    """One sentence when something that all seeds need is not there."""
    if not path.exists():
        raise SalusError(f"There is no {what} at {path}; {remedy}.")


@lru_cache(maxsize=1)
def _workplace(policy: str, monitor: str) -> tuple[Simulation, Policy, Monitor]:
    """Built once in each process."""
    from salus_ros.monitor.monitor import Monitor
    from salus_ros.policy.registry import load_policy
    from salus_ros.sim.simulation import Simulation

    return Simulation(), load_policy(policy), Monitor.load(monitor)


def light_streams() -> Sequence[str]:
    """What the table needs of an episode that is not drawn."""
    return ("predictions", "interventions")
