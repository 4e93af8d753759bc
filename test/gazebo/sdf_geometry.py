"""Poses as SDF writes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GAZEBO_TO_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Pose of the optical frame in a Gazebo camera's, which looks along x with z up."""


def matrix(pose: str | None) -> NDArray[np.float64]:
    """(4, 4) of ``x y z roll pitch yaw``; the identity for no text."""
    values = [float(word) for word in (pose or "0 0 0 0 0 0").split()]
    (cr, cp, cy), (sr, sp, sy) = np.cos(values[3:]), np.sin(values[3:])
    result = np.eye(4)
    result[:3, 3] = values[:3]
    result[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return result
