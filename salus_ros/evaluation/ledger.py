"""The record of every look at episodes that are kept for results: each command appends a row a look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

STUDY_SEEDS: Final = range(700_000, 900_000)
"""Seeds of the closed loop that are looked at for results only; see docs/study.md."""
_HEAD: Final = """# Every look at a test set

A number that is looked at often enough is fitted to. The commands that look at test data enter each of their
runs here; nothing is tuned on what they print.

| when | test data | test episodes | monitor | command | AUROC | event F1 |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at test data."""

    when: str
    """UTC."""
    data: str
    episodes: int
    monitor: str
    command: str
    auroc: float | None = None
    event_f1: float | None = None


def enter(ledger: Path, look: Look) -> None:
    """Append a row to the ledger, which is made if there is none."""
    figures = ["-" if value is None else f"{value:.3f}" for value in (look.auroc, look.event_f1)]
    row = [look.when, look.data, str(look.episodes), look.monitor, f"`{look.command}`", *figures]
    ledger.parent.mkdir(parents=True, exist_ok=True)
    if not ledger.exists():
        ledger.write_text(_HEAD)
    with ledger.open("a") as file:
        file.write(f"| {' | '.join(row)} |\n")
