"""Writes rosbag2 recordings (MCAP with ``metadata.yaml``) from serialized messages."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Final

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError

from salus_ros.data.files import writing
from salus_ros.data.ros_types import typestore
from salus_ros.errors import SalusError

RESERVE_BYTES: Final = 32 * 1024 * 1024
"""Recording ends while this much of the disk is free, so that the bag can still be closed: its index
is written last."""
CHECK_EVERY_BYTES: Final = 4 * 1024 * 1024
"""Free space is looked at after so many bytes of messages."""


class BagWriter:
    """A new bag, opened at once. Not for use by several threads at a time.

    Args:
        path: folder of the bag; must not exist.

    Raises:
        SalusError: it exists already, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.message_count = 0
        self._connections: dict[str, Connection] = {}
        self._unchecked_bytes = CHECK_EVERY_BYTES
        try:
            self._writer = Writer(self.path, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP)
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            with writing(self.path):
                self._writer.open()
        except WriterError:
            raise SalusError(f"The bag {self.path} exists already; give another folder.") from None
        self._open = True

    def write(
        self,
        topic: str,
        message_type: str,
        log_time_ns: int,
        cdr: bytes | memoryview,
        qos: tuple[Qos, ...] = (),
    ) -> None:
        """Adds one message.

        Args:
            topic: its full name.
            message_type: such as ``salus_msgs/msg/PolicyOutput``.
            log_time_ns: when it was received, on the clock that the stamps count on.
            cdr: the serialized message.
            qos: what its publisher offers; read with a topic's first message only.

        Raises:
            SalusError: the bag is closed, the type is unknown, or the disk is nearly full: close the bag.
        """
        if not self._open:
            raise SalusError(
                f"A message on {topic} was given to {self.path}, which is closed; open another bag."
            )
        self._check_space(len(cdr))
        with writing(self.path):
            self._writer.write(self._connection(topic, message_type, qos), log_time_ns, cdr)
        self.message_count += 1

    def close(self) -> None:
        """Writes the index and ``metadata.yaml``; without it most readers cannot open the bag."""
        if self._open:
            self._open = False
            with writing(self.path):
                self._writer.close()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connection(self, topic: str, message_type: str, qos: tuple[Qos, ...]) -> Connection:
        if topic not in self._connections:
            types = typestore()
            if message_type not in types.fielddefs:
                raise SalusError(
                    f"The type {message_type} of {topic} is unknown; expected one of ROS 2 or salus_msgs."
                )
            self._connections[topic] = self._writer.add_connection(
                topic, message_type, typestore=types, offered_qos_profiles=qos
            )
        connection = self._connections[topic]
        if connection.msgtype != message_type:
            raise SalusError(
                f"{topic} carries {connection.msgtype} in {self.path} and a {message_type} was given; "
                "one topic has one type."
            )
        return connection

    def _check_space(self, size: int) -> None:
        self._unchecked_bytes += size
        if self._unchecked_bytes < CHECK_EVERY_BYTES:
            return
        with writing(self.path):
            free = shutil.disk_usage(self.path).free
        if free < RESERVE_BYTES:
            raise SalusError(
                f"Only {free // 2**20} MiB are free on the disk of {self.path}, and "
                f"{RESERVE_BYTES // 2**20} MiB are kept for closing the bag; recording has ended: "
                "make room and start another bag."
            )
        self._unchecked_bytes = 0
