"""Curves and bars as SVG, small enough to stand in a report and plain enough to stand alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from salus_ros.evaluation.metrics import Steps
from salus_ros.evaluation.protocol import OURS, TestSet
from salus_ros.types import HORIZONS_S, FailureType, Floats

WIDTH, HEIGHT = 260.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 38.0, 8.0, 22.0, 34.0
COLOURS: Final = ("#d4500a", "#2767ad", "#8b939e", "#0f8a6a", "#9a4f96")
"""Ours first."""
POINTS_A_CURVE: Final = 200
"""More are not seen, and make the report large."""
BINS_S: Final = np.arange(0.2, 1.0 + 1e-9, 0.1)
SHOWN_RIVALS: Final = 2


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing."""

    name: str
    """Of its file."""
    title: str
    svg: str


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Points (N,) of one line."""

    label: str
    x: Floats
    y: Floats


def plots(test: TestSet, curves: Sequence[Sequence[tuple[float, float]]] = ()) -> list[Plot]:
    """Everything that is drawn of a test set.

    Args:
        test: figures, scores and labels.
        curves: training and tuning loss after each epoch, of each member.
    """
    shown = _shown(test)
    every = {name: test.cells(name) for name in shown}
    drawn = []
    for failure in FailureType:
        cells = {name: found[failure, HORIZONS_S[-1]] for name, found in every.items()}
        if not cells[OURS].has_both_classes:
            continue
        kind = failure.name.lower()
        drawn.append(
            Plot(
                f"precision-recall-{kind}",
                f"{kind}: precision over recall, {HORIZONS_S[-1]:g} s",
                lines(_precision_recall(cells), "recall", "precision"),
            )
        )
        drawn.append(
            Plot(
                f"roc-{kind}",
                f"{kind}: ROC, {HORIZONS_S[-1]:g} s",
                lines(_roc(cells), "false positive rate", "true positive rate"),
            )
        )
    covered = [Curve(f.name, *np.array(f.coverage).T) for f in test.figures if f.name in shown and f.coverage]
    if covered:
        drawn.append(
            Plot(
                "false-alarms-coverage",
                "episodes: failures alarmed in over false alarms",
                lines(covered, "successes alarmed in", "failures alarmed in"),
            )
        )
    leads = np.array(test.figures[0].events.lead_time_s)
    drawn.append(Plot("lead-times", "lead time of the foreseen onsets", _histogram(leads)))
    if curves:
        drawn.append(Plot("training", "loss over epochs: train (grey), tune", _training(curves)))
    return drawn


def _shown(test: TestSet) -> list[str]:
    """Ours, the best rivals, and the clock."""
    rivals = sorted(
        (f for f in test.figures if f.kind == "rival" and np.isfinite(f.mean_auroc.value)),
        key=lambda f: -f.mean_auroc.value,
    )
    names = [OURS, *(f.name for f in rivals[:SHOWN_RIVALS])]
    return names + [f.name for f in test.figures if f.name == "clock"]


def _precision_recall(cells: Mapping[str, Steps]) -> list[Curve]:
    curves = []
    for name, steps in cells.items():
        precision, recall, _ = precision_recall_curve(steps.label, steps.score)
        curves.append(Curve(name, recall, precision))
    return curves


def _roc(cells: Mapping[str, Steps]) -> list[Curve]:
    curves = []
    for name, steps in cells.items():
        false, true, _ = roc_curve(steps.label, steps.score)
        curves.append(Curve(name, false, true))
    return curves


def _training(curves: Sequence[Sequence[tuple[float, float]]]) -> str:
    drawn = []
    for member in curves:
        losses = np.array(member, float)
        epochs = np.arange(1.0, len(losses) + 1.0, dtype=np.float64)
        drawn += [Curve("tune", epochs, losses[:, 1]), Curve("train", epochs, losses[:, 0])]
    top = float(np.nanquantile([c.y.max() for c in drawn], 0.5))
    longest = max(len(c.x) for c in drawn)
    return lines(
        drawn,
        "epoch",
        "loss",
        x_high=float(longest),
        y_high=top,
        colours={"tune": COLOURS[0], "train": COLOURS[2]},
    )


def lines(
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    x_high: float = 1.0,
    y_high: float = 1.0,
    colours: Mapping[str, str] | None = None,
) -> str:
    """Lines from (0, 0) to (``x_high``, ``y_high``) with axes and a legend."""
    body, named = [], dict[str, str]()
    for i, curve in enumerate(curves):
        colour = (colours or {}).get(curve.label) or COLOURS[min(i, len(COLOURS) - 1)]
        named.setdefault(curve.label, colour)
        step = max(1, len(curve.x) // POINTS_A_CURVE)
        kept = np.unique(np.append(np.arange(0, len(curve.x), step), len(curve.x) - 1))
        points = " ".join(
            f"{_x(x / x_high):.1f},{_y(y / y_high):.1f}"
            for x, y in zip(curve.x[kept], curve.y[kept], strict=True)
            if np.isfinite(y)
        )
        width = 2.0 if i == 0 else 1.2
        body.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
    for i, (label, colour) in enumerate(named.items()):
        y = HEIGHT - BOTTOM - 6 - 11 * (len(named) - 1 - i)
        body.append(
            f'<text x="{WIDTH - RIGHT - 4}" y="{y}" text-anchor="end" fill="{colour}">{escape(label)}</text>'
        )
    return _framed(body, x_label, y_label, x_high, y_high)


def _histogram(leads_s: Floats) -> str:
    counts, _ = np.histogram(np.minimum(leads_s, BINS_S[-1] - 1e-6), BINS_S)
    top = max(int(counts.max(initial=0)), 1)
    width = (WIDTH - LEFT - RIGHT) / len(counts)
    body = [
        f'<rect x="{LEFT + i * width + 1:.1f}" y="{_y(n / top):.1f}" width="{width - 2:.1f}" '
        f'height="{_y(0.0) - _y(n / top):.1f}" fill="{COLOURS[0]}"/>'
        for i, n in enumerate(counts)
    ]
    return _framed(
        body, "s before the onset", "onsets", float(BINS_S[-1]), float(top), x_low=float(BINS_S[0])
    )


def _framed(
    body: Sequence[str], x_label: str, y_label: str, x_high: float, y_high: float, x_low: float = 0.0
) -> str:
    axes = (
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#8b939e"/>'
        f'<text x="{LEFT}" y="{HEIGHT - BOTTOM + 13}">{x_low:g}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 13}" text-anchor="end">{x_high:g}</text>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - BOTTOM + 26}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text x="{LEFT - 5}" y="{HEIGHT - BOTTOM}" text-anchor="end">0</text>'
        f'<text x="{LEFT - 5}" y="{TOP + 8}" text-anchor="end">{y_high:.3g}</text>'
        f'<text x="4" y="{TOP - 8}">{escape(y_label)}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
        f'font-family="sans-serif" font-size="10" fill="#5d6672">{axes}{"".join(body)}</svg>'
    )


def _x(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * float(np.clip(share, 0.0, 1.0))


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * float(np.clip(share, 0.0, 1.0))
