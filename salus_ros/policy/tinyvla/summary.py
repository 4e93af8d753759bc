"""What a TinyVLA checkpoint is, in words for people: ``salus inspect``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from salus_ros.policy.tinyvla import checkpoint
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.layout import STATISTICS, Layout, locate
from salus_ros.policy.tinyvla.model import LlavaPythia
from salus_ros.policy.tinyvla.statistics import Statistics

_TOWERS = {"clip": "CLIP", "siglip": "SigLIP"}
_HEADS = {"droid_diffusion": "diffusion", "act": "ACT"}
_PARTS = {
    "last_block": "last language-model block, final norm and head",
    "head": "head",
    "adapter": "head and a bottleneck before it",
}


@dataclass(frozen=True)
class Summary:
    """What there is, and what is wrong with it."""

    title: str
    facts: dict[str, str]
    notes: list[str] = field(default_factory=list)
    """What whoever uses it has to say or to know."""
    problems: list[str] = field(default_factory=list)


def summarise(folder: Path) -> Summary:
    """Load a checkpoint whole, as a policy would be, and describe it.

    Raises:
        SalusError: a file of it is missing or broken.
    """
    layout = locate(folder)
    tensors = layout.tensors()
    command = f"salus train-policy --init-from {folder} --demos DATA --heads 5"
    if checkpoint.head_of(tensors) in (None, "language"):
        backbone = checkpoint.load_backbone(folder)
        return Summary(
            f"Backbone {folder}",
            {**_of_model(layout, backbone.model, backbone.config), "action head": "none"},
            problems=[
                "It holds no trained action head, so it cannot move a robot; train heads on it with "
                f"`{command}`."
            ],
        )
    del tensors
    loaded = checkpoint.load(folder)
    config, extensions = loaded.config, loaded.config.extensions
    assert config.head is not None
    facts = {"hash": loaded.hash, **_of_model(layout, loaded.model, config)}
    facts["action head"] = (
        f"{_HEADS[config.head]}, {config.chunk_size} steps of {config.action_dim} numbers from a state of "
        f"{config.state_dim}"
    )
    members = extensions.members
    facts["members"] = f"{members}, each its own {_PARTS[extensions.member_part]}" if members > 1 else "1"
    facts["statistics"] = _of_statistics(layout, loaded.statistics)
    facts["cameras"] = ", ".join(extensions.camera_names) or "not named"
    period = extensions.action_period_s
    facts["action period"] = f"{period} s" if period else "not named"
    differing = {
        name: str(value)
        for name, value in extensions.model_dump(
            exclude={"members", "camera_names", "action_period_s"}
        ).items()
        if value != type(extensions).model_fields[name].default
    }
    facts |= {f"beyond the published: {name}": value for name, value in differing.items()}
    notes = []
    if not extensions.camera_names or not period:
        notes.append(
            "It does not say what its cameras are called, or how long its steps take; say so wherever it is "
            f"used: {folder}?camera_names=front,wrist&action_period_s=0.05."
        )
    if members == 1:
        notes.append(f"With one member it has no epistemic uncertainty; {_more_members(config, command)}.")
    return Summary(f"Policy {folder}", facts, notes)


def _more_members(config: TinyVlaConfig, command: str) -> str:
    if config.extensions.joined_tokens:
        return "`salus train-policy` trains an ensemble from nothing"
    if config.head == "act":
        return f"nor does the ACT head sample: `{command}` trains diffusion heads on its backbone"
    return f"`{command}` gives it four more heads"


def _of_model(layout: Layout, model: LlavaPythia, config: TinyVlaConfig) -> dict[str, str]:
    parameters = _count(model)
    parts = {
        "vision tower": _count(model.vision_tower),
        "projector": _count(model.mm_projector),
        "language model": _count(model.gpt_neox),
    }
    parts["heads"] = parameters - sum(parts.values())
    counts = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in parts.items() if count)
    tower, language = config.vision_tower, config.language
    size_mb = sum(path.stat().st_size for path in layout.weights) / 1e6
    adapters = {"adapters": layout.adapters} if layout.adapters else {}
    return {
        "layout": layout.kind,
        **adapters,
        "size on disk": f"{size_mb:.1f} MB",
        "parameters": f"{parameters / 1e6:.2f} million: {counts}",
        "memory needed": f"for the weights {4 * parameters / 1e6:.1f} MB in float32, "
        f"{2 * parameters / 1e6:.1f} MB in 16 bits",
        "vision tower": f"{_TOWERS[tower.kind]} {tower.image_size} px, patches of {tower.patch_size} px, "
        f"{tower.num_hidden_layers} layers of width {tower.hidden_size}",
        "tokens a view": str(tower.tokens_per_view),
        "views": "any number, joined token by token" if config.views_max is None else "one",
        "language model": f"GPT-NeoX, {language.num_hidden_layers} layers of width {language.hidden_size}, "
        f"{language.num_attention_heads} heads, vocabulary of {language.vocab_size}",
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _of_statistics(layout: Layout, statistics: Statistics) -> str:
    path = layout.find(*STATISTICS)
    assert path is not None
    low, high = (
        np.array2string(limit[:3], precision=3) for limit in (statistics.action_min, statistics.action_max)
    )
    return f"{path.name}: positions from {low} to {high} m"
