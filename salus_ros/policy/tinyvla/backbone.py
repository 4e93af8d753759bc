"""Llava-Pythia without its head: vision tower, projector, GPT-NeoX blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel
from transformers.activations import ACT2FN

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.members import MemberLayerNorm, MemberLinear

Attention = Literal["eager", "sdpa"]


class VisionTower(nn.Module):
    """CLIP or SigLIP vision model; yields the features of one of its layers, patch by patch."""

    def __init__(self, settings: Mapping[str, Any], attention: Attention) -> None:
        super().__init__()
        name = str(settings.get("vision_model_name_or_path", "clip"))
        self.layer = int(settings.get("mm_vision_select_layer", -2))
        self.feature = str(settings.get("mm_vision_select_feature", "patch"))
        self.image_size = int(settings["image_size"])
        keys = (
            "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels",
            "image_size", "patch_size", "hidden_act", "layer_norm_eps", "attention_dropout",
        )  # fmt: skip
        chosen = {key: settings[key] for key in keys if key in settings}
        self.has_class_token = "clip" in name
        if self.has_class_token:
            self.vision_model = CLIPVisionModel(CLIPVisionConfig(**chosen, attn_implementation=attention))
        elif "siglip" in name:
            config = SiglipVisionConfig(**chosen, vision_use_head=False, attn_implementation=attention)
            self.vision_model = SiglipVisionModel(config)
        else:
            raise SalusError(
                f"vision tower {name!r} is neither a CLIP nor a SigLIP model; only these are known."
            )

    def initialise(self) -> None:
        """Start weights from which a small tower learns where things are within minutes.

        Filters without a mean answer to edges and not to the large, even background; and the
        embeddings of places are as large as what is seen there, not a thirtieth of it.
        """
        embeddings = self.vision_model.embeddings
        with torch.no_grad():
            filters = embeddings.patch_embedding.weight
            filters.normal_(0, 0.05)
            filters.sub_(filters.mean(dim=(2, 3), keepdim=True))
            embeddings.position_embedding.weight.normal_(0, 0.3)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (N, 3, S, S) to features (N, P, W)."""
        model = self.vision_model
        x: Tensor = model.embeddings(pixels)
        if self.has_class_token:
            x = model.pre_layrnorm(x)
        layers = model.encoder.layers
        # hidden_states[i] of the published code is the input of layer i; later layers are not needed.
        count = self.layer if self.layer >= 0 else len(layers) + 1 + self.layer
        for layer in layers[:count]:
            x = layer(x, attention_mask=None)
        return x[:, 1:] if self.feature == "patch" and self.has_class_token else x


def build_projector(settings: Mapping[str, Any]) -> nn.Module:
    """The projector from vision features to the language model's width."""
    kind = str(settings.get("mm_projector_type", "linear"))
    inputs, outputs = int(settings["mm_hidden_size"]), int(settings["hidden_size"])
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    if kind == "identity":
        return nn.Identity()
    match = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if not match:
        raise SalusError(f"mm_projector_type {kind!r} is not one of 'linear', 'mlpNx_gelu', 'identity'.")
    layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
    for _ in range(1, int(match.group(1))):
        layers += [nn.GELU(), nn.Linear(outputs, outputs)]
    return nn.Sequential(*layers)


class Rotary(nn.Module):
    """Rotary position embedding over the first part of each attention head."""

    inverse_frequency: Tensor

    def __init__(self, head_size: int, fraction: float, base: float) -> None:
        super().__init__()
        self.dim = int(head_size * fraction)
        exponent = torch.arange(0, self.dim, 2, dtype=torch.float) / self.dim
        self.register_buffer("inverse_frequency", 1.0 / (base**exponent), persistent=False)

    def forward(self, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine, each (length, dim)."""
        position = torch.arange(length, device=self.inverse_frequency.device).float()
        frequency = position[:, None] * self.inverse_frequency.float()
        angle = torch.cat((frequency, frequency), dim=-1)
        return angle.cos().to(dtype), angle.sin().to(dtype)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    dim = cosine.shape[-1]
    turned, kept = x[..., :dim], x[..., dim:]
    half = torch.cat((-turned[..., dim // 2 :], turned[..., : dim // 2]), dim=-1)
    return torch.cat((turned * cosine + half * sine, kept), dim=-1)


class NeoXAttention(nn.Module):
    """Causal self-attention of GPT-NeoX on (N, K, L, H)."""

    def __init__(self, hidden: int, heads: int, members: int, attention: Attention, bias: bool) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.head_size = hidden // heads
        self.query_key_value = MemberLinear(hidden, 3 * hidden, members, bias=bias)
        self.dense = MemberLinear(hidden, hidden, members, bias=bias)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Attend to the past."""
        qkv = self.query_key_value(x)
        n, k, length, _ = qkv.shape
        qkv = qkv.reshape(n * k, length, self.heads, 3 * self.head_size).transpose(1, 2)
        query, key, value = qkv.chunk(3, dim=-1)
        query, key = _rotate(query, *rotation), _rotate(key, *rotation)
        if self.attention == "sdpa":
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            score = torch.matmul(query, key.transpose(2, 3)) * self.head_size**-0.5
            least = torch.finfo(score.dtype).min
            mask = torch.full((length, length), least, dtype=score.dtype, device=x.device).triu(1)
            weight = functional.softmax(score + mask, dim=-1, dtype=torch.float32).to(query.dtype)
            mixed = torch.matmul(weight, value)
        mixed = mixed.transpose(1, 2).reshape(n, k, length, -1)
        y: Tensor = self.dense(mixed)
        return y


class _Mlp(nn.Module):
    def __init__(self, hidden: int, inner: int, members: int, activation: str) -> None:
        super().__init__()
        self.dense_h_to_4h = MemberLinear(hidden, inner, members)
        self.dense_4h_to_h = MemberLinear(inner, hidden, members)
        self.act = ACT2FN[activation]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dense_4h_to_h(self.act(self.dense_h_to_4h(x)))
        return y


class NeoXBlock(nn.Module):
    """One GPT-NeoX layer, K members of it side by side."""

    def __init__(self, raw: Mapping[str, Any], members: int, attention: Attention) -> None:
        super().__init__()
        hidden, eps = int(raw["hidden_size"]), float(raw.get("layer_norm_eps", 1e-5))
        self.parallel = bool(raw.get("use_parallel_residual", True))
        self.input_layernorm = MemberLayerNorm(hidden, members, eps)
        self.post_attention_layernorm = MemberLayerNorm(hidden, members, eps)
        bias = bool(raw.get("attention_bias", True))
        self.attention = NeoXAttention(hidden, int(raw["num_attention_heads"]), members, attention, bias)
        self.mlp = _Mlp(hidden, int(raw["intermediate_size"]), members, str(raw.get("hidden_act", "gelu")))

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """(N, K, L, H) to the same; (N, 1, L, H) is one input that all members share."""
        attended = self.attention(self.input_layernorm(x), rotation)
        if self.parallel:
            y: Tensor = self.mlp(self.post_attention_layernorm(x)) + attended + x
            return y
        attended = attended + x
        z: Tensor = self.mlp(self.post_attention_layernorm(attended)) + attended
        return z


class NeoX(nn.Module):
    """GPT-NeoX whose last block and final norm exist K times."""

    def __init__(self, config: TinyVlaConfig, attention: Attention) -> None:
        super().__init__()
        raw, members = config.raw, config.extensions.members
        self.embed_in = nn.Embedding(int(raw["vocab_size"]), config.hidden_size)
        nn.init.normal_(self.embed_in.weight, std=1 / math.sqrt(config.hidden_size))
        count = int(raw["num_hidden_layers"])
        self.layers = nn.ModuleList(
            NeoXBlock(raw, members if index == count - 1 else 1, attention) for index in range(count)
        )
        eps = float(raw.get("layer_norm_eps", 1e-5))
        self.final_layer_norm = MemberLayerNorm(config.hidden_size, members, eps)
        head_size = config.hidden_size // int(raw["num_attention_heads"])
        self.rotary = Rotary(
            head_size, float(raw.get("rotary_pct", 0.25)), float(raw.get("rotary_emb_base", 10000))
        )

    def trunk(self, embeddings: Tensor) -> Tensor:
        """The blocks that all members share: (N, L, H) to (N, 1, L, H)."""
        x = embeddings[:, None]
        rotation = self.rotary(x.shape[2], x.dtype)
        for layer in self.layers[:-1]:
            x = layer(x, rotation)
        return x

    def members(self, x: Tensor) -> Tensor:
        """The last block and the final norm: (N, 1 or K, L, H) to hidden states (N, K, L, H)."""
        y: Tensor = self.final_layer_norm(self.layers[-1](x, self.rotary(x.shape[2], x.dtype)))
        return y
