"""Nodes in their SROS2 enclaves, and launch's own node, which brings them up, in one of its own.

Imported by launch files only; needs ``launch`` and ``launch_ros``, which a ROS installation has.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from launch.actions import DeclareLaunchArgument, LogInfo
from launch.event_handlers import OnShutdown
from launch_ros.ros_adapters import ROSAdapter

from launch import LaunchContext
from salus_ros.errors import SalusError
from salus_ros.launch_arguments import is_on, switch

ENABLE: Final = "ROS_SECURITY_ENABLE"
KEYSTORE: Final = "ROS_SECURITY_KEYSTORE"
OVERRIDE: Final = "ROS_SECURITY_ENCLAVE_OVERRIDE"
LAUNCH: Final = "launch"
"""Enclave of launch's own node."""


def enclaves_argument() -> DeclareLaunchArgument:
    """On by itself where DDS security is: a node without an enclave is not let onto such a graph."""
    return switch(
        "enclaves", _security_is_on(), f"Start each node in its SROS2 enclave; true where {ENABLE} is."
    )


def enclave(context: LaunchContext, node: str) -> list[str]:
    """The ``ros_arguments`` of a node; none without enclaves.

    Raises:
        SalusError: security is on, and the keystore has no such enclave.
    """
    if not is_on(context, "enclaves"):
        return []
    path = f"/salus/{node}"
    if _security_is_on():
        _find(path)
    return ["--enclave", path]


def joined(context: LaunchContext) -> list[Any]:
    """Put launch's own node into its enclave; to be called before any action makes that node.

    Raises:
        SalusError: the keystore has no enclave for it, or every process is told to be in one and the same.
    """
    if not is_on(context, "enclaves"):
        return []
    if os.environ.get(OVERRIDE):
        raise SalusError(
            f"{OVERRIDE} is '{os.environ[OVERRIDE]}', by which every node would be in that enclave; unset it "
            "in the shell that launches."
        )
    adapter = ROSAdapter(argv=["--ros-args", *enclave(context, LAUNCH)])
    # As launch_ros keeps the one that it makes itself, which is in no enclave.
    context.extend_globals({"ros_adapter": adapter})
    context.register_event_handler(OnShutdown(on_shutdown=lambda *_: adapter.shutdown()))
    if _security_is_on():
        return []
    return [
        LogInfo(msg=f"the nodes are named by their enclaves, but nothing is secured: {ENABLE} is not 'true'")
    ]


def _security_is_on() -> bool:
    return os.environ.get(ENABLE) == "true"


def _find(path: str) -> None:
    keystore = os.environ.get(KEYSTORE, "")
    if not (Path(keystore) / "enclaves" / path.lstrip("/")).is_dir():
        raise SalusError(
            f"{KEYSTORE} is '{keystore}', where there is no enclave {path}; make it with "
            "ros2 security generate_artifacts (docs/security.md)."
        )
