"""A policy as a process to be killed and stopped; SIGUSR1 begins a flood of plans, and ends it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))
from gate_driver import plan_from

from salus_msgs.msg import PolicyOutput
from salus_ros.nodes import qos
from salus_ros.nodes.lifecycle import die_with_parent

FLOOD_HZ = 10_000


class LivePolicy(Node):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("policy_node")
        self._sequence = 0
        self._position: Any = None
        self._flooding = False
        self._publisher = self.create_publisher(
            PolicyOutput, qos.POLICY_OUTPUT, qos.profile(qos.POLICY_OUTPUT)
        )
        self.create_subscription(JointState, qos.JOINT_STATES, self._hear, qos.profile(qos.JOINT_STATES))
        self.create_timer(0.2, self._speak)
        self.create_timer(0.01, self._flood)
        signal.signal(signal.SIGUSR1, self._toggle)

    def _toggle(self, *_: Any) -> None:
        self._flooding = not self._flooding

    def _hear(self, message: JointState) -> None:
        self._position = message.position[:7]

    def _message(self) -> PolicyOutput:
        self._sequence += 1
        return plan_from(self.get_clock().now().nanoseconds * 1e-9, self._position, self._sequence)

    def _speak(self) -> None:
        if self._position is not None and not self._flooding:
            self._publisher.publish(self._message())

    def _flood(self) -> None:
        """As many as one core gives, up to the rate; each is a plan like any other."""
        if not self._flooding:
            return
        message = self._message()
        for _ in range(FLOOD_HZ // 100):
            self._publisher.publish(message)


def main() -> int:
    die_with_parent()
    rclpy.init()
    try:
        rclpy.spin(LivePolicy())
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
