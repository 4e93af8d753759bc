"""Low-rank adapters on the language model: trained through peft, saved as the released code saves a LoRA run.

``OUT/`` holds what belongs to the run, ``OUT/checkpoint-N/`` the adapters and all other tensors. The backbone
that it began with is not needed again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.checkpoint import Backbone
from salus_ros.policy.tinyvla.features import Features, embedded_prompt, pooled
from salus_ros.policy.tinyvla.layout import ADAPTER, NON_LORA
from salus_ros.policy.tinyvla.model import LlavaPythia
from salus_ros.policy.tinyvla.naming import to_published

ALPHA_PER_RANK: Final = 4
"""The released code's: alpha 256 for rank 64."""

DROPOUT: Final = 0.05
"""The released code's."""

_ADAPTED: Final = (
    "attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
)  # fmt: skip
_PREFIX: Final = "base_model.model."


def need_peft() -> None:
    """Find out whether adapters can be trained here.

    Raises:
        SalusError: peft is not installed.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise SalusError(
            f"Adapters need the library peft, which cannot be imported ({error}); install it (pip install "
            "peft), or leave out --lora."
        ) from None


def adapt(model: LlavaPythia, rank: int) -> None:
    """Put adapters beside every linear layer of the language model, in place; nothing else stays trainable.

    Raises:
        SalusError: peft is not installed.
    """
    need_peft()
    from peft import inject_adapter_in_model

    inject_adapter_in_model(_configuration(model, rank), model)


class AdaptedTrunk:
    """An adapted language model that reads image tokens computed before."""

    def __init__(
        self, model: LlavaPythia, backbone: Backbone, episodes: Sequence[Features], device: torch.device
    ) -> None:
        self._model, self._device = model, device
        model.gpt_neox.to(device)
        self.adapters: Mapping[str, nn.Parameter] = {
            name: parameter for name, parameter in model.named_parameters() if _is_adapter(name)
        }
        """Trained parameters by name."""
        self._seen = [episode.seen for episode in episodes]
        self._starts = np.cumsum([0, *(len(seen) for seen in self._seen)])
        instructions = sorted({episode.instruction for episode in episodes})
        self._texts = [embedded_prompt(backbone, text).to(device) for text in instructions]
        self._text_of = np.array([instructions.index(episode.instruction) for episode in episodes])

    def __call__(self, frames: Tensor) -> Tensor:
        """Averages (N, H) of the hidden states of frames (N,), with a gradient for the adapters."""
        numbers = frames.numpy()
        episodes = np.searchsorted(self._starts, numbers, side="right") - 1
        places = numbers - self._starts[episodes]
        averages, order = [], []
        # Prompts differ in length, and no token may stand for nothing.
        for text in np.unique(self._text_of[episodes]):
            rows = np.flatnonzero(self._text_of[episodes] == text)
            tokens = np.stack([self._seen[episodes[row]][places[row]] for row in rows])
            averages.append(
                pooled(self._model, torch.from_numpy(tokens).float().to(self._device), self._texts[text])
            )
            order.append(rows)
        return torch.cat(averages)[torch.from_numpy(np.concatenate(order).argsort()).to(self._device)]


def save_run(folder: Path, step: int, model: LlavaPythia, rank: int, init: Path) -> None:
    """Write the weights of an adapted model into ``folder/checkpoint-{step}``.

    Adapters are kept in float32, all else in 16 bits. The folder appears as a whole, or not at all.

    Args:
        folder: the run; ``checkpoint.save_beside`` writes what else belongs to it.
        step: steps that were trained.
        model: the adapted model.
        rank: of its adapters.
        init: the checkpoint that the run began with, which the adapters' configuration names.
    """
    target = folder / f"checkpoint-{step}"
    unfinished = folder / f".{target.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    configuration = _configuration(model, rank)
    configuration.base_model_name_or_path, configuration.inference_mode = str(init.resolve()), True
    configuration.save_pretrained(str(unfinished))
    adapter: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in to_published(model).items():
        if _is_adapter(name):
            adapter[_PREFIX + name.replace(".default.", ".")] = tensor.float().cpu()
        else:
            rest[_PREFIX + name.replace(".base_layer.", ".")] = tensor.half().cpu()
    torch.save(adapter, unfinished / ADAPTER)
    torch.save(rest, unfinished / NON_LORA)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def _configuration(model: LlavaPythia, rank: int) -> Any:
    """peft's ``LoraConfig``. Layers are named in full, since its older versions compare the ends of names."""
    from peft import LoraConfig

    layers = range(len(model.gpt_neox.layers))
    return LoraConfig(
        r=rank,
        lora_alpha=ALPHA_PER_RANK * rank,
        lora_dropout=DROPOUT,
        task_type="CAUSAL_LM",
        target_modules=[f"gpt_neox.layers.{layer}.{part}" for layer in layers for part in _ADAPTED],
    )


def _is_adapter(name: str) -> bool:
    return ".lora_" in name
