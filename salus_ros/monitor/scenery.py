"""From a depth cloud to what the arm could touch."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from salus_ros.monitor.body import Body
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.view import Motion, Scenery
from salus_ros.types import Floats, PointCloud

Mask: TypeAlias = NDArray[np.bool_]

RESOLUTION_M: Final = 2.0**-10
"""Points are put on the grid on which episodes keep them, so that a replay sees what was seen live."""
SKIN_M: Final = 0.01
"""Points this near the robot's shapes are the robot: boxes are taken as capsules, 6 mm off at corners."""
PAD_M: Final = 0.006
"""The same for points in the grasp: what is held touches the fingers."""
GRASP_X_M: Final = 0.02
"""Half width of the grasp across the fingers, in the tool frame."""
GRASP_Z_M: Final = (-0.04, 0.03)
"""From where to where a grasped object reaches along the tool's axis, in the tool frame."""
FINGER_MARGIN_M: Final = 0.012
"""How far beyond the fingertips' inner faces the grasp reaches sideways."""
NEAR_LOW_M: Final = np.array([-0.06, -0.07, -0.05])
"""Lower corner of the box about the fingertips, in the tool frame, that holds one object of a hand's size."""
NEAR_HIGH_M: Final = np.array([0.06, 0.07, 0.08])
"""Its upper corner; z points from the hand to the fingertips."""
COLUMN_M: Final = 0.15
"""How far under the grasp the column reaches in which an object may lie."""


def points_in_base(body: Body, cloud: PointCloud, links: Floats) -> Floats:
    """(N, 3), the finite points in the base frame, for the link poses (L, 4, 4) at the cloud's stamp."""
    pose = body.frame(cloud.frame_id, links)
    points = np.asarray(cloud.points_m, np.float64)
    points = np.round(points[np.isfinite(points).all(axis=1)] / RESOLUTION_M) * RESOLUTION_M
    moved: Floats = points @ pose[:3, :3].T + pose[:3, 3]
    return moved


class Scene:
    """Splits a cloud into robot, table, what lies in or under the grasp, and obstacles."""

    def __init__(self, body: Body, settings: MonitorSettings) -> None:
        self._body = body
        self._settings = settings

    def scenery(self, cloud: PointCloud, motion: Motion) -> Scenery:
        """What the newest cloud shows; the robot is where it was at the cloud's stamp."""
        links = self._body.links(motion.at(cloud.stamp_s))
        opening = float(motion.opening_m[int(np.abs(motion.stamp_s - cloud.stamp_s).argmin())])
        points = points_in_base(self._body, cloud, links)
        points = _thinned(points[points[:, 2] > self._settings.support_height_m], self._settings.max_points)
        in_grasp, under_grasp = _grasp(points, links[-1], opening)
        apart = self._body.capsules(links, opening).distance(points).min(axis=0)
        robot = apart < SKIN_M
        kept = ~robot & ~in_grasp
        things = points[kept | (in_grasp & (apart > PAD_M))]
        return Scenery(
            stamp_s=cloud.stamp_s,
            obstacles_m=_thinned(points[kept], self._settings.max_obstacle_points),
            things_m=things,
            near_tool_m=near_tool(things, links[-1]),
            between_fingers=int((in_grasp & (apart > PAD_M)).sum()),
            below_fingers=int((under_grasp & ~robot).sum()),
            visible=int(kept.sum()),
        )


def _thinned(points_m: Floats, most: int) -> Floats:
    """At most so many of the points, evenly."""
    return points_m[:: max(-(-len(points_m) // most), 1)]


def near_tool(points_m: Floats, tool: Floats) -> Floats:
    """(M, 3), those of the points (N, 3) about the fingertips of a tool pose (4, 4), in its frame."""
    local = (points_m - tool[:3, 3]) @ tool[:3, :3]
    near: Floats = local[((local > NEAR_LOW_M) & (local < NEAR_HIGH_M)).all(axis=1)]
    return near


def _grasp(points_m: Floats, tool: Floats, opening_m: float) -> tuple[Mask, Mask]:
    """Which points (N, 3) lie between the fingers, and which in the column under them."""
    local = (points_m - tool[:3, 3]) @ tool[:3, :3]
    half = (opening_m if np.isfinite(opening_m) else 0.08) / 2.0 + FINGER_MARGIN_M
    sideways = (np.abs(local[:, 0]) < GRASP_X_M) & (np.abs(local[:, 1]) < half)
    inside = sideways & (local[:, 2] > GRASP_Z_M[0]) & (local[:, 2] < GRASP_Z_M[1])
    below = sideways & (local[:, 2] >= GRASP_Z_M[1]) & (local[:, 2] < GRASP_Z_M[1] + COLUMN_M)
    return inside, below
