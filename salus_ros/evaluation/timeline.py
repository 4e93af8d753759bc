"""One episode as shapes on a time axis: risk, alarms, events, what the gate did, and pictures.

Coordinates are shares of the drawing in [0, 1]: x from the axis' start to its end, y downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salus_ros.data.episode import Episode, InterventionStream, PredictionStream
from salus_ros.evaluation.events import EARLIEST_S, LATEST_S, rising_edges
from salus_ros.evaluation.frames import Sheet, sheet
from salus_ros.evaluation.outcomes import EpisodeSummary, alarm_of_type, summarise
from salus_ros.types import Cause, EventKind, FailureType, Floats, Mode

PICTURE_PERIOD_S = 0.4
"""One picture for so much of the episode; the strip shows every second one, pointing shows all."""
CAMERA_ORDER = ("front", "wrist")


@dataclass(frozen=True, slots=True)
class Curve:
    """A polyline."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of one mode."""

    left: float
    width: float
    mode: str
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment with a name."""

    left: float
    kind: str
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One tile of a sheet, on the axis."""

    left: float
    width: float
    index: int


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures of one camera along the axis."""

    sheet: Sheet
    pictures: tuple[Picture, ...]
    times: str
    """Moment of every picture of the sheet, in seconds from the axis' start, separated by commas."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything the report draws of one episode."""

    summary: EpisodeSummary
    start_s: float
    length_s: float
    end: float
    """Where on the axis the episode ends."""
    curves: tuple[Curve, ...]
    """Risk by failure type; 0.5 is the alarm's threshold."""
    thresholds: tuple[tuple[str, float], ...]
    bands: tuple[Band, ...]
    marks: tuple[Mark, ...]
    alarms: tuple[Mark, ...]
    speed: Curve
    strips: tuple[Strip, ...]

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Positions and labels of the time axis."""
        step_s = next(step for step in (1, 2, 5, 10, 20, 60, 300, 3600) if self.length_s / step <= 12)
        return tuple((t / self.length_s, f"{t} s") for t in range(0, int(self.length_s) + 1, step_s))

    def readout(self) -> dict[str, list[float]]:
        """Numbers for pointing at the axis, at the predictions' own times."""
        columns: dict[str, list[float]] = {"t": [round(x * self.length_s, 2) for x, _ in _xs(self.curves)]}
        for curve in self.curves:
            columns[curve.name] = [round(1.0 - y, 3) for _, y in curve.points]
        return columns


def timeline(episode: Episode, length_s: float, edge_px: int, quality: int) -> Timeline:
    """Shapes of one episode on an axis of ``length_s``, which paired episodes share."""
    summary = summarise(episode)
    start_s = summary.start_s
    end = min(1.0, (summary.end_s - start_s) / length_s)
    return Timeline(
        summary=summary,
        start_s=start_s,
        length_s=length_s,
        end=end,
        curves=_risk_curves(episode.predictions, start_s, length_s),
        thresholds=_thresholds(episode.predictions),
        bands=_bands(episode, start_s, length_s, end),
        marks=_marks(episode, start_s, length_s),
        alarms=_alarms(episode, summary, start_s, length_s),
        speed=_speed(episode.interventions, start_s, length_s, end),
        strips=_strips(episode, summary, length_s, edge_px, quality),
    )


def _risk_curves(predictions: PredictionStream, start_s: float, length_s: float) -> tuple[Curve, ...]:
    if not len(predictions):
        return ()
    x = (predictions.stamp_s - start_s) / length_s
    curves = []
    for failure in FailureType:
        relative = 0.5 * predictions.probability[:, failure, -1] / predictions.threshold[:, failure]
        y = 1.0 - np.clip(np.nan_to_num(relative), 0.0, 1.0)
        curves.append(Curve(failure.name.lower(), _points(x, y)))
    return tuple(curves)


def _thresholds(predictions: PredictionStream) -> tuple[tuple[str, float], ...]:
    if not len(predictions):
        return ()
    return tuple((f.name.lower(), float(predictions.threshold[-1, f])) for f in FailureType)


def _bands(episode: Episode, start_s: float, length_s: float, end: float) -> tuple[Band, ...]:
    stream = episode.interventions
    if not len(stream):
        return ()
    starts = np.flatnonzero(np.diff(stream.mode, prepend=stream.mode[0] - 1))
    bands = []
    for first, stop in zip(starts, [*starts[1:], len(stream)], strict=True):
        mode = Mode(int(stream.mode[first]))
        if mode is Mode.NOMINAL:
            continue
        left = _share(float(stream.stamp_s[first]) - start_s, length_s)
        right = _share(float(stream.stamp_s[stop]) - start_s, length_s) if stop < len(stream) else end
        causes = dict.fromkeys(Cause(int(c)) for c in stream.cause[first:stop])
        why = ", ".join(cause.name.lower().replace("_", " ") for cause in causes if cause is not Cause.NONE)
        label = mode.name.lower().replace("_", " ")
        title = f"{label}, {(right - left) * length_s:.2f} s" + (f": {why}" if why else "")
        bands.append(Band(left, max(right - left, 0.002), mode.name.lower(), label, title))
    return tuple(bands)


def _marks(episode: Episode, start_s: float, length_s: float) -> tuple[Mark, ...]:
    marks = []
    for event in episode.events:
        if event.kind is EventKind.FAILURE_ONSET and event.failure is not None:
            kind = label = event.failure.name.lower()
        elif event.kind in (EventKind.SUCCESS, EventKind.TIMEOUT):
            kind = label = event.kind.name.lower()
        else:
            continue
        time_s = event.stamp_s - start_s
        title = f"{label} at {time_s:.2f} s" + (f": {event.detail}" if event.detail else "")
        marks.append(Mark(_share(time_s, length_s), kind, label, title))
    return tuple(marks)


def _alarms(episode: Episode, summary: EpisodeSummary, start_s: float, length_s: float) -> tuple[Mark, ...]:
    predictions = episode.predictions
    if not len(predictions):
        return ()
    marks = []
    for failure in FailureType:
        own_s = [onset.time_s for onset in summary.onsets if onset.type is failure]
        for edge_s in rising_edges(predictions.stamp_s, alarm_of_type(predictions, failure)):
            leads_s = [o - edge_s for o in own_s if LATEST_S - 1e-6 <= o - edge_s <= EARLIEST_S + 1e-6]
            label = f"{1000 * max(leads_s):.0f} ms" if leads_s else ""
            said = f", {label} before it began" if leads_s else ""
            title = f"alarm: {failure.name.lower()} at {edge_s - start_s:.2f} s{said}"
            marks.append(Mark(_share(float(edge_s) - start_s, length_s), failure.name.lower(), label, title))
    return tuple(marks)


def _speed(stream: InterventionStream, start_s: float, length_s: float, end: float) -> Curve:
    if not len(stream):
        return Curve("speed", ())
    scale = np.nan_to_num(stream.speed_scale, nan=1.0)
    turns = np.flatnonzero(np.abs(np.diff(scale)) > 1e-3)
    kept = np.unique(np.concatenate([[0], turns, turns + 1, [len(scale) - 1]]))
    x = np.minimum((stream.stamp_s[kept] - start_s) / length_s, end)
    return Curve("speed", _points(x, 1.0 - np.clip(scale[kept], 0.0, 1.0)))


def _strips(
    episode: Episode, summary: EpisodeSummary, length_s: float, edge_px: int, quality: int
) -> tuple[Strip, ...]:
    known = [camera for camera in CAMERA_ORDER if camera in episode.frames]
    cameras = [*known, *(camera for camera in sorted(episode.frames) if camera not in known)]
    duration_s = summary.end_s - summary.start_s
    count = max(1, int(np.ceil(duration_s / PICTURE_PERIOD_S)))
    moments_s: Floats = summary.start_s + PICTURE_PERIOD_S * (np.arange(count, dtype=np.float64) + 0.5)
    strips = []
    for camera in cameras[:2]:
        made = sheet(camera, episode.frames[camera], moments_s, edge_px, quality)
        if made is not None:
            times = ",".join(f"{time_s - summary.start_s:.2f}" for time_s in made.time_s)
            strips.append(Strip(made, _pictures(made, summary.start_s, duration_s, length_s), times))
    return tuple(strips)


def _pictures(made: Sheet, start_s: float, duration_s: float, length_s: float) -> tuple[Picture, ...]:
    step_s = 2 * PICTURE_PERIOD_S * max(1.0, np.ceil(length_s / (32 * PICTURE_PERIOD_S)))
    lefts_s = np.arange(0.0, duration_s, step_s)
    return tuple(
        Picture(
            left=_share(left_s, length_s),
            width=step_s / length_s,
            index=int(np.abs(made.time_s - start_s - left_s - step_s / 2).argmin()),
        )
        for left_s in lefts_s
    )


def _points(x: Floats, y: Floats) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(a), 4), round(float(b), 3)) for a, b in zip(x, y, strict=True))


def _share(time_s: float, length_s: float) -> float:
    return float(np.clip(time_s / length_s, 0.0, 1.0))


def _xs(curves: Sequence[Curve]) -> tuple[tuple[float, float], ...]:
    return curves[0].points if curves else ()
