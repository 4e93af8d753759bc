"""Contact, felt as effort that differs from what the joints needed a moment ago."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from salus_ros.types import Floats, RobotState

_SLOWER_IN_CONTACT: Final = 10.0


class ContactSense:
    """Effort residual against a slow baseline, as a share of each joint's effort limit.

    The baseline follows what gravity and the motion ask for; during contact it follows more slowly, so that
    a contact does not become the normal case at once, and a changed load does at last. Joints without effort
    are not judged.
    """

    def __init__(
        self,
        effort_limit_nm: Floats,
        contact: tuple[float, float],
        force: tuple[float, float],
        baseline_s: float,
    ) -> None:
        """``contact`` and ``force``: share of the limit, and how long it must last in seconds."""
        self._limit = np.where(effort_limit_nm > 0.0, effort_limit_nm, np.inf)
        self._contact, self._contact_s = contact
        self._force, self._force_s = force
        self._baseline_s = baseline_s
        self.reset()

    def reset(self) -> None:
        """Take the next joint state's effort for normal."""
        self._baseline: Floats | None = None
        self._stamp_s = math.nan
        self._contact_for_s = -1.0
        self._force_for_s = -1.0
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
        step = min(max(state.stamp_s - self._stamp_s, 0.0), self._baseline_s)
        self._stamp_s = state.stamp_s
        self._contact_for_s = _lasting(self._contact_for_s, self.residual >= self._contact, step)
        self._force_for_s = _lasting(self._force_for_s, self.residual >= self._force, step)
        constant_s = self._baseline_s * (_SLOWER_IN_CONTACT if self._contact_for_s >= 0.0 else 1.0)
        self._baseline = self._baseline + difference * (1.0 - math.exp(-step / constant_s))

    @property
    def contact(self) -> bool:
        """The arm touches something that it does not touch normally."""
        return self._contact_for_s >= self._contact_s

    @property
    def force(self) -> bool:
        """The contact is hard."""
        return self._force_for_s >= self._force_s


def _lasting(duration_s: float, true: bool, step_s: float) -> float:
    """How long a condition has been true; negative while it is not."""
    if not true:
        return -1.0
    return 0.0 if duration_s < 0.0 else duration_s + step_s
