"""Where the tensors of a TinyVLA lie: every layout that the released code writes.

| layout | what the folder holds |
|---|---|
| whole | ``config.json`` and ``model.safetensors``, or shards and their index; or ``.bin`` files so |
| run of a whole fine-tune | ``config.json``, ``dataset_stats.pkl`` and ``checkpoint-N/`` with the weights |
| LoRA run | the same, with ``adapter_config.json``, ``adapter_model.bin`` and ``non_lora_trainables.bin`` |

Pickles are opened with ``weights_only``, which admits tensors and nothing that runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from salus_ros.errors import SalusError

WEIGHTS: Final = "model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER: Final = "adapter_model.bin"
NON_LORA: Final = "non_lora_trainables.bin"
STATISTICS: Final = ("dataset_stats.safetensors", "dataset_stats.pkl")
_WHOLE: Final = (WEIGHTS, f"{WEIGHTS}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_ADAPTERS: Final = ("adapter_model.safetensors", ADAPTER)
OF_HEADS: Final = ("embed_out.", "proj_to_action.", "auxiliary.", "members.", "gpt_neox.adapter.")
"""How the names of tensors begin that a backbone has not, or not as a policy has them."""
_FACTOR: Final = re.compile(r"\.lora_[AB]\.")
_STEP: Final = re.compile(r"checkpoint-(\d+)")
_AGAIN: Final = "copy the checkpoint again"


@dataclass(frozen=True)
class Layout:
    """The files of one checkpoint."""

    folder: Path
    """Holds the weights."""
    run: Path
    """Holds what belongs to the whole training run; often the same."""
    kind: str
    """In words, for people."""
    weights: tuple[Path, ...]

    def find(self, *names: str) -> Path | None:
        """The first of these files that is beside the weights, in the run, or in the LoRA's backbone."""
        places = [self.folder, self.run, *self._backbone()]
        found = (place / name for place in places for name in names if (place / name).is_file())
        return next(found, None)

    def need(self, name: str, remedy: str) -> Path:
        """The file, or a sentence that says where it was looked for."""
        path = self.find(name)
        if path is None:
            looked = " nor ".join(dict.fromkeys((str(self.folder), str(self.run))))
            raise SalusError(f"{name} is not in {looked}; {remedy}.")
        return path

    @property
    def adapters(self) -> str | None:
        """What the LoRA of this layout is, in words for people; none for other layouts."""
        if not (self.folder / ADAPTER_CONFIG).is_file():
            return None
        settings = _read_json(self.folder / ADAPTER_CONFIG)
        adapted = sum(".lora_A." in name for name in read_tensors(self.weights[0]))
        return f"rank {settings['r']}, alpha {settings['lora_alpha']}, on {adapted} linear layers"

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under their published names, adapters merged.

        Raises:
            SalusError: a file is missing, broken, or holds more than tensors.
        """
        if (self.folder / ADAPTER_CONFIG).is_file():
            return self._merged()
        tensors: dict[str, Tensor] = {}
        for path in self.weights:
            tensors |= read_tensors(path)
        return tensors

    def _backbone(self) -> Iterable[Path]:
        """The folder that the LoRA was trained from, where it is on this machine."""
        path = self.folder / ADAPTER_CONFIG
        base = _read_json(path).get("base_model_name_or_path") if path.is_file() else None
        usable = isinstance(base, str) and base != "" and (Path(base) / "config.json").is_file()
        return [Path(str(base))] if usable else []

    def _merged(self) -> dict[str, Tensor]:
        settings = _read_json(self.folder / ADAPTER_CONFIG)
        refused = [
            key
            for key in ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
            if settings.get(key)
        ]
        if settings.get("peft_type") != "LORA" or refused:
            what = ", ".join(refused) or f"peft_type {settings.get('peft_type')!r}"
            raise SalusError(
                f"{self.folder / ADAPTER_CONFIG} says {what}, and only plain LoRA is known; "
                "merge the adapter with peft and give the merged checkpoint."
            )
        try:
            rank, alpha = int(settings["r"]), float(settings["lora_alpha"])
            scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise SalusError(
                f"{self.folder / ADAPTER_CONFIG} has no usable r and lora_alpha ({error!r}); {_AGAIN}."
            ) from None
        adapter, *others = (read_tensors(path) for path in self.weights)
        tensors: dict[str, Tensor] = {}
        for backbone in self._backbone():
            found = locate(backbone).tensors()
            # The run has a head of its own; the backbone's is of a language model, or of an earlier policy.
            tensors |= {name: tensor for name, tensor in found.items() if not name.startswith(OF_HEADS)}
        for part in others:
            tensors |= {_bare(name): tensor for name, tensor in part.items()}
        unknown = [name for name in adapter if not _FACTOR.search(name)]
        if unknown:
            raise SalusError(
                f"{self.weights[0]} holds {len(unknown)} tensors that are no part of plain LoRA, the first "
                f"{min(unknown)}; merge the adapter with peft and give the merged checkpoint."
            )
        for name in sorted({_FACTOR.sub(".lora_A.", name) for name in adapter}):
            _merge(tensors, adapter, name, rank, scale, self.folder)
        return tensors


def locate(folder: Path) -> Layout:
    """Find out which layout a folder has.

    A run folder stands for its newest checkpoint.

    Raises:
        SalusError: it has none of them, or a file of it is missing.
    """
    if not folder.is_dir():
        raise SalusError(f"{folder} is no directory; give the directory of a TinyVLA checkpoint.")
    run = (
        folder.parent
        if _STEP.fullmatch(folder.name) and (folder.parent / "config.json").is_file()
        else folder
    )
    if (folder / ADAPTER_CONFIG).is_file():
        adapter = next((folder / name for name in _ADAPTERS if (folder / name).is_file()), None)
        rest = folder / NON_LORA
        if adapter is None or not rest.is_file():
            lacking = NON_LORA if adapter else " and ".join(_ADAPTERS)
            raise SalusError(
                f"{folder} holds {ADAPTER_CONFIG} but no {lacking}; "
                "copy the whole folder from the training machine (process_ckpts.sh of TinyVLA makes it)."
            )
        return Layout(folder, run, f"LoRA fine-tune{_step(folder)}", (adapter, rest))
    whole = next((folder / name for name in _WHOLE if (folder / name).is_file()), None)
    if whole is not None:
        shards = _shards(whole) if whole.name.endswith(".index.json") else (whole,)
        many = f" in {len(shards)} shards" if len(shards) > 1 else ""
        return Layout(folder, run, f"whole checkpoint{many}{_step(folder)}", shards)
    steps = [path for path in folder.glob("checkpoint-*") if path.is_dir() and _STEP.fullmatch(path.name)]
    if steps:
        return locate(max(steps, key=lambda path: int(path.name.partition("-")[2])))
    if not (folder / "config.json").is_file():
        raise SalusError(f"{folder} holds no config.json; give the directory of a TinyVLA checkpoint.")
    raise SalusError(f"{folder} holds no weights ({', '.join(_WHOLE)} or checkpoint-N); {_AGAIN}.")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or ``.bin`` file; code in a pickle is never run."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise SalusError(f"{path} cannot be read ({error}); {_AGAIN}.") from None
    except Exception as error:  # whatever unpickling raises on a broken or hostile file
        reason = str(error).strip().split("\n")[0]
        raise SalusError(f"{path} was refused ({reason}); expected tensors only: {_AGAIN}.") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise SalusError(f"{path} holds more than named tensors; {_AGAIN}.")
    return loaded


def _step(folder: Path) -> str:
    match = _STEP.fullmatch(folder.name)
    return f" of step {match.group(1)}" if match else ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SalusError(f"{path} cannot be read as JSON ({error}); {_AGAIN}.") from None
    if not isinstance(raw, dict):
        raise SalusError(f"{path} holds no JSON object; {_AGAIN}.")
    return raw


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise SalusError(f"{index} has no weight_map; {_AGAIN}.")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise SalusError(f"{index} names the shard {name!r}, which is not beside it; {_AGAIN}.")
    return tuple(index.parent / name for name in names)


def _bare(name: str) -> str:
    """A peft name without what peft puts around it."""
    return name.removeprefix("base_model.").removeprefix("model.").replace(".base_layer.", ".")


def _merge(
    tensors: dict[str, Tensor],
    adapter: dict[str, Tensor],
    name_a: str,
    rank: int,
    scale: float,
    folder: Path,
) -> None:
    name_b = name_a.replace(".lora_A.", ".lora_B.")
    target = re.sub(r"\.lora_A\.(default\.)?", ".", _bare(name_a))
    lacking = [
        name for name, held in ((name_a, adapter), (name_b, adapter), (target, tensors)) if name not in held
    ]
    if lacking:
        raise SalusError(f"{folder} adapts a layer, but lacks the tensor {lacking[0]}; {_AGAIN}.")
    a, b, weight = adapter[name_a], adapter[name_b], tensors[target]
    rows, columns = weight.shape if weight.dim() == 2 else (0, 0)
    if a.shape != (rank, columns) or b.shape != (rows, rank):
        raise SalusError(
            f"{folder}: the adapter of {target} has factors of shapes {tuple(a.shape)} and {tuple(b.shape)}, "
            f"but {ADAPTER_CONFIG} says rank {rank} and the layer has shape {tuple(weight.shape)}; they do "
            "not belong together."
        )
    tensors[target] = weight.float() + (b.float() @ a.float()) * scale
