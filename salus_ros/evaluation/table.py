"""The headline table: one row a number, one column an arm. Demo, study and report show this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from salus_ros.evaluation.comparison import Arm, ArmSummary, Comparison, compare, paired, summarise_arm
from salus_ros.evaluation.outcomes import EpisodeSummary
from salus_ros.evaluation.statistics import FEW_EPISODES, Estimate, paired_difference
from salus_ros.types import FailureType, Floats

NONE = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One number for every arm."""

    label: str
    cells: tuple[str, ...]
    """One an arm."""
    intervals: tuple[str, ...] = ()
    """One an arm, or none."""
    differences: tuple[str, ...] = ()
    """One an arm after the first, against the first; or none."""


def summary_table(arms: Sequence[Arm]) -> list[Row]:
    """The rows of the headline table; arms after the first are compared with it seed by seed."""
    summaries = [summarise_arm(arm) for arm in arms]
    rows = [
        _success_row(summaries),
        *(_onset_row(summaries, failure) for failure in FailureType),
        _timeout_row(summaries),
        _mean_row("Interventions per episode", summaries, "interventions"),
        _mean_row("Person asked per episode", summaries, "human_requests"),
        _row("Time to success, median", summaries, _completion_time),
        _row("Failures foreseen", summaries, _foreseen),
        _row("Lead time, median", summaries, _lead_time),
        _row("Alarms without a failure, per episode", summaries, _unfulfilled_alarms),
    ]
    inference = tuple(_inference_time(arm) for arm in arms)
    if any(cell != NONE for cell in inference):
        rows.append(Row("Policy inference (p50/p99)", inference))
    for name in dict.fromkeys(name for arm in arms for name in arm.latency_ms):
        cells = tuple(_milliseconds(arm.latency_ms.get(name, ())) for arm in arms)
        rows.append(Row(f"{name} (p50/p99)", cells))
    return rows


def terminal_table(arms: Sequence[Arm], title: str = "") -> Table:
    """The headline table for a terminal; print ``caveats`` under it."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for arm in arms:
        table.add_column(arm.name, justify="right", no_wrap=True)
    for other in arms[1:]:
        name = "points (95 %)" if len(arms) == 2 else f"{other.name} − {arms[0].name}"
        table.add_column(name, justify="right", no_wrap=True)
    for row in summary_table(arms):
        intervals = row.intervals or ("",) * len(arms)
        cells = (f"{cell}\n{i}" if i else cell for cell, i in zip(row.cells, intervals, strict=True))
        table.add_row(row.label, *cells, *(d.replace(" points", "") for d in row.differences))
    return table


def arms_table(summaries: Sequence[ArmSummary], title: str = "") -> Table:
    """One row an arm, for more arms than fit side by side; print ``caveats`` under it."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    first = summaries[0]
    heads = (
        "success",
        f"points against {first.name}",
        "coll.",
        "drop",
        "miss",
        "time out",
        "interv.",
        "person",
    )
    table.add_column("arm")
    for head in heads:
        table.add_column(head, justify="right")
    for summary in summaries:
        difference = points(compare(first, summary).success_difference) if summary is not first else ""
        table.add_row(
            summary.name,
            f"{percent(summary.success_rate)} ({percent_interval(summary.success_rate)[:-2]})",
            difference.replace(" points", ""),
            *(str(summary.had(failure)) for failure in FailureType),
            str(sum(e.timed_out for e in summary.episodes)),
            *(f"{summary.per_episode(what).mean():.2f}" for what in ("interventions", "human_requests")),
        )
    return table


def caveats(summaries: Sequence[ArmSummary]) -> list[str]:
    """What the numbers cannot carry."""
    said = []
    for other in summaries[1:]:
        comparison = compare(summaries[0], other)
        if comparison.pairs < FEW_EPISODES or not comparison.success_difference.excludes_zero:
            said.append(_caveat(summaries[0].name, other.name, comparison))
    fewest = min((len(s.episodes) for s in summaries), default=0)
    if fewest < FEW_EPISODES:
        episodes = "episode" if fewest == 1 else "episodes"
        said.append(f"With {fewest} {episodes} an arm every interval is wide; salus study runs more.")
    return said


def _caveat(first: str, second: str, comparison: Comparison) -> str:
    saved, harmed = len(comparison.saved_seeds), len(comparison.harmed_seeds)
    verdict = (
        "more than chance explains" if comparison.mcnemar_p < 0.05 else "which chance alone could explain"
    )
    return (
        f"Of {comparison.pairs} paired seeds, {saved} failed {in_arm(first)} and succeeded {in_arm(second)}, "
        f"{harmed} the other way round (McNemar p = {comparison.mcnemar_p:.2g}), {verdict}."
    )


def in_arm(name: str) -> str:
    """``with SALUS`` as it is, any other arm in quotes."""
    return name if name.startswith("with") else f"in arm “{name}”"


def percent(estimate: Estimate) -> str:
    """``50 %``, or a dash."""
    return f"{100 * estimate.value:.0f} %" if np.isfinite(estimate.value) else NONE


def percent_interval(estimate: Estimate) -> str:
    """``19 to 81 %``."""
    return f"{100 * estimate.low:.0f} to {100 * estimate.high:.0f} %"


def points(estimate: Estimate) -> str:
    """``+40 points (10 to 70)``, a difference of rates."""
    if not np.isfinite(estimate.value):
        return ""
    value, low, high = (signed(100 * number, 0) for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} points ({low} to {high})"


def signed(value: float, digits: int) -> str:
    """``+0.4``, ``−0.4``, ``0.0``: with a true minus sign."""
    rounded = round(value, digits) + 0.0
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0.0:.{digits}f}"


def _row(label: str, summaries: Sequence[ArmSummary], cell: Callable[[ArmSummary], str]) -> Row:
    return Row(label, tuple(cell(s) for s in summaries))


def _share(count: int, summary: ArmSummary) -> str:
    return f"{count} of {len(summary.episodes)}"


def _success_row(summaries: Sequence[ArmSummary]) -> Row:
    return Row(
        "Success",
        tuple(_share(sum(e.success for e in s.episodes), s) for s in summaries),
        tuple(percent_interval(s.success_rate) for s in summaries),
        tuple(points(compare(summaries[0], other).success_difference) for other in summaries[1:]),
    )


def _onset_row(summaries: Sequence[ArmSummary], failure: FailureType) -> Row:
    label = {"COLLISION": "Collisions", "DROP": "Drops", "MISS": "Misses"}[failure.name]
    counts = tuple(_share(s.had(failure), s) for s in summaries)
    return Row(label, counts, differences=_rate_differences(summaries, lambda e: e.had(failure)))


def _timeout_row(summaries: Sequence[ArmSummary]) -> Row:
    counts = tuple(_share(sum(e.timed_out for e in s.episodes), s) for s in summaries)
    return Row("Timeouts", counts, differences=_rate_differences(summaries, lambda e: e.timed_out))


def _rate_differences(
    summaries: Sequence[ArmSummary], happened: Callable[[EpisodeSummary], bool]
) -> tuple[str, ...]:
    differences = []
    for other in summaries[1:]:
        pairs = paired(summaries[0], other)
        before, after = [happened(a) for a, _ in pairs], [happened(b) for _, b in pairs]
        differences.append(points(paired_difference(before, after)))
    return tuple(differences)


def _mean_row(label: str, summaries: Sequence[ArmSummary], what: str) -> Row:
    means = [s.per_episode(what) for s in summaries]
    return Row(label, tuple(f"{values.mean():.1f}" if values.size else NONE for values in means))


def _completion_time(summary: ArmSummary) -> str:
    values = summary.per_episode("completion_time_s")
    values = values[np.isfinite(values)]
    return f"{np.median(values):.1f} s" if values.size else NONE


def _foreseen(summary: ArmSummary) -> str:
    events = summary.events
    onsets = events.true_positives + events.misses
    return f"{events.true_positives} of {onsets}" if summary.monitored and onsets else NONE


def _lead_time(summary: ArmSummary) -> str:
    events = summary.events
    return f"{1000 * events.median_lead_time_s:.0f} ms" if events.lead_time_s else NONE


def _unfulfilled_alarms(summary: ArmSummary) -> str:
    if not summary.monitored:
        return NONE
    return f"{summary.events.false_positives / len(summary.episodes):.1f}"


def _inference_time(arm: Arm) -> str:
    times = [e.policy.inference_time_s for e in arm.episodes if len(e.policy)]
    return _milliseconds(1000.0 * np.concatenate(times)) if times else NONE


def _milliseconds(values: Sequence[float] | Floats) -> str:
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return NONE
    return f"{_three_digits(float(np.median(finite)))} / {_three_digits(float(np.percentile(finite, 99)))} ms"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100.0 else f"{value:.1f}"
