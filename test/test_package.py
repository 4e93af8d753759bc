"""What the packages say about themselves is what a ROS machine needs to build, test and run them."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
KEYS = {element.text for element in PACKAGE if element.tag.endswith("depend")}

NAMES = {"PIL": "python3-pil", "cv2": "python3-opencv"}
"""rosdep keys that are not python3- and the module's name."""
COMES_WITH = {"tokenizers": "transformers", "annotated_types": "pydantic"}
OPTIONAL = {"peft": "for training adapters", "ray": "the extra of that name"}
"""Imported where they are used, with a sentence when they are missing."""


def requirements(path: Path) -> dict[str, str]:
    """Each requirement's version, by name."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    found = [re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", line) for line in lines if line and line[0] != "#"]
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


DEPLOYED = requirements(ROOT / "deploy" / "requirements.txt")


def imported() -> dict[str, Path]:
    """Top-level modules that the package imports from elsewhere, and a file that does."""
    found: dict[str, Path] = {}
    for path in (ROOT / "salus_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            found.update({name.partition(".")[0]: path for name in names})
    return {n: p for n, p in found.items() if n not in sys.stdlib_module_names and n != "salus_ros"}


def test_a_ros_machine_is_told_to_install_everything_that_is_imported() -> None:
    for module, path in imported().items():
        name = COMES_WITH.get(module, module)
        keys = {name, f"python3-{name}", NAMES.get(name, name)}
        known = keys & KEYS or name.lower().replace("_", "-") in DEPLOYED or name in OPTIONAL
        assert known, (
            f"{path.relative_to(ROOT)} imports {module}, which is neither in package.xml nor in "
            "deploy/requirements.txt"
        )


def test_a_ros_machine_gets_the_releases_that_are_tested() -> None:
    tested = requirements(ROOT / "requirements.in")
    for name, version in DEPLOYED.items():
        if name != "numpy":  # the distribution's, for cv_bridge
            assert name in tested, f"{name} is deployed, but not tested with"
            assert tested[name] in (version, ""), (
                f"{version} of {name} is deployed, {tested[name]} tested with"
            )


def test_the_image_installs_them() -> None:
    assert "-r src/salus_ros/deploy/requirements.txt" in (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def setup_information() -> dict[str, Any]:
    """What colcon reads of setup.py."""
    reader = pytest.importorskip(
        "colcon_python_setup_py.package_identification.python_setup_py",
        reason="colcon is not installed: it comes with make setup",
    )
    information: dict[str, Any] = reader.get_setup_information(ROOT / "setup.py")
    return information


def test_colcon_test_runs_pytest(setup_information: dict[str, Any]) -> None:
    """Without this it runs no test at all, and says OK."""
    from colcon_core.task.python.test import has_test_dependency

    assert has_test_dependency(setup_information, "pytest")


def test_both_packages_and_setup_have_one_version(setup_information: dict[str, Any]) -> None:
    messages = ElementTree.parse(ROOT / "salus_msgs" / "package.xml").getroot()
    setup = setup_information["metadata"]["version"]
    assert {PACKAGE.findtext("version"), messages.findtext("version"), setup} == {setup}
