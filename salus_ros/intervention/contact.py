"""Contact, felt as effort that differs from what the joints needed a moment ago."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from salus_ros.types import Floats, RobotState

_SLOWER_IN_CONTACT: Final = 4.0


class ContactSense:
    """Effort residual against a slow baseline, as a share of each joint's effort limit.

    The baseline follows what gravity and the motion ask for; during contact it follows more slowly, so that
    a contact does not become the normal case at once, and a changed load does at last. Joints without effort
    are not judged.
    """

    def __init__(
        self,
        effort_limit_nm: Floats,
        contact_fraction: float,
        force_fraction: float,
        persistence: int,
        baseline_s: float,
    ) -> None:
        self._limit = np.where(effort_limit_nm > 0.0, effort_limit_nm, np.inf)
        self._contact = contact_fraction
        self._force = force_fraction
        self._persistence = persistence
        self._baseline_s = baseline_s
        self.reset()

    def reset(self) -> None:
        """Take the next joint state's effort for normal."""
        self._baseline: Floats | None = None
        self._stamp_s = math.nan
        self._contact_row = 0
        self._force_row = 0
        self.residual = 0.0
        """Highest residual as a share of the limit."""

    def feel(self, state: RobotState) -> None:
        """Take a valid joint state."""
        effort = state.joint_effort_nm
        known = np.isfinite(effort)
        if self._baseline is None:
            self._baseline = np.where(known, effort, np.nan)
            self._stamp_s = state.stamp_s
            return
        known &= np.isfinite(self._baseline)
        difference = np.where(known, effort - self._baseline, 0.0)
        self.residual = float(np.max(np.abs(difference) / self._limit, initial=0.0))
        self._contact_row = self._contact_row + 1 if self.residual >= self._contact else 0
        self._force_row = self._force_row + 1 if self.residual >= self._force else 0
        step = min(max(state.stamp_s - self._stamp_s, 0.0), self._baseline_s)
        self._stamp_s = state.stamp_s
        constant_s = self._baseline_s * (_SLOWER_IN_CONTACT if self.contact else 1.0)
        self._baseline = self._baseline + difference * (1.0 - math.exp(-step / constant_s))

    @property
    def contact(self) -> bool:
        """The arm touches something that it does not touch normally."""
        return self._contact_row >= self._persistence

    @property
    def force(self) -> bool:
        """The contact is hard."""
        return self._force_row >= self._persistence
