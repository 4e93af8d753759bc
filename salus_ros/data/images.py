"""Images as compressed bytes: each is a complete image file, so any viewer can open it."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

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


def encode_depth(depth_mm: NDArray[np.uint16]) -> bytes:
    """Lossless 16-bit PNG of a depth image (H, W) in millimetres, 0 where there is no depth."""
    _, encoded = cv2.imencode(".png", depth_mm, [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT])
    return encoded.tobytes()


def decode_image(encoded: bytes) -> Image:
    """Uint8 RGB image of shape (H, W, 3) from PNG, WebP or JPEG bytes.

    Raises:
        SalusError: the bytes are no complete image, or one of depth.
    """
    image = _decode(encoded)
    if image.dtype != np.uint8:
        raise SalusError("A depth image was given, and a colour image expected; read it with decode_depth.")
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image[:, :, 2::-1])


def decode_depth(encoded: bytes) -> NDArray[np.float32]:
    """Depth (H, W) in metres, nan where there is none, from a 16-bit PNG in millimetres.

    Raises:
        SalusError: the bytes are no complete image, or one of colours.
    """
    image = _decode(encoded)
    if image.dtype != np.uint16:
        raise SalusError("A colour image was given, and a depth image expected; read it with decode_image.")
    return np.where(image == 0, np.float32(np.nan), image.astype(np.float32) * np.float32(1e-3))


def _decode(encoded: bytes) -> NDArray[Any]:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED) if encoded else None
    if image is None:
        raise SalusError(
            f"{len(encoded)} bytes that begin with {encoded[:4]!r} are no PNG, WebP or JPEG image; "
            "the file they came from is damaged: record it again."
        )
    return np.asarray(image)
