"""Llava-Pythia without its head: vision tower, projector, GPT-NeoX blocks."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel
from transformers.activations import ACT2FN
from transformers.models.clip.modeling_clip import CLIPAttention

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.configuration import LanguageModel, Projector, TinyVlaConfig
from salus_ros.policy.tinyvla.configuration import VisionTower as TowerSettings
from salus_ros.policy.tinyvla.members import MemberAdapter, MemberLayerNorm, MemberLinear

Attention = Literal["eager", "sdpa"]


class _PublishedClipAttention(CLIPAttention):  # type: ignore[misc]
    """Scales the queries before their products, as the published code's version of transformers does.

    Later versions scale the products, which rounds otherwise unless the scale is a power of two.
    """

    def forward(self, hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
        """(N, P, W) to the same."""
        n, length, width = hidden_states.shape

        def heads(x: Tensor) -> Tensor:
            return x.view(n, length, self.num_heads, self.head_dim).transpose(1, 2).flatten(0, 1)

        query = heads(self.q_proj(hidden_states) * self.scale)
        weight = torch.bmm(query, heads(self.k_proj(hidden_states)).transpose(1, 2)).softmax(dim=-1)
        mixed = torch.bmm(weight, heads(self.v_proj(hidden_states)))
        mixed = mixed.view(n, self.num_heads, length, self.head_dim).transpose(1, 2).reshape(n, length, width)
        return self.out_proj(mixed), None


class VisionTower(nn.Module):
    """CLIP or SigLIP vision model; yields the features of one of its layers, patch by patch."""

    def __init__(self, settings: TowerSettings, attention: Attention) -> None:
        super().__init__()
        self.image_size = settings.image_size
        self.layers_used = settings.layers_used
        clip = settings.kind == "clip"
        _known(settings.hidden_act)
        self.pre_norm = clip
        self.drops_class_token = clip and settings.mm_vision_select_feature == "patch"
        keys = settings.model_dump(
            include={
                "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "num_channels", "image_size", "patch_size", "hidden_act", "layer_norm_eps",
            }
        )  # fmt: skip
        if clip:
            config = CLIPVisionConfig(**keys, attn_implementation=attention)
            self.vision_model = CLIPVisionModel(config)
            if attention == "eager":
                for layer in self.vision_model.encoder.layers:
                    layer.self_attn = _PublishedClipAttention(config)
        else:
            # The pooling head computes nothing here, but published checkpoints hold it.
            self.vision_model = SiglipVisionModel(SiglipVisionConfig(**keys, attn_implementation=attention))

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
        if self.pre_norm:
            x = model.pre_layrnorm(x)
        # hidden_states[i] of the published code is the input of layer i; later layers are not needed.
        for layer in model.encoder.layers[: self.layers_used]:
            x = layer(x, attention_mask=None)
        return x[:, 1:] if self.drops_class_token else x


def build_projector(settings: Projector) -> nn.Module:
    """The projector from vision features to the language model's width."""
    kind, inputs, outputs = settings.mm_projector_type, settings.mm_hidden_size, settings.hidden_size
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    if kind == "identity":
        return nn.Identity()
    layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
    for _ in range(1, int(kind[len("mlp") : -len("x_gelu")])):
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
            # The scale goes into the product, as in the published code: elsewhere it would round otherwise.
            score = torch.baddbmm(
                query.new_zeros(()),
                query.flatten(0, 1),
                key.flatten(0, 1).transpose(1, 2),
                beta=0,
                alpha=self.head_size**-0.5,
            ).view(n * k, self.heads, length, length)
            least = torch.finfo(score.dtype).min
            mask = torch.full((length, length), least, dtype=score.dtype, device=x.device).triu(1)
            weight = functional.softmax(score + mask, dim=-1, dtype=torch.float32).to(query.dtype)
            mixed = torch.matmul(weight, value)
        mixed = mixed.transpose(1, 2).reshape(n, k, length, -1)
        y: Tensor = self.dense(mixed)
        return y


def _known(activation: str) -> str:
    if activation not in ACT2FN:
        raise SalusError(f"hidden_act {activation!r} is not known to transformers; config.json is broken.")
    return activation


class _Mlp(nn.Module):
    def __init__(self, hidden: int, inner: int, members: int, activation: str) -> None:
        super().__init__()
        self.dense_h_to_4h = MemberLinear(hidden, inner, members)
        self.dense_4h_to_h = MemberLinear(inner, hidden, members)
        self.act = ACT2FN[_known(activation)]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dense_4h_to_h(self.act(self.dense_h_to_4h(x)))
        return y


class NeoXBlock(nn.Module):
    """One GPT-NeoX layer, K members of it side by side."""

    def __init__(self, settings: LanguageModel, members: int, attention: Attention) -> None:
        super().__init__()
        hidden, eps = settings.hidden_size, settings.layer_norm_eps
        self.parallel = settings.use_parallel_residual
        self.input_layernorm = MemberLayerNorm(hidden, members, eps)
        self.post_attention_layernorm = MemberLayerNorm(hidden, members, eps)
        self.attention = NeoXAttention(
            hidden, settings.num_attention_heads, members, attention, settings.attention_bias
        )
        self.mlp = _Mlp(hidden, settings.intermediate_size, members, settings.hidden_act)

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
    """GPT-NeoX whose last block and final norm exist once for each member, where members have their own."""

    def __init__(self, config: TinyVlaConfig, attention: Attention) -> None:
        super().__init__()
        settings, extensions = config.language, config.extensions
        members = extensions.members if extensions.member_part == "last_block" else 1
        self.embed_in = nn.Embedding(settings.vocab_size, settings.hidden_size)
        nn.init.normal_(self.embed_in.weight, std=1 / math.sqrt(settings.hidden_size))
        last = settings.num_hidden_layers - 1
        self.layers = nn.ModuleList(
            NeoXBlock(settings, members if index == last else 1, attention) for index in range(last + 1)
        )
        self.final_layer_norm = MemberLayerNorm(settings.hidden_size, members, settings.layer_norm_eps)
        self.adapter = (
            MemberAdapter(settings.hidden_size, extensions.adapter_width, extensions.members)
            if extensions.member_part == "adapter"
            else None
        )
        head_size = settings.hidden_size // settings.num_attention_heads
        self.rotary = Rotary(head_size, settings.rotary_pct, settings.rotary_emb_base)

    def trunk(self, embeddings: Tensor) -> Tensor:
        """The blocks that all members share: (N, L, H) to (N, 1, L, H)."""
        x = embeddings[:, None]
        rotation = self.rotary(x.shape[2], x.dtype)
        for layer in self.layers[:-1]:
            x = layer(x, rotation)
        return x

    def members(self, x: Tensor) -> Tensor:
        """The last block and what follows: (N, 1 or K, L, H) to hidden states (N, K, L, H), or (N, 1, L, H)
        where members have nothing of their own here."""
        y: Tensor = self.final_layer_norm(self.layers[-1](x, self.rotary(x.shape[2], x.dtype)))
        return y if self.adapter is None else self.adapter(y)
