"""The path that the policy wants, as a person sees it: where the tool goes, and how risky each part is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salus_ros.types import FailurePrediction, Floats

CALM = 0.0
AT_THRESHOLD = 0.5


def horizon_levels(prediction: FailurePrediction) -> Floats:
    """(types, horizons): probability against its type's alarm threshold, 0.5 at it, clipped to [0, 1].

    The scale of ``FailurePrediction.risk``, for every cell and not only for the worst.
    """
    threshold = np.maximum(prediction.threshold, 1e-9)[:, None]
    levels: Floats = np.clip(AT_THRESHOLD * prediction.probability / threshold, 0.0, 1.0)
    return levels


def path_levels(point_time_s: Floats, prediction: FailurePrediction | None) -> Floats:
    """How risky each point of a path is, on the scale of :func:`horizon_levels`.

    A point that is reached in 0.3 s gets the worst level within 0.3 s. Points that are past count as calm,
    and those beyond the longest horizon are ``nan``: nothing is foreseen there.

    Args:
        point_time_s: (T,), when each point is reached, on the clock of the prediction's stamp.
        prediction: the newest, or None.
    """
    if prediction is None:
        return np.full(len(point_time_s), np.nan)
    lead_s = np.asarray(point_time_s) - prediction.stamp_s
    worst = horizon_levels(prediction).max(axis=0)
    levels = np.interp(lead_s, prediction.horizons_s, worst, left=worst[0], right=np.nan)
    return np.where(lead_s < 0.0, CALM, levels)


def project(points_m: Floats, camera_pose: Sequence[float], intrinsics: Floats) -> Floats:
    """Pixels of points in the base frame, seen by a pinhole camera; ``nan`` for points behind it.

    Args:
        points_m: (N, 3) in the base frame.
        camera_pose: x, y, z [m] and the quaternion x, y, z, w of the optical frame (z forward, y down).
        intrinsics: (3, 3), the matrix ``k`` of ``sensor_msgs/CameraInfo``.

    Returns:
        (N, 2): column and row.
    """
    position, quaternion = np.array(camera_pose[:3]), np.array(camera_pose[3:])
    local = (points_m - position) @ _rotation(quaternion)
    depth = np.where(local[:, 2] > 1e-3, local[:, 2], np.nan)
    seen = local / depth[:, None] @ intrinsics.T
    return np.asarray(seen[:, :2])


def _rotation(quaternion: Floats) -> Floats:
    """(3, 3) of a quaternion x, y, z, w."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
