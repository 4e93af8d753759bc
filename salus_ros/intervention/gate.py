"""The gate: policy outputs and failure predictions in, safe commands out."""

from __future__ import annotations

from salus_ros.intervention.inputs import Decision, GateInputs
from salus_ros.intervention.settings import GateSettings
from salus_ros.robot.model import ArmModel


class Gate:
    """Decides at every control period what the arm does; pure, time is passed in.

    The caller starts it with ``Request(RequestKind.ACTIVATE)``, repeated until it is answered with
    ``accepted``: the gate stays ``INACTIVE`` until joint states, policy output and prediction are fresh.
    Deactivate it before the arm or the simulated world is moved by somebody else, activate it again after.
    """

    def __init__(self, settings: GateSettings, arm: ArmModel) -> None:
        self.settings = settings
        self._arm = arm

    def update(self, now_s: float, inputs: GateInputs) -> Decision:
        """Decide for this moment.

        Args:
            now_s: Steady time; a simulator that runs in one process passes its own time.
            inputs: What arrived since the last tick.
        """
        raise NotImplementedError
