"""From camera images, robot state and instruction to tensors, exactly as published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image as PilImage
from pydantic import BaseModel, Field, ValidationError, field_validator
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.model import IMAGE_TOKEN
from salus_ros.types import Image

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
END = "<|endoftext|>"
_THERE_AND_BACK = ((np.arange(256) / 255.0).astype(np.float32) * 255).astype(np.uint8)
"""What becomes of each value on the published way through [0, 1]: some lose one to the truncation."""

CROP = 0.95
"""Share of height and width that the centre crop keeps."""


def prompt(instruction: str, *, training_form: bool = False) -> str:
    """The published evaluation prompt; the released training code writes one more space before the end."""
    gap = "  " if training_form else " "
    return f"{SYSTEM} USER: <image>\n{instruction} ASSISTANT:{gap}{END}"


def prompt_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokenise the parts around ``<image>`` apart and join them by -200."""
    before, after = (tokenizer.encode(part, add_special_tokens=False).ids for part in text.split("<image>"))
    return [*before, IMAGE_TOKEN, *after]


def centre_crop(views: Tensor) -> Tensor:
    """Cut the border away and resize back: (V, 3, H, W) in [0, 1] to the same shape."""
    height, width = views.shape[-2:]
    rows = slice(int(height * (1 - CROP) / 2), int(height * (1 + CROP) / 2))
    columns = slice(int(width * (1 - CROP) / 2), int(width * (1 + CROP) / 2))
    cut = views[..., rows, columns]
    return functional.interpolate(
        cut, size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )


_Mean = Annotated[float, Field(allow_inf_nan=False)]
_Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Published(BaseModel):
    """The keys of a ``preprocessor_config.json`` that decide what is computed."""

    size: int = Field(ge=1)
    image_mean: tuple[_Mean, _Mean, _Mean]
    image_std: tuple[_Deviation, _Deviation, _Deviation]
    resample: int = Field(3, ge=0, le=max(PilImage.Resampling))

    @field_validator("size", mode="before")
    @classmethod
    def _side(cls, size: object) -> object:
        return size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size


@dataclass(frozen=True)
class ImageProcessor:
    """Pads to a square, resizes bicubically and normalises, as the CLIP processor does."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int = 3

    @classmethod
    def read(cls, path: Path) -> ImageProcessor:
        """Read a ``preprocessor_config.json``."""
        try:
            given = _Published.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise SalusError(
                f"{path} is not a CLIP preprocessor configuration ({where}: {first['msg']}); "
                "copy the checkpoint again."
            ) from None
        except OSError as error:
            raise SalusError(f"{path} cannot be read ({error}); copy the checkpoint again.") from None
        return cls(given.size, given.image_mean, given.image_std, given.resample)

    def __call__(self, views: Tensor) -> Tensor:
        """(V, 3, H, W) in [0, 1] to normalised pixels (V, 3, S, S)."""
        whole: list[Image] = list((views.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8))
        return torch.stack([self._normalised(self._resized(view)) for view in whole])

    def of_image(self, image: Image) -> Tensor:
        """What ``__call__`` makes of one image, uint8 RGB (H, W, 3), that nothing was done to: (3, S, S)."""
        return self._normalised(self.to_uint8(image))

    def to_uint8(self, image: Image) -> Image:
        """The same without the normalisation, (H, W, 3) to (S, S, 3): what a demonstration keeps."""
        truncated: Image = np.take(_THERE_AND_BACK, image)
        return self._resized(truncated)

    def _resized(self, pixels: Image) -> Image:
        """(H, W, 3) to (S, S, 3): padded with the mean, resized."""
        height, width = pixels.shape[:2]
        side, image = max(height, width), PilImage.fromarray(pixels)
        if height != width:
            colour = (np.asarray(self.mean, np.float32) * 255).astype(np.uint8)
            square = PilImage.new("RGB", (side, side), tuple(colour.tolist()))
            square.paste(image, ((side - width) // 2, (side - height) // 2))
            image = square
        if side != self.size:
            image = image.resize((self.size, self.size), resample=self.resample)
        return np.asarray(image)

    def _normalised(self, pixels: Image) -> Tensor:
        """(S, S, 3) to (3, S, S), looked up: a channel has 256 values only."""
        unit = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        table = (unit[:, None] - mean) / std
        return torch.from_numpy(np.stack([np.take(table[:, i], pixels[..., i]) for i in range(3)]))


def pixels(images: Sequence[Image], processor: ImageProcessor, crop: bool) -> Tensor:
    """Views, uint8 RGB images (H, W, 3) of any sizes, to normalised pixels (V, 3, S, S)."""
    if crop:
        return torch.cat([processor(centre_crop(views_to_unit([image]))) for image in images])
    return torch.stack([processor.of_image(image) for image in images])


def views_to_unit(images: Sequence[Image]) -> Tensor:
    """uint8 RGB images (H, W, 3) of equal size to float views (V, 3, H, W) in [0, 1]."""
    stacked = np.stack([np.moveaxis(image, -1, 0) for image in images])
    return torch.from_numpy((stacked / 255.0).astype(np.float32))
