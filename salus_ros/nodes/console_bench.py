"""The operator console's processor time, beside that of a bare rclpy node with the same subscriptions.

Everything that the console shows is published here at the rates of the demo; a browser is a websocket that
takes every picture. Run as a module, this is the ``main`` of the bare node.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import String
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from salus_ros.nodes import qos
from salus_ros.nodes.cameras import camera_info, image_to_message
from salus_ros.nodes.conversions import (
    intervention_state_to_message,
    policy_output_to_message,
    prediction_to_message,
)
from salus_ros.nodes.driver_messages import robot_state_to_message
from salus_ros.nodes.graph import Graph
from salus_ros.nodes.interfaces import NODES
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.types import (
    HORIZONS_S,
    ActionChunk,
    Cause,
    FailurePrediction,
    FailureType,
    Floats,
    InterventionState,
    Mode,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

CONSOLE: Final = "console_node"
BARE: Final = "bare_node"
START_S: Final = 60.0
HOME: Final = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 1.95, 0.785])
IMAGE_PX: Final = 128
"""Of the simulator's cameras."""
SAMPLES: Final = (5, 4, 16, 10)
"""Heads, draws, steps and dimensions of the shipped ensemble: about 10 KB."""
HEALTHY: Final = ("policy_node", "monitor_node", "intervention_node", "deadman_node", "sim_node")


class Bare(GuardedNode):
    """What rclpy itself takes for the console's subscriptions."""

    def __init__(self, name: str = BARE) -> None:
        super().__init__(name)
        for topic in NODES[CONSOLE].subscribes:
            kind = qos.message_class(qos.TABLE[topic].message)
            self.create_subscription(kind, topic, self._drop, qos.listening_profile(topic, 2))

    def _drop(self, _message: Any) -> None:
        """Nothing is done with it."""


class Speaker:
    """Publishes what a running demo publishes, from the graph's own node."""

    def __init__(self, graph: Graph) -> None:
        self._node = graph.node
        self._arm = Robot.load(RobotSettings()).arm
        self._sequence = 0
        self._images = [_scene(seed) for seed in range(8)]
        self._publishers: dict[str, Any] = {}
        self._say(qos.INSTRUCTION, String(data="put the red cube into the bin"))
        for period_s, speak in (
            (0.01, self._joints),
            (0.2, self._policy),
            (0.05, self._monitor),
            (0.1, self._gate),
            (0.1, self._cameras),
            (1.0, self._health),
        ):
            self._node.create_timer(period_s, speak)

    def _say(self, topic: str, message: Any) -> None:
        if topic not in self._publishers:
            self._publishers[topic] = self._node.create_publisher(type(message), topic, qos.profile(topic))
        self._publishers[topic].publish(message)

    @property
    def _now_s(self) -> float:
        return float(self._node.get_clock().now().nanoseconds) * 1e-9

    def _position(self, ahead_s: Any = 0.0) -> Any:
        return HOME + 0.2 * np.sin(0.8 * (self._now_s % 1000.0 + np.asarray(ahead_s)))[..., None]

    def _joints(self) -> None:
        state = RobotState(self._now_s, self._position(), np.zeros(7), np.zeros(7), 0.08)
        self._say(qos.JOINT_STATES, robot_state_to_message(state, self._arm.joint_names))

    def _policy(self) -> None:
        self._sequence += 1
        times: Floats = np.arange(1, 17) * np.float64(0.05)
        chunk = ActionChunk(self._now_s, times, self._position(times), np.full(16, 0.04))
        samples = np.zeros(SAMPLES, np.float32)
        output = PolicyOutput(
            self._sequence, "bench", "0" * 16, "sway", chunk, Uncertainty(SAMPLES[0]), samples, 0.05
        )
        self._say(qos.POLICY_OUTPUT, policy_output_to_message(output, self._arm.joint_names, "panda_link0"))

    def _monitor(self) -> None:
        risk = 0.25 + 0.2 * math.sin(self._now_s % 1000.0)
        types, horizons = len(FailureType), len(HORIZONS_S)
        prediction = FailurePrediction(
            self._now_s,
            self._sequence,
            HORIZONS_S,
            np.full((types, horizons), risk),
            risk,
            risk,
            FailureType.COLLISION,
            HORIZONS_S[0],
            False,
            np.full(types, 0.5),
            False,
        )
        self._say(qos.FAILURE_PREDICTION, prediction_to_message(prediction))

    def _gate(self) -> None:
        state = InterventionState(
            self._now_s, Mode.NOMINAL, Cause.NONE, "following the policy", 1.0, self._sequence, 0.2, 5.0
        )
        self._say(qos.INTERVENTION_STATE, intervention_state_to_message(state))

    def _cameras(self) -> None:
        image = self._images[int(10 * self._now_s) % len(self._images)]
        for topic in (qos.FRONT_IMAGE, qos.WRIST_IMAGE):
            self._say(topic, image_to_message(image, self._now_s, "camera"))
        self._say(qos.FRONT_INFO, camera_info(self._now_s, "camera", IMAGE_PX, IMAGE_PX, 0.9))

    def _health(self) -> None:
        values = [KeyValue(key=f"value {number}", value="1.0") for number in range(5)]
        status = [DiagnosticStatus(name=name, message="well", values=values) for name in HEALTHY]
        self._say(qos.DIAGNOSTICS, DiagnosticArray(status=status))


class Browser:
    """Takes what the console sends to a page, on a thread of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.pictures = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._look(),))
        self._over = asyncio.Event()

    def __enter__(self) -> Browser:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _look(self) -> None:
        own = f"127.0.0.1:{self._port}"
        request = HTTPRequest(f"ws://{own}/live", headers={"Origin": f"http://{own}"})
        live = await websocket_connect(request, on_message_callback=self._take)
        await self._over.wait()
        live.close()

    def _take(self, message: str | bytes | None) -> None:
        self.pictures += isinstance(message, str) and message.startswith('{"now"')


@dataclass(slots=True)
class Shares:
    """Processor time in cores, while nobody looks and while browsers do, by their number."""

    console: dict[int, float] = field(default_factory=dict)
    bare: dict[int, float] = field(default_factory=dict)
    pictures_hz: dict[int, float] = field(default_factory=dict)
    """That the slowest browser got."""


def measure(duration_s: float, looking: Sequence[int] = (0, 1, 4)) -> Shares:
    """One run of console and bare node beside each other, for so long with each number of browsers."""
    shares = Shares()
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder, Graph(log_dir=Path(folder)) as graph:
        Speaker(graph)
        graph.start("bare", name=BARE, module="salus_ros.nodes.console_bench")
        graph.start("console", {"port": port})
        started = {CONSOLE, BARE}
        graph.spin_until(
            lambda: started <= set(graph.node.get_node_names()) and _answers(port), START_S, "both nodes"
        )
        for count in looking:
            with contextlib.ExitStack() as stack:
                browsers = [stack.enter_context(Browser(port)) for _ in range(count)]
                graph.spin_until(
                    lambda browsers=browsers: all(one.pictures for one in browsers),  # type: ignore[misc]
                    START_S,
                    "pictures in every browser",
                )
                graph.spin_for(2.0)
                before = [one.pictures for one in browsers]
                start_s = time.monotonic()
                graph.cpu_share()
                graph.spin_for(duration_s)
                cores = graph.cpu_share()
                took_s = time.monotonic() - start_s
                shares.console[count], shares.bare[count] = cores[CONSOLE], cores[BARE]
                shares.pictures_hz[count] = min(
                    ((one.pictures - n) / took_s for one, n in zip(browsers, before, strict=True)),
                    default=math.nan,
                )
    return shares


def _scene(seed: int) -> Any:
    """(IMAGE_PX, IMAGE_PX, 3) uint8: areas of colour, as smooth as a camera's."""
    coarse = np.random.default_rng(seed).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    return cv2.resize(coarse, (IMAGE_PX, IMAGE_PX), interpolation=cv2.INTER_CUBIC)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def main() -> int:
    """Entry point of the bare node."""
    return run_node(Bare)


if __name__ == "__main__":
    sys.exit(main())
