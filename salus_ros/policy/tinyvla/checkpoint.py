"""Reading and writing TinyVLA checkpoints in the published layout.

Tensors of ensemble member 0 stand where the published code expects its only one; those of
member k > 0 stand under ``members.{k}.``.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.backbone import Attention
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.model import TinyVla
from salus_ros.policy.tinyvla.preprocessing import ImageProcessor, Statistics

WEIGHTS = "model.safetensors"
STATISTICS = "dataset_stats.safetensors"
PUBLISHED_STATISTICS = "dataset_stats.pkl"

_IGNORED = re.compile(r"(attention\.bias|masked_bias|rotary_emb\.inv_freq|position_ids)$")
"""Buffers that older versions of transformers saved; nothing else may be left over."""

_TO_PUBLISHED = (
    ("vision_tower.", "gpt_neox.vision_tower."),
    ("mm_projector.", "gpt_neox.mm_projector."),
)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    model: TinyVla
    tokenizer: Tokenizer
    processor: ImageProcessor
    statistics: Statistics
    hash: str
    """First 16 hexadecimal digits of the SHA-256 over weights and configuration."""


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and refuses everything else: a pickle can run any code."""

    _allowed = frozenset(
        (module, name)
        for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric")
        for name in ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer")
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._allowed:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def _unpickle_statistics(stream: BinaryIO, path: Path) -> Mapping[str, Any]:
    try:
        values = _ArraysOnly(stream).load()
    except Exception as error:
        raise SalusError(
            f"{path} was refused ({error}); expected a pickled dict of numpy arrays, as TinyVLA writes."
        ) from None
    if not isinstance(values, dict):
        raise SalusError(f"{path} holds a {type(values).__name__}, expected a dict of numpy arrays.")
    return values


def read_statistics(folder: Path) -> Statistics:
    """Read the normalisation beside a checkpoint, in the safe or in the published format."""
    safe, published = folder / STATISTICS, folder / PUBLISHED_STATISTICS
    if safe.exists():
        values: Mapping[str, Any] = {key: value.numpy() for key, value in load_file(safe).items()}
    elif published.exists():
        with published.open("rb") as stream:
            values = _unpickle_statistics(stream, published)
    else:
        raise SalusError(
            f"{folder} holds neither {STATISTICS} nor {PUBLISHED_STATISTICS}, without which actions have no "
            "units; copy it from the training run."
        )
    fields = Statistics.__dataclass_fields__
    missing = [name for name in fields if name not in values]
    if missing:
        raise SalusError(
            f"the statistics in {folder} lack {', '.join(missing)}; copy them from the training run."
        )
    return Statistics(**{name: np.asarray(values[name], np.float32) for name in fields})


def _is_per_member(name: str, last_layer: int) -> bool:
    prefixes = ("embed_out.", "auxiliary.", f"gpt_neox.layers.{last_layer}.", "gpt_neox.final_layer_norm.")
    return name.startswith(prefixes)


def _published_name(name: str) -> str:
    for ours, theirs in _TO_PUBLISHED:
        if name.startswith(ours):
            name = theirs + name[len(ours) :]
    return name


def to_published(model: TinyVla) -> dict[str, Tensor]:
    """The model's parameters under the names of the published layout."""
    members = model.extensions.members
    last = len(model.gpt_neox.layers) - 1
    out: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        published = _published_name(name)
        if members == 1 or not _is_per_member(name, last):
            out[published] = tensor.contiguous()
            continue
        for index, part in enumerate(tensor.chunk(members)):
            out[published if index == 0 else f"members.{index}.{published}"] = part.clone()
    return out


def from_published(model: TinyVla, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load parameters saved under published names into ``model``; nothing may be missing or left over."""
    members = model.extensions.members
    last = len(model.gpt_neox.layers) - 1
    left = {name for name in tensors if not _IGNORED.search(name)}
    state: dict[str, Tensor] = {}
    for name, parameter in model.state_dict().items():
        published = _published_name(name)
        names = [published]
        if members > 1 and _is_per_member(name, last):
            names += [f"members.{index}.{published}" for index in range(1, members)]
        for needed in names:
            if needed not in tensors:
                raise SalusError(
                    f"{where} lacks the tensor {needed}; the checkpoint is incomplete, copy it again."
                )
        tensor = torch.cat([tensors[needed] for needed in names]) if len(names) > 1 else tensors[published]
        if tensor.shape != parameter.shape:
            raise SalusError(
                f"{where}: {published} has shape {tuple(tensor.shape)}, expected {tuple(parameter.shape)} "
                "from config.json; config and weights do not belong together."
            )
        state[name] = tensor.to(parameter.dtype)
        left -= set(names)
    if left:
        raise SalusError(
            f"{where} holds {len(left)} unexpected tensors, the first {min(left)}; it is not a TinyVLA "
            "checkpoint of this configuration."
        )
    model.load_state_dict(state)


def _head_widths(tensors: Mapping[str, Tensor], where: str) -> list[int]:
    """Channel widths of the U-Net, read from the shapes."""
    widths: list[int] = []
    while (name := f"embed_out.down_modules.{len(widths)}.0.blocks.0.block.0.weight") in tensors:
        widths.append(int(tensors[name].shape[0]))
    if not widths:
        raise SalusError(
            f"{where} holds no trained action head: it is a backbone, and cannot move a robot; "
            "train a head with `salus train-policy --init-from`."
        )
    return widths


def load(folder: Path, attention: Attention = "sdpa") -> Checkpoint:
    """Load a checkpoint directory.

    Raises:
        SalusError: a file is missing or broken, or the directory holds no trained head.
    """
    config = TinyVlaConfig.read(folder / "config.json")
    weights = folder / WEIGHTS
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise SalusError(f"{weights} cannot be read ({error}); copy the checkpoint again.") from None
    model = TinyVla(config, _head_widths(tensors, str(weights)), attention)
    from_published(model, tensors, str(weights))
    model.eval().requires_grad_(False)
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise SalusError(
            f"{folder / 'tokenizer.json'} cannot be read ({error}); copy the checkpoint again."
        ) from None
    digest = hashlib.sha256(weights.read_bytes())
    digest.update((folder / "config.json").read_bytes())
    return Checkpoint(
        model=model,
        tokenizer=tokenizer,
        processor=ImageProcessor.read(folder / "preprocessor_config.json"),
        statistics=read_statistics(folder),
        hash=digest.hexdigest()[:16],
    )


def save(
    folder: Path, model: TinyVla, tokenizer: Tokenizer, processor: ImageProcessor, statistics: Statistics
) -> None:
    """Write a checkpoint directory in the published layout, weights in 16 bits as published ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(torch.float16) for name, tensor in to_published(model).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    save_file(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in asdict(statistics).items()},
        folder / STATISTICS,
    )
    (folder / "config.json").write_text(json.dumps(dict(model.config.raw), indent=2, sort_keys=True) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = "<|padding|>"
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    settings = {**special, "tokenizer_class": "GPTNeoXTokenizerFast", "add_prefix_space": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    side = processor.size
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "do_center_crop": True,
                "do_convert_rgb": True,
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "crop_size": {"height": side, "width": side},
                "size": {"shortest_edge": side},
                "image_mean": list(processor.mean),
                "image_std": list(processor.std),
                "resample": processor.resample,
                "rescale_factor": 1 / 255,
            },
            indent=2,
        )
        + "\n"
    )
