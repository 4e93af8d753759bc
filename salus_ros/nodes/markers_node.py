"""What SALUS wants and does as markers for RViz and Foxglove: the path coloured by risk, the mode as text."""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
from geometry_msgs.msg import Point
from pydantic import BaseModel, ConfigDict, Field
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from salus_ros.console.scene import path_levels
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.channels import Channel
from salus_ros.nodes.conversions import policy_output_from_message, prediction_from_message
from salus_ros.nodes.driver_messages import robot_state_from_message
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.types import Floats, Mode

STALE_S: Final = 1.5
"""A path or prediction that is older is not drawn."""
TEXT_OVER_TOOL_M: Final = 0.15

_CALM: Final = np.array([0.12, 0.62, 0.52])
_WARN: Final = np.array([0.92, 0.66, 0.2])
_BAD: Final = np.array([0.83, 0.24, 0.16])
_UNKNOWN: Final = np.array([0.58, 0.63, 0.61])


class MarkersSettings(BaseModel):
    """How often, and for which robot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    period_s: float = Field(0.1, ge=0.02, description="Time between two sets of markers [s].")
    width_m: float = Field(0.008, gt=0, description="Width of the path's line [m].")
    text_m: float = Field(0.05, gt=0, description="Height of the mode's letters [m].")
    robot: RobotSettings = RobotSettings()


def colour(level: float) -> ColorRGBA:
    """The console's scale: calm, at half way the alarm's threshold, certain; grey for ``nan``."""
    if np.isnan(level):
        rgb = _UNKNOWN
    elif level < 0.5:
        rgb = _CALM + 2.0 * level * (_WARN - _CALM)
    else:
        rgb = _WARN + (2.0 * level - 1.0) * (_BAD - _WARN)
    return ColorRGBA(r=float(rgb[0]), g=float(rgb[1]), b=float(rgb[2]), a=1.0)


class MarkersNode(GuardedNode):
    """Reads the graph at its own rate and draws what is fresh."""

    def __init__(self, name: str = "markers_node") -> None:
        super().__init__(name, polls_clock=True)
        self._settings = declare(self, MarkersSettings)
        self._robot = Robot.load(self._settings.robot)
        self._joints, self._plans, self._predictions, self._states = (
            Channel(self, self._inbox, topic)
            for topic in (
                *(qos.JOINT_STATES, qos.POLICY_OUTPUT),
                *(qos.FAILURE_PREDICTION, qos.INTERVENTION_STATE),
            )
        )
        self._publisher = self.create_publisher(MarkerArray, qos.MARKERS, qos.profile(qos.MARKERS))
        self.create_steady_timer(self._settings.period_s, self._draw)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    def _draw(self) -> None:
        self.poll()
        joints = self._joints.newest
        if joints is None:
            return
        state = robot_state_from_message(joints, self._robot.arm.joint_names)
        tool = self._robot.arm.forward(state.joint_position_rad)[:3, 3]
        markers = [self._path(tool, state.stamp_s), self._mode(tool)]
        for marker in markers:
            marker.header.stamp = joints.header.stamp
            marker.header.frame_id = self._robot.arm.base_frame
        self._publisher.publish(MarkerArray(markers=markers))

    def _path(self, tool_m: Floats, now_s: float) -> Marker:
        """From the tool along the part of the newest chunk that lies ahead."""
        marker = Marker(ns="path", type=Marker.LINE_STRIP, action=Marker.DELETE)
        marker.pose.orientation.w = 1.0
        marker.scale.x = self._settings.width_m
        if self._plans.age_s > STALE_S:
            return marker
        chunk = policy_output_from_message(self._plans.newest, self._robot.arm.joint_names).chunk
        times = chunk.stamp_s + chunk.time_from_start_s
        ahead = times > now_s
        if not ahead.any():
            return marker
        fresh = self._predictions.age_s <= STALE_S
        prediction = prediction_from_message(self._predictions.newest) if fresh else None
        points = self._robot.arm.forward(chunk.joint_position_rad[ahead])[:, :3, 3]
        levels = path_levels(np.append(now_s, times[ahead]), prediction)
        marker.action = Marker.ADD
        marker.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in np.vstack([tool_m, points])]
        marker.colors = [colour(level) for level in levels]
        return marker

    def _mode(self, tool_m: Floats) -> Marker:
        marker = Marker(ns="mode", type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
        marker.pose.position.x, marker.pose.position.y = float(tool_m[0]), float(tool_m[1])
        marker.pose.position.z = float(tool_m[2]) + TEXT_OVER_TOOL_M
        marker.pose.orientation.w = 1.0
        marker.scale.z = self._settings.text_m
        heard = self._states.age_s <= STALE_S
        mode = Mode(self._states.newest.mode) if heard else None
        marker.text = mode.name.replace("_", " ").lower() if mode is not None else "no gate heard"
        level = {None: np.nan, Mode.INACTIVE: np.nan, Mode.NOMINAL: 0.0}.get(
            mode, 0.5 if mode is not None and mode < Mode.ASSIST else 1.0
        )
        marker.color = colour(level)
        return marker

    def _health(self) -> diagnostics.Health:
        if self._joints.age_s > STALE_S:
            return diagnostics.Health(diagnostics.WARN, "no fresh joint states: nothing is drawn")
        return diagnostics.Health(diagnostics.OK, "drawing")


def main() -> int:
    """Entry point of ``ros2 run salus_ros markers_node``."""
    return run_node(MarkersNode)


if __name__ == "__main__":
    sys.exit(main())
