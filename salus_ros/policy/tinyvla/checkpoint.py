"""Reading and writing TinyVLA checkpoints: configuration, weights, tokenizer, image processor, statistics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.backbone import Attention
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.layout import OF_HEADS, STATISTICS, WEIGHTS, Layout, locate
from salus_ros.policy.tinyvla.model import LlavaPythia, TinyVla, TinyVlaAct
from salus_ros.policy.tinyvla.naming import check_shapes, from_published, to_published
from salus_ros.policy.tinyvla.preprocessing import ImageProcessor
from salus_ros.policy.tinyvla.statistics import Statistics, read_statistics, write_statistics

Policy = TinyVla | TinyVlaAct
_Model = TypeVar("_Model", bound=LlavaPythia)


@dataclass(frozen=True)
class Backbone:
    """A Llava-Pythia without a head, or with its head left out."""

    model: LlavaPythia
    tokenizer: Tokenizer
    processor: ImageProcessor
    layout: Layout

    @property
    def config(self) -> TinyVlaConfig:
        """The checked ``config.json``."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.model.parameters()).device


@dataclass(frozen=True)
class Checkpoint:
    """A loaded policy."""

    model: Policy
    tokenizer: Tokenizer
    processor: ImageProcessor
    statistics: Statistics
    hash: str
    """First 16 hexadecimal digits of the SHA-256 over weights and configuration."""
    layout: Layout

    @property
    def config(self) -> TinyVlaConfig:
        """The checked ``config.json``, with sizes as the weights have them."""
        return self.model.config


def head_of(tensors: Mapping[str, Tensor]) -> Literal["droid_diffusion", "act", "language"] | None:
    """Which head the tensors hold; ``language`` is that of a language model, which moves no robot."""
    if "embed_out.combine.weight" in tensors:
        return "droid_diffusion"
    if "embed_out.query_embed.weight" in tensors:
        return "act"
    return "language" if "embed_out.weight" in tensors else None


def load(folder: Path, attention: Attention = "sdpa") -> Checkpoint:
    """Load a policy in float32 on the processor, from any layout of :mod:`.layout`.

    Raises:
        SalusError: a file is missing or broken, or the checkpoint holds no trained head.
    """
    layout = locate(folder)
    path = layout.need("config.json", "copy it from the training run")
    config, tensors = TinyVlaConfig.read(path), layout.tensors()
    model = _filled(partial(_build, config, tensors, layout.folder, attention), config, tensors, layout)
    return Checkpoint(
        model=model,
        tokenizer=_read_tokenizer(layout, config),
        processor=_read_processor(layout, model),
        statistics=read_statistics(layout, model.config),
        hash=hash_of_files(*layout.weights, path),
        layout=layout,
    )


def load_backbone(folder: Path, attention: Attention = "sdpa") -> Backbone:
    """Load a Llava-Pythia for training heads on it; a head that it has is left out.

    Raises:
        SalusError: a file is missing or broken.
    """
    layout = locate(folder)
    config = TinyVlaConfig.read(layout.need("config.json", "copy it from where the weights are from"))
    if config.extensions.members > 1 and config.extensions.member_part != "head":
        raise SalusError(
            f"{folder} is an ensemble whose members have more than heads of their own, so it has no one "
            "backbone; start from the checkpoint that it was trained from."
        )
    bare = {name: tensor for name, tensor in layout.tensors().items() if not name.startswith(OF_HEADS)}
    model = _filled(partial(LlavaPythia, config, attention), config, bare, layout)
    return Backbone(model, _read_tokenizer(layout, config), _read_processor(layout, model), layout)


def _filled(
    build: Callable[[], _Model], config: TinyVlaConfig, tensors: Mapping[str, Tensor], layout: Layout
) -> _Model:
    """The model with the tensors in it. Memory is asked for only once their shapes are the configuration's:
    that of a broken one may ask for more than there is.
    """
    where = str(layout.folder)
    act = (config.act.enc_layers, config.act.dec_layers) if config.act else ()
    layers = max(config.language.num_hidden_layers, config.vision_tower.num_hidden_layers, *act)
    for count, what in ((layers, "layers"), (config.extensions.members, "members")):
        if count > len(tensors):
            raise SalusError(
                f"{where}: config.json says {count} {what}, but there are {len(tensors)} tensors in all; "
                "config and weights do not belong together."
            )
    try:
        with torch.device("meta"):
            outline = build()
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).strip().split("\n")[0]
        raise SalusError(
            f"{where}: config.json describes a model that cannot be built ({reason}); copy it again."
        ) from None
    check_shapes(outline, tensors, where)
    model = build()
    from_published(model, tensors, where)
    model.eval().requires_grad_(False)
    return model


def _build(
    config: TinyVlaConfig, tensors: Mapping[str, Tensor], folder: Path, attention: Attention
) -> Policy:
    head = head_of(tensors)
    if head in (None, "language"):
        raise SalusError(
            f"{folder} holds no trained action head: it is a backbone, and cannot move a robot; train heads "
            f"on it with `salus train-policy --init-from {folder} --demos DATA --heads 5`."
        )
    if head != config.head:
        raise SalusError(
            f"{folder}: config.json says action_head_type {config.head!r}, but the weights hold the head of "
            f"{head!r}; config and weights do not belong together."
        )
    if head == "act":
        state = tensors.get("embed_out.input_proj_robot_state.weight")
        state_dim = config.state_dim if state is None or state.dim() != 2 else int(state.shape[1])
        return TinyVlaAct(replace(config, state_dim=state_dim), state_dim, attention)
    widths = head_widths(tensors)
    if config.chunk_size % 2 ** (len(widths) - 1):
        raise SalusError(
            f"{folder}: chunk_size is {config.chunk_size}, but a U-Net of {len(widths)} levels needs a "
            f"multiple of {2 ** (len(widths) - 1)}; config and weights do not belong together."
        )
    return TinyVla(config, widths, attention)


def head_widths(tensors: Mapping[str, Tensor]) -> list[int]:
    """Channel widths of the U-Net, read from the shapes."""
    widths: list[int] = []
    while (name := f"embed_out.down_modules.{len(widths)}.0.blocks.0.block.0.weight") in tensors:
        widths.append(int(tensors[name].shape[0]) if tensors[name].dim() else 0)
    if not widths or any(width % 8 or not width for width in widths):
        raise SalusError(
            f"The U-Net has channels {widths}, expected multiples of 8; the checkpoint is incomplete, "
            "copy it again."
        )
    return widths


def _read_tokenizer(layout: Layout, config: TinyVlaConfig) -> Tokenizer:
    path = layout.need("tokenizer.json", "copy it from the backbone that was fine-tuned")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises its errors as plain exceptions
        raise SalusError(f"{path} cannot be read ({error}); copy the checkpoint again.") from None
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= config.language.vocab_size:
        raise SalusError(
            f"{path} has tokens up to number {highest}, but the language model knows "
            f"{config.language.vocab_size}; it belongs to another checkpoint."
        )
    return tokenizer


def _read_processor(layout: Layout, model: LlavaPythia) -> ImageProcessor:
    path = layout.need("preprocessor_config.json", "copy it from the backbone that was fine-tuned")
    processor = ImageProcessor.read(path)
    if processor.size != model.vision_tower.image_size:
        raise SalusError(
            f"{path} makes images of {processor.size} px, but the vision tower takes "
            f"{model.vision_tower.image_size}; it belongs to another checkpoint."
        )
    return processor


def hash_of_files(*paths: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


def save(
    folder: Path, model: Policy, tokenizer: Tokenizer, processor: ImageProcessor, statistics: Statistics
) -> None:
    """Write a checkpoint directory in the published layout, weights in 16 bits as published ones are.

    Each file is written beside its place and then moved there, the weights last.
    """
    save_beside(folder, model, tokenizer, processor, statistics)
    tensors = {name: tensor.to(torch.float16) for name, tensor in to_published(model).items()}
    with _replacing(folder / WEIGHTS) as path:
        save_file(tensors, path, metadata={"format": "pt"})


def save_beside(
    folder: Path, model: Policy, tokenizer: Tokenizer, processor: ImageProcessor, statistics: Statistics
) -> None:
    """Write all files of a checkpoint, or of a run, but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    with _replacing(folder / "tokenizer.json") as path:
        tokenizer.save(str(path))
    for name, values in _settings(model, processor).items():
        with _replacing(folder / name) as path:
            path.write_text(json.dumps(values, indent=2, sort_keys=name == "config.json") + "\n")
    with _replacing(folder / STATISTICS[0]) as path:
        write_statistics(path, statistics)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    unfinished = path.with_name(f".{path.name}.unfinished")
    yield unfinished
    unfinished.replace(path)


def _settings(model: Policy, processor: ImageProcessor) -> dict[str, dict[str, Any]]:
    """The JSON files of a checkpoint, as the published classes read them."""
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = "<|padding|>"
    side = processor.size
    clip = model.config.vision_tower.kind == "clip"
    sizes: dict[str, Any] = (
        {
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "size": {"shortest_edge": side},
        }
        if clip
        else {"size": {"height": side, "width": side}}
    )
    return {
        "config.json": dict(model.config.raw),
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            **special,
            "tokenizer_class": "GPTNeoXTokenizerFast",
            "add_prefix_space": False,
        },
        "preprocessor_config.json": {
            "image_processor_type": "CLIPImageProcessor" if clip else "SiglipImageProcessor",
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            **sizes,
            "image_mean": list(processor.mean),
            "image_std": list(processor.std),
            "resample": processor.resample,
            "rescale_factor": 1 / 255,
        },
    }
