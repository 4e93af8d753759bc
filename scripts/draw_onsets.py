"""Draws ``docs/images/onsets.png``: ten failure onsets with the labels that the simulator gave them.

The scripted expert runs with pushes and wrong gripper commands that make it fail; each picture shows what the
front camera sees around the hand when the onset was found. The same seeds give the same pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import salus_ros.sim.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import numpy as np
from PIL import Image, ImageDraw

from salus_ros.sim.demonstrations import DemonstrationSettings, record
from salus_ros.sim.simulation import Simulation
from salus_ros.types import EpisodeEvent, FailureType

CLUMSY: Final = DemonstrationSettings(
    push_rate_hz=0.5, push_m=(0.05, 0.12), open_share=0.5, empty_close_share=0.3, image_stride=1_000_000
)
COLUMNS: Final = 5
VIEW_PX: Final = 560
HALF_PX: Final = 95
CAPTION_PX: Final = 46


@dataclass(frozen=True)
class Case:
    """An episode, and which of its onsets is shown: the first of this type with these words in its detail."""

    task: str
    seed: int
    failure: FailureType
    disturbance: str = ""
    detail: str = ""


CASES: Final = (
    Case("bin", 0, FailureType.MISS),
    Case("bin", 0, FailureType.DROP),
    Case("bin", 10, FailureType.DROP, "slippery:0.8"),
    Case("bin", 5, FailureType.COLLISION, detail="fixed"),
    Case("bin", 6, FailureType.COLLISION, "nudge:1", detail="cube"),
    Case("bin_past_obstacle", 1, FailureType.COLLISION, detail="fixed"),
    Case("stack", 1, FailureType.MISS),
    Case("stack", 1, FailureType.DROP),
    Case("stack", 5, FailureType.COLLISION, detail="cube"),
    Case("bin_past_obstacle", 4, FailureType.MISS),
)


class _ShownError(Exception):
    """The onset was drawn; the rest of the episode is of no interest."""


def draw(simulation: Simulation, case: Case) -> Image.Image:
    """One picture with its caption.

    Raises:
        LookupError: the episode has no such onset.
    """
    shown: list[Image.Image] = []

    def watch(events: tuple[EpisodeEvent, ...]) -> None:
        for event in events:
            if event.failure is case.failure and case.detail in event.detail:
                shown.append(_captioned(simulation, case, event))
                raise _ShownError

    try:
        record(simulation, case.seed, CLUMSY, case.task, case.disturbance, lambda image: image[:1, :1], watch)
    except _ShownError:
        return shown[0]
    raise LookupError(f"{case} has no such onset; choose another seed")


def _captioned(simulation: Simulation, case: Case, event: EpisodeEvent) -> Image.Image:
    view = simulation.render("front", VIEW_PX, VIEW_PX)
    pose = simulation.camera_pose("front")
    focal = 0.5 * VIEW_PX / np.tan(np.deg2rad(simulation.camera_fovy_deg("front")) / 2)
    x, y, z = pose[:3, :3].T @ (simulation.truth().tool_pose[:3, 3] - pose[:3, 3])
    column = int(np.clip(focal * x / z + VIEW_PX / 2, HALF_PX, VIEW_PX - HALF_PX))
    row = int(np.clip(focal * y / z + VIEW_PX / 2, HALF_PX, VIEW_PX - HALF_PX))
    side = 2 * HALF_PX
    panel = Image.new("RGB", (side + 4, side + CAPTION_PX), "white")
    panel.paste(
        Image.fromarray(view[row - HALF_PX : row + HALF_PX, column - HALF_PX : column + HALF_PX]), (2, 2)
    )
    scene = f"{case.task}, seed {case.seed}" + (f", {case.disturbance}" if case.disturbance else "")
    assert event.failure is not None
    label = f"{event.failure.name.lower()} at {event.stamp_s:.2f} s"
    for line, text in enumerate((scene, label, event.detail)):
        ImageDraw.Draw(panel).text((4, side + 4 + 13 * line), text, fill="black")
    return panel


def sheet(panels: list[Image.Image]) -> Image.Image:
    """All of them on one sheet."""
    width, height = panels[0].size
    rows = -(-len(panels) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    for number, panel in enumerate(panels):
        page.paste(panel, (number % COLUMNS * width, number // COLUMNS * height))
    return page.quantize(128)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/images/onsets.png"))
    output = parser.parse_args().output
    simulation = Simulation()
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet([draw(simulation, case) for case in CASES]).save(output, optimize=True)
    print(f"{output}: {len(CASES)} onsets")


if __name__ == "__main__":
    main()
