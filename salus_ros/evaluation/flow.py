"""How the results of one arm became those of another, as shapes to draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from salus_ros.evaluation.comparison import ArmSummary, paired
from salus_ros.evaluation.outcomes import Result

WIDTH, HEIGHT = 640.0, 220.0
"""Of the drawing, and of all seeds piled up."""
BAR, GAP, LINE = 14.0, 6.0, 14.0
"""Width of a bar, room between two, and the height of the words beside one."""
LABEL = 150.0
"""Room for the words beside the bars."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One result in one arm. Units of the drawing, y downwards."""

    result: Result
    count: int
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Ribbon:
    """The seeds that had one result before and another after."""

    before: Result
    after: Result
    count: int
    path: str
    """An SVG path."""

    @property
    def verdict(self) -> str:
        """``saved``, ``harmed``, or empty."""
        if self.before is self.after or Result.SUCCESS not in (self.before, self.after):
            return ""
        return "saved" if self.after is Result.SUCCESS else "harmed"


@dataclass(frozen=True, slots=True)
class Flow:
    """Bars of the first arm on the left, of the second on the right, ribbons between them."""

    left: tuple[Bar, ...]
    right: tuple[Bar, ...]
    ribbons: tuple[Ribbon, ...]
    width: float
    height: float


def flow(first: ArmSummary, second: ArmSummary) -> Flow | None:
    """Every paired seed once; ``None`` without any."""
    moved = Counter((a.result, b.result) for a, b in paired(first, second))
    total = sum(moved.values())
    if not total:
        return None
    before = [r for r in Result if any(a is r for a, _ in moved)]
    after = [r for r in Result if any(b is r for _, b in moved)]
    scale = HEIGHT / total
    left = _bars([(r, sum(n for (a, _), n in moved.items() if a is r)) for r in before], LABEL, scale)
    right = _bars(
        [(r, sum(n for (_, b), n in moved.items() if b is r)) for r in after], WIDTH - LABEL - BAR, scale
    )
    from_y, to_y = ({bar.result: bar.y for bar in bars} for bars in (left, right))
    ribbons = []
    for a in before:
        for b in after:
            count = moved[a, b]
            if not count:
                continue
            ribbons.append(Ribbon(a, b, count, _path(from_y[a], to_y[b], count * scale)))
            from_y[a] += count * scale
            to_y[b] += count * scale
    height = max(bar.y + max(bar.height, LINE) for bar in (*left, *right))
    return Flow(left, right, tuple(ribbons), WIDTH, height)


def _bars(counts: Sequence[tuple[Result, int]], x: float, scale: float) -> tuple[Bar, ...]:
    bars, y = [], 0.0
    for result, count in counts:
        bars.append(Bar(result, count, x, y, count * scale))
        y += max(count * scale, LINE) + GAP
    return tuple(bars)


def _path(from_y: float, to_y: float, thickness: float) -> str:
    x0, x1 = LABEL + BAR, WIDTH - LABEL - BAR
    middle = (x0 + x1) / 2.0
    return (
        f"M{x0:.1f},{from_y:.1f} C{middle:.1f},{from_y:.1f} {middle:.1f},{to_y:.1f} {x1:.1f},{to_y:.1f} "
        f"v{thickness:.1f} C{middle:.1f},{to_y + thickness:.1f} {middle:.1f},{from_y + thickness:.1f} "
        f"{x0:.1f},{from_y + thickness:.1f} z"
    )
