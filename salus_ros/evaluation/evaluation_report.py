"""The report of ``salus evaluate``: every detector on the same held-out episodes, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from salus_ros.data.episode import Episode, PredictionStream
from salus_ros.data.store import Store
from salus_ros.evaluation.frames import QUALITIES
from salus_ros.evaluation.metrics import Reliability
from salus_ros.evaluation.outcomes import summarise
from salus_ros.evaluation.protocol import MIN_ONSETS, OURS, Figures, Findings
from salus_ros.evaluation.records import Record
from salus_ros.evaluation.report import GLYPHS, Cell, RunFacts, axis_length_s, environment, replace_file
from salus_ros.evaluation.statistics import Estimate
from salus_ros.evaluation.table import NONE
from salus_ros.evaluation.timeline import Timeline, timeline
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType

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


COLUMNS = (
    "AUROC",
    "ours − this",
    "AUPRC",
    "event F1",
    "precision",
    "recall",
    "lead time",
    "balanced accuracy",
    "time-weighted",
    "false alarms",
)
"""Of the table; the last three at a preset false-alarm rate of 5 %."""

IN_TERMINAL = ("AUROC", "ours − this", "event F1", "precision", "recall", "lead time", "time-weighted")
"""The columns that fit beside one another in 120 characters."""


def lines(findings: Findings) -> list[Line]:
    """The table, ours first, then rivals by AUROC, then sanity checks."""
    order = {"ours": 0, "rival": 1, "sanity check": 2}
    figures = sorted(findings.figures, key=lambda f: (order[f.kind], -np.nan_to_num(f.mean_auroc.value)))
    return [Line(f.name, f.kind, _cells(f), f.mean_auroc) for f in figures]


def terminal_table(findings: Findings) -> Table:
    """The table for a terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in IN_TERMINAL:
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines(findings):
        by_column = dict(zip(COLUMNS, line.cells, strict=True))
        cells = (by_column[column] for column in IN_TERMINAL)
        table.add_row(line.name, *cells, style="bold" if line.name == OURS else "")
    return table


def caveats(findings: Findings) -> list[str]:
    """What the numbers cannot carry."""
    few = [f"{n} of {f.name.lower()}" for f, n in findings.onsets.items() if n < MIN_ONSETS]
    said = []
    if few:
        said.append(
            f"{len(findings.test)} test episodes hold few onsets ({', '.join(few)}; {MIN_ONSETS} wanted)."
        )
    said += [f"{name} was left out: {reason}" for name, reason in findings.unavailable.items()]
    ahead = [f.name for f in findings.figures[1:] if not f.behind_ours.low > 0.0]
    if ahead:
        said.append(f"{OURS} does not exceed by an interval: {', '.join(ahead)}.")
    return said


def write_evaluation_report(path: Path, findings: Findings, facts: RunFacts) -> None:
    """Write the report; an existing one is replaced in one step, or stays as it was."""
    ours = findings.figures[0]
    clock = next((f for f in findings.figures if f.name == "clock"), None)
    html = (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            facts=facts,
            headline=_headline(ours, findings),
            columns=COLUMNS,
            lines=lines(findings),
            caveats=caveats(findings),
            horizons=HORIZONS_S,
            types=list(FailureType),
            ours=ours,
            clock=clock,
            reliability={f: _curve(r) for f, r in findings.reliability.items()},
            examples=_examples(findings),
            glyphs=GLYPHS,
            common_length_s=findings.common_length_s,
            none=NONE,
        )
    )
    replace_file(path, html)


def _cells(figures: Figures) -> tuple[str, ...]:
    auprc = [m.auprc.value for m in figures.steps.values() if np.isfinite(m.auprc.value)]
    preset = figures.alarms[0]
    difference = NONE if figures.kind == "ours" else _signed(figures.behind_ours)
    return (
        _interval(figures.mean_auroc),
        difference,
        _two(float(np.mean(auprc)) if auprc else float("nan")),
        _two(figures.events.f1),
        _two(figures.events.precision),
        _two(figures.events.recall),
        _ms(figures.events.median_lead_time_s),
        _two(preset.balanced_accuracy),
        _two(preset.time_weighted_accuracy),
        f"{100 * preset.false_alarm_rate.value:.0f} %"
        if np.isfinite(preset.false_alarm_rate.value)
        else NONE,
    )


def _headline(ours: Figures, findings: Findings) -> str:
    events = ours.events
    onsets = events.true_positives + events.misses
    return (
        f"{OURS} foresees {events.true_positives} of {onsets} failures in {len(findings.test)} episodes, "
        f"{_ms(events.median_lead_time_s)} ahead in the median; {events.false_positives} of its "
        f"{events.true_positives + events.false_positives} alarms are false."
    )


def _examples(findings: Findings) -> list[Example]:
    chosen: dict[int, str] = {}
    ours = {r.sample.seed: _told(r, findings.predictions[r.sample.seed]) for r in findings.test}
    for told in ("foreseen", "not foreseen", "false alarm"):
        for failure in FailureType:
            of_type = [r for r in findings.test if told == "false alarm" or len(r.onsets_s(failure))]
            fits = [r for r in of_type if ours[r.sample.seed] == told and r.sample.seed not in chosen]
            for r in fits[:1]:
                chosen[r.sample.seed] = told
    found = {r.sample.seed: r for r in findings.test}
    return [
        _example(found[seed], findings.predictions[seed], told)
        for seed, told in list(chosen.items())[:EXAMPLES]
    ]


def _told(record: Record, said: Sequence[FailurePrediction]) -> str:
    alarm = np.array([p.alarm for p in said]) & record.judged_before_onset
    if not record.sample.onsets:
        return "false alarm" if alarm.any() else "quiet"
    lead_s = record.first_onset_s - record.time_s[alarm]
    return "foreseen" if ((lead_s >= 0.2) & (lead_s <= 1.0)).any() else "not foreseen"


def _example(record: Record, said: Sequence[FailurePrediction], told: str) -> Example:
    episode = Store.open(record.store).episode(record.index, ["interventions", "frames"])
    judged = replace(episode, predictions=_stream(said))
    summary = summarise(judged)
    edge_px, quality = QUALITIES[0]
    drawing = timeline(judged, axis_length_s([judged]), edge_px, quality)
    cell = Cell(summary.result, GLYPHS[summary.result], summary.result.value)
    return Example(record.sample.seed, f"{told}; {_about(episode)}", cell, drawing)


def _about(episode: Episode) -> str:
    return ", ".join(part for part in (episode.meta.task, episode.meta.disturbance or "undisturbed") if part)


def _stream(said: Sequence[FailurePrediction]) -> PredictionStream:
    stamps = np.array([p.stamp_s for p in said])
    return PredictionStream(
        stamp_s=stamps,
        arrival_s=stamps,
        sequence=np.array([p.sequence for p in said]),
        horizons_s=np.array([p.horizons_s for p in said]),
        probability=np.array([p.probability for p in said]),
        timeout_probability=np.array([p.timeout_probability for p in said]),
        risk=np.array([p.risk for p in said]),
        risk_type=np.array([int(p.risk_type) for p in said]),
        risk_horizon_s=np.array([p.risk_horizon_s for p in said]),
        alarm=np.array([p.alarm for p in said]),
        threshold=np.array([p.threshold for p in said]),
        out_of_distribution=np.array([p.out_of_distribution for p in said]),
    )


def _curve(points: Reliability) -> list[tuple[float, float]]:
    return [(float(p), float(o)) for p, o in zip(points.predicted, points.observed, strict=True)]


def _two(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else NONE


def _ms(value_s: float) -> str:
    return f"{1000 * value_s:.0f} ms" if np.isfinite(value_s) else NONE


def _interval(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return NONE
    return f"{estimate.value:.3f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _signed(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return NONE
    text = f"{estimate.value:+.3f} ({estimate.low:+.2f} to {estimate.high:+.2f})"
    return text.replace("-", "−")
