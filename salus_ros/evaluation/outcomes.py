"""What came of one episode: outcome, failures, interventions, lead times. All from its recorded streams."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus_ros.data.episode import Episode, InterventionStream, Outcome, PredictionStream
from salus_ros.evaluation.events import NO_EVENTS, EventCounts, episode_events, rising_edges, total
from salus_ros.types import Cause, EventKind, FailureType, Mode

FORESIGHT_CAUSES = frozenset(
    {
        Cause.RISK,
        Cause.FORESEEN_COLLISION,
        Cause.FORESEEN_DROP,
        Cause.FORESEEN_MISS,
        Cause.FORESEEN_TIMEOUT,
        Cause.OUT_OF_DISTRIBUTION,
    }
)
"""Interventions with one of these causes come from learned risk; others from facts or persons."""

ALARM_CAUSES = FORESIGHT_CAUSES - {Cause.RISK, Cause.FORESEEN_TIMEOUT}
"""Those that an alarm about the next half second leads to."""

INTERVENING = tuple(mode for mode in Mode if mode > Mode.NOMINAL)
ASKS_FOR_A_PERSON = frozenset({Mode.ASSIST, Mode.EMERGENCY_STOP})


class Result(enum.Enum):
    """One word for an episode: success, or what went wrong first."""

    SUCCESS = "success"
    COLLISION = "collision"
    DROP = "drop"
    MISS = "miss"
    TIMEOUT = "timeout"
    ASSIST = "asked for a person"
    EMERGENCY_STOP = "emergency stop"
    LOST = "lost"
    FAILURE = "other failure"
    UNKNOWN = "unknown"


_OF_TYPE = {
    FailureType.COLLISION: Result.COLLISION,
    FailureType.DROP: Result.DROP,
    FailureType.MISS: Result.MISS,
}
_OF_OUTCOME = {
    Outcome.TIMEOUT: Result.TIMEOUT,
    Outcome.ASSIST: Result.ASSIST,
    Outcome.EMERGENCY_STOP: Result.EMERGENCY_STOP,
    Outcome.LOST: Result.LOST,
    Outcome.FAILURE: Result.FAILURE,
    Outcome.UNKNOWN: Result.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Onset:
    """A failure beginning."""

    time_s: float
    type: FailureType


@dataclass(frozen=True, slots=True)
class Intervention:
    """One stretch of time in which the gate did not simply follow the policy."""

    start_s: float
    end_s: float
    highest_mode: Mode
    causes: frozenset[Cause]

    @property
    def from_foresight(self) -> bool:
        """True when learned risk had a part in it."""
        return bool(self.causes & FORESIGHT_CAUSES)


@dataclass(frozen=True, slots=True)
class EpisodeSummary:
    """One episode in numbers. Times are seconds on the episode's own clock."""

    seed: int
    task: str
    disturbance: str
    result: Result
    timed_out: bool
    """It ran out of time, whatever had gone wrong before."""
    onsets: tuple[Onset, ...]
    start_s: float
    end_s: float
    completion_time_s: float
    """From the start to the success; nan without one."""
    interventions: tuple[Intervention, ...]
    mode_entries: Mapping[Mode, int]
    """How often each mode above ``NOMINAL`` was entered."""
    human_requests: int
    """Entries into ``ASSIST`` or ``EMERGENCY_STOP``, which only a person ends."""
    events: Mapping[FailureType, EventCounts]
    """Alarms against onsets; all zero when no monitor ran."""
    monitored: bool
    """Whether there are predictions at all."""

    @property
    def success(self) -> bool:
        """The task was finished, and no person was needed."""
        return self.result is Result.SUCCESS

    @property
    def intervention_time_s(self) -> float:
        """How long the gate did not simply follow the policy."""
        return sum(i.end_s - i.start_s for i in self.interventions)

    @property
    def all_events(self) -> EventCounts:
        """The counts of all failure types together."""
        return total(self.events.values())

    def had(self, failure: FailureType) -> bool:
        """Whether a failure of this type began, whatever came of it."""
        return any(onset.type is failure for onset in self.onsets)


def summarise(episode: Episode) -> EpisodeSummary:
    """All numbers of one episode."""
    onsets = onsets_of(episode)
    start_s, end_s = span_s(episode)
    return EpisodeSummary(
        seed=episode.meta.seed,
        task=episode.meta.task,
        disturbance=episode.meta.disturbance,
        result=result_of(episode),
        timed_out=episode.meta.outcome is Outcome.TIMEOUT,
        onsets=onsets,
        start_s=start_s,
        end_s=end_s,
        completion_time_s=_completion_time_s(episode, start_s),
        interventions=interventions_of(episode.interventions),
        mode_entries=mode_entries(episode.interventions),
        human_requests=sum(
            n for m, n in mode_entries(episode.interventions).items() if m in ASKS_FOR_A_PERSON
        ),
        events=event_counts(episode.predictions, onsets),
        monitored=len(episode.predictions) > 0,
    )


def onsets_of(episode: Episode) -> tuple[Onset, ...]:
    """Ground truth: every failure that began, in order of time."""
    found = [
        Onset(event.stamp_s, event.failure)
        for event in episode.events
        if event.kind is EventKind.FAILURE_ONSET and event.failure is not None
    ]
    return tuple(sorted(found, key=lambda onset: onset.time_s))


def result_of(episode: Episode) -> Result:
    """Success, else the type of the first failure, else how the episode ended.

    The simulated person never helps: an episode that the gate handed over has failed.
    """
    if episode.meta.outcome is Outcome.SUCCESS:
        return Result.SUCCESS
    onsets = onsets_of(episode)
    return _OF_TYPE[onsets[0].type] if onsets else _OF_OUTCOME[episode.meta.outcome]


def span_s(episode: Episode) -> tuple[float, float]:
    """First and last moment that anything is known about."""
    stamps = [stream.stamp_s for stream in episode.streams().values() if len(stream)]
    times = [float(edge) for stamp in stamps for edge in (stamp[0], stamp[-1])]
    times += [event.stamp_s for event in episode.events]
    starts = [event.stamp_s for event in episode.events if event.kind is EventKind.EPISODE_START]
    start_s = starts[0] if starts else min(times, default=0.0)
    end_s = episode.meta.end_s if np.isfinite(episode.meta.end_s) else max(times, default=start_s)
    return start_s, max(end_s, start_s)


def alarm_of_type(predictions: PredictionStream, failure: FailureType) -> NDArray[np.bool_]:
    """(N,) whether the probability at the longest horizon has reached its type's threshold."""
    return np.asarray(
        predictions.probability[:, failure, -1] >= predictions.threshold[:, failure], dtype=bool
    )


def event_counts(predictions: PredictionStream, onsets: tuple[Onset, ...]) -> dict[FailureType, EventCounts]:
    """Alarms against onsets by type, as ``evaluation.events`` says."""
    if not len(predictions):
        return dict.fromkeys(FailureType, NO_EVENTS)
    began = [(onset.time_s, onset.type) for onset in onsets]
    return {
        failure: episode_events(
            rising_edges(predictions.stamp_s, alarm_of_type(predictions, failure)), began, failure
        )
        for failure in FailureType
    }


def interventions_of(stream: InterventionStream) -> tuple[Intervention, ...]:
    """Stretches above ``NOMINAL``, from the first time that the arm was in normal running."""
    intervening = stream.mode > Mode.NOMINAL
    running = np.flatnonzero(stream.mode == Mode.NOMINAL)
    if not running.size:
        return ()
    intervening[: running[0]] = False
    edges = np.diff(np.concatenate([[False], intervening, [False]]).astype(np.int8))
    found = []
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        found.append(
            Intervention(
                start_s=float(stream.stamp_s[start]),
                end_s=float(stream.stamp_s[min(stop, len(stream) - 1)]),
                highest_mode=Mode(int(stream.mode[start:stop].max())),
                causes=frozenset(Cause(int(cause)) for cause in np.unique(stream.cause[start:stop])),
            )
        )
    return tuple(found)


def mode_entries(stream: InterventionStream) -> dict[Mode, int]:
    """How often each mode above ``NOMINAL`` was entered, from the first normal running on."""
    running = np.flatnonzero(stream.mode == Mode.NOMINAL)
    modes = stream.mode[running[0] :] if running.size else stream.mode[:0]
    entered = modes[1:][np.diff(modes) != 0] if modes.size else modes
    counted = Counter(Mode(int(mode)) for mode in entered)
    return {mode: counted[mode] for mode in INTERVENING if counted[mode]}


def _completion_time_s(episode: Episode, start_s: float) -> float:
    reached: list[float] = [e.stamp_s for e in episode.events if e.kind is EventKind.SUCCESS]
    succeeded = episode.meta.outcome is Outcome.SUCCESS
    return reached[0] - start_s if succeeded and reached else float("nan")
