"""Contact, felt as a force at the tool: effort that differs from what the joints needed a moment ago."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats, RobotState

_SLOWER_IN_CONTACT: Final = 10.0
_MOVED_RAD: Final = 0.03
"""How far a joint may move before the Jacobian is computed again."""

_DIFFERENCE_RAD: Final = 1e-5


class ContactSense:
    """The force at the tool that explains best how the joints' effort differs from a slow baseline.

    The baseline follows what gravity and the motion ask for; during contact it follows more slowly, so that
    a contact does not become the normal case at once, and a changed load does at last. A joint without
    effort counts as one that feels nothing, and feels from the moment on at which it has some.
    """

    def __init__(
        self, arm: ArmModel, contact: tuple[float, float], hard: tuple[float, float], baseline_s: float
    ) -> None:
        """``contact`` and ``hard``: force in newtons, and how long it must last in seconds."""
        self._arm = arm
        self._contact_n, self._contact_s = contact
        self._hard_n, self._hard_s = hard
        self._baseline_s = baseline_s
        self._place: Floats = np.array(math.inf)
        """(J,) where the Jacobian was computed; at first infinitely far away."""
        self._to_force: Floats
        """(3, J), joint torques to the force at the tool there."""
        self.largest_n = 0.0
        """The largest force since the count was last begun anew."""
        self.reset()

    def reset(self) -> None:
        """Take the next joint state's effort for normal."""
        self._baseline: Floats = np.array(math.nan)
        self._stamp_s = math.inf
        self._contact_for_s = self._hard_for_s = -math.inf
        self.force_n = 0.0
        """Estimated force at the tool."""

    def feel(self, state: RobotState) -> None:
        """Take a valid joint state."""
        effort = state.joint_effort_nm
        baseline = np.where(np.isfinite(self._baseline), self._baseline, effort)
        difference = effort - baseline
        difference = np.where(np.isfinite(difference), difference, 0.0)
        if not np.abs(state.joint_position_rad - self._place).max() <= _MOVED_RAD:
            self._to_force = self._inverse_jacobian(state.joint_position_rad)
            self._place = state.joint_position_rad
        self.force_n = float(np.linalg.norm(self._to_force @ difference))
        self.largest_n = max(self.largest_n, self.force_n)
        step = min(max(state.stamp_s - self._stamp_s, 0.0), self._baseline_s)
        self._stamp_s = state.stamp_s
        self._contact_for_s = _lasting(self._contact_for_s, self.force_n >= self._contact_n, step)
        self._hard_for_s = _lasting(self._hard_for_s, self.force_n >= self._hard_n, step)
        constant_s = self._baseline_s * (_SLOWER_IN_CONTACT if self._contact_for_s >= 0.0 else 1.0)
        self._baseline = baseline + difference * (1.0 - math.exp(-step / constant_s))

    @property
    def feels(self) -> bool:
        """Whether any joint has effort."""
        return bool(np.isfinite(self._baseline).any())

    @property
    def contact(self) -> bool:
        """The arm touches something that it does not touch normally."""
        return self._contact_for_s >= self._contact_s

    @property
    def hard(self) -> bool:
        """The contact is hard."""
        return self._hard_for_s >= self._hard_s

    def _inverse_jacobian(self, position: Floats) -> Floats:
        """(3, J), joint torques to the force at the tool, by least squares."""
        joints = len(position)
        around = np.concatenate([position[None], position + _DIFFERENCE_RAD * np.eye(joints)])
        place = self._arm.forward(around)[:, :3, 3]
        jacobian_transposed = (place[1:] - place[0]) / _DIFFERENCE_RAD
        return np.asarray(np.linalg.pinv(jacobian_transposed))


def _lasting(duration_s: float, true: bool, step_s: float) -> float:
    """How long a condition has been true; minus infinity while it is not."""
    return max(duration_s + step_s, 0.0) if true else -math.inf
