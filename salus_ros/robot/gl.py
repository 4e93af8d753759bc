"""Choice of the way MuJoCo renders without a screen. Import before ``mujoco``."""

from __future__ import annotations

import ctypes
import os

_LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}


def choose_backend() -> str:
    """Set ``MUJOCO_GL`` to EGL, else OSMesa, unless the user did; returns the backend, or nothing."""
    if "MUJOCO_GL" not in os.environ:
        for backend, library in _LIBRARIES.items():
            try:
                ctypes.CDLL(library)
            except OSError:
                continue
            os.environ["MUJOCO_GL"] = backend
            break
    return os.environ.get("MUJOCO_GL", "")


BACKEND = choose_backend()

MISSING = (
    "Camera images cannot be rendered, since neither EGL nor OSMesa works here; "
    "install the Debian package libegl1 (or libosmesa6)."
)
