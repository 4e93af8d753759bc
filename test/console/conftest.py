from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from salus_ros.console.access import AccessSettings
from salus_ros.console.server import Answer, ConsoleServer

TOKEN = "0123456789abcdef"


class Gate:
    """Takes commands in the place of the node, and answers as it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []
        self.answer: Answer | None = Answer(True, "")

    def __call__(self, command: str, seen: str, where: str) -> Future[Answer]:
        self.heard.append((command, seen, where))
        promise: Future[Answer] = Future()
        if self.answer is not None:
            promise.set_result(self.answer)
        return promise


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def serve(gate: Gate) -> Iterator[Callable[..., ConsoleServer]]:
    running: list[ConsoleServer] = []

    def start(**settings: Any) -> ConsoleServer:
        server = ConsoleServer(AccessSettings(port=free_port(), **settings), gate, ("front", "wrist"))
        running.append(server)
        return server

    yield start
    for server in running:
        server.close()
