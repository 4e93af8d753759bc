"""What the frozen part of a Llava-Pythia makes of every frame, computed once and kept on disk.

A frozen backbone gives the same hidden states whenever it sees a frame, and the diffusion head takes their
average only. With adapters on the language model, what stays the same is what enters it: the image tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla import preprocessing
from salus_ros.policy.tinyvla.checkpoint import Backbone
from salus_ros.policy.tinyvla.cloning import Clip
from salus_ros.policy.tinyvla.model import LlavaPythia, Text
from salus_ros.types import Floats32

Kind = Literal["average", "image_tokens"]


@dataclass(frozen=True)
class Features:
    """Frames of one episode: F frames, P image tokens, H hidden width, T steps."""

    seen: NDArray[np.floating[Any]]
    """(F, H) averages of hidden states, float32; or (F, P, H) image tokens, float16, read when used."""
    instruction: str
    state: Floats32
    """(F, S)"""
    actions: Floats32
    """(F, T, 10)"""
    is_pad: NDArray[np.bool_]
    """(F, T)"""


class FeatureCache:
    """Features of each episode in files of its own: what is there is not computed again."""

    def __init__(self, folder: Path, kind: Kind, made_of: Mapping[str, Any]) -> None:
        """``made_of`` says what decides the features; a folder made of something else is refused."""
        self._folder, self._kind = folder, kind
        origin = folder / "made_of.json"
        text = json.dumps({"kind": kind, **made_of}, indent=1, sort_keys=True)
        if origin.exists() and origin.read_text() != text:
            raise SalusError(
                f"{folder} holds features of another checkpoint, other data, other cameras or another way to "
                "train; choose another --output, or delete it."
            )
        folder.mkdir(parents=True, exist_ok=True)
        origin.write_text(text)

    def of(self, backbone: Backbone, clips: Iterable[Clip]) -> Iterator[Features]:
        """The features of each clip, computed where they are not there yet or are of another clip."""
        for index, clip in enumerate(clips):
            path, seen = self._folder / f"{index}.npz", self._folder / f"{index}.npy"
            features = {
                "instruction": np.array(clip.instruction),
                "state": clip.state,
                "actions": clip.actions,
                "is_pad": clip.is_pad,
            }
            if not _holds(path, features):
                path.unlink(missing_ok=True)
                np.save(seen, _SEEN[self._kind](backbone, clip))
                unfinished = path.with_suffix(".part.npz")
                np.savez(unfinished, allow_pickle=False, **features)
                unfinished.rename(path)
            yield Features(
                np.load(seen, mmap_mode="r"), clip.instruction, clip.state, clip.actions, clip.is_pad
            )


def _holds(path: Path, features: Mapping[str, NDArray[Any]]) -> bool:
    """Whether the file is of this clip: data may have been collected anew in the same place."""
    if not path.exists():
        return False
    with np.load(path) as stored:
        return all(name in stored and np.array_equal(stored[name], array) for name, array in features.items())


def embedded_prompt(backbone: Backbone, instruction: str) -> Text:
    """The prompt of an instruction as the language model reads it, for one frame."""
    text = preprocessing.prompt(instruction, training_form=backbone.config.extensions.training_prompt)
    ids = preprocessing.prompt_ids(backbone.tokenizer, text)
    return backbone.model.text(torch.tensor([ids], device=backbone.device))


def pooled(model: LlavaPythia, tokens: Tensor, text: Text) -> Tensor:
    """Averages (N, H) of the hidden states of all positions, for image tokens (N, P, H) and one prompt."""
    return model.think(model.join(tokens, text.repeated(len(tokens))))[:, 0].mean(dim=1)


def _averages(backbone: Backbone, clip: Clip) -> NDArray[np.floating[Any]]:
    with torch.inference_mode():
        text = embedded_prompt(backbone, clip.instruction)
        parts = [pooled(backbone.model, tokens, text) for tokens in _tokens(backbone, clip)]
        return torch.cat(parts).float().cpu().numpy()


def _image_tokens(backbone: Backbone, clip: Clip) -> NDArray[np.floating[Any]]:
    with torch.inference_mode():
        return torch.cat(list(_tokens(backbone, clip))).half().cpu().numpy()


def _tokens(backbone: Backbone, clip: Clip, batch: int = 16) -> Iterator[Tensor]:
    """Image tokens (N, P, H) of the frames, some at a time."""
    crop = backbone.config.extensions.crop
    frames = [preprocessing.pixels(images, backbone.processor, crop) for images in clip.images]
    for start in range(0, len(frames), batch):
        yield backbone.model.see(torch.stack(frames[start : start + batch]).to(backbone.device))


_SEEN: dict[Kind, Callable[[Backbone, Clip], NDArray[np.floating[Any]]]] = {
    "average": _averages,
    "image_tokens": _image_tokens,
}
