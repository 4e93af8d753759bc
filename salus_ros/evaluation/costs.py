"""What interventions cost in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from salus_ros.evaluation.comparison import ArmSummary
from salus_ros.types import Mode


@dataclass(frozen=True, slots=True)
class Cost:
    """All interventions of one kind in one arm."""

    arm: str
    mode: Mode
    """The highest mode in them."""
    per_episode: float
    median_s: float
    """How long one lasts."""
    time_per_episode_s: float


def costs(summary: ArmSummary) -> list[Cost]:
    """One for each kind of intervention that occurred, in the order of the modes."""
    found = []
    for mode in Mode:
        lengths_s = [
            i.end_s - i.start_s for e in summary.episodes for i in e.interventions if i.highest_mode is mode
        ]
        if lengths_s:
            episodes = len(summary.episodes)
            per_episode = len(lengths_s) / episodes
            found.append(
                Cost(summary.name, mode, per_episode, float(np.median(lengths_s)), sum(lengths_s) / episodes)
            )
    return found
