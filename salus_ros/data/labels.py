"""Labels of time steps, from the onsets of failures (``EpisodeEvent``).

The label of step t for type k and horizon h is 1 when an onset of k lies in (t, t + h]. Horizons count
in the path's nominal time: at half speed, 0.4 s of the path take 0.8 s. A window that reaches past the
end of the episode without an onset is censored, not negative. Steps from an onset on leave the data
until the episode is back in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus_ros.data.episode import Episode, InterventionStream
from salus_ros.types import HORIZONS_S, EpisodeEvent, EventKind, FailureType, Floats

RECOVERY_S: Final = 1.0
"""Time after an onset without another one until the episode counts as back in order: the length of
the monitor's window, so that no window reaches back over the onset."""

_EPSILON_S: Final = 1e-6
"""Stamps are sums of control periods; an onset exactly h ahead lies inside."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What happens after each of N steps, for each failure type and each of H horizons."""

    target: NDArray[np.bool_]
    """(N, failure types, H), an onset lies inside the horizon"""
    known: NDArray[np.bool_]
    """(N, failure types, H), False where the target was censored by the end of the episode"""
    in_order: NDArray[np.bool_]
    """(N,), False from an onset on, until the episode is back in order"""
    seconds_to_onset: Floats
    """(N, failure types), nominal time to the next onset, inf without one"""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(N, failure types, H), what may enter training and metrics."""
        return self.known & self.in_order[:, None, None]


def label_steps(
    times_s: ArrayLike,
    events: Iterable[EpisodeEvent],
    end_s: float,
    horizons_s: tuple[float, ...] = HORIZONS_S,
    *,
    interventions: InterventionStream | None = None,
    recovery_s: float = RECOVERY_S,
) -> Labels:
    """Labels of the steps at ``times_s`` (N,), in any order.

    Args:
        times_s: (N,) times of the steps on the episode's time.
        events: the episode's events; those of other kinds than ``FAILURE_ONSET`` are not looked at.
        end_s: last moment that was observed.
        horizons_s: in nominal time.
        interventions: the gate's states, whose speed scale turns time into nominal time; without them
            the two are the same.
        recovery_s: time after an onset until the episode counts as back in order.
    """
    times = np.asarray(times_s, dtype=np.float64)
    onsets = [e for e in events if e.kind == EventKind.FAILURE_ONSET and e.failure is not None]
    nominal = nominal_time_s(times, interventions)
    nominal_end = float(nominal_time_s(np.array([end_s]), interventions)[0])

    to_onset = np.full((len(times), len(FailureType)), np.inf)
    for onset in sorted(onsets, key=lambda e: -e.stamp_s):
        before = times < onset.stamp_s - _EPSILON_S
        at = float(nominal_time_s(np.array([onset.stamp_s]), interventions)[0])
        assert onset.failure is not None
        to_onset[before, onset.failure] = at - nominal[before]

    horizons = np.asarray(horizons_s, dtype=np.float64)
    target = to_onset[:, :, None] <= horizons + _EPSILON_S
    observed = (nominal_end - nominal)[:, None, None] >= horizons - _EPSILON_S
    in_order = np.ones(len(times), dtype=bool)
    for onset in onsets:
        since = times - onset.stamp_s
        in_order &= ~((since >= -_EPSILON_S) & (since < recovery_s - _EPSILON_S))
    in_order &= times <= end_s + _EPSILON_S
    return Labels(target, target | observed, in_order, to_onset)


def episode_labels(
    episode: Episode, times_s: ArrayLike, horizons_s: tuple[float, ...] = HORIZONS_S
) -> Labels:
    """Labels of an episode's steps at ``times_s`` (N,), in nominal time."""
    return label_steps(
        times_s, episode.events, episode.meta.end_s, horizons_s, interventions=episode.interventions
    )


def nominal_time_s(times_s: ArrayLike, interventions: InterventionStream | None = None) -> Floats:
    """How far the path has come at each time (N,): the integral of the gate's speed scale.

    The scale of a state holds until the next one; before the first one and without any it is 1.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if interventions is None or len(interventions) == 0:
        return times
    stamps, scale = interventions.stamp_s, interventions.speed_scale
    at_stamps = stamps[0] + np.concatenate([[0.0], np.cumsum(np.diff(stamps) * scale[:-1])])
    index = np.searchsorted(stamps, times, side="right") - 1
    inside = index >= 0
    return np.where(inside, at_stamps[index] + (times - stamps[index]) * scale[index], times)
