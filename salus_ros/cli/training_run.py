"""A training run against the clock: goes on from its state, keeps it every few minutes, shows how it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from tqdm import tqdm

from salus_ros.errors import SalusError

SAVE_EVERY_S: Final = 200.0
SMOOTHING: Final = 0.98
"""Weight of the figures before in an exponential mean over steps."""


class Resumable(Protocol):
    """What can be trained so."""

    step_count: int
    elapsed_s: float

    def step(self, progress: float) -> Mapping[str, float]:
        """One step of the optimiser; ``progress`` in [0, 1] of the run. Returns figures of it."""
        ...

    def state(self) -> dict[str, Any]:
        """All that is needed to resume."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state`` returned; a SalusError where it is of a run of another shape."""
        ...


def train_for(
    trainer: Resumable, budget_s: float, saved: Path, also: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Train until the run has taken ``budget_s`` in all, that before an interruption included.

    Args:
        trainer: what is trained.
        budget_s: time for steps.
        saved: file of the state.
        also: called whenever the state was saved, at the end too.

    Returns:
        The figures of the steps, each an exponential mean.

    Raises:
        SalusError: ``saved`` is of another run.
    """
    if saved.exists():
        trainer.restore(_read(saved))
        print(f"goes on from step {trainer.step_count}, {trainer.elapsed_s / 60:.1f} min")

    def keep() -> None:
        unfinished = saved.with_suffix(".part")
        torch.save(trainer.state(), unfinished)
        unfinished.rename(saved)
        also()

    figures: dict[str, float] = {}
    last_saved_s = trainer.elapsed_s
    with tqdm(total=round(budget_s), initial=round(trainer.elapsed_s), unit="s", desc="training") as bar:
        while trainer.elapsed_s < budget_s:
            start_s = time.monotonic()
            newest = trainer.step(trainer.elapsed_s / budget_s)
            trainer.elapsed_s += time.monotonic() - start_s
            figures = {
                name: SMOOTHING * figures.get(name, value) + (1 - SMOOTHING) * value
                for name, value in newest.items()
            }
            bar.n = min(round(trainer.elapsed_s), round(budget_s))
            if trainer.step_count % 20 == 0:
                bar.set_postfix(step=trainer.step_count, **{k: f"{v:.3f}" for k, v in figures.items()})
            if trainer.elapsed_s - last_saved_s > SAVE_EVERY_S:
                last_saved_s = trainer.elapsed_s
                keep()
    keep()
    return figures


def _read(saved: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(saved, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling raises on a broken file
        reason = str(error).strip().split("\n")[0]
        raise SalusError(f"{saved} cannot be gone on from ({reason}); delete it to begin anew.") from None
    return state
