"""The message types of the graph, read from their definitions: no ROS installation is needed."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Final

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from salus_ros.errors import SalusError

_SOURCE: Final = Path(__file__).resolve().parents[2] / "salus_msgs" / "msg"


@cache
def typestore() -> Typestore:
    """Types of ROS 2 and of ``salus_msgs``; serializes and deserializes CDR.

    Raises:
        SalusError: the definitions of ``salus_msgs`` were not found.
    """
    store = get_typestore(Stores.ROS2_KILTED)
    types = {}
    for path in sorted(_definitions().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"salus_msgs/msg/{path.stem}"))
    store.register(types)
    return store


def _definitions() -> Path:
    """Folder of the ``.msg`` files: of the source tree, or of an installed ``salus_msgs``."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    prefixes += [Path(sys.prefix), *Path(__file__).resolve().parents]
    for folder in (_SOURCE, *(prefix / "share" / "salus_msgs" / "msg" for prefix in prefixes)):
        if (folder / "PolicyOutput.msg").exists():
            return folder
    raise SalusError(
        f"The message definitions of salus_msgs were not found in {_SOURCE} or in an installed package; "
        "build and install salus_msgs, or run from a complete checkout."
    )
