"""What a store or a bag holds, and what is wrong with it, in figures for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from salus_ros.data.bags import BagSettings, read_bag
from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.types import EpisodeEvent, EventKind, FailureType

SAMPLE: Final = 12
"""Episodes of a store that are read when not all are, spread over it."""
GAP_FACTOR: Final = 5.0
"""A pause of so many usual periods is a gap."""
GAP_LEAST_S: Final = 0.1


@dataclass(slots=True)
class Summary:
    """Tables and problems, ready to be printed."""

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    outcomes: list[tuple[str, ...]] = field(default_factory=list)
    """Rows of task, disturbance, episodes, and one figure for each of ``OUTCOME_COLUMNS``."""
    streams: list[tuple[str, ...]] = field(default_factory=list)
    """Rows of name, rows, rate and shape of the widest array."""
    problems: list[str] = field(default_factory=list)


OUTCOME_COLUMNS: Final = ("success", "timeout", "other", "collision", "drop", "miss")


def summarise_store(path: Path, every: bool = False) -> Summary:
    """A store; reads a sample of its episodes, or all.

    Raises:
        SalusError: there is none, or one of another schema.
    """
    store = Store.open(path)
    records, settings = store.records(), store.settings
    summary = Summary(f"Store {path}")
    size_mb = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6
    chosen = range(len(store)) if every else spread(len(store))
    summary.facts = {
        "episodes": str(len(store)),
        "size": f"{size_mb:.1f} MB" + (f", {size_mb / len(store):.2f} MB an episode" if len(store) else ""),
        "time": f"{sum(r.meta.end_s for r in records) / 60:.1f} min",
        "seeds": ranges([r.meta.seed for r in records]),
        "policy": settings.policy_hash or "any",
        "robot": settings.robot or ", ".join(sorted({r.meta.robot for r in records} - {""})) or "unnamed",
        "mixture": settings.mixture or "not stated",
        "written by": f"salus_ros {settings.code_version or 'of unknown version'}",
        "read and checked": f"{len(chosen)} of {len(store)} episodes",
    }
    summary.outcomes = _outcome_rows((r.meta, r.events) for r in records)
    episodes = []
    for i in chosen:
        try:
            episodes.append(store.episode(i))
        except SalusError as error:
            summary.problems.append(str(error))
    summary.streams = _stream_rows(episodes)
    summary.problems += _problems(episodes)
    twice = [seed for seed, n in Counter(r.meta.seed for r in records).items() if n > 1 and seed >= 0]
    if twice:
        summary.problems.append(f"Seeds stored more than once: {ranges(twice)}.")
    if not len(store):
        summary.problems.append("It holds no episode.")
    return summary


def summarise_bag(path: Path, settings: BagSettings | None = None) -> Summary:
    """A bag, read as a whole.

    Raises:
        SalusError: there is none, or it is damaged.
    """
    episodes = read_bag(path, settings)
    summary = Summary(f"Bag {path}")
    files = path.rglob("*") if path.is_dir() else [path]
    summary.facts = {
        "episodes": str(len(episodes)),
        "size": f"{sum(f.stat().st_size for f in files if f.is_file()) / 1e6:.1f} MB",
        "time": f"{sum(e.meta.end_s for e in episodes) / 60:.1f} min in episodes",
        "seeds": ranges([e.meta.seed for e in episodes]),
        "joints": ", ".join(episodes[0].meta.joint_names) if episodes else "none",
        "policy": ", ".join(sorted({e.meta.policy_hash for e in episodes} - {""})) or "none",
    }
    summary.outcomes = _outcome_rows((e.meta, e.events) for e in episodes)
    summary.streams = _stream_rows(episodes)
    summary.problems = _problems(episodes)
    notes = dict(note for episode in episodes for note in episode.meta.notes.items())
    summary.problems += [f"{what}: {note}." for what, note in sorted(notes.items())]
    return summary


def spread(count: int) -> list[int]:
    """Which episodes are read when not all are."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, SAMPLE))}) if count else []


def ranges(numbers: Sequence[int]) -> str:
    """``0-9, 12``, shortened when there are many."""
    parts: list[list[int]] = []
    for n in sorted(set(numbers)):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in parts]
    return ", ".join(texts[:6]) + (", ..." if len(texts) > 6 else "") or "none"


def _outcome_rows(episodes: Iterable[tuple[EpisodeMeta, tuple[EpisodeEvent, ...]]]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str], Counter[str]] = {}
    for meta, events in episodes:
        counts = groups.setdefault((meta.task or "-", meta.disturbance or "none"), Counter())
        counts["episodes"] += 1
        known = meta.outcome in (Outcome.SUCCESS, Outcome.TIMEOUT)
        counts[meta.outcome.value if known else "other"] += 1
        for event in events:
            if event.kind == EventKind.FAILURE_ONSET and event.failure is not None:
                counts[FailureType(event.failure).name.lower()] += 1
    return [
        (*group, str(counts["episodes"]), *(str(counts[column]) for column in OUTCOME_COLUMNS))
        for group, counts in sorted(groups.items())
    ]


def _stream_rows(episodes: Sequence[Episode]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys(name for episode in episodes for name in episode.streams()):
        streams = [e.streams()[name] for e in episodes if name in e.streams() and len(e.streams()[name])]
        periods = np.concatenate([np.diff(s.stamp_s) for s in streams]) if streams else np.empty(0)
        rate = f"{1 / np.median(periods):.1f} Hz" if len(periods) and np.median(periods) > 0 else "-"
        widest = max(streams[0].arrays().items(), key=lambda item: item[1].nbytes) if streams else None
        shape = f"{widest[0]} {widest[1].shape[1:] or ''}".strip() if widest else "-"
        share = f"{len(streams)}/{len(episodes)}"
        rows.append((name, share, str(sum(map(len, streams))), rate, shape))
    return rows


def _problems(episodes: Sequence[Episode]) -> list[str]:
    """What is amiss in several episodes is said once."""
    found: dict[str, list[int]] = {}
    for i, episode in enumerate(episodes):
        for problem in _episode_problems(episode):
            found.setdefault(problem, []).append(episode.meta.seed if episode.meta.seed >= 0 else i)
    return [f"{problem} (seeds or numbers {ranges(where)})." for problem, where in found.items()]


def _episode_problems(episode: Episode) -> list[str]:
    problems = []
    if episode.meta.outcome is Outcome.UNKNOWN:
        problems.append("Outcome unknown: it cannot be used for training or evaluation")
    for name in ("robot", "policy"):
        if not len(episode.streams()[name]):
            problems.append(f"No {name} messages: the monitor has nothing to judge")
    if len(episode.policy) and np.isnan(episode.policy.epistemic).all():
        problems.append("No epistemic uncertainty: the policy is no ensemble")
    if len(episode.robot) and np.isnan(episode.robot.joint_effort_nm).all():
        problems.append("No joint efforts")
    for name, stream in episode.streams().items():
        periods = np.diff(stream.stamp_s)
        # Only what comes at a steady rate has gaps; commands and clouds may well pause.
        if name in ("robot", "policy") and len(periods) > 2:
            usual = float(np.median(periods))
            gaps = periods[periods > max(GAP_FACTOR * usual, GAP_LEAST_S)]
            if len(gaps):
                problems.append(f"Gaps in {name} (usually {usual:.3f} s apart)")
    return problems
