"""What a part of the bench yields, and how often a thing is timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from salus_ros.types import Floats


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, with what it is compared to."""

    name: str
    """What was measured, e.g. ``image to chunk, p50``."""
    value: float
    unit: str
    reference: float = math.nan
    """The same of the reference, in the same unit; nan when there is nothing to compare with."""
    reference_name: str = ""
    """What the reference is, e.g. ``plain eager loop``."""

    @property
    def ratio(self) -> float:
        """Ours over the reference's; nan without one."""
        return self.value / self.reference if self.reference else math.nan


def durations_s(action: Callable[[], object], times: int, *, warm_up: int = 1) -> Floats:
    """(times,) wall time of each call [s], after some that are not counted."""
    for _ in range(warm_up):
        action()
    taken = np.empty(times)
    for index in range(times):
        start = time.perf_counter()
        action()
        taken[index] = time.perf_counter() - start
    return taken
