"""Normalisation of actions and states, and the pickle that the released code keeps it in."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save_file

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.layout import STATISTICS, Layout, read_tensors
from salus_ros.types import Floats32


@dataclass(frozen=True)
class Statistics:
    """Normalisation of actions and states (float32)."""

    qpos_mean: Floats32
    """(S,)"""
    qpos_std: Floats32
    action_mean: Floats32
    """(D,), or (T, D) for per-step normalisation."""
    action_std: Floats32
    action_min: Floats32
    action_max: Floats32

    def normalise_state(self, state: Floats32) -> Floats32:
        """(..., S)"""
        return ((state - self.qpos_mean) / self.qpos_std).astype(np.float32)

    def normalise_actions(self, actions: Floats32, normalisation: str) -> Floats32:
        """The inverse of ``actions``: (..., T, D)."""
        if normalisation == "per_step":
            return ((actions - self.action_mean) / self.action_std).astype(np.float32)
        span = self.action_max - self.action_min
        return ((actions - self.action_min) / span * 2 - 1).astype(np.float32)

    def actions(self, normalised: Floats32, normalisation: str) -> Floats32:
        """Normalised chunks (..., T, D) to actions: by mean and deviation (``per_step``, and the ACT head's
        per dimension), or by range."""
        if normalisation == "per_step":
            return (normalised * self.action_std + self.action_mean).astype(np.float32)
        span = self.action_max - self.action_min
        return (((normalised + 1) / 2) * span + self.action_min).astype(np.float32)


def _reconstructors() -> dict[tuple[str, str], Any]:
    """What a pickled array calls, under the module names of NumPy 1 and 2."""
    array = np.zeros(1, np.float32)
    plain, buffer = array.__reduce__()[0], array.__reduce_ex__(5)[0]
    scalar = array[0].__reduce__()[0]
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = plain
        allowed[f"{core}.multiarray", "scalar"] = scalar
        allowed[f"{core}.numeric", "_frombuffer"] = buffer
    return allowed


class ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and refuses everything else: a pickle can run any code."""

    _allowed: Final = _reconstructors()

    def find_class(self, module: str, name: str) -> Any:
        """The reconstructor, never imported by the name that the file gives."""
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return self._allowed[module, name]


def _unpickle(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            values = ArraysOnly(stream).load()
    except Exception as error:  # whatever unpickling raises on a broken or hostile file
        raise SalusError(
            f"{path} was refused ({error}); expected a pickled dict of numpy arrays, as TinyVLA writes."
        ) from None
    if not isinstance(values, dict) or not all(isinstance(value, np.ndarray) for value in values.values()):
        raise SalusError(f"{path} was refused (it holds more than arrays); expected a dict of numpy arrays.")
    return values


def read_statistics(layout: Layout, config: TinyVlaConfig) -> Statistics:
    """Read the normalisation beside a checkpoint or in its run, in the safe or in the published format.

    Raises:
        SalusError: there is none, it is broken, or it does not fit the configuration.
    """
    path = layout.find(*STATISTICS)
    if path is None:
        raise SalusError(
            f"{layout.run} holds neither {' nor '.join(STATISTICS)}, without which actions have no units; "
            "copy it from the training run."
        )
    if path.suffix == ".pkl":
        values: Mapping[str, Any] = _unpickle(path)
    else:
        values = {key: value.numpy() for key, value in read_tensors(path).items()}
    missing = [name for name in Statistics.__dataclass_fields__ if name not in values]
    if missing:
        raise SalusError(f"{path} lacks {', '.join(missing)}; copy it from the training run.")
    arrays = {name: _checked(values[name], name, path, config) for name in Statistics.__dataclass_fields__}
    statistics = Statistics(**arrays)
    if (statistics.qpos_std <= 0).any() or (statistics.action_std <= 0).any():
        raise SalusError(f"{path} has deviations that are not above 0; copy it from the training run.")
    if (statistics.action_max < statistics.action_min).any():
        raise SalusError(f"{path} has an action_max below its action_min; copy it from the training run.")
    return statistics


def _checked(value: Any, name: str, path: Path, config: TinyVlaConfig) -> Floats32:
    dim = config.action_dim if name.startswith("action") else config.state_dim
    shapes: list[tuple[int, ...]] = [(dim,)]
    per_step = config.extensions.action_normalisation == "per_step" and config.head != "act"
    if per_step and name in ("action_mean", "action_std"):
        shapes.append((config.chunk_size, dim))
    if value.dtype.kind not in "fiu" or value.shape not in shapes or not np.isfinite(value).all():
        raise SalusError(
            f"{path}: {name} is {value.dtype} of shape {value.shape}, expected {shapes[-1]} finite numbers; "
            "it belongs to another training run."
        )
    return np.asarray(value, np.float32)


def write_published_statistics(path: Path, statistics: Statistics) -> None:
    """Write them as the released code reads them: a pickled dict of arrays."""
    path.write_bytes(pickle.dumps(asdict(statistics), protocol=4))


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write them as tensors, which no reader has to run."""
    save_file(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in asdict(statistics).items()},
        path,
    )
