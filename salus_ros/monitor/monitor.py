"""The monitor: newest inputs in, probability of each failure inside each horizon out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.judgement import Smoother, judge
from salus_ros.monitor.novelty import window_means
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.predictor import REACH, probabilities
from salus_ros.monitor.predictors import load_predictor
from salus_ros.types import (
    FailurePrediction,
    InterventionState,
    PointCloud,
    PolicyOutput,
    RobotState,
)


class Monitor:
    """Foresees failures of one robot.

    Hand over each message as it arrives, and ask for a prediction at ``settings.period_s``. Nothing here
    raises on bad input: what cannot be used is counted in ``refused`` and treated as missing.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._perception = Perception(checkpoint.settings, checkpoint.signals, checkpoint.latents)
        self._predictor = load_predictor(checkpoint.kind, checkpoint.members, checkpoint.signals)
        self._smoother = Smoother(checkpoint.smoothing)
        if self._predictor.inputs != 2 * len(checkpoint.signals):
            raise SalusError(
                f"the monitor's network takes {self._predictor.inputs} inputs, but its "
                f"{len(checkpoint.signals)} signals and their masks are {2 * len(checkpoint.signals)}; "
                "train the monitor again."
            )
        self.foreign_policy = ""
        """Hash of the newest policy when the monitor was trained on others, else empty."""

    @classmethod
    def load(cls, path: str | Path) -> Monitor:
        """Reads a checkpoint file, or the folder that holds ``monitor.safetensors``.

        Raises:
            SalusError: there is none, or it is no monitor of this version.
        """
        return cls(Checkpoint.load(Path(path)))

    @property
    def period_s(self) -> float:
        """Time between two predictions that the monitor was trained for."""
        return self.checkpoint.settings.period_s

    @property
    def refused(self) -> Mapping[str, int]:
        """Messages that could not be used, by reason."""
        return self._perception.inputs.refused

    def stale(self, now_s: float) -> tuple[str, ...]:
        """Inputs that never came or are too old: ``robot``, ``policy``, ``points``, ``intervention``."""
        return self._perception.inputs.stale(now_s)

    def reset(self) -> None:
        """Forgets the episode before."""
        self._perception.reset()
        self._smoother.clear()

    def observe_robot(self, state: RobotState) -> None:
        """Takes a measured state."""
        self._perception.inputs.robot(state)

    def observe_policy(self, output: PolicyOutput) -> None:
        """Takes a policy output when it arrives."""
        known = output.policy_hash in self.checkpoint.policy_hashes
        self.foreign_policy = "" if known else output.policy_hash
        self._perception.inputs.policy(output)

    def observe_points(self, cloud: PointCloud) -> None:
        """Takes a depth cloud."""
        self._perception.inputs.points(cloud)

    def observe_intervention(self, state: InterventionState) -> None:
        """Takes what the gate does."""
        self._perception.inputs.intervention(state)

    def predict(self, now_s: float) -> FailurePrediction | None:
        """Judges the newest inputs.

        Returns:
            ``None`` while there is no fresh joint state or no fresh policy output; other inputs may be
            missing.
        """
        seen = self._perception.look(now_s) if np.isfinite(now_s) else None
        if seen is None:
            self._smoother.clear()
            return None
        sequence, window = seen
        inputs = self.checkpoint.normalisation.apply(window)
        logits = self._predictor.sequence(inputs[-REACH:])
        hazard, timeout = self._smoother(logits.hazard[0], float(logits.timeout[0]))
        return judge(
            self.checkpoint,
            probabilities(hazard),
            timeout,
            distance=float(self.checkpoint.novelty.distance(window_means(inputs, len(inputs))[0])),
            stamp_s=now_s,
            sequence=sequence,
        )
