"""Where the files lie that are not code: robot description, configuration, trained models."""

from __future__ import annotations

import sys
from pathlib import Path

from salus_ros.errors import SalusError


def asset(relative: str) -> Path:
    """Path of a shipped file or folder, e.g. ``urdf/salus_arm.urdf``.

    Looks in the source tree first, then in the share folder of an installed ROS package.

    Raises:
        SalusError: the file is in neither.
    """
    source_tree = Path(__file__).resolve().parents[1]
    candidates = [source_tree, Path(sys.prefix) / "share" / "salus_ros"]
    candidates += [p / "share" / "salus_ros" for p in Path(__file__).resolve().parents]
    for root in candidates:
        if (root / relative).exists():
            return root / relative
    raise SalusError(
        f"{relative} was not found in {source_tree} or in the installed package; "
        "install salus_ros again, or run from a complete checkout."
    )
