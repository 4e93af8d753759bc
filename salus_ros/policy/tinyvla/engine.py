"""One observation through a loaded TinyVLA, as fast as its device allows.

On a processor: float32, the prompt embedded once an instruction, all members and draws in one product a
layer. On a GPU: the whole way from pixels to chunks replayed as one CUDA graph, so that no Python stands
between its kernels; large models in bfloat16 with float32 tables and chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.denoising import Denoiser
from salus_ros.policy.tinyvla.model import Text, TinyVla, TinyVlaAct
from salus_ros.types import NOT_AVAILABLE, Floats32

Precision = Literal["auto", "float32", "bfloat16"]

LARGE = 100_000_000
"""Parameters from which on a GPU gains by bfloat16. Below, starting the kernels takes the time, and a policy
should plan on every machine as on the one where its monitor was trained."""

GRAPHS_KEPT = 4
"""Captures, each with its memory: of prompts of so many lengths."""

_CAPTURE_WARM_UP = 3
"""Runs before a capture: kernels are chosen and memory is taken outside the graph."""

_NATIVE_BFLOAT16 = (8, 0)
"""Compute capability from which on a GPU multiplies bfloat16 itself."""


@dataclass(frozen=True)
class Drawn:
    """What one inference yields."""

    samples: Floats32
    """(K, S, T, D), normalised."""
    disagreement: float
    """Between members, on the clean chunk along their trajectories; nan for one, or without sampling."""
    latent: Floats32
    """(H,), what the head sees, averaged over members."""


class Engine:
    """Runs one model on one device. K members, S draws, V views, T steps, D action dimensions."""

    def __init__(
        self, model: TinyVla | TinyVlaAct, device: str = "auto", precision: Precision = "auto"
    ) -> None:
        self.device = _device(device)
        self.dtype = _dtype(precision, self.device, sum(part.numel() for part in model.parameters()))
        # Parameters alone: tables of the sampler and of the rotation stay in float32, or actions become nan.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(self.dtype)
        self.model = model.to(self.device)
        self._denoiser = Denoiser(model) if isinstance(model, TinyVla) else None
        self._graphs: dict[tuple[int, ...], Graph] = {}

    @torch.inference_mode()
    def prepare(self, ids: Tensor) -> Text:
        """Embed prompt ids (M,) once; what comes out goes with every image."""
        return self.model.text(ids[None].to(self.device))

    @torch.inference_mode()
    def infer(self, pixels: Tensor, text: Text, state: Tensor, noise: Tensor) -> Drawn:
        """Views (V, 3, S, S), a prompt, a normalised state (S,) and noise (S, 1, T, D) to chunks."""
        inputs = [pixels[None].to(self.device, self.dtype), state[None].to(self.device, self.dtype)]
        inputs += [noise.to(self.device), text.before, text.after]
        if text.film is not None:
            inputs.append(text.film)
        run = self._graphed if self.device.type == "cuda" else self._forward
        samples, disagreement, latent = (out.float().cpu() for out in run(*inputs))
        spread = float(disagreement.mean()) if len(disagreement) else NOT_AVAILABLE
        return Drawn(samples.contiguous().numpy(), spread, latent.numpy())

    def _forward(self, pixels: Tensor, state: Tensor, noise: Tensor, *text: Tensor) -> tuple[Tensor, ...]:
        """Chunks (K, S, T, D), disagreement (steps,) and latent (H,)."""
        model = self.model
        film = text[2] if len(text) > 2 else None
        hidden = model.think(model.join(model.see(pixels), Text(text[0], text[1], film)))
        if isinstance(model, TinyVlaAct):
            memory = model.memory(hidden)
            latent = torch.stack([seen.mean(dim=(0, 1)) for seen in memory]).mean(dim=0)
            return model.actions(memory, state).transpose(0, 1), noise.new_empty(0), latent
        assert self._denoiser is not None
        condition = model.embed_out.condition(hidden, state)
        drawn = self._denoiser.sample(condition, noise)
        return drawn.actions.transpose(0, 1), drawn.disagreement, condition.mean(dim=(0, 1))

    def _graphed(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Replay the capture for inputs of these shapes; the first call makes it."""
        shapes = tuple(size for tensor in inputs for size in tensor.shape)
        graph = self._graphs.pop(shapes, None)
        if graph is None:
            while len(self._graphs) >= GRAPHS_KEPT:
                del self._graphs[next(iter(self._graphs))]  # the one not used for longest
            graph = Graph(self._forward, inputs)
        self._graphs[shapes] = graph
        return graph.replay(inputs)


class Graph:
    """One capture of a function on a GPU, with its own input and output tensors."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        device = inputs[0].device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_CAPTURE_WARM_UP):
                function(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)

    def replay(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the function gives for these inputs; the next replay writes over it."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return self._outputs


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise SalusError(f"The device {name!r} cannot be used ({reason}); use auto, cpu or cuda.") from None
    if device.index:
        raise SalusError(
            f"The device {name!r} is not the first GPU; use cuda, and say which with CUDA_VISIBLE_DEVICES."
        )
    return device


def _dtype(precision: Precision, device: torch.device, parameters: int) -> torch.dtype:
    if precision == "auto":
        native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _NATIVE_BFLOAT16
        return torch.bfloat16 if native and parameters >= LARGE else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
