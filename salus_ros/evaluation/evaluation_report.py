"""The report of ``salus evaluate``: every detector on the same held-out episodes, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from salus_ros.data.episode import Episode, PredictionStream
from salus_ros.data.store import Store
from salus_ros.evaluation.detectors import AT_THRESHOLD, Compared
from salus_ros.evaluation.events import EARLIEST_S, LATEST_S
from salus_ros.evaluation.figures import Figures
from salus_ros.evaluation.frames import QUALITIES
from salus_ros.evaluation.metrics import Reliability
from salus_ros.evaluation.outcomes import summarise
from salus_ros.evaluation.plots import Plot, plots
from salus_ros.evaluation.protocol import MIN_ONSETS, OURS, SEEN, UNSEEN, Findings, TestSet
from salus_ros.evaluation.records import Record
from salus_ros.evaluation.report import GLYPHS, Cell, RunFacts, axis_length_s, environment, replace_file
from salus_ros.evaluation.statistics import Estimate
from salus_ros.evaluation.table import NONE
from salus_ros.evaluation.timeline import Timeline, timeline
from salus_ros.types import HORIZONS_S, FailureType, Floats

EXAMPLES = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One detector in the table."""

    name: str
    kind: str
    cells: tuple[str, ...]
    auroc: Estimate


@dataclass(frozen=True, slots=True)
class Example:
    """One test episode, drawn."""

    seed: int
    about: str
    cell: Cell
    drawing: Timeline


@dataclass(frozen=True, slots=True, eq=False)
class _Section:
    """One test set in the report."""

    name: str
    test: TestSet
    lines: list[Line]
    plots: list[Plot]
    ours: Figures
    clock: Figures | None
    reliability: dict[FailureType, list[tuple[float, float]]]
    examples: list[Example]


COLUMNS = (
    "AUROC",
    "ours − this",
    "AUPRC",
    "event F1",
    "F1 by type",
    "precision",
    "recall",
    "lead time",
    "balanced accuracy",
    "time-weighted",
    "false alarms",
)
"""Of the table; the last three at a preset false-alarm rate of 5 %."""

COMPARED = {
    Compared.AUROC: "AUROC",
    Compared.EVENT_F1: "event F1",
    Compared.TIME_WEIGHTED: "time-weighted accuracy",
}
"""In what a detector is meant to be exceeded."""

GROUPS = {
    "ours": "",
    "another seed": "Other training seeds",
    "another setting": "Other settings",
    "rival": "Rivals",
    "sanity check": "Sanity checks",
}
"""Kinds of detectors, and what stands above them in the table."""

IN_TERMINAL = (
    "AUROC",
    "ours − this",
    "event F1",
    "F1 by type",
    "precision",
    "recall",
    "lead time",
    "time-weighted",
)
"""The columns that fit beside one another in 140 characters."""


def lines(test: TestSet) -> list[Line]:
    """The table, ours first, then rivals by AUROC, then sanity checks."""
    figures = sorted(
        test.figures, key=lambda f: (list(GROUPS).index(f.kind), -np.nan_to_num(f.mean_auroc.value))
    )
    return [Line(f.name, f.kind, _cells(f, test.behind[f.name]), f.mean_auroc) for f in figures]


def terminal_table(name: str, test: TestSet) -> Table:
    """The table of a test set for a terminal."""
    table = Table(
        title=f"{name}: {len(test.records)} episodes",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for column in IN_TERMINAL:
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines(test):
        by_column = dict(zip(COLUMNS, line.cells, strict=True))
        cells = (by_column[column] for column in IN_TERMINAL)
        table.add_row(line.name, *cells, style="bold" if line.name == OURS else "")
    return table


def timeouts_said(name: str, test: TestSet) -> str:
    """What ours tells of time-outs, in a sentence; empty where it tells nothing."""
    late = test.figures[0].timeouts
    if late is None:
        return ""
    looks = ", ".join(f"{_two(look.auroc.value)} after {share:.0%}" for share, look in late.looks.items())
    told = late.whole
    return (
        f"{name}: {late.timed_out} of {late.episodes} episodes ran out of time. AUROC of the probability's "
        f"maximum {looks} of the common length. Foreseen from {late.threshold:g} on: precision "
        f"{_two(told.precision.value)}, recall {_two(told.recall.value)}, false alarms in "
        f"{_two(told.false_alarm_rate.value)} of the others."
    )


def caveats(findings: Findings) -> list[str]:
    """What the numbers cannot carry."""
    said = []
    for name, test in findings.tests.items():
        few = [f"{n} of {f.name.lower()}" for f, n in test.onsets.items() if n < MIN_ONSETS]
        if few:
            said.append(
                f"{name}: {len(test.records)} episodes hold few onsets "
                f"({', '.join(few)}; {MIN_ONSETS} wanted)."
            )
        for number, what in COMPARED.items():
            behind = [
                f.name for f in test.figures[1:] if _ahead(f) and not test.behind[f.name][number].low > 0.0
            ]
            if behind:
                said.append(f"{name}: in {what} {OURS} does not exceed by an interval: {', '.join(behind)}.")
    said += [f"{name} was left out: {reason}" for name, reason in findings.unavailable.items()]
    if UNSEEN not in findings.tests:
        said.append("No episodes of unseen disturbances or tasks were given (--unseen).")
    return said


def _ahead(figures: Figures) -> bool:
    """Whether ours is meant to exceed it."""
    return figures.kind in ("rival", "sanity check")


def write_evaluation_report(
    path: Path,
    findings: Findings,
    facts: RunFacts,
    losses: Sequence[Sequence[tuple[float, float]]] = (),
) -> None:
    """Write the report and its plots; existing ones are replaced in one step, or stay as they were.

    Args:
        path: of the report; plots lie beside it in ``plots``.
        findings: what is reported.
        facts: about the run.
        losses: training and tuning loss after each epoch of each member.
    """
    sections = [
        _Section(
            name=name,
            test=test,
            lines=lines(test),
            plots=plots(test, losses if name == SEEN else ()),
            ours=test.figures[0],
            clock=next((f for f in test.figures if f.name == "clock"), None),
            reliability={f: _curve(r) for f, r in test.reliability.items()},
            examples=_examples(test),
        )
        for name, test in findings.tests.items()
    ]
    html = (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            facts=facts,
            headline=_headline(findings.seen),
            columns=COLUMNS,
            sections=sections,
            groups=GROUPS,
            caveats=caveats(findings),
            horizons=HORIZONS_S,
            types=list(FailureType),
            glyphs=GLYPHS,
            none=NONE,
            number=_two,
            between=_between,
        )
    )
    replace_file(path, html)
    for section in sections:
        for plot in section.plots:
            replace_file(path.parent / "plots" / f"{section.name}-{plot.name}.svg", plot.svg)


def _cells(figures: Figures, behind: Mapping[Compared, Estimate]) -> tuple[str, ...]:
    auprc = [m.auprc.value for m in figures.steps.values() if np.isfinite(m.auprc.value)]
    preset = figures.alarms[0]
    difference = NONE if figures.kind == "ours" else _signed(behind[Compared.AUROC])
    return (
        _interval(figures.mean_auroc),
        difference,
        _two(float(np.mean(auprc)) if auprc else float("nan")),
        _two(figures.events.f1),
        _two(figures.mean_f1.value),
        _two(figures.events.precision),
        _two(figures.events.recall),
        _ms(figures.events.median_lead_time_s),
        _two(preset.balanced_accuracy),
        _two(preset.time_weighted_accuracy),
        f"{100 * preset.false_alarm_rate.value:.0f} %"
        if np.isfinite(preset.false_alarm_rate.value)
        else NONE,
    )


def _headline(test: TestSet) -> str:
    events = test.figures[0].events
    onsets = events.true_positives + events.misses
    return (
        f"{OURS} foresees {events.true_positives} of {onsets} failures in {len(test.records)} episodes, "
        f"{_ms(events.median_lead_time_s)} ahead in the median; {events.false_positives} of its "
        f"{events.true_positives + events.false_positives} alarms are false."
    )


def _examples(test: TestSet) -> list[Example]:
    told_of = [_told(r, verdict) for r, verdict in zip(test.records, test.scores[OURS].verdict, strict=True)]
    chosen: dict[int, str] = {}
    for told in ("foreseen", "not foreseen", "false alarm"):
        for failure in FailureType:
            fits = (
                i
                for i, r in enumerate(test.records)
                if told_of[i] == told
                and i not in chosen
                and (told == "false alarm" or len(r.onsets_s(failure)))
            )
            first = next(fits, None)
            if first is not None:
                chosen[first] = told
    return [_example(test, i, told) for i, told in list(chosen.items())[:EXAMPLES]]


def _told(record: Record, verdict: Floats) -> str:
    alarm = (verdict > AT_THRESHOLD) & record.judged_before_onset
    if not record.sample.onsets:
        return "false alarm" if alarm.any() else "quiet"
    lead_s = record.first_onset_s - record.time_s[alarm]
    return "foreseen" if ((lead_s >= LATEST_S) & (lead_s <= EARLIEST_S)).any() else "not foreseen"


def _example(test: TestSet, index: int, told: str) -> Example:
    record = test.records[index]
    episode = Store.open(record.store).episode(record.index, ["interventions", "frames"])
    judged = replace(episode, predictions=_stream(test, index))
    summary = summarise(judged)
    edge_px, quality = QUALITIES[0]
    drawing = timeline(judged, axis_length_s([judged]), edge_px, quality)
    cell = Cell(summary.result, GLYPHS[summary.result], summary.result.value)
    return Example(record.sample.seed, f"{told}; {_about(episode)}", cell, drawing)


def _about(episode: Episode) -> str:
    return ", ".join(part for part in (episode.meta.task, episode.meta.disturbance or "undisturbed") if part)


def _stream(test: TestSet, index: int) -> PredictionStream:
    """What ours said in an episode, as it would have been recorded."""
    scored, stamps = test.scores[OURS], test.records[index].time_s
    probability, verdict, steps = scored.by_horizon[index], scored.verdict[index], len(stamps)
    relative = probability[:, :, -1] / test.threshold
    return PredictionStream(
        stamp_s=stamps,
        arrival_s=stamps,
        sequence=np.zeros(steps, np.int64),
        horizons_s=np.tile(HORIZONS_S, (steps, 1)),
        probability=probability,
        timeout_probability=scored.timeout[index],
        risk=np.clip(0.5 * verdict, 0.0, 1.0),
        risk_type=relative.argmax(axis=1),
        risk_horizon_s=np.full(steps, HORIZONS_S[-1]),
        alarm=verdict > AT_THRESHOLD,
        threshold=np.tile(test.threshold, (steps, 1)),
        out_of_distribution=scored.outside[index],
    )


def _curve(points: Reliability) -> list[tuple[float, float]]:
    return [(float(p), float(o)) for p, o in zip(points.predicted, points.observed, strict=True)]


def _two(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else NONE


def _between(estimate: Estimate) -> str:
    return f"{estimate.low:.2f} to {estimate.high:.2f}" if np.isfinite(estimate.low) else ""


def _ms(value_s: float) -> str:
    return f"{1000 * value_s:.0f} ms" if np.isfinite(value_s) else NONE


def _interval(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return NONE
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _signed(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return NONE
    text = f"{estimate.value:+.2f} ({estimate.low:+.2f} to {estimate.high:+.2f})"
    return text.replace("-", "−")
