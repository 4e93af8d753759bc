"""The laws of the house that a tool can hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from salus_ros.types import Cause, EventKind, FailureType, Mode

ROOT = Path(__file__).resolve().parents[1]
MESSAGES = ROOT / "salus_msgs" / "msg"


def test_no_part_imports_what_the_laws_forbid() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def constants(message: str, prefix: str = "") -> dict[str, int]:
    text = (MESSAGES / f"{message}.msg").read_text()
    return {n: int(v) for n, v in re.findall(rf"^uint8 {prefix}([A-Z_]+) = (\d+)", text, re.M)}


@pytest.mark.parametrize(
    ("message", "prefix", "enumeration"),
    [
        ("InterventionState", "CAUSE_", Cause),
        ("EpisodeEvent", "", EventKind),
        ("FailurePrediction", "", FailureType),
    ],
)
def test_message_constants_are_the_enumerations(message: str, prefix: str, enumeration: type) -> None:
    found = constants(message, prefix)
    found.pop("NO_FAILURE", None)
    assert found == {member.name: member.value for member in enumeration}


def test_the_modes_of_the_message_are_those_of_the_gate() -> None:
    found = {n: v for n, v in constants("InterventionState").items() if not n.startswith("CAUSE_")}
    assert found == {mode.name: mode.value for mode in Mode}


@pytest.mark.parametrize("path", sorted((ROOT / "salus_msgs").glob("*/*.*")), ids=lambda path: path.name)
def test_every_message_field_is_commented(path: Path) -> None:
    for line in path.read_text().splitlines():
        declares = line.strip() and not line.startswith("#") and line != "---"
        if declares and "=" not in line.split("#")[0]:
            assert "#" in line, f"{path.name}: '{line}' says neither unit nor meaning"


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    forbidden = re.compile(r"pypi\.org|files\.pythonhosted|registry\.npmjs|deb\.debian\.org|/root/|/work/")
    binary = {".safetensors", ".npz", ".png", ".bin", ".pkl"}
    for path in (ROOT / name for name in listing.split()):
        if path.is_file() and path.suffix not in binary and path != Path(__file__).resolve():
            match = forbidden.search(path.read_text(errors="ignore"))
            assert match is None, f"{path.relative_to(ROOT)} contains '{match and match.group()}'"
