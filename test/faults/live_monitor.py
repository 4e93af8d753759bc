"""A monitor as a process of its own, to be killed and stopped: it foresees nothing, 20 times a second."""

from __future__ import annotations

import sys
from pathlib import Path

import rclpy
from rclpy.node import Node

sys.path.insert(0, str(Path(__file__).parents[1] / "intervention"))
from gate_world import prediction

from salus_msgs.msg import FailurePrediction
from salus_ros.nodes import qos
from salus_ros.nodes.conversions import prediction_to_message
from salus_ros.nodes.lifecycle import die_with_parent


class LiveMonitor(Node):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("monitor_node")
        self._publisher = self.create_publisher(
            FailurePrediction, qos.FAILURE_PREDICTION, qos.profile(qos.FAILURE_PREDICTION)
        )
        self.create_timer(0.05, self._speak)

    def _speak(self) -> None:
        stamp_s = self.get_clock().now().nanoseconds * 1e-9
        self._publisher.publish(prediction_to_message(prediction(stamp_s)))


def main() -> int:
    die_with_parent()
    rclpy.init()
    try:
        rclpy.spin(LiveMonitor())
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
