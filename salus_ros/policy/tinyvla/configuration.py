"""``config.json`` of a Llava-Pythia checkpoint, with the extensions of this package.

Published keys keep their published names and meaning. Everything that goes beyond the
published architecture stands under the key ``salus``; a file without it behaves as released.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salus_ros.errors import SalusError


class Extensions(BaseModel):
    """What a checkpoint does beyond the published format. The defaults are the published behaviour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(
        1,
        ge=1,
        description="ensemble members: copies of the last language-model block with final norm and head",
    )
    token_order: Literal["published", "text_first"] = Field(
        "published", description="image tokens inside the prompt, or after all of it so that they can read it"
    )
    instruction_film: bool = Field(
        False, description="scale and shift the projected image tokens by the summed instruction embedding"
    )
    joined_tokens: int = Field(
        default=0,
        ge=0,
        description="image tokens whose hidden states are joined place by place, beside the average over "
        "all; 0: the average alone, as published; needs text_first",
    )
    prediction: Literal["epsilon", "sample"] = Field("epsilon", description="what the U-Net predicts")
    clip_sample: bool = Field(True, description="clip the predicted clean chunk to [-1, 1]")
    timestep_spacing: Literal["leading", "trailing"] = Field(
        default="leading", description="which training steps the denoising visits: 90 to 0, or 99 to 9"
    )
    inference_steps: int = Field(10, ge=1, le=100, description="denoising steps")
    action_normalisation: Literal["range", "per_step"] = Field(
        "range", description="minimum and maximum per dimension, or mean and deviation per step and dimension"
    )
    action_frame: Literal["absolute", "measured_tool"] = Field(
        "absolute", description="actions in the base frame, or relative to the tool pose at the observation"
    )
    lowest_tool_m: float | None = Field(
        default=None,
        description="plans keep the tool this high above the base, for policies that work on a table; none: "
        "as published, wherever the policy wants",
    )
    crop: bool = Field(True, description="centre crop of 95 % before the vision tower")
    camera_names: tuple[str, ...] = Field((), description="order of the views; empty: the user says")
    action_period_s: float | None = Field(None, gt=0, description="time between the steps of a chunk, s")
    auxiliary_dim: int = Field(
        0, ge=0, description="outputs of the position head on the condition (metres and logits); 0: none"
    )


@dataclass(frozen=True)
class TinyVlaConfig:
    """A checked ``config.json``."""

    raw: Mapping[str, Any]
    extensions: Extensions

    @classmethod
    def read(cls, path: Path) -> TinyVlaConfig:
        """Read a ``config.json``.

        Raises:
            SalusError: the file is missing, is no JSON, or lacks a key.
        """
        try:
            raw = json.loads(path.read_text())
        except FileNotFoundError:
            raise SalusError(
                f"{path.parent} holds no config.json; give the directory of a TinyVLA checkpoint."
            ) from None
        except (OSError, ValueError) as error:
            raise SalusError(f"{path} cannot be read as JSON ({error}); copy the checkpoint again.") from None
        return cls.of(raw, str(path))

    @classmethod
    def of(cls, raw: Mapping[str, Any], where: str = "config.json") -> TinyVlaConfig:
        """Check a parsed configuration; ``where`` names it in errors."""
        if raw.get("model_type") != "llava_pythia":
            raise SalusError(
                f"{where} says model_type {raw.get('model_type')!r}, expected 'llava_pythia'; "
                "give the directory of a TinyVLA checkpoint."
            )
        try:
            extensions = Extensions.model_validate(raw.get("salus", {}))
        except ValidationError as error:
            first = error.errors()[0]
            raise SalusError(
                f"{where}: salus.{'.'.join(map(str, first['loc']))}: {first['msg']}; "
                "the checkpoint needs another version of this package."
            ) from None
        config = cls(raw, extensions)
        for key in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "vocab_size",
        ):
            config._need(raw, key, where)
        vision = config._need(raw, "vision_config", where)
        for key in ("vision_tower", "mm_projector"):
            config._need(vision, key, f"{where}: vision_config")
        return config

    @staticmethod
    def _need(values: Mapping[str, Any], key: str, where: str) -> Any:
        if key not in values:
            raise SalusError(f"{where} lacks the key {key!r}; the checkpoint is incomplete, copy it again.")
        return values[key]

    @property
    def vision_tower(self) -> Mapping[str, Any]:
        """The vision tower's own configuration."""
        tower: Mapping[str, Any] = self.raw["vision_config"]["vision_tower"]
        return tower

    @property
    def projector(self) -> Mapping[str, Any]:
        """The projector's own configuration."""
        projector: Mapping[str, Any] = self.raw["vision_config"]["mm_projector"]
        return projector

    @property
    def hidden_size(self) -> int:
        """Width of the language model."""
        return int(self.raw["hidden_size"])

    @property
    def action_head(self) -> str | None:
        """``droid_diffusion``, ``act``, or None for a backbone."""
        return self.raw.get("action_head_type")

    @property
    def action_dim(self) -> int:
        """Dimensions of an action."""
        return int(self.raw.get("action_dim", 10))

    @property
    def state_dim(self) -> int:
        """Dimensions of the robot state."""
        return int(self.raw.get("state_dim", 7))

    @property
    def chunk_size(self) -> int:
        """Steps of a chunk."""
        return int(self.raw.get("chunk_size", 16))
