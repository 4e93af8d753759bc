"""Images as compressed bytes: each is a complete image file, so any viewer can open it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from salus_ros.errors import SalusError
from salus_ros.types import Image

PNG_EFFORT: Final = 3
"""zlib level: higher ones cost several times the time for a few per cent."""


def encode_image(image: Image) -> bytes:
    """Lossless PNG of a uint8 RGB image of shape (H, W, 3).

    Raises:
        SalusError: another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SalusError(
            f"An image of type {image.dtype} and shape {image.shape} was given; expected uint8 RGB of shape "
            "(height, width, 3): convert it first."
        )
    _, encoded = cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT])
    return encoded.tobytes()


def decode_image(encoded: bytes) -> Image:
    """Uint8 RGB image of shape (H, W, 3) from PNG, WebP or JPEG bytes.

    Raises:
        SalusError: the bytes are no complete image.
    """
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    if image is None:
        raise SalusError(
            f"{len(encoded)} bytes that begin with {encoded[:4]!r} are no PNG, WebP or JPEG image; "
            "the file they came from is damaged: record it again."
        )
    return np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)
