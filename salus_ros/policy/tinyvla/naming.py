"""Parameters of the model and their names in a checkpoint.

Tensors of ensemble member 0 stand where the published code expects its only one; those of
member k > 0 stand under ``members.{k}.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.model import LlavaPythia, TinyVlaAct

_IGNORED = re.compile(
    r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)"
    r"|gpt_neox\.vision_tower\.vision_model\.embeddings\.position_ids"
)
"""Buffers that older versions of transformers saved; nothing else may be left over."""

_MOVED = (("vision_tower.", "gpt_neox.vision_tower."), ("mm_projector.", "gpt_neox.mm_projector."))
_OF_HEAD = ("embed_out.", "auxiliary.")
_LISTED = re.compile(r"(embed_out|proj_to_action)\.(\d+)\.(.*)")
"""Heads of the ACT kind: a list of members instead of stacked parameters."""


def published_names(model: LlavaPythia, name: str) -> list[str]:
    """Names in a checkpoint of one of the model's parameters, one for each member that it stacks."""
    for ours, theirs in _MOVED:
        if name.startswith(ours):
            name = theirs + name[len(ours) :]
    if isinstance(model, TinyVlaAct) and (match := _LISTED.fullmatch(name)):
        return [_of_member(int(match.group(2)), f"{match.group(1)}.{match.group(3)}")]
    members = model.extensions.members
    if members == 1 or not name.startswith(_per_member(model)):
        return [name]
    return [_of_member(index, name) for index in range(members)]


def _of_member(index: int, name: str) -> str:
    return name if index == 0 else f"members.{index}.{name}"


def _per_member(model: LlavaPythia) -> tuple[str, ...]:
    part = model.extensions.member_part
    if part == "last_block":
        last = len(model.gpt_neox.layers) - 1
        return (*_OF_HEAD, f"gpt_neox.layers.{last}.", "gpt_neox.final_layer_norm.")
    return (*_OF_HEAD, "gpt_neox.adapter.") if part == "adapter" else _OF_HEAD


def to_published(model: LlavaPythia) -> dict[str, Tensor]:
    """The model's parameters under the names of the published layout."""
    out: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        names = published_names(model, name)
        parts = tensor.chunk(len(names)) if len(names) > 1 else [tensor]
        out.update((key, part.contiguous()) for key, part in zip(names, parts, strict=True))
    return out


def check_shapes(model: LlavaPythia, tensors: Mapping[str, Tensor], where: str) -> None:
    """Hold tensors under published names against a model, which may be on the ``meta`` device.

    Raises:
        SalusError: a tensor is missing, unexpected, or of another shape.
    """
    left = {name for name in tensors if not _IGNORED.fullmatch(name)}
    for name, parameter in model.state_dict().items():
        names = published_names(model, name)
        shape = (parameter.shape[0] // len(names), *parameter.shape[1:])
        for key in names:
            if key not in tensors:
                raise SalusError(
                    f"{where} lacks the tensor {key}; the checkpoint is incomplete, copy it again."
                )
            if tuple(tensors[key].shape) != shape:
                raise SalusError(
                    f"{where}: {key} has shape {tuple(tensors[key].shape)}, expected {shape} "
                    "from config.json; config and weights do not belong together."
                )
        left -= set(names)
    if left:
        raise SalusError(
            f"{where} holds {len(left)} unexpected tensors, the first {min(left)}; it is not a TinyVLA "
            "checkpoint of this configuration."
        )


def from_published(model: LlavaPythia, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load parameters saved under published names into ``model``; nothing may be missing or left over.

    Raises:
        SalusError: as ``check_shapes``, or a tensor holds no floats or none that are finite; the model is
            then as it was.
    """
    check_shapes(model, tensors, where)
    state: dict[str, Tensor] = {}
    for name, parameter in model.state_dict().items():
        names = published_names(model, name)
        for key in names:
            tensor = tensors[key]
            if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
                raise SalusError(
                    f"{where}: {key} holds {tensor.dtype} values that are not all finite floats; "
                    "copy the checkpoint again."
                )
        state[name] = torch.cat([tensors[key].to(parameter.dtype) for key in names])
    model.load_state_dict(state)
