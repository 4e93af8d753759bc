"""Camera frames for the report: one sheet of small pictures a camera and episode, as WebP."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from salus_ros.data.episode import FrameStream
from salus_ros.types import Floats

EDGE_PX = 128
QUALITIES = ((128, 75), (112, 65), (96, 55), (72, 45))
"""Edge in pixels and WebP quality, tried in this order until the report fits its budget."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pictures side by side, left to right in time."""

    camera: str
    time_s: Floats
    """(N,), moment of each picture."""
    data_uri: str


def sheet(camera: str, stream: FrameStream, moments_s: Floats, edge_px: int, quality: int) -> Sheet | None:
    """The frame nearest to each moment; None when the camera took none.

    Args:
        moments_s: (N,) increasing.
        edge_px: height of each picture; its width follows the first image's shape, cropped to a square.
    """
    if not len(stream):
        return None
    nearest = np.abs(stream.stamp_s[None, :] - moments_s[:, None]).argmin(axis=1)
    chosen = np.unique(nearest)
    tiles = [_square(stream.image(int(i)), edge_px) for i in chosen]
    _, encoded = cv2.imencode(".webp", np.hstack(tiles)[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    uri = "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
    return Sheet(camera, stream.stamp_s[chosen], uri)


def _square(image: np.ndarray, edge_px: int) -> np.ndarray:  # type: ignore[type-arg]
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    interpolation = cv2.INTER_AREA if side > edge_px else cv2.INTER_LINEAR
    return cv2.resize(
        image[top : top + side, left : left + side], (edge_px, edge_px), interpolation=interpolation
    )
