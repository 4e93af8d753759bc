"""The ACT head: a DETR transformer that decodes a chunk from hidden states, trained as a variational
auto-encoder. Names and order of operations are those of the published head, so that its tensors fit and
its numbers come out to the bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from salus_ros.policy.tinyvla.configuration import ActHead as ActSettings

LATENT_DIM = 32
"""Width of the latent, fixed in the published code; at inference it is zero."""


@dataclass(frozen=True)
class ActLoss:
    """The parts of the training loss of one head, scalars."""

    l1: Tensor
    kl: Tensor
    loss: Tensor


def _positions(length: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines of places, (length, width), computed in float32: 16 bits cannot count to 257."""
    place = torch.arange(length, dtype=torch.float32, device=like.device)[:, None]
    column = torch.arange(0, width, 2, dtype=torch.float32, device=like.device)
    rate = torch.exp(column * (-math.log(10000.0) / width))
    table = torch.zeros(length, width, dtype=torch.float32, device=like.device)
    table[:, 0::2], table[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
    return table.to(like.dtype)


def _position_table(length: int, width: int) -> Tensor:
    """The same as the released code stores it: computed in float64, (1, length, width)."""
    place = torch.arange(length, dtype=torch.float64)[:, None]
    column = torch.arange(width)
    angle = place / torch.pow(torch.tensor(10000.0, dtype=torch.float64), 2 * (column // 2) / width)
    angle[:, 0::2], angle[:, 1::2] = torch.sin(angle[:, 0::2]), torch.cos(angle[:, 1::2])
    return angle.float()[None]


class _Layer(nn.Module):
    """What encoder and decoder layers share: attention to itself, and two linear layers.

    Sequences come first: (L, N, A). Places are added to queries and keys, never to values.
    """

    def __init__(self, settings: ActSettings) -> None:
        super().__init__()
        width = settings.hidden_dim
        self.before = settings.pre_norm
        self.self_attn = nn.MultiheadAttention(width, settings.nheads, dropout=settings.dropout)
        self.linear1 = nn.Linear(width, settings.dim_feedforward)
        self.linear2 = nn.Linear(settings.dim_feedforward, width)
        self.dropout = nn.Dropout(settings.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def _attend(self, x: Tensor, place: Tensor, padding: Tensor | None = None) -> Tensor:
        asks = x + place
        y: Tensor = self.self_attn(asks, asks, value=x, key_padding_mask=padding)[0]
        return self._drop(y)

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.dropout(functional.relu(self.linear1(x))))
        return self._drop(y)

    def _drop(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(x)
        return y


class EncoderLayer(_Layer):
    """Attention, then two linear layers."""

    def forward(self, x: Tensor, place: Tensor, padding: Tensor | None = None) -> Tensor:
        """(L, N, A) to the same; ``padding`` (N, L) is True where nothing is."""
        if self.before:
            x = x + self._attend(self.norm1(x), place, padding)
            return x + self._feed(self.norm2(x))
        x = self.norm1(x + self._attend(x, place, padding))
        y: Tensor = self.norm2(x + self._feed(x))
        return y


class DecoderLayer(_Layer):
    """Attention among the queries, attention to the memory, then two linear layers."""

    def __init__(self, settings: ActSettings) -> None:
        super().__init__(settings)
        width = settings.hidden_dim
        self.multihead_attn = nn.MultiheadAttention(width, settings.nheads, dropout=settings.dropout)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor, place: Tensor, query_place: Tensor) -> Tensor:
        """Queries (T, N, A) and memory (L, N, A) to queries."""

        def look(queries: Tensor) -> Tensor:
            y: Tensor = self.multihead_attn(query=queries + query_place, key=memory + place, value=memory)[0]
            return self._drop(y)

        if self.before:
            x = x + self._attend(self.norm1(x), query_place)
            x = x + look(self.norm2(x))
            return x + self._feed(self.norm3(x))
        x = self.norm1(x + self._attend(x, query_place))
        x = self.norm2(x + look(x))
        y: Tensor = self.norm3(x + self._feed(x))
        return y


class Encoder(nn.Module):
    """Encoder layers, with a norm after them where norms come first."""

    def __init__(self, settings: ActSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.enc_layers))
        self.norm = nn.LayerNorm(settings.hidden_dim) if settings.pre_norm else None

    def forward(self, x: Tensor, place: Tensor, padding: Tensor | None = None) -> Tensor:
        """(L, N, A) to the same."""
        for layer in self.layers:
            x = layer(x, place, padding)
        return x if self.norm is None else self.norm(x)


class Decoder(nn.Module):
    """Decoder layers and a norm; the released code uses the last layer's output."""

    def __init__(self, settings: ActSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.dec_layers))
        self.norm = nn.LayerNorm(settings.hidden_dim)

    def forward(self, x: Tensor, memory: Tensor, place: Tensor, query_place: Tensor) -> Tensor:
        """(T, N, A) to the same."""
        for layer in self.layers:
            x = layer(x, memory, place, query_place)
        y: Tensor = self.norm(x)
        return y


class _Transformer(nn.Module):
    def __init__(self, settings: ActSettings) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(settings), Decoder(settings)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)


class ActHead(nn.Module):
    """One ACT head. N observations, L memory tokens, A its width, T steps, D action dimensions."""

    def __init__(self, settings: ActSettings, state_dim: int) -> None:
        super().__init__()
        width, steps, actions = settings.hidden_dim, settings.chunk_size, settings.action_dim
        self.steps, self.kl_weight = steps, settings.kl_weight
        self.transformer = _Transformer(settings)
        self.encoder = Encoder(settings)
        self.action_head = nn.Linear(width, actions)
        self.is_pad_head = nn.Linear(width, 1)
        self.query_embed = nn.Embedding(steps, width)
        self.input_proj_robot_state = nn.Linear(state_dim, width)
        self.cls_embed = nn.Embedding(1, width)
        self.encoder_action_proj = nn.Linear(actions, width)
        self.encoder_joint_proj = nn.Linear(state_dim, width)
        self.latent_proj = nn.Linear(width, 2 * LATENT_DIM)
        self.latent_out_proj = nn.Linear(LATENT_DIM, width)
        self.additional_pos_embed = nn.Embedding(2, width)
        self.register_buffer("pos_table", _position_table(2 + steps, width))
        # Published checkpoints hold these two, which compute nothing.
        self.input_proj_env_state = nn.Linear(state_dim, width)
        self.pos = nn.Embedding(2, width)

    def forward(self, state: Tensor, memory: Tensor, latent: Tensor | None = None) -> Tensor:
        """Normalised chunks (N, T, D) of states (N, S) and memory (N, L, A); without a latent it is zero."""
        n, length, width = memory.shape
        if latent is None:
            latent = memory.new_zeros(n, LATENT_DIM)
        first = torch.stack([self.latent_out_proj(latent), self.input_proj_robot_state(state)])
        source = torch.cat([first, memory.permute(1, 0, 2)])
        place = torch.cat([self.additional_pos_embed.weight, _positions(length, width, memory)])
        place = place[:, None].expand(-1, n, -1)
        queries = self.query_embed.weight[:, None].expand(-1, n, -1)
        encoded = self.transformer.encoder(source, place)
        decoded = self.transformer.decoder(torch.zeros_like(queries), encoded, place, queries)
        y: Tensor = self.action_head(decoded.transpose(0, 1))
        return y

    def posterior(self, state: Tensor, actions: Tensor, is_pad: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent, each (N, 32), for normalised actions (N, T, D)."""
        n = len(state)
        tokens = torch.cat(
            [
                self.cls_embed.weight[None].expand(n, -1, -1),
                self.encoder_joint_proj(state)[:, None],
                self.encoder_action_proj(actions),
            ],
            dim=1,
        )
        padding = torch.cat([is_pad.new_zeros(n, 2), is_pad], dim=1)
        table: Tensor = self.get_buffer("pos_table")
        encoded = self.encoder(tokens.permute(1, 0, 2), table.permute(1, 0, 2), padding)
        mean, log_variance = self.latent_proj(encoded[0]).split(LATENT_DIM, dim=1)
        return mean, log_variance

    def loss(self, state: Tensor, memory: Tensor, actions: Tensor, is_pad: Tensor) -> ActLoss:
        """Absolute error plus weighted divergence of the latent from a standard normal.

        ``actions`` (N, T, D) are normalised; ``is_pad`` (N, T) marks steps past the episode's end.
        """
        actions, is_pad = actions[:, : self.steps], is_pad[:, : self.steps]
        mean, log_variance = self.posterior(state, actions, is_pad)
        latent = mean + log_variance.div(2).exp() * torch.empty_like(mean).normal_()
        chunk = self(state, memory, latent)
        l1 = (functional.l1_loss(actions, chunk, reduction="none") * ~is_pad[..., None]).mean()
        divergence = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp())
        kl = divergence.sum(1).mean(0)
        return ActLoss(l1, kl, l1 + kl * self.kl_weight)
