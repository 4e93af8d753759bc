"""A trained monitor as one safetensors file: weights, and everything else that is needed to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from salus_ros.errors import SalusError
from salus_ros.monitor.calibration import Platt
from salus_ros.monitor.latents import LatentReference
from salus_ros.monitor.novelty import Novelty
from salus_ros.monitor.predictor import Normalisation
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.types import HORIZONS_S, FailureType, Floats, Floats32

FORMAT: Final = 3
FILE_NAME: Final = "monitor.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What training and calibration leave behind."""

    settings: MonitorSettings
    kind: str
    """Which predictor: see ``predictors``."""
    signals: tuple[str, ...]
    """``family.name``, in the network's order; F of them."""
    members: Sequence[Mapping[str, Floats32]]
    """Weights of each network."""
    normalisation: Normalisation
    calibration: tuple[tuple[Platt, ...], ...]
    """Failure types x horizons."""
    timeout_calibration: Platt
    usual: Floats
    """(2, failure types), median and spread of each type's log odds in successes, which thresholds go by."""
    threshold: Floats
    """(failure types,), probability at the longest horizon from which the alarm is up."""
    alpha: float
    """False alarms per successful episode that the thresholds promise."""
    novelty: Novelty
    novelty_alpha: float
    """Share of episodes like the training ones that are said to lie outside at some moment, at most."""
    smoothing: float
    """Weight of the logits before in an exponential mean; 0 for none."""
    latents: LatentReference | None
    """Latents of successes; ``None`` where the policy publishes none."""
    data_hash: str
    policy_hashes: tuple[str, ...]
    """Policies in the training data."""
    seed: int
    report: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the training run, for people."""

    def save(self, path: Path) -> None:
        """Writes the file in one go: an interruption leaves the one before."""
        tensors: dict[str, NDArray[Any]] = {
            "normalisation.mean": self.normalisation.mean,
            "normalisation.std": self.normalisation.std,
            "novelty.mean": self.novelty.mean,
            "novelty.precision": self.novelty.precision.astype(np.float32),
        }
        if self.latents is not None:
            tensors |= {f"latents.{name}": value for name, value in self.latents.tensors().items()}
        for i, weights in enumerate(self.members):
            tensors |= {f"member{i}.{name}": np.ascontiguousarray(value) for name, value in weights.items()}
        about = {
            "format": FORMAT,
            "settings": self.settings.model_dump(),
            "kind": self.kind,
            "signals": self.signals,
            "members": len(self.members),
            "failure_types": [t.name for t in FailureType],
            "horizons_s": HORIZONS_S,
            "calibration": [[[p.slope, p.offset] for p in row] for row in self.calibration],
            "timeout_calibration": [self.timeout_calibration.slope, self.timeout_calibration.offset],
            "usual": self.usual.tolist(),
            "threshold": [float(t) for t in self.threshold],
            "alpha": self.alpha,
            "novelty_threshold": self.novelty.threshold,
            "novelty_alpha": self.novelty_alpha,
            "smoothing": self.smoothing,
            "data_hash": self.data_hash,
            "policy_hashes": self.policy_hashes,
            "seed": self.seed,
            "report": self.report,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(save(tensors, metadata={"salus_monitor": json.dumps(about)}))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads a file, or the ``monitor.safetensors`` of a folder.

        Raises:
            SalusError: there is none, or it is no monitor of this version.
        """
        file = path / FILE_NAME if path.is_dir() else path
        if not file.is_file():
            raise SalusError(
                f"there is no monitor checkpoint at {file}; train one with `salus train-monitor DATA`, "
                "or give the folder or file of one."
            )
        try:
            with safe_open(file, framework="numpy") as stored:
                metadata = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return cls._from_parts(tensors, json.loads(metadata["salus_monitor"]))
        except (SafetensorError, KeyError, ValueError, TypeError, ValidationError, OSError) as error:
            raise SalusError(
                f"{file} is no monitor checkpoint of this version ({type(error).__name__}: {error}); "
                "expected one written by `salus train-monitor`: train it again."
            ) from error

    @classmethod
    def _from_parts(cls, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> Checkpoint:
        expected = (FORMAT, [t.name for t in FailureType], list(HORIZONS_S))
        given = (about["format"], about["failure_types"], about["horizons_s"])
        if given != expected:
            raise ValueError(f"format, failure types and horizons are {given}, not {expected}")
        members = [
            {
                name.split(".", 1)[1]: value
                for name, value in tensors.items()
                if name.startswith(f"member{i}.")
            }
            for i in range(about["members"])
        ]
        return cls(
            settings=MonitorSettings(**about["settings"]),
            kind=about["kind"],
            signals=tuple(about["signals"]),
            members=members,
            normalisation=Normalisation(tensors["normalisation.mean"], tensors["normalisation.std"]),
            calibration=tuple(tuple(Platt(*pair) for pair in row) for row in about["calibration"]),
            timeout_calibration=Platt(*about["timeout_calibration"]),
            usual=np.array(about["usual"]),
            threshold=np.array(about["threshold"]),
            alpha=about["alpha"],
            novelty=Novelty(
                tensors["novelty.mean"], tensors["novelty.precision"], about["novelty_threshold"]
            ),
            novelty_alpha=about["novelty_alpha"],
            smoothing=about["smoothing"],
            latents=LatentReference.from_tensors(
                {n.split(".", 1)[1]: v for n, v in tensors.items() if n.startswith("latents.")}
            ),
            data_hash=about["data_hash"],
            policy_hashes=tuple(about["policy_hashes"]),
            seed=about["seed"],
            report=about["report"],
        )
