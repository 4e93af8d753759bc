"""Results that took long, kept between runs of ``salus evaluate``: one that was interrupted goes on.

A result is named by everything that it depends on: the episodes, the settings, and the source of the modules
that made it. Whatever is changed is made anew; the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from salus_ros.errors import SalusError
from salus_ros.monitor.cache import source_hash
from salus_ros.monitor.checkpoint import Checkpoint

T = TypeVar("T")

_TRAINING: Final = (
    "monitor/*.py",
    "monitor/signals/*.py",
    "data/labels.py",
    "robot/model.py",
    "evaluation/smaller_ensembles.py",
    "policy/uncertainty.py",
)
_SCORING: Final = (
    *_TRAINING,
    "evaluation/baselines/*.py",
    *(
        f"evaluation/{name}.py"
        for name in ("detectors", "episode_metrics", "events", "metrics", "records", "retraining")
    ),
)
"""Relative to the package."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of results."""

    folder: Path | None
    """None to keep nothing."""
    data: str
    """Hash of the episodes that are split and learned from."""
    unseen: str = ""
    """Hash of those that are only scored."""

    def checkpoint(self, about: str, make: Callable[[Path | None], Checkpoint]) -> Checkpoint:
        """A trained monitor.

        Args:
            about: everything that it depends on, but for the episodes and the code.
            make: trains it; is given a folder in which an interrupted training goes on.
        """
        if self.folder is None:
            return make(None)
        name = self._name(f"{self.data} {about}", _TRAINING)
        file, state = self.folder / f"{name}.safetensors", self.folder / f"{name}.state"
        try:
            return Checkpoint.load(file)
        except SalusError:
            trained = make(state)
        trained.save(file)
        shutil.rmtree(state, ignore_errors=True)
        return Checkpoint.load(file)

    def scores(self, about: str, make: Callable[[], T]) -> T:
        """What a detector says about the episodes; ``about`` as above."""
        if self.folder is None:
            return make()
        file = self.folder / f"{self._name(f'{self.data} {self.unseen} {about}', _SCORING)}.pickle"
        try:
            found: T = pickle.loads(file.read_bytes())
            return found
        except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError):
            made = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_bytes(pickle.dumps(made))
        partial.replace(file)
        return made

    @staticmethod
    def _name(about: str, sources: tuple[str, ...]) -> str:
        return hashlib.sha256(f"{source_hash(sources)} {about}".encode()).hexdigest()[:24]
