"""The monitor as a lifecycle node: what the robot, policy and gate do in, ``FailurePrediction`` out."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from rclpy.timer import Timer
from sensor_msgs.msg import JointState, PointCloud2
from std_msgs.msg import String

from salus_msgs.msg import FailurePrediction as FailurePredictionMessage
from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_msgs.msg import PolicyOutput as PolicyOutputMessage
from salus_ros.assets import asset
from salus_ros.monitor import Monitor
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.cameras import points_from_message
from salus_ros.nodes.conversions import (
    intervention_state_from_message,
    policy_output_from_message,
    prediction_to_message,
)
from salus_ros.nodes.lifecycle import ManagedNode, run_node
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.robot import Robot, RobotSettings

QUEUE_DEPTH: Final = 50
"""Joint states at up to 1000 Hz between two predictions."""


class MonitorNodeSettings(BaseModel):
    """Which monitor runs, and for which robot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    monitor: str = Field(
        "models/monitor", description="A monitor's checkpoint: a path, or one shipped with salus_ros."
    )
    robot: RobotSettings = RobotSettings()


class MonitorNode(ManagedNode):
    """Predicts at the rate that the monitor was trained for, on steady time.

    While there is no fresh joint state or policy output it publishes nothing: the gate treats that silence
    as a fault. Messages that cannot be used are counted.
    """

    def __init__(self, name: str = "monitor_node") -> None:
        super().__init__(name, polls_clock=True)
        self._settings = declare(self, MonitorNodeSettings)
        self._robot = Robot.load(self._settings.robot)
        self._monitor: Monitor | None = None
        self._timer: Timer | None = None
        self._counts: Counter[str] = Counter()
        self._stale: tuple[str, ...] = ()
        self._publisher = self.create_lifecycle_publisher(
            FailurePredictionMessage, qos.FAILURE_PREDICTION, qos.profile(qos.FAILURE_PREDICTION)
        )
        for message_type, topic, callback in (
            (JointState, qos.JOINT_STATES, self._take_joint_state),
            (PolicyOutputMessage, qos.POLICY_OUTPUT, self._take_policy_output),
            (PointCloud2, qos.FRONT_POINTS, self._take_points),
            (InterventionStateMessage, qos.INTERVENTION_STATE, self._take_intervention),
            (String, qos.INSTRUCTION, self._take_instruction),
        ):
            self.create_polled_subscription(
                message_type, topic, self.when_active(callback), qos.profile(topic, depth=QUEUE_DEPTH)
            )
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    # Transitions

    def configure(self) -> None:
        """Load the monitor."""
        path = Path(self._settings.monitor)
        self._monitor = Monitor.load(path if path.exists() else asset(self._settings.monitor))
        checkpoint = self._monitor.checkpoint
        self.get_logger().info(
            f"monitor trained on the policies {', '.join(checkpoint.policy_hashes) or 'of unknown hash'}, "
            f"false alarms in {100 * checkpoint.alpha:g} % of successes promised"
        )
        gc.collect()
        gc.freeze()

    def activate(self) -> None:
        """Start to predict, without memory of what was before."""
        assert self._monitor is not None
        self.poll()  # what came while inactive is dropped
        self._monitor.reset()
        self._timer = self.create_steady_timer(self._monitor.period_s, self._predict)

    def deactivate(self) -> None:
        """Publish nothing more."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None

    def cleanup(self) -> None:
        """Give the monitor's memory back."""
        self._monitor = None

    # Inputs

    def _loaded(self) -> Monitor:
        assert self._monitor is not None, "callbacks run while active only"
        return self._monitor

    def _take_joint_state(self, message: JointState) -> None:
        self._loaded().observe_robot(self._robot.state(message))

    def _take_policy_output(self, message: PolicyOutputMessage) -> None:
        monitor = self._loaded()
        monitor.observe_policy(policy_output_from_message(message, self._robot.arm.joint_names))
        if monitor.foreign_policy and not self._counts["outputs of a policy it was not trained on"]:
            self.get_logger().warning(
                f"the policy {monitor.foreign_policy} is none that the monitor was trained on, and what it "
                "foresees is not known; train it on this policy's episodes, or set its alarm with "
                "salus calibrate"
            )
        self._counts["outputs of a policy it was not trained on"] += bool(monitor.foreign_policy)

    def _take_points(self, message: PointCloud2) -> None:
        self._loaded().observe_points(points_from_message(message))

    def _take_intervention(self, message: InterventionStateMessage) -> None:
        self._loaded().observe_intervention(intervention_state_from_message(message))

    def _take_instruction(self, _message: String) -> None:
        """A new instruction begins a new task, also when it says the same: the past is forgotten."""
        self._loaded().reset()

    # Output

    def _predict(self) -> None:
        self.poll()
        now_s = self.get_clock().now().nanoseconds * 1e-9
        monitor = self._loaded()
        prediction = monitor.predict(now_s)
        self._stale = monitor.stale(now_s)
        if prediction is None:
            self._counts["periods without prediction"] += 1
            self.log_throttled(f"nothing is published: no fresh {', '.join(self._stale)}", key="stale")
            return
        self._counts["predictions"] += 1
        self._publisher.publish(prediction_to_message(prediction))

    def _health(self) -> diagnostics.Health:
        monitor = self._monitor
        if not self.active or monitor is None:
            return diagnostics.Health(diagnostics.OK, "not active", dict(self._counts))
        values = {**self._counts, **{f"refused: {why}": count for why, count in monitor.refused.items()}}
        if monitor.foreign_policy:
            sentence = f"the monitor was trained on other policies than {monitor.foreign_policy}"
            return diagnostics.Health(diagnostics.WARN, sentence, values)
        if self._stale:
            return diagnostics.Health(diagnostics.WARN, f"no fresh {', '.join(self._stale)}", values)
        return diagnostics.Health(diagnostics.OK, "running", values)


def main() -> int:
    """Entry point of ``ros2 run salus_ros monitor_node``."""
    return run_node(MonitorNode)


if __name__ == "__main__":
    sys.exit(main())
