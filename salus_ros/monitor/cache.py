"""What was computed from episodes, kept between runs: an interrupted replay goes on where it was.

Entries lie in ``$XDG_CACHE_HOME/salus`` (``~/.cache/salus``), named by everything that they depend on: the
episodes' digests, the settings, and the source of the modules that computed them. They may be deleted at any
time.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

from joblib import Parallel, delayed
from tqdm import tqdm

from salus_ros.data.store import Store

T = TypeVar("T")

EPISODES_PER_JOB: Final = 8
_SOURCES: Final = (
    "monitor/signals/*.py",
    *(
        f"monitor/{name}.py"
        for name in (
            "body",
            "dataset",
            "grips",
            "inputs",
            "perception",
            "replay",
            "scenery",
            "view",
            "weight",
        )
    ),
    "data/labels.py",
    "robot/model.py",
    "evaluation/baselines/chunks.py",
)
"""Relative to the package."""


def cache_folder() -> Path:
    """Where entries lie."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "salus"


def over_episodes(
    stores: Sequence[Path],
    compute: Callable[[Path, Sequence[int]], list[T]],
    about: str,
    *,
    jobs: int,
    progress: bool = True,
    fresh: bool = False,
) -> list[T]:
    """Calls ``compute`` on a few episodes of a store at a time, in parallel processes, in the stores' order.

    Args:
        stores: paths of stores.
        compute: store and indices of episodes to a list; a module's function, or a partial of one.
        about: whatever else the results depend on.
        jobs: processes.
        progress: show a bar.
        fresh: compute also what is kept.
    """
    # A store's records are read once: to read them for each part would take longer than the parts themselves.
    work = [
        (path, range(first, min(first + EPISODES_PER_JOB, len(records))), records[first:][:EPISODES_PER_JOB])
        for path, records in ((path, _records(path)) for path in stores)
        for first in range(0, len(records), EPISODES_PER_JOB)
    ]
    found: list[T] = []
    count = sum(len(indices) for _, indices, _ in work)
    with tqdm(total=count, desc="replay", unit="episode", disable=not progress) as bar:
        parts: Iterator[list[T]] = Parallel(n_jobs=jobs, return_as="generator")(
            delayed(_kept)(path, indices, "".join(records), compute, f"{about} {source_hash()}", fresh)
            for path, indices, records in work
        )
        for (_, indices, _), part in zip(work, parts, strict=True):
            found += part
            bar.update(len(indices))
    return found


def _records(path: Path) -> list[str]:
    return [record.to_json() for record in Store.open(path).records()]


def _kept(
    path: Path,
    indices: range,
    records: str,
    compute: Callable[[Path, Sequence[int]], list[T]],
    about: str,
    fresh: bool,
) -> list[T]:
    digest = hashlib.sha256(f"{about} {path.resolve()}{records}".encode())
    file = cache_folder() / f"{digest.hexdigest()[:32]}.pickle"
    if file.is_file() and not fresh:
        try:
            kept: list[T] = pickle.loads(file.read_bytes())
            return kept
        except (pickle.UnpicklingError, EOFError, AttributeError, ValueError):
            file.unlink(missing_ok=True)  # an entry of another version, or a half one
    computed = compute(path, indices)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_bytes(pickle.dumps(computed))
    partial.replace(file)
    return computed


@lru_cache(maxsize=8)
def source_hash(patterns: tuple[str, ...] = _SOURCES) -> str:
    """Of modules, relative to the package; default: those that turn an episode into signals, labels and
    rivals' scores.
    """
    digest = hashlib.sha256()
    for pattern in patterns:
        for file in sorted(Path(__file__).parents[1].glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
