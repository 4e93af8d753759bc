"""Layers of K ensemble members side by side.

Every parameter holds the K members' parameters concatenated along its first axis, so that a
checkpoint splits into members with ``chunk`` and one call serves all of them. Activations
have the member axis second: (N, K, ..., D). With K = 1 the plain operations are called.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MemberLinear(nn.Linear):
    """K linear layers: (N, K, ..., I), or (N, 1, ..., I) for all members alike, to (N, K, ..., O).

    It is one linear layer with the members' outputs in a row, so that what adapts such layers knows it.
    """

    def __init__(self, inputs: int, outputs: int, members: int = 1, *, bias: bool = True) -> None:
        # Without storage, so that random numbers are drawn once: below, member by member.
        super().__init__(inputs, members * outputs, bias=bias, device="meta")
        self.members, self.outputs = members, outputs
        layers = [nn.Linear(inputs, outputs, bias=bias) for _ in range(members)]
        self.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]))
        if bias:
            self.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """Apply member k's layer to ``x[:, k]``."""
        k = self.members
        if k == 1:
            return functional.linear(x, self.weight, self.bias)
        n, given, *inner, width = x.shape
        if given == 1:
            y = functional.linear(x[:, 0], self.weight, self.bias)
            return y.view(n, *inner, k, self.outputs).movedim(-2, 1)
        weight = self.weight.view(k, self.outputs, width).transpose(1, 2)
        rows = x.transpose(0, 1).reshape(k, -1, width)
        if self.bias is None:
            y = torch.bmm(rows, weight)
        else:
            y = torch.baddbmm(self.bias.view(k, 1, self.outputs), rows, weight)
        return y.view(k, n, *inner, self.outputs).transpose(0, 1)


class MemberLayerNorm(nn.Module):
    """K layer norms over the last axis of (N, K, ..., D)."""

    def __init__(self, dim: int, members: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.members, self.dim, self.eps = members, dim, eps
        self.weight = nn.Parameter(torch.ones(members * dim))
        self.bias = nn.Parameter(torch.zeros(members * dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, then scale and shift by each member's own numbers."""
        if self.members == 1:
            return functional.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)
        shape = (self.members, *[1] * (x.dim() - 3), self.dim)
        y = functional.layer_norm(x, (self.dim,), eps=self.eps)
        return torch.addcmul(self.bias.view(shape), y, self.weight.view(shape))


class MemberAdapter(nn.Module):
    """K bottlenecks beside the identity, which they are before training."""

    def __init__(self, dim: int, width: int, members: int = 1) -> None:
        super().__init__()
        self.down = MemberLinear(dim, width, members)
        self.up = MemberLinear(width, dim, members)
        nn.init.zeros_(self.up.weight)
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1 or K, ..., D) to (N, K, ..., D)."""
        y: Tensor = x + self.up(functional.gelu(self.down(x)))
        return y
