"""Arms of a study on paired seeds: what each came to, and what lies between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from salus_ros.data.episode import Episode
from salus_ros.errors import SalusError
from salus_ros.evaluation.events import EventCounts, total
from salus_ros.evaluation.outcomes import EpisodeSummary, Result, summarise
from salus_ros.evaluation.statistics import Estimate, bootstrap, clopper_pearson, mcnemar, paired_difference
from salus_ros.types import FailureType, Floats


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of running the robot, and the episodes that came of it."""

    name: str
    episodes: tuple[Episode, ...]
    latency_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What was measured while it ran: a name, e.g. ``Prediction to command``, to samples in milliseconds."""


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm in numbers, one episode a seed."""

    name: str
    episodes: tuple[EpisodeSummary, ...]

    @property
    def success_rate(self) -> Estimate:
        """Share of episodes that succeeded without a person."""
        return clopper_pearson(sum(e.success for e in self.episodes), len(self.episodes))

    @property
    def results(self) -> Counter[Result]:
        """How many episodes ended in each result."""
        return Counter(e.result for e in self.episodes)

    @property
    def events(self) -> EventCounts:
        """Alarms against onsets, all types and episodes together."""
        return total(e.all_events for e in self.episodes)

    @property
    def monitored(self) -> bool:
        """Whether a monitor ran."""
        return any(e.monitored for e in self.episodes)

    def had(self, failure: FailureType) -> int:
        """Episodes in which a failure of this type began."""
        return sum(e.had(failure) for e in self.episodes)

    def per_episode(self, what: str) -> Floats:
        """(N,) one number an episode: ``interventions``, ``intervention_time_s``, ``human_requests`` or
        ``completion_time_s``."""
        values = [
            len(e.interventions) if what == "interventions" else getattr(e, what) for e in self.episodes
        ]
        return np.array(values, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms on the same seeds."""

    success_difference: Estimate
    mcnemar_p: float
    saved_seeds: tuple[int, ...]
    """Failures of the first arm that succeed in the second."""
    harmed_seeds: tuple[int, ...]
    """Successes of the first arm that fail in the second. Luck alone flips some."""
    pairs: int

    @property
    def harm(self) -> Estimate:
        """Share of the pairs that were harmed."""
        return clopper_pearson(len(self.harmed_seeds), self.pairs)


def summarise_arm(arm: Arm) -> ArmSummary:
    """Numbers of one arm, in the order of its seeds.

    Raises:
        SalusError: a seed appears twice.
    """
    episodes = tuple(sorted((summarise(episode) for episode in arm.episodes), key=lambda e: e.seed))
    twice = [seed for seed, n in Counter(e.seed for e in episodes).items() if n > 1]
    if twice:
        raise SalusError(
            f"Arm {arm.name!r} has several episodes of seed {twice[0]}; give one episode a seed."
        )
    return ArmSummary(arm.name, episodes)


def paired(first: ArmSummary, second: ArmSummary) -> tuple[tuple[EpisodeSummary, EpisodeSummary], ...]:
    """The episodes of both arms seed by seed; seeds that only one arm has are left out."""
    of_seed = {episode.seed: episode for episode in second.episodes}
    return tuple((e, of_seed[e.seed]) for e in first.episodes if e.seed in of_seed)


def compare(first: ArmSummary, second: ArmSummary) -> Comparison:
    """What the second arm gains and loses against the first."""
    pairs = paired(first, second)
    saved = tuple(a.seed for a, b in pairs if b.success and not a.success)
    harmed = tuple(a.seed for a, b in pairs if a.success and not b.success)
    return Comparison(
        success_difference=paired_difference([a.success for a, _ in pairs], [b.success for _, b in pairs]),
        mcnemar_p=mcnemar(len(saved), len(harmed)),
        saved_seeds=saved,
        harmed_seeds=harmed,
        pairs=len(pairs),
    )


def harm_beyond_luck(none: ArmSummary, salus: ArmSummary, second_none: ArmSummary) -> Estimate:
    """Harm of SALUS minus the harm that other policy noise alone does, as a share of the seeds, paired."""
    salus_pairs = {a.seed: a.success and not b.success for a, b in paired(none, salus)}
    luck_pairs = {a.seed: a.success and not b.success for a, b in paired(none, second_none)}
    seeds: Sequence[int] = [seed for seed in salus_pairs if seed in luck_pairs]
    return paired_difference([luck_pairs[s] for s in seeds], [salus_pairs[s] for s in seeds])


def share_of_gain(none: ArmSummary, best: ArmSummary, ours: ArmSummary) -> Estimate:
    """What share of the success that ``best`` gains over ``none`` is gained by ``ours``; paired bootstrap.

    nan where ``best`` gains nothing.
    """
    of_none, of_ours = ({e.seed: e.success for e in arm.episodes} for arm in (none, ours))
    rows = [
        (of_none[e.seed], e.success, of_ours[e.seed])
        for e in best.episodes
        if e.seed in of_none and e.seed in of_ours
    ]
    before, bound, after = np.array(rows, dtype=np.float64).reshape(-1, 3).T

    def share(weights: Floats) -> Floats:
        possible = weights @ (bound - before)
        return np.where(possible > 0.0, (weights @ (after - before)) / np.maximum(possible, 1e-12), np.nan)

    return bootstrap(share, len(rows))
