"""The report: one HTML file that opens offline, with nothing to fetch and nothing to install."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from salus_ros.data.episode import Episode
from salus_ros.evaluation.comparison import Arm, ArmSummary, compare, paired, summarise_arm
from salus_ros.evaluation.costs import costs
from salus_ros.evaluation.events import EARLIEST_S, LATEST_S, EventCounts, total
from salus_ros.evaluation.flow import flow
from salus_ros.evaluation.frames import QUALITIES
from salus_ros.evaluation.outcomes import EpisodeSummary, Result, summarise
from salus_ros.evaluation.statistics import FEW_EPISODES, median_ratio
from salus_ros.evaluation.table import caveats, in_arm, percent, percent_interval, points, summary_table
from salus_ros.evaluation.timeline import Timeline, timeline
from salus_ros.types import FailureType, Mode

LARGEST_BYTES = 10_000_000
"""A report that is larger is no longer sent by mail or opened on a phone."""
SEEDS_IN_DETAIL = 20
"""More seeds than these appear in the grid only, unless they were harmed."""
SAVED_IN_DETAIL = 10
ARMS_IN_DETAIL = 3
"""With more arms than these only the first and the last are drawn."""
SEEDS_AT_FULL_SIZE = 40
SEEDS_A_ROW = 20
SEEDS_A_COMPACT_ROW = 50

GLYPHS = {
    Result.SUCCESS: "✓",
    Result.COLLISION: "C",
    Result.DROP: "D",
    Result.MISS: "M",
    Result.TIMEOUT: "T",
    Result.ASSIST: "A",
    Result.EMERGENCY_STOP: "E",
    Result.LOST: "L",
    Result.FAILURE: "F",
    Result.UNKNOWN: "?",
}


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a reader needs in order to repeat the run. The caller gathers it: nothing here reads a clock."""

    title: str
    command: str = ""
    started: str = ""
    """Date and time, as it shall be read."""
    hardware: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Name to version or hash: code, policy, monitor, libraries."""
    notes: tuple[str, ...] = ()
    """Sentences to stand under the table."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One episode in the grid of outcomes."""

    result: Result
    glyph: str
    title: str


@dataclass(frozen=True, slots=True)
class PairedSeed:
    """One seed in every arm."""

    seed: int
    about: str
    verdict: str
    """``saved``, ``harmed``, or empty."""
    cells: tuple[Cell | None, ...]
    timelines: tuple[tuple[str, Timeline | None], ...]
    """(arm, timeline) of the arms in detail; empty when the seed is shown in the grid only."""


@dataclass(frozen=True, slots=True)
class LeadTimes:
    """When the failures of one type were foreseen, in one arm."""

    arm: str
    failure: str
    counts: EventCounts


def write_report(path: Path | str, arms: Sequence[Arm], facts: RunFacts) -> None:
    """Write the report; an existing one is replaced in one step, or stays as it was.

    Args:
        arms: in the order of the table; the first is what the others are compared with.
    """
    for edge_px, quality in QUALITIES:
        html = render(arms, facts, edge_px, quality)
        if len(html.encode()) <= LARGEST_BYTES:
            break
    replace_file(Path(path), html)


def render(arms: Sequence[Arm], facts: RunFacts, edge_px: int, quality: int) -> str:
    """The report as text, with camera frames of the given size and WebP quality."""
    summaries = [summarise_arm(arm) for arm in arms]
    seeds = _paired_seeds(arms, summaries, edge_px, quality)
    in_order = sorted(seeds, key=lambda s: s.seed)
    block = SEEDS_A_ROW if len(in_order) <= SEEDS_AT_FULL_SIZE else SEEDS_A_COMPACT_ROW
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            facts=facts,
            summaries=summaries,
            arm_names=[s.name for s in summaries],
            headline=_headline(summaries),
            rates=[
                (s.name, percent(s.success_rate), s.success_rate, percent_interval(s.success_rate))
                for s in summaries
            ],
            rows=summary_table(arms),
            caveats=caveats(summaries),
            few=any(len(s.episodes) < FEW_EPISODES for s in summaries),
            seeds=in_order,
            blocks=[in_order[i : i + block] for i in range(0, len(in_order), block)],
            compact=len(in_order) > SEEDS_AT_FULL_SIZE,
            glyphs=GLYPHS,
            flow=flow(summaries[0], summaries[-1]) if len(summaries) > 1 else None,
            costs=[cost for summary in summaries for cost in costs(summary)],
            time_ratios=[_time_ratio(summaries[0], other) for other in summaries[1:]],
            detailed=[seed for seed in seeds if seed.timelines],
            lead_times=_lead_times(summaries),
            window=(LATEST_S, EARLIEST_S),
            results=[(r, GLYPHS[r]) for r in Result if any(s.results[r] for s in summaries)],
            modes=[m.name.lower() for m in Mode if m not in (Mode.NOMINAL, Mode.INACTIVE)],
            failures=[f.name.lower() for f in FailureType],
            seeds_in_detail=SEEDS_IN_DETAIL,
        )
    )


def environment() -> Environment:
    """Where the templates are, and the filters that they use."""
    made = Environment(
        loader=PackageLoader("salus_ros.evaluation"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["pc"] = lambda share: f"{100.0 * share:.2f}".rstrip("0").rstrip(".") + "%"
    made.filters["kind"] = lambda member: member.name.lower()
    made.filters["compact_json"] = lambda value: json.dumps(value, separators=(",", ":"))
    return made


def _headline(summaries: Sequence[ArmSummary]) -> str:
    """One sentence that the numbers carry."""
    if not summaries or not summaries[0].episodes:
        return "No episodes."
    first = summaries[0]
    said = f"{first.results[Result.SUCCESS]} of {len(first.episodes)} episodes succeed {in_arm(first.name)}"
    for other in summaries[1:]:
        said += f", {other.results[Result.SUCCESS]} of {len(other.episodes)} {in_arm(other.name)}"
    if len(summaries) == 2:
        said += f": {points(compare(first, summaries[1]).success_difference)}"
    return said + "."


def _paired_seeds(
    arms: Sequence[Arm], summaries: Sequence[ArmSummary], edge_px: int, quality: int
) -> list[PairedSeed]:
    """All seeds, those in detail first: saved, harmed, failed in all, the rest."""
    shown = arms_in_detail([arm.name for arm in arms])
    episodes: dict[str, dict[int, Episode]] = {
        arm.name: {e.meta.seed: e for e in arm.episodes} for arm in arms if arm.name in shown
    }
    of_seed = [{e.seed: e for e in summary.episodes} for summary in summaries]
    detailed = seeds_in_detail(summaries)
    others = sorted({seed for arm in of_seed for seed in arm} - set(detailed))
    seeds = []
    for seed in (*detailed, *others):
        first = next(arm[seed] for arm in of_seed if seed in arm)
        about = ", ".join(part for part in (first.task, first.disturbance or "undisturbed") if part)
        drawn: tuple[tuple[str, Timeline | None], ...] = ()
        if seed in detailed:
            length_s = axis_length_s([arm[seed] for arm in episodes.values() if seed in arm])
            drawn = tuple(
                (name, timeline(by_seed[seed], length_s, edge_px, quality) if seed in by_seed else None)
                for name, by_seed in episodes.items()
            )
        cells = tuple(_cell(arm[seed]) if seed in arm else None for arm in of_seed)
        seeds.append(PairedSeed(seed, about, _verdict(of_seed, seed), cells, drawn))
    return seeds


def seeds_in_detail(summaries: Sequence[ArmSummary]) -> tuple[int, ...]:
    """The seeds that are drawn: some that were saved, all that were harmed, and as far as there is room some
    that failed in some arm, then others."""
    of_seed = [{e.seed: e for e in summary.episodes} for summary in summaries]
    every = sorted({seed for arm in of_seed for seed in arm})
    verdict = {seed: _verdict(of_seed, seed) for seed in every}
    chosen = [seed for seed in every if verdict[seed] == "saved"][:SAVED_IN_DETAIL]
    chosen += [seed for seed in every if verdict[seed] == "harmed"]
    rest = sorted(set(every) - set(chosen), key=lambda seed: (_interest(of_seed, seed), seed))
    return (*chosen, *rest[: max(SEEDS_IN_DETAIL - len(chosen), 0)])


def arms_in_detail(names: Sequence[str]) -> tuple[str, ...]:
    """The arms whose time lines are drawn."""
    return tuple(names) if len(names) <= ARMS_IN_DETAIL else (names[0], names[-1])


def _interest(of_seed: Sequence[Mapping[int, EpisodeSummary]], seed: int) -> int:
    verdict = _verdict(of_seed, seed)
    failed = any(seed in arm and not arm[seed].success for arm in of_seed)
    return {"saved": 0, "harmed": 1}.get(verdict, 2 if failed else 3)


def _verdict(of_seed: Sequence[Mapping[int, EpisodeSummary]], seed: int) -> str:
    if len(of_seed) < 2 or seed not in of_seed[0] or seed not in of_seed[-1]:
        return ""
    before, after = of_seed[0][seed].success, of_seed[-1][seed].success
    return {(False, True): "saved", (True, False): "harmed"}.get((before, after), "")


def _cell(episode: EpisodeSummary) -> Cell:
    when = (
        f" at {episode.onsets[0].time_s - episode.start_s:.1f} s"
        if episode.onsets and not episode.success
        else ""
    )
    if episode.success and np.isfinite(episode.completion_time_s):
        when = f" in {episode.completion_time_s:.1f} s"
    return Cell(episode.result, GLYPHS[episode.result], f"{episode.result.value}{when}")


def axis_length_s(episodes: Sequence[Episode]) -> float:
    """An axis on which the longest of them fits."""
    spans = [summarise(episode) for episode in episodes]
    return max(1.0, float(np.ceil(2.0 * max(s.end_s - s.start_s for s in spans)) / 2.0))


def _time_ratio(first: ArmSummary, other: ArmSummary) -> str:
    both = [(a.completion_time_s, b.completion_time_s) for a, b in paired(first, other)]
    both = [pair for pair in both if np.isfinite(pair).all()]
    if not both:
        return f"No seed succeeds both {in_arm(first.name)} and {in_arm(other.name)}."
    ratio = median_ratio(both)
    return (
        f"Where both succeed ({len(both)} seeds), it takes {ratio.value:.2f} times as long "
        f"{in_arm(other.name)} as {in_arm(first.name)} in the median ({ratio.low:.2f} to {ratio.high:.2f})."
    )


def _lead_times(summaries: Sequence[ArmSummary]) -> list[LeadTimes]:
    rows = []
    for summary in summaries:
        for failure in FailureType:
            counts = total(e.events[failure] for e in summary.episodes)
            if counts.true_positives + counts.misses:
                rows.append(LeadTimes(summary.name, failure.name.lower(), counts))
    return rows


def replace_file(path: Path, text: str) -> None:
    """Write a file in one step: an interruption leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
