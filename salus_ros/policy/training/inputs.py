"""What the model is given of a frame: its views as normalised pixels, its instruction as a prompt's ids."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from salus_ros.policy.tinyvla import preprocessing


class Inputs:
    """Prompts of all instructions, and the image processor's normalisation."""

    def __init__(
        self,
        instructions: tuple[str, ...],
        tokenizer: Tokenizer,
        processor: preprocessing.ImageProcessor,
    ) -> None:
        self.ids = [
            torch.tensor(preprocessing.prompt_ids(tokenizer, preprocessing.prompt(text)))
            for text in instructions
        ]
        """Of each instruction, (M,)."""
        self.length = torch.tensor([len(ids) for ids in self.ids])
        """(I,), ids of each prompt."""
        self._mean = torch.tensor(processor.mean).view(3, 1, 1)
        self._std = torch.tensor(processor.std).view(3, 1, 1)

    def prompts(self, instruction: Tensor) -> list[Tensor]:
        """Ids of the prompts of instructions (N,), by their numbers."""
        return [self.ids[number] for number in instruction.tolist()]

    def pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 (N, V, S, S, 3) to normalised pixels (N, V, 3, S, S)."""
        return self._normalised(_unit(images))

    def augmented(self, images: NDArray[np.uint8], shift_px: int, brightness: float) -> Tensor:
        """The same, each view shifted at random by up to ``shift_px``, and brightened likewise."""
        n, views, side = images.shape[:3]
        pixels = _unit(images).flatten(0, 1)
        padded = functional.pad(pixels, (shift_px,) * 4, mode="replicate")
        offset = torch.randint(0, 2 * shift_px + 1, (n * views, 2))
        rows = (offset[:, :1] + torch.arange(side)).view(-1, 1, side, 1)
        columns = (offset[:, 1:] + torch.arange(side)).view(-1, 1, 1, side)
        pixels = padded[
            torch.arange(n * views).view(-1, 1, 1, 1), torch.arange(3).view(1, 3, 1, 1), rows, columns
        ]
        change = 1 + brightness * (2 * torch.rand(n * views, 1, 1, 1) - 1)
        return self._normalised((pixels * change).clamp(0, 1)).view(n, views, 3, side, side)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels - self._mean) / self._std


def _unit(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, V, S, S, 3) to (N, V, 3, S, S) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 255
