"""What a monitor is, in words for people: ``salus inspect``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from salus_ros.monitor.monitor import Monitor
from salus_ros.types import HORIZONS_S, FailureType


def facts_of(path: Path) -> dict[str, str]:
    """Load a monitor whole, as its node would, and describe it.

    Raises:
        SalusError: it is none, or of another version.
    """
    checkpoint = Monitor.load(path).checkpoint
    settings = checkpoint.settings
    families = Counter(name.partition(".")[0] for name in checkpoint.signals)
    weights = sum(value.size for member in checkpoint.members for value in member.values())
    thresholds = ", ".join(
        f"{kind.name} {threshold:.3f}"
        for kind, threshold in zip(FailureType, checkpoint.threshold, strict=True)
    )
    parts = checkpoint.report.get("episodes", {})
    return {
        "predictor": f"{checkpoint.kind}, {len(checkpoint.members)} members, {weights} weights",
        "foretells": f"{', '.join(kind.name for kind in FailureType)} within "
        f"{', '.join(f'{horizon:g}' for horizon in HORIZONS_S)} s, and a timeout",
        "alarm from": f"{thresholds} (within {HORIZONS_S[-1]:g} s)",
        "false alarms promised": f"{checkpoint.alpha:g} a successful episode",
        "outside its data from": f"a distance of {checkpoint.novelty.threshold:.3g}",
        "signals": f"{len(checkpoint.signals)}: "
        + ", ".join(f"{family} {count}" for family, count in families.items()),
        "window": f"{settings.window_steps} steps of {settings.period_s:g} s",
        "latents": "none" if checkpoint.latents is None else "compared with those of successes",
        "robot": str(settings.urdf),
        "policies": ", ".join(checkpoint.policy_hashes) or "not named",
        "data": checkpoint.data_hash,
        "episodes": ", ".join(f"{name} {count}" for name, count in parts.items()) or "not named",
        "seed": str(checkpoint.seed),
    }
