"""``make mutation``: how many small changes to ``salus_ros/intervention/`` the tests notice.

Runs mutmut in a folder of its own, where the package is copied without what the gate must not need, and
writes the score of each file, with what every survivor made of its line, into the JSON that the docs are made
from; the survivors as diffs stay in that folder. mutmut brings another pytest, so it is installed beside the
environment and not into it. Files that are finished are not run again until they or their tests change.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MUTMUT = "mutmut==3.8.1"
NEEDED = frozenset(
    """mutmut libcst textual setproctitle click coverage rich platformdirs markdown_it mdurl mdit_py_plugins
    linkify_it uc_micro toml typing_extensions""".split()  # noqa: SIM905
)
COPIED = (
    *("salus_ros/__init__.py", "salus_ros/types.py", "salus_ros/errors.py", "salus_ros/assets.py"),
    *("salus_ros/robot", "salus_ros/intervention", "urdf", "test/conftest.py", "test/intervention"),
)
NOT_RUN = ("test_guarantees.py", "test_docs.py")
"""Minutes for each mutant, or about other things; what survives without them may yet be noticed by them."""

ALL_TESTS = ("test/intervention",)
TESTS = {
    "checks": ("test_checks.py",),
    "contact": ("test_contact.py",),
    "exploration": ("test_exploration.py",),
    "follower": ("test_speed.py",),
    "following": ("test_following.py",),
    "gate": ("test_decision.py",),
    "latch": ("test_latch.py",),
    "limits": ("test_limits.py",),
    "modes": ("test_modes.py",),
    "motion": ("test_motion.py",),
    "path": ("test_path.py",),
    "retrace": ("test_retrace.py",),
    "risk": ("test_risk.py",),
    "senses": ("test_senses.py",),
    "settings": ("test_settings.py",),
    "standing": ("test_standing.py",),
    "stop": ("test_stop.py", "test_speed.py"),
    "tracking": ("test_tracking.py",),
    "watchdogs": ("test_watchdogs.py",),
}
"""A concept's own tests, where it has some; the files that tie the concepts together are tried on all."""

CONFIG = """[mutmut]
source_paths=salus_ros
only_mutate=
    salus_ros/intervention/{name}.py
also_copy=
    urdf
    salus_ros
pytest_add_cli_args=
    -p
    no:cacheprovider
    -p
    no:xdist
pytest_add_cli_args_test_selection=
    {tests}
timeout_multiplier=3
timeout_constant=10
use_git_change_detection=False
track_dependencies=False
"""
RESULTS = ROOT / "docs" / "mutation.json"
SHOW = """
import json, sys
from pathlib import Path
from mutmut.mutation.diff_apply import get_diff_for_mutant

path = next(Path("salus_ros/intervention").glob(sys.argv[1].split(".")[2] + ".py"))
print(json.dumps({name: get_diff_for_mutant(name, path=path) for name in sys.argv[1:]}))
"""
PYTEST = '[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\nmarkers = ["graph: starts nodes"]\n'


def install(folder: Path) -> None:
    """mutmut and what it needs, without what the environment has already."""
    if (folder / "mutmut").is_dir():
        return
    complete = folder.with_suffix(".all")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", complete, MUTMUT], check=True)
    folder.mkdir(parents=True, exist_ok=True)
    for path in complete.iterdir():
        if path.name.split("-")[0].removesuffix(".py") in NEEDED:
            shutil.move(path, folder / path.name)
    shutil.rmtree(complete)


def changeable(path: Path) -> bool:
    """Whether mutmut changes anything in a file: it leaves properties and module constants as they are."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    kinds = {"staticmethod", "classmethod"}
    return any(kinds >= {getattr(one, "id", "") for one in function.decorator_list} for function in functions)


def version(name: str) -> str:
    """What a score is of: a digest of the file and of the tests that it is tried on."""
    tests = [ROOT / "test/intervention" / test for test in TESTS.get(name, ())]
    parts = [
        ROOT / f"salus_ros/intervention/{name}.py",
        *(tests or sorted((ROOT / ALL_TESTS[0]).glob("*.py"))),
    ]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]


def mutate(name: str, folder: Path, tools: Path, children: int, draw: int = 0) -> dict[str, Any]:
    """Mutate one file; returns its score and survivors.

    Args:
        name: of the file.
        folder, tools: where to work, and where mutmut is.
        children: how many mutants to try at a time.
        draw: try this many of the mutants, drawn at random; 0 = all.
    """
    work = folder / name
    shutil.rmtree(work, ignore_errors=True)
    for part in COPIED:
        source, target = ROOT / part, work / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", *NOT_RUN))
        else:
            shutil.copy(source, target)
    tests = [f"test/intervention/{test}" for test in TESTS.get(name, ())] or ALL_TESTS
    (work / "setup.cfg").write_text(CONFIG.format(name=name, tests="\n    ".join(tests)))
    (work / "pyproject.toml").write_text(PYTEST)
    environment = {**os.environ, "PYTHONPATH": f"{tools}", "HYPOTHESIS_PROFILE": "mutation", "COLUMNS": "200"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(children)]
    if draw:
        # It makes all mutants before it finds that none has this name.
        subprocess.run([*command, "none"], cwd=work, env=environment, check=False, capture_output=True)
        names = sorted(fates(work, environment))
        random.Random(0).shuffle(names)
        command += names[:draw]
    run = subprocess.run(command, cwd=work, env=environment, check=False)
    result = collect(work, environment)
    if run.returncode and result["mutants"]:
        raise SystemExit(f"mutmut ended with {run.returncode} on {name}.py.")
    return result


def fates(work: Path, environment: dict[str, str]) -> dict[str, str]:
    """What became of each mutant."""
    lines = subprocess.run(
        [sys.executable, "-m", "mutmut", "results", "--all", "true"],
        cwd=work, env=environment, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    return dict(line.strip().rsplit(": ", 1) for line in lines if ": " in line)


def collect(work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """The score of one file; ``of`` is set where not all of its mutants were tried."""
    found = fates(work, environment)
    killed = [name for name, fate in found.items() if fate in ("killed", "timeout", "suspicious")]
    alive = [name for name, fate in found.items() if fate in ("survived", "no tests")]
    shown = subprocess.run(
        [sys.executable, "-c", SHOW, *alive],
        cwd=work, env=environment, check=True, capture_output=True, text=True,
    ).stdout if alive else "{}"  # fmt: skip
    diffs = list(json.loads(shown).values())
    work.with_suffix(".diff").write_text("\n".join(diffs))
    tried = len(killed) + len(alive)
    row = {"mutants": tried, "killed": len(killed), "survivors": sorted(map(changed_line, diffs))}
    return row if tried == len(found) else {**row, "of": len(found)}


def measured(found: list[str]) -> dict[str, dict[str, Any]]:
    """The scores that were published and still hold."""
    rows = json.loads(RESULTS.read_text())["files"] if RESULTS.exists() else {}
    return {name: row for name, row in rows.items() if name in found and row["version"] == version(name)}


def publish(score: dict[str, dict[str, Any]], found: list[str]) -> None:
    """Put the score where the docs are made from."""
    results = {
        "date": datetime.date.today().isoformat(),
        "not_measured": [name for name in found if name not in score],
        "files": dict(sorted(score.items())),
    }
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def changed_line(diff: str) -> str:
    """What a changed line has become."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    added = [line[1:].strip() for line in lines if line.startswith("+")]
    removed = [line[1:].strip() for line in lines if line.startswith("-")]
    return " ".join(added) or f"without {' '.join(removed)}"


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="modules of salus_ros/intervention (those not done yet)")
    parser.add_argument(
        "--draw", type=int, default=0, help="try so many of a file's mutants, drawn at random"
    )
    parser.add_argument(
        "--children", type=int, default=os.cpu_count(), help="try so many mutants at a time (%(default)s)"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "mutation", help="(%(default)s)")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    tools = folder / "tools"
    install(tools)
    found = sorted(path.stem for path in (ROOT / "salus_ros/intervention").glob("*.py") if changeable(path))
    score = measured(found)
    for name in arguments.files or [name for name in found if name not in score]:
        score[name] = {
            "version": version(name),
            **mutate(name, folder, tools, arguments.children, arguments.draw),
        }
        print(f"{name}: {score[name]['killed']} of {score[name]['mutants']} killed", flush=True)
        publish(score, found)
    print(f"written: {RESULTS}; now run python scripts/safety_docs.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
