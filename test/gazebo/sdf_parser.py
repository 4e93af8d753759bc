"""Gazebo's own SDF parser: its command line tool, or its library where only that is installed."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = "libsdformat12.so.12"
MISSING = "no SDF parser here: install libsdformat12-12 (Debian 12), or Gazebo, which brings `gz sdf`"
_CALL = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
path = sys.argv[3].encode()
if sys.argv[2] == "-k":
    sys.exit(0 if library.cmdCheck(path) == 0 else 1)
sys.exit(0 if library.cmdPrint(path, 0, 0, 0) == 0 else 1)
"""


def _command() -> list[str] | None:
    for tool in ("gz", "ign"):
        if (
            shutil.which(tool)
            and subprocess.run([tool, "sdf", "--help"], capture_output=True).returncode == 0
        ):
            return [tool, "sdf"]
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    return [sys.executable, "-c", _CALL, LIBRARY]


COMMAND = _command()
needs_parser = pytest.mark.skipif(COMMAND is None, reason=MISSING)


def complaints(path: Path) -> str:
    """What the parser says about a file; empty when it is valid."""
    answer = _run("-k", path)
    text = (answer.stdout + answer.stderr).replace("Valid.", "").strip()
    return text or ("" if answer.returncode == 0 else f"exit code {answer.returncode}")


def as_sdf(path: Path) -> str:
    """An SDF or URDF file as the parser reads it, written as SDF."""
    answer = _run("-p", path)
    assert answer.returncode == 0, f"{path} was not read: {answer.stderr}"
    return answer.stdout[answer.stdout.index("<sdf") :]


def _run(option: str, path: Path) -> subprocess.CompletedProcess[str]:
    assert COMMAND is not None
    return subprocess.run([*COMMAND, option, str(path)], capture_output=True, text=True, timeout=60)
