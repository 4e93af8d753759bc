"""A store and a bag to look at, and a server to mark them with."""

from __future__ import annotations

import runpy
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salus_ros.data.bag_writer import BagWriter
from salus_ros.data.ros_types import typestore
from salus_ros.data.store import Store
from salus_ros.viewer.server import LabelServer
from salus_ros.viewer.sources import Source

sys.path.insert(0, str(Path(__file__).parent))  # for browser

make_episode: Any = runpy.run_path(str(Path(__file__).parents[1] / "data" / "conftest.py"))["make_episode"]
Serve = Callable[[Source], Any]
ORIGIN_S = 1_700_000_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "s") as opened:
        for seed in range(2):
            opened.append(make_episode(seed))
    return tmp_path / "s"


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Two seconds of joint states of a real robot, and nobody's word on how it went."""
    types = typestore()
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(200):
            stamp = types.types["builtin_interfaces/msg/Time"](
                sec=ORIGIN_S + i // 100, nanosec=i % 100 * 10_000_000
            )
            message = types.types["sensor_msgs/msg/JointState"](
                header=types.types["std_msgs/msg/Header"](stamp=stamp, frame_id=""),
                name=[f"joint{n}" for n in range(7)],
                position=np.full(7, float(i)),
                velocity=np.zeros(7),
                effort=np.zeros(7),
            )
            cdr = types.serialize_cdr(message, "sensor_msgs/msg/JointState")
            writer.write(
                "/joint_states", "sensor_msgs/msg/JointState", ORIGIN_S * 10**9 + i * 10_000_000, cdr
            )
    return tmp_path / "bag"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server for a source, as a context manager."""

    @contextmanager
    def serving(source: Source) -> Iterator[LabelServer]:
        with LabelServer(source, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()

    yield serving
