"""Whether what the gate did about a foreseen failure worked: did the attempt after it go well?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from salus_ros.evaluation.outcomes import ALARM_CAUSES, EpisodeSummary, Intervention, Result
from salus_ros.evaluation.statistics import Estimate, clopper_pearson
from salus_ros.types import Cause, FailureType, Mode

ATTEMPT_S: Final = 3.0
"""How long after the intervention an attempt is watched: a second grasp of the shipped policy takes two."""

FORESEEN: Final[Mapping[FailureType, Cause]] = {
    FailureType.COLLISION: Cause.FORESEEN_COLLISION,
    FailureType.DROP: Cause.FORESEEN_DROP,
    FailureType.MISS: Cause.FORESEEN_MISS,
}


def second_attempts(episodes: Sequence[EpisodeSummary], failure: FailureType) -> Estimate:
    """Share of the replans and stops for a foreseen failure after which the next attempt went well.

    It went well when no failure began from the start of the intervention until ``ATTEMPT_S`` after its end,
    no other was foreseen, and no person was called. nan where none was made.
    """
    tried = [(e, i) for e in episodes for i in e.interventions if _stopped_for(i, failure)]
    return clopper_pearson(sum(_went_well(e, i) for e, i in tried), len(tried))


def _stopped_for(intervention: Intervention, failure: FailureType) -> bool:
    return FORESEEN[failure] in intervention.causes and intervention.highest_mode >= Mode.REPLAN


def _went_well(episode: EpisodeSummary, intervention: Intervention) -> bool:
    until_s = intervention.end_s + ATTEMPT_S
    failed = any(intervention.start_s < onset.time_s <= until_s for onset in episode.onsets)
    again = any(
        bool(other.causes & ALARM_CAUSES)
        and other.highest_mode >= Mode.REPLAN
        and intervention.start_s < other.start_s <= until_s
        for other in episode.interventions
    )
    given_up = episode.result in (Result.ASSIST, Result.EMERGENCY_STOP) and episode.end_s <= until_s
    called = intervention.highest_mode in (Mode.ASSIST, Mode.EMERGENCY_STOP)
    return not (failed or again or given_up or called)
