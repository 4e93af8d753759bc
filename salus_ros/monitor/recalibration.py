"""Thresholds from one's own successful episodes, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from salus_ros.errors import SalusError
from salus_ros.monitor.calibration import alarm_thresholds, needed_episodes
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.scoring import novelty_threshold, score, success_maxima


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A checkpoint with new thresholds, and what they rest on."""

    checkpoint: Checkpoint
    episodes: int
    alarmed_before: int
    """How many of the episodes the old thresholds would have alarmed in."""


def recalibrate(checkpoint: Checkpoint, successes: Sequence[Sample], alpha: float) -> Recalibrated:
    """Alarm and novelty thresholds that a further success exceeds with probability ``alpha`` at most.

    Args:
        checkpoint: trained; weights and probabilities stay as they are.
        successes: episodes of the robot at hand that went well, replayed with the checkpoint's settings.
        alpha: false alarms per successful episode.

    Raises:
        SalusError: too few episodes for ``alpha``.
    """
    if len(successes) < needed_episodes(alpha):
        raise SalusError(
            f"{len(successes)} successful episodes were given; a false-alarm rate of {alpha:g} needs "
            f"{needed_episodes(alpha)} or more: record more, or raise --alpha."
        )
    scored = score(checkpoint, successes)
    maxima = success_maxima(checkpoint, scored)
    report = {
        **checkpoint.report,
        "recalibrated": {"episodes": len(successes), "alpha": alpha, "was": checkpoint.threshold.tolist()},
    }
    return Recalibrated(
        replace(
            checkpoint,
            threshold=alarm_thresholds(checkpoint.usual, maxima, alpha),
            alpha=alpha,
            novelty=replace(checkpoint.novelty, threshold=novelty_threshold(scored, alpha)),
            novelty_alpha=alpha,
            report=report,
        ),
        len(successes),
        int((maxima >= checkpoint.threshold).any(axis=1).sum()),
    )
