"""The operator console: what the graph does on a web page, and a person's word to the gate.

Messages are read ten times a second and stay serialized until a browser looks. What a person presses does not
wait for that: it wakes the executor at once.
"""

from __future__ import annotations

import queue
import sys
import time
from collections import Counter
from concurrent.futures import Future as Promise
from dataclasses import asdict
from typing import Any, Final

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from pydantic import ConfigDict, Field

from salus_msgs.msg import EpisodeEvent as EpisodeEventMessage
from salus_msgs.msg import InterventionState as InterventionStateMessage
from salus_ros.console import snapshot as describe
from salus_ros.console.access import AccessSettings
from salus_ros.console.journal import Journal
from salus_ros.console.scene import project
from salus_ros.console.server import Answer, ConsoleServer
from salus_ros.monitor.settings import FRONT_CAMERA_POSE
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.cameras import image_from_message
from salus_ros.nodes.channels import Channel
from salus_ros.nodes.console_commands import Commands, PersistentStop, fulfil
from salus_ros.nodes.conversions import (
    episode_event_from_message,
    intervention_state_from_message,
    policy_output_from_message,
    prediction_from_message,
)
from salus_ros.nodes.driver_messages import robot_state_from_message
from salus_ros.nodes.lifecycle import GuardedNode, run_node, write_log
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.types import FailurePrediction, Floats, InterventionState, PolicyOutput

LATE_AFTER_S: Final = {
    qos.JOINT_STATES: 0.2,
    qos.POLICY_OUTPUT: 0.8,
    qos.FAILURE_PREDICTION: 0.4,
    qos.INTERVENTION_STATE: 0.4,
}
"""Silence from which the page shows an input as late; the gate's own deadlines are others."""
NODES_SHOWN: Final = 100
"""Names on ``/diagnostics`` that are listened to."""
IMAGE_LATE_AFTER_S: Final = 0.5
_WHOLE_COLOUR: Final = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
"""A policy's images are small, and enlarged on the page."""


class ConsoleNodeSettings(AccessSettings):
    """Where the console is offered, to whom, and what it shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    period_s: float = Field(0.1, ge=0.02, le=1.0, description="Time between two pictures of the page [s].")
    cameras: tuple[str, ...] = Field(
        ("front", "wrist"), description="Names of the cameras, each under camera/<name>/image_raw."
    )
    jpeg_quality: int = Field(90, ge=10, le=100, description="Quality of the images sent to browsers.")
    draw_path: bool = Field(
        True, description="Draw the path into the front camera's image; front_camera_pose must be right."
    )
    front_camera_pose: tuple[float, ...] = Field(
        FRONT_CAMERA_POSE,
        min_length=7,
        max_length=7,
        description="Optical frame of the front camera in the arm's base frame: x, y, z [m] and the "
        "quaternion x, y, z, w; default: the simulator's.",
    )
    stop_timeout_s: float = Field(
        0.5, gt=0, description="Silence of the gate after a stop from which the driver's is called [s]."
    )
    stop_services: tuple[str, ...] = Field(
        (qos.DRIVER_STOP,), description="Trigger services of the driver to call when the gate is silent."
    )
    robot: RobotSettings = RobotSettings()

    def access(self) -> AccessSettings:
        """The part that the web server needs."""
        return AccessSettings(**{name: getattr(self, name) for name in AccessSettings.model_fields})


class ConsoleNode(GuardedNode):
    """Shows the graph to people and carries their word to the gate."""

    def __init__(self, name: str = "console_node") -> None:
        super().__init__(name, polls_clock=True)
        self._settings = settings = declare(self, ConsoleNodeSettings)
        self._robot = Robot.load(settings.robot)
        cv2.setNumThreads(1)
        self._journal = Journal()
        self._told = 0
        """Number of the journal's entry that was sent last."""
        self._counts: Counter[str] = Counter()
        self._state: InterventionState | None = None
        self._health_of: dict[str, describe.NodeHealth] = {}
        self._heard_s: dict[str, float] = {}
        self._path: tuple[PolicyOutput, Floats] | None = None
        self._prediction: FailurePrediction | None = None
        self._seen = dict.fromkeys(settings.cameras, 0)
        """Images of each camera that were there at the last picture."""
        self._subscribe()
        self._commands = Commands(self)
        self._stop = PersistentStop(
            self, settings.stop_services, settings.stop_timeout_s, lambda text: self._note(text, "error")
        )
        self._pressed: queue.SimpleQueue[tuple[str, str, str, Promise[Answer]]] = queue.SimpleQueue()
        self._wake = self.create_guard_condition(self.guard(self._carry_out))
        self._server = ConsoleServer(settings.access(), self._press, settings.cameras)
        self.create_steady_timer(settings.period_s, self._tick)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self.get_logger().info(f"the console is at {self._server.url}")

    def _subscribe(self) -> None:
        callbacks = {
            qos.INTERVENTION_STATE: self._take_state,
            qos.EPISODE_EVENT: self._take_event,
            qos.DIAGNOSTICS: self._take_diagnostics,
        }
        self._channels = {
            topic: Channel(self, self._inbox, topic)
            for topic in (qos.JOINT_STATES, qos.POLICY_OUTPUT, qos.FAILURE_PREDICTION, qos.INSTRUCTION)
        } | {
            topic: Channel(self, self._inbox, topic, self.guard(callback), depth=50)
            for topic, callback in callbacks.items()
        }
        self._images = {
            camera: Channel(self, self._inbox, f"camera/{camera}/image_raw", depth=2)
            for camera in self._settings.cameras
        }
        self._front_info = Channel(self, self._inbox, qos.FRONT_INFO, depth=2)

    # What comes in

    def _take_state(self, message: InterventionStateMessage) -> None:
        self._state = intervention_state_from_message(message)
        self._journal.see_state(time.time(), self._state)
        self._stop.see_state(self._state)

    def _take_event(self, message: EpisodeEventMessage) -> None:
        self._journal.see_event(time.time(), episode_event_from_message(message))

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name, level = status.name, int.from_bytes(status.level, "little")
            if name not in self._health_of and len(self._health_of) >= NODES_SHOWN:
                continue  # a flood of names takes no memory
            self._health_of[name] = describe.NodeHealth(name, level, status.message, 0.0)
            self._heard_s[name] = time.monotonic()
            if "intervention" not in name:  # the gate's own health repeats its mode
                self._journal.see_health(time.time(), name, level, status.message)

    # What goes out

    def _tick(self) -> None:
        self.poll()
        self._stop.work(time.monotonic())
        entries = self._journal.since(self._told)
        if entries:
            self._told = entries[-1].number
        events = [asdict(entry) for entry in entries]
        if not self._server.looked_at:
            if events:
                self._server.publish(None, events)
            return
        self._counts["pictures"] += 1
        self._server.publish(self._snapshot(), events, self._frames())

    def _snapshot(self) -> dict[str, Any]:
        instruction = self._channels[qos.INSTRUCTION].newest
        return {
            "gate": describe.describe_gate(self._state),
            "risk": describe.describe_risk(self._read_prediction()),
            "path": self._describe_path(),
            "sources": describe.describe_sources(self._sources()),
            "nodes": describe.describe_nodes(self._nodes()),
            "instruction": instruction.data if instruction is not None else "",
        }

    def _read_prediction(self) -> FailurePrediction | None:
        channel = self._channels[qos.FAILURE_PREDICTION]
        message = channel.newest
        if message is None or channel.age_s > 4 * LATE_AFTER_S[qos.FAILURE_PREDICTION]:
            return None  # an old prediction is none
        return prediction_from_message(message)

    def _describe_path(self) -> dict[str, Any]:
        channel = self._channels[qos.POLICY_OUTPUT]
        message, joints = channel.newest, self._channels[qos.JOINT_STATES].newest
        if message is not None and (self._path is None or self._path[0].sequence != message.sequence):
            output = policy_output_from_message(message, self._robot.arm.joint_names)
            self._path = output, self._robot.arm.forward(output.chunk.joint_position_rad)[:, :3, 3]
        tool, now_s = None, np.nan
        if joints is not None:
            state = robot_state_from_message(joints, self._robot.arm.joint_names)
            tool, now_s = self._robot.arm.forward(state.joint_position_rad)[:3, 3], state.stamp_s
        fresh = channel.age_s <= 4 * LATE_AFTER_S[qos.POLICY_OUTPUT]
        chunk, points = (self._path[0].chunk, self._path[1]) if self._path and fresh else (None, None)
        return describe.describe_path(
            chunk,
            points,
            self._read_prediction(),
            tool_m=tool,
            now_s=now_s,
            pixels=self._pixels(tool, points),
        )

    def _pixels(self, tool: Floats | None, points: Floats | None) -> Floats | None:
        info = self._front_info.newest
        if not self._settings.draw_path or info is None or points is None or tool is None:
            return None
        intrinsics = np.asarray(info.k, dtype=np.float64).reshape(3, 3)
        pixels = project(np.vstack([tool, points]), self._settings.front_camera_pose, intrinsics)
        return pixels / np.array([info.width, info.height], dtype=np.float64)

    def _sources(self) -> list[describe.Source]:
        named = {
            "joint states": self._channels[qos.JOINT_STATES],
            "policy": self._channels[qos.POLICY_OUTPUT],
            "monitor": self._channels[qos.FAILURE_PREDICTION],
            "gate": self._channels[qos.INTERVENTION_STATE],
        }
        rows = [(name, channel, LATE_AFTER_S[channel.topic]) for name, channel in named.items()]
        rows += [(f"{name} camera", channel, IMAGE_LATE_AFTER_S) for name, channel in self._images.items()]
        return [
            describe.Source(name, channel.topic, channel.age_s, channel.rate_hz, late_after_s)
            for name, channel, late_after_s in rows
        ]

    def _nodes(self) -> list[describe.NodeHealth]:
        now_s = time.monotonic()
        return [
            describe.NodeHealth(node.name, node.level, node.message, now_s - self._heard_s[node.name])
            for node in self._health_of.values()
        ]

    def _frames(self) -> dict[str, bytes]:
        """A JPEG of each camera that somebody looks at and that has a new image."""
        frames = {}
        for camera in self._server.watched & self._images.keys():
            channel = self._images[camera]
            if channel.count == self._seen[camera]:
                continue
            self._seen[camera] = channel.count
            bgr = image_from_message(channel.newest)[:, :, ::-1]
            quality = [cv2.IMWRITE_JPEG_QUALITY, self._settings.jpeg_quality, *_WHOLE_COLOUR]
            frames[camera] = cv2.imencode(".jpg", np.ascontiguousarray(bgr), quality)[1].tobytes()
        return frames

    # What a person wants

    def _press(self, command: str, seen: str, where: str) -> Promise[Answer]:
        """Called on the web server's thread: hand it to the executor's, which is woken."""
        promise: Promise[Answer] = Promise()
        self._pressed.put((command, seen, where, promise))
        self._wake.trigger()
        return promise

    def _carry_out(self) -> None:
        while not self._pressed.empty():
            command, seen, where, promise = self._pressed.get()
            promise.add_done_callback(self.guard(self._tell_answer(command, where)))
            self._counts[f"{command} pressed"] += 1
            try:
                if command == "stop":
                    self._stop.press(promise)
                else:
                    self.poll()
                    mode = self._state.mode if self._state is not None else None
                    self._commands.ask(command, seen, mode, f"console, {where}", promise)
            except Exception:
                fulfil(promise, Answer(False, "the console failed; see its log"))
                raise

    def _tell_answer(self, command: str, where: str) -> Any:
        def tell_answer(promise: Promise[Answer]) -> None:
            answer = promise.result()
            verdict = "accepted" if answer.accepted else "refused"
            text = f"{command} from {where}: {verdict}" + (f", {answer.message}" if answer.message else "")
            self._note(text, "info" if answer.accepted else "error")

        return tell_answer

    def _note(self, text: str, level: Any) -> None:
        self._journal.note(time.time(), "console", text, level)
        write_log(self, text, level)

    def close(self) -> None:
        """End the page."""
        self._server.close()

    def _health(self) -> diagnostics.Health:
        values = {"browsers": len(self._server.browsers), **self._counts}
        return diagnostics.Health(diagnostics.OK, f"at {self._server.url}", values)


def main() -> int:
    """Entry point of ``ros2 run salus_ros console_node``."""
    return run_node(ConsoleNode)


if __name__ == "__main__":
    sys.exit(main())
