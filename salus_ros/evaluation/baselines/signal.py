"""Detectors that read one of the monitor's own signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from salus_ros.monitor.signals import SignalSet
from salus_ros.types import Floats

if TYPE_CHECKING:
    from salus_ros.evaluation.records import Record

_POSITION = {name: i for i, name in enumerate(SignalSet().names)}


def column(record: Record, name: str) -> Floats:
    """(N,) one signal by its full name, nan where not available."""
    return record.sample.frames[:, _POSITION[name]].astype(np.float64)


class EffortThreshold:
    """How far the motors' effort departs from its last second: the collision detection of many arms."""

    name = "effort threshold"

    def fit(self, records: Sequence[Record]) -> None:
        """Nothing to learn."""

    def score(self, record: Record) -> Floats:
        """(N,)"""
        return np.abs(column(record, "execution.effort_change"))
