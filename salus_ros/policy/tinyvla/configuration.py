"""``config.json`` of a Llava-Pythia checkpoint, with the extensions of this package.

Published keys keep their published names and meaning. Everything that goes beyond the
published architecture stands under the key ``salus``; a file without it behaves as released.
Sizes come from here and from the shapes of the tensors, never from constants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salus_ros.errors import SalusError

Head = Literal["droid_diffusion", "act"]
MemberPart = Literal["last_block", "head", "adapter"]
"""What each ensemble member has for itself."""


CHUNK_MAX: Final = 1024
"""Steps of a diffused chunk, far above any published one (16 to 50). No tensor's shape says how many there
are, and memory is asked for by their number."""


class Extensions(BaseModel):
    """What a checkpoint does beyond the published format. The defaults are the published behaviour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(1, ge=1, description="ensemble members; see member_part")
    member_part: MemberPart = Field(
        "last_block",
        description="what each member has for itself: the last language-model block with final norm and "
        "head, the head alone, or the head and a bottleneck before it",
    )
    adapter_width: int = Field(32, ge=1, description="width of that bottleneck")
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
    crop: bool = Field(
        True, description="centre crop of 95 % before the vision tower, where the head wants it"
    )
    training_prompt: bool = Field(
        False, description="the prompt of the released training code, with two spaces before its end"
    )
    camera_names: tuple[str, ...] = Field((), description="order of the views; empty: the user says")
    action_period_s: float | None = Field(None, gt=0, description="time between the steps of a chunk, s")
    auxiliary_dim: int = Field(
        0, ge=0, description="outputs of the position head on the condition (metres and logits); 0: none"
    )


class _Section(BaseModel):
    """A part of a published configuration: known keys are checked, the many others are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class LanguageModel(_Section):
    """The keys of GPT-NeoX that decide what is computed."""

    vocab_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    attention_bias: bool = True
    rotary_pct: float = Field(0.25, gt=0, le=1)
    rotary_emb_base: float = 10000
    use_parallel_residual: bool = True
    rope_scaling: None = None
    mm_use_im_start_end: Literal[False] = False


class VisionTower(_Section):
    """``vision_config.vision_tower``. The defaults are the released configuration class's, for SigLIP too."""

    hidden_size: int = Field(768, ge=1)
    intermediate_size: int = Field(3072, ge=1)
    num_hidden_layers: int = Field(12, ge=1)
    num_attention_heads: int = Field(12, ge=1)
    num_channels: Literal[3] = 3
    image_size: int = Field(224, ge=1)
    patch_size: int = Field(32, ge=1)
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    mm_vision_select_layer: int = -2
    mm_vision_select_feature: Literal["patch", "cls_patch"] = "patch"
    vision_model_name_or_path: str = "clip"

    @property
    def kind(self) -> Literal["clip", "siglip"]:
        """Which of the two towers, told from the name of the model as the released code tells it.

        Raises:
            SalusError: it is neither.
        """
        if "clip" in self.vision_model_name_or_path:
            return "clip"
        if "siglip" in self.vision_model_name_or_path:
            return "siglip"
        raise SalusError(
            f"The vision tower {self.vision_model_name_or_path!r} is neither a CLIP nor a SigLIP model, and "
            "only these are known; give another checkpoint."
        )

    @property
    def layers_used(self) -> int:
        """Encoder layers whose output is ``hidden_states[mm_vision_select_layer]``."""
        selected = self.mm_vision_select_layer
        count = selected if selected >= 0 else self.num_hidden_layers + 1 + selected
        if not 0 <= count <= self.num_hidden_layers:
            raise SalusError(
                f"mm_vision_select_layer is {selected}, but the vision tower has {self.num_hidden_layers} "
                "layers; config.json is broken, copy the checkpoint again."
            )
        return count

    @property
    def tokens_per_view(self) -> int:
        """Image tokens that one view becomes."""
        patches: int = (self.image_size // self.patch_size) ** 2
        return patches + (self.kind == "clip" and self.mm_vision_select_feature == "cls_patch")


class Projector(_Section):
    """``vision_config.mm_projector``."""

    mm_projector_type: str = Field("linear", pattern=r"^(linear|identity|mlp[1-9]\d?x_gelu)$")
    mm_hidden_size: int = Field(768, ge=1)
    hidden_size: int = Field(2560, ge=1)


class ActHead(_Section):
    """``act.act``: the DETR variational auto-encoder of the ACT head."""

    hidden_dim: int = Field(ge=2)
    dim_feedforward: int = Field(ge=1)
    nheads: int = Field(ge=1)
    enc_layers: int = Field(ge=0)
    dec_layers: int = Field(ge=1)
    chunk_size: int = Field(ge=1)
    action_dim: int = Field(ge=1)
    pre_norm: bool = False
    dropout: float = Field(0.1, ge=0, lt=1)
    kl_weight: float = 10.0


class _Actions(_Section):
    action_dim: int = Field(ge=1)
    state_dim: int = Field(ge=1)
    chunk_size: int = Field(ge=1, le=CHUNK_MAX)


class _State(_Section):
    state_dim: int = Field(7, ge=1)


_Checked = TypeVar("_Checked", bound=BaseModel)


@dataclass(frozen=True)
class TinyVlaConfig:
    """A checked ``config.json``."""

    raw: Mapping[str, Any]
    extensions: Extensions
    language: LanguageModel
    vision_tower: VisionTower
    projector: Projector
    head: Head | None
    """None for a backbone."""
    act: ActHead | None
    action_dim: int
    """Dimensions of an action."""
    state_dim: int
    """Dimensions of the robot state."""
    chunk_size: int
    """Steps of a chunk."""

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
    def of(cls, raw: Any, where: str = "config.json") -> TinyVlaConfig:
        """Check a parsed configuration; ``where`` names it in errors.

        Raises:
            SalusError: a key is missing or has a value that cannot be.
        """
        if not isinstance(raw, dict) or raw.get("model_type") != "llava_pythia":
            given = raw.get("model_type") if isinstance(raw, dict) else type(raw).__name__
            raise SalusError(
                f"{where} says model_type {given!r}, expected 'llava_pythia'; "
                "give the directory of a TinyVLA checkpoint."
            )
        extensions = _check(
            Extensions,
            raw.get("salus", {}),
            f"{where}: salus",
            "the checkpoint needs another version of SALUS",
        )
        head = raw.get("action_head_type")
        if head not in (None, "droid_diffusion", "act"):
            raise SalusError(
                f"{where} says action_head_type {head!r}; only 'droid_diffusion' and 'act' are known: "
                "give another checkpoint."
            )
        vision = raw.get("vision_config")
        sections = vision if isinstance(vision, dict) else {}
        tower = _check(VisionTower, sections.get("vision_tower"), f"{where}: vision_config.vision_tower")
        config = cls(
            raw=raw,
            extensions=extensions,
            language=_check(LanguageModel, raw, where),
            vision_tower=tower,
            projector=_check(Projector, sections.get("mm_projector"), f"{where}: vision_config.mm_projector"),
            head=head,
            **_action_sizes(raw, head, where),
        )
        _check_sizes(config, where)
        return config

    @property
    def hidden_size(self) -> int:
        """Width of the language model."""
        return self.language.hidden_size

    @property
    def views_max(self) -> int | None:
        """How many views the checkpoint can join: any number with ``token_cat``, else one."""
        return None if self.raw.get("concat") == "token_cat" else 1

    @property
    def crop(self) -> bool:
        """Whether views are cropped: the released code does so for the diffusion head only."""
        return self.extensions.crop and self.head != "act"


def _action_sizes(raw: Mapping[str, Any], head: Head | None, where: str) -> dict[str, Any]:
    if head == "act":
        nested = raw.get("act")
        act = _check(ActHead, nested.get("act") if isinstance(nested, dict) else None, f"{where}: act.act")
        # The released ACT head knows states of seven numbers only; the tensors' shapes have the last word.
        return {
            "act": act,
            "action_dim": act.action_dim,
            "state_dim": _check(_State, raw, where).state_dim,
            "chunk_size": act.chunk_size,
        }
    if head == "droid_diffusion":
        return {"act": None, **_check(_Actions, raw, where).model_dump()}
    return {"act": None, "action_dim": 10, "state_dim": 7, "chunk_size": 16}


def _check_sizes(config: TinyVlaConfig, where: str) -> None:
    language, tower, projector = config.language, config.vision_tower, config.projector
    identity = projector.mm_projector_type == "identity"
    _ = tower.kind, tower.layers_used
    for width, of, heads, heads_of in (
        (language.hidden_size, "hidden_size", language.num_attention_heads, "num_attention_heads"),
        (tower.hidden_size, "the vision tower's hidden_size", tower.num_attention_heads, "its heads"),
        *(
            [(config.act.hidden_dim, "act.act.hidden_dim", config.act.nheads, "its heads")]
            if config.act
            else ()
        ),
    ):
        if width % heads:
            raise SalusError(f"{where}: {of} {width} is no multiple of {heads_of} {heads}; copy it again.")
    if projector.mm_hidden_size != tower.hidden_size:
        raise SalusError(
            f"{where}: the projector takes {projector.mm_hidden_size} features, but the vision tower gives "
            f"{tower.hidden_size}; the sections do not belong together, copy it again."
        )
    if (tower.hidden_size if identity else projector.hidden_size) != language.hidden_size:
        raise SalusError(
            f"{where}: the projector gives {projector.hidden_size} features, but the language model takes "
            f"{language.hidden_size}; the sections do not belong together, copy it again."
        )


def _check(
    model: type[_Checked],
    values: Any,
    where: str,
    remedy: str = "the checkpoint is incomplete, copy it again",
) -> _Checked:
    if not isinstance(values, dict):
        raise SalusError(f"{where} is missing or no object; {remedy}.")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = "lacks the key" if first["type"] == "missing" else f"{first['msg']} ({first['input']!r}) at"
        raise SalusError(f"{where} {problem} {key!r}; {remedy}.") from None
