"""Gazebo's depth image as the points that the monitor reads, cut and thinned as in the MuJoCo simulation."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict
from sensor_msgs.msg import Image, PointCloud2

from salus_ros.errors import SalusError
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.cameras import points_to_message
from salus_ros.nodes.driver_messages import stamp_from_message
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.parameters import declare
from salus_ros.sim.cloud import CloudSettings, cloud_from_depth
from salus_ros.sim.gazebo import front_camera_pose
from salus_ros.sim.world import WorldSettings
from salus_ros.types import Floats32, PointCloud

DEPTH: Final = "gazebo/front/depth"
FRAME: Final = "front_optical_frame"
_NOTHING_SEEN_M: Final = 3.0
"""Gazebo gives infinity where nothing is seen, MuJoCo its far clip."""


class GazeboPointsSettings(BaseModel):
    """Where the depth camera stands, and what is kept of what it sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    world: WorldSettings = WorldSettings()
    cloud: CloudSettings = CloudSettings()


class GazeboPointsNode(GuardedNode):
    """Publishes one cloud for each depth image."""

    def __init__(self, name: str = "gazebo_points_node", **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self._settings = declare(self, GazeboPointsSettings)
        self._pose = front_camera_pose(self._settings.world)
        self._counts: Counter[str] = Counter()
        self._publisher = self.create_publisher(PointCloud2, qos.FRONT_POINTS, qos.profile(qos.FRONT_POINTS))
        self.create_subscription(Image, DEPTH, self.guard(self._take_depth), qos.profile(qos.FRONT_IMAGE))
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    def _take_depth(self, message: Image) -> None:
        depth_m = depth_from_message(message)
        points = cloud_from_depth(
            depth_m, self._settings.world.front_camera_fovy_deg, self._pose, self._settings.cloud
        )
        cloud = PointCloud(stamp_from_message(message.header.stamp), FRAME, points)
        self._publisher.publish(points_to_message(cloud))
        self._counts["clouds"] += 1

    def _health(self) -> diagnostics.Health:
        return diagnostics.Health(diagnostics.OK, "running", dict(self._counts))


def depth_from_message(message: Image) -> Floats32:
    """(H, W) depth in metres of a 32FC1 image; what is infinitely far or no number counts as not seen.

    Raises:
        SalusError: another encoding, or fewer bytes than the size needs.
    """
    if message.encoding != "32FC1":
        raise SalusError(f"The depth image has the encoding {message.encoding!r}; expected 32FC1 (metres).")
    needed = message.height * message.step
    if message.step < 4 * message.width or len(message.data) < needed:
        raise SalusError(
            f"The depth image of {message.width} x {message.height} pixels holds {len(message.data)} bytes "
            f"in rows of {message.step}; expected {4 * message.width} or more a row."
        )
    rows = np.frombuffer(message.data, np.uint8, needed).reshape(message.height, message.step)
    depth_m = np.ascontiguousarray(rows[:, : 4 * message.width]).view(
        ">f4" if message.is_bigendian else "<f4"
    )
    return np.where(np.isfinite(depth_m), depth_m, _NOTHING_SEEN_M).astype(np.float32)


def main() -> int:
    """Entry point of ``ros2 run salus_ros gazebo_points_node``."""
    return run_node(GazeboPointsNode)


if __name__ == "__main__":
    sys.exit(main())
