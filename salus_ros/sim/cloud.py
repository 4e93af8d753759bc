"""From a depth image to a small point cloud of the workspace."""

from __future__ import annotations

import functools

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.types import Floats, Floats32


class CloudSettings(BaseModel):
    """Depth sensor and what is kept of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width_px: int = Field(160, ge=8, description="Width of the depth image: a cube is 6 pixels wide in it.")
    height_px: int = Field(120, ge=8, description="Height of the depth image.")
    points: int = Field(3000, ge=1, description="At most so many points are kept.")
    low_m: tuple[float, float, float] = Field(
        (0.15, -0.45, 0.008), description="Lower corner of the workspace."
    )
    high_m: tuple[float, float, float] = Field(
        (0.85, 0.50, 0.70), description="Upper corner of the workspace."
    )


def cloud_from_depth(depth_m: Floats32, fovy_deg: float, pose: Floats, settings: CloudSettings) -> Floats32:
    """Points of the workspace in the optical frame.

    Args:
        depth_m: (H, W), along the optical axis.
        fovy_deg: vertical field of view.
        pose: (4, 4), optical frame in the base frame, in which the workspace is given.
        settings: workspace and number of points. The table's own surface lies below the workspace.

    Returns:
        (N, 3), N at most ``settings.points``; always the same pixels for the same depth image.
    """
    points = (_rays(*depth_m.shape, fovy_deg) * depth_m[..., None]).reshape(-1, 3)
    in_base = points @ pose[:3, :3].T + pose[:3, 3]
    inside = ((in_base > settings.low_m) & (in_base < settings.high_m)).all(axis=1)
    kept = points[inside]
    if len(kept) > settings.points:
        kept = kept[np.linspace(0, len(kept) - 1, settings.points).astype(np.intp)]
    return np.ascontiguousarray(kept, dtype=np.float32)


@functools.lru_cache(maxsize=4)
def _rays(height: int, width: int, fovy_deg: float) -> Floats:
    """(H, W, 3) points at distance 1 along the optical axis, through the pixels' centres."""
    focal = 0.5 * height / np.tan(np.deg2rad(fovy_deg) / 2)
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (np.arange(height) + 0.5 - height / 2) / focal
    columns, rows = np.meshgrid(x, y)
    return np.stack([columns, rows, np.ones_like(columns)], axis=-1)
