"""How fast episodes are collected and read, where the time goes, and how much they take."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from salus_ros import collection
from salus_ros.bench.figures import Figure, durations_s
from salus_ros.data.episode import STREAMS, Episode
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.intervention.gate import Gate
from salus_ros.mixture import Mixture

POLICY = "models/tinyvla-small"
WINDOW_S = 1.0


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the speed of collecting and its shares, and of reading, against plain zarr-python."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store")
        shares, wall_s = _collect(store, 2 if quick else 8)
        alone = 60 * (len(store) - 1) / wall_s
        together = 60 / _parallel_s((2 if quick else 6) * cores, cores)
        yield Figure(f"episodes a minute, {cores} workers", together, "1/min", alone, "one process")
        for part, seconds in shares.items():
            yield Figure(f"share of {part}", 100 * seconds / wall_s, "%")
        size = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())
        yield Figure(
            "size of an episode",
            size / 1e6 / len(store),
            "MB",
            _raw_mb(store),
            "arrays and pixels as they are",
        )
        yield from _reading(store, 50 if quick else 500)
        store.close()


def _collect(store: Store, episodes: int) -> tuple[dict[str, float], float]:
    """Seconds spent in each part, and in all, of collecting in this process."""
    mixture = Mixture()
    # The first one loads the policy and makes the renderer and the store's arrays.
    store.append(_episode(mixture, episodes))
    spent: dict[str, float] = {}
    simulation, policy = collection._workplace(POLICY)
    with (
        _timed(spent, "policy", policy, "act"),
        _timed(spent, "gate", Gate, "update"),
        _timed(spent, "physics", simulation, "step", "reset"),
        _timed(spent, "rendering", simulation, "observe", "point_cloud"),
        _timed(spent, "packing images", EpisodeRecorder, "frame"),
        _timed(spent, "writing", store, "append"),
    ):
        start = time.perf_counter()
        for seed in range(episodes):
            store.append(_episode(mixture, seed))
        wall_s = time.perf_counter() - start
    spent["the rest"] = wall_s - sum(spent.values())
    return spent, wall_s


def _episode(mixture: Mixture, seed: int) -> Episode:
    result = collection.run_seed(POLICY, mixture, seed)
    if not isinstance(result, Episode):
        raise SalusError(
            f"Seed {seed} cannot be collected ({result.error}); the bench needs a working policy."
        )
    return result


@contextmanager
def _timed(spent: dict[str, float], part: str, owner: Any, *methods: str) -> Iterator[None]:
    """Adds up the wall time of calls to methods of an object, or of all of a class."""
    own = {name: vars(owner)[name] for name in methods if name in vars(owner)}
    spent[part] = 0.0

    def timing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return real(*arguments, **named)
            finally:
                spent[part] += time.perf_counter() - start

        return call

    for name in methods:
        setattr(owner, name, timing(getattr(owner, name)))
    try:
        yield
    finally:
        for name in methods:
            delattr(owner, name)
            if name in own:
                setattr(owner, name, own[name])


def _parallel_s(episodes: int, workers: int) -> float:
    """Wall time of an episode with all workers busy: their start is not counted."""
    run = partial(collection.run_seed, POLICY, Mixture())
    results = collection.run_in_parallel(run, range(episodes + workers), workers)
    for _ in range(workers):
        next(results)
    start = time.perf_counter()
    count = sum(1 for _ in results)
    return (time.perf_counter() - start) / count


def _raw_mb(store: Store) -> float:
    """Mean size of an episode's arrays with its images as pixels."""
    sizes = []
    for episode in store:
        arrays = [a for n, s in episode.streams().items() if n in STREAMS for a in s.arrays().values()]
        pixels = [len(stream) * stream.image(0).nbytes for stream in episode.frames.values() if len(stream)]
        sizes.append(sum(array.nbytes for array in arrays) + sum(pixels))
    return float(np.mean(sizes)) / 1e6


def _reading(store: Store, windows: int) -> Iterator[Figure]:
    """Yield times of windows and of whole episodes, without images."""
    random = np.random.default_rng(0)
    metas = store.metas()
    chosen = random.integers(len(store), size=windows + 1)
    starts = [(int(i), random.uniform(0.0, max(0.0, metas[i].end_s - WINDOW_S))) for i in chosen]
    steps = sum(len(store.episode(i, ["robot"]).robot) for i in range(len(store)))

    ours = iter(starts)
    window_s = durations_s(lambda: store.window(*next(ours), WINDOW_S), windows)
    plain = _PlainReader(store)
    theirs = iter(starts)
    few = min(windows, 20)
    plain_window_s = durations_s(lambda: plain.window(*next(theirs)), few)
    yield Figure(
        "a random second, p50",
        1e3 * float(np.median(window_s)),
        "ms",
        1e3 * float(np.median(plain_window_s)),
        "zarr-python",
    )
    yield Figure("a random second, p95", 1e3 * float(np.quantile(window_s, 0.95)), "ms")
    yield Figure(
        "windows a second",
        1 / float(np.mean(window_s)),
        "1/s",
        1 / float(np.mean(plain_window_s)),
        "zarr-python",
    )

    whole_s = durations_s(lambda: [store.episode(i, STREAMS) for i in range(len(store))], 3)
    plain_whole_s = durations_s(plain.episodes, 1, warm_up=0)
    yield Figure(
        "control steps read",
        steps / float(np.median(whole_s)),
        "1/s",
        steps / float(np.median(plain_whole_s)),
        "zarr-python",
    )


class _PlainReader:
    """The same rows as a store gives, without the flat ones, read by zarr-python."""

    def __init__(self, store: Store) -> None:
        self._count = len(store)
        root = zarr.open_group(str(store.path), mode="r")
        self._ends = {name: root[f"{name}/episode_end"][:] for name in store.streams() & set(STREAMS)}
        self._arrays = {
            name: [
                a for n, a in root[name].arrays() if n not in ("episode_end", "episode_flat_end", "points_m")
            ]
            for name in self._ends
        }
        self._stamps = {name: root[f"{name}/stamp_s"] for name in self._ends}

    def window(self, i: int, start_s: float) -> None:
        """Reads and forgets the rows of a second."""
        for name, arrays in self._arrays.items():
            first, end = self._rows(name, i)
            stamps = self._stamps[name][first:end]
            a, b = (first + int(j) for j in np.searchsorted(stamps, (start_s, start_s + WINDOW_S)))
            for array in arrays:
                array[a:b]

    def episodes(self) -> None:
        """Reads and forgets all rows, episode by episode."""
        for i in range(self._count):
            for name, arrays in self._arrays.items():
                first, end = self._rows(name, i)
                for array in arrays:
                    array[first:end]

    def _rows(self, name: str, i: int) -> tuple[int, int]:
        ends = self._ends[name]
        return (int(ends[i - 1]) if i else 0), int(ends[i])
