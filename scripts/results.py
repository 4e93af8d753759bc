"""Remakes every figure of the docs from the seeds on: ``make results``.

Runs the steps of ``config/results.yaml`` in their order. A step is skipped when neither its command nor its
inputs have changed since it ended; the stamps are in ``runs/results``. It takes hours on two cores; interrupt
it at any time, and run it again to go on.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "config" / "results.yaml"
STAMPS = ROOT / "runs" / "results" / "stamps"


@dataclass(frozen=True, slots=True)
class Step:
    """One command, what it depends on, and which of its files belong into the repository."""

    name: str
    says: str
    command: str
    inputs: tuple[Path, ...]
    keep: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over the command and the inputs' contents."""
        state = hashlib.sha256(self.command.encode())
        for path in self.inputs:
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            for file in files:
                state.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
        return state.hexdigest()


def main() -> int:
    """Runs what is missing; returns the exit code of the step that failed, or 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", help="only these (default: all)")
    parser.add_argument("--list", action="store_true", help="say what would be run, and run nothing")
    args = parser.parse_args()
    steps = read_steps(MANIFEST)
    unknown = sorted(set(args.steps) - {step.name for step in steps})
    if unknown:
        print(
            f"results: no step is called {unknown[0]}; there are {', '.join(s.name for s in steps)}",
            file=sys.stderr,
        )
        return 2
    for step in steps:
        if args.steps and step.name not in args.steps:
            continue
        if args.list:
            print(f"{step.name:14s} {'done   ' if is_done(step) else 'missing'} {step.says}")
            continue
        code = 0 if is_done(step) else run(step)
        if code:
            print(
                f"results: step {step.name} ended with exit code {code}; mend it and run this again",
                file=sys.stderr,
            )
            return code
    return 0 if args.list else subprocess.call([sys.executable, ROOT / "scripts" / "update_docs.py"])


def read_steps(path: Path) -> list[Step]:
    """The steps of a manifest."""
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["steps"]
    return [
        Step(
            entry["name"],
            entry["says"],
            entry["command"],
            tuple(ROOT / name for name in entry.get("inputs", ())),
            entry.get("keep", {}),
        )
        for entry in found
    ]


def is_done(step: Step) -> bool:
    """Whether the step ended with this command and these inputs."""
    stamp = STAMPS / step.name
    return stamp.exists() and all(p.exists() for p in step.inputs) and stamp.read_text() == step.digest


def run(step: Step) -> int:
    """Runs a step, keeps its files, and leaves a stamp."""
    print(f"[{step.name}] {step.says}\n$ {step.command}", flush=True)
    began = time.monotonic()
    program, *arguments = shlex.split(step.command)
    code = subprocess.call([Path(sys.executable).parent / program, *arguments], cwd=ROOT)
    if code:
        return code
    for source, target in step.keep.items():
        (ROOT / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / source, ROOT / target)
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / step.name).write_text(step.digest)
    print(f"[{step.name}] done in {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
