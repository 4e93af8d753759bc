"""Episodes on a cluster, through joblib's Ray backend. Ray is an extra: ``pip install ray``."""

from __future__ import annotations

import importlib
import itertools
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from joblib import Parallel, delayed, parallel_config

from salus_ros.errors import SalusError

T = TypeVar("T")

ROUND: Final = 4
"""Jobs for each worker between two collections of results: joblib cannot stream them from Ray, and few jobs
are lost when the starting process ends in between."""
_ANSWER_LIMIT_S: Final = 5.0
_START_LIMIT_S: Final = 120
"""Ray's own limit of 30 s is too short for a machine that is busy."""


def run_on_ray(
    run: Callable[[int], T], seeds: Iterable[int], workers: int, address: str | None = None
) -> Iterator[T]:
    """Results in the order of the seeds.

    Args:
        run: a module's function or a partial of one; the cluster's nodes must have this package, and all
            files that it names, at the same places.
        seeds: what it is called with.
        workers: processes; -1 for all processors of the cluster.
        address: of a running cluster, e.g. ``auto``, ``10.0.0.1:6379`` or ``ray://10.0.0.1:10001``; a cluster
            on this machine is started without one, and ended again.

    Raises:
        SalusError: Ray is not installed, nothing answers at the address, or a worker died.
    """
    with _connected(address, workers) as ray, parallel_config(backend="ray"):
        if workers < 0:
            workers = int(ray.cluster_resources()["CPU"])
        waiting = iter(seeds)
        try:
            with Parallel(n_jobs=workers) as parallel:
                while jobs := list(itertools.islice(waiting, ROUND * workers)):
                    yield from parallel(delayed(run)(seed) for seed in jobs)
        except ray.exceptions.RayError as error:
            raise SalusError(
                f"A worker of the cluster died ({type(error).__name__}); what was finished is kept: run the "
                "same command again, with fewer --workers if memory is short."
            ) from error


def import_ray() -> Any:
    """The module ``ray``, known to joblib.

    Raises:
        SalusError: it is not installed.
    """
    # Its statistics would go to its makers, over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", str(_START_LIMIT_S))
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.util.joblib").register_ray()
    except ImportError:
        raise SalusError(
            "--backend ray was given, and Ray is not installed; pip install ray, or leave --backend out."
        ) from None
    return ray


@contextmanager
def _connected(address: str | None, workers: int) -> Iterator[Any]:
    """The module ``ray``, connected."""
    ray = import_ray()
    options: dict[str, Any] = {"address": address or "local"}
    if not address:
        options |= {"include_dashboard": False, "num_cpus": workers if workers > 0 else None}
    try:
        _check_somebody_listens(address or "")
        ray.init(**options, log_to_driver=False, configure_logging=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SalusError(
            f"No Ray cluster could be reached at {address or 'this machine'} ({reason}); start one with "
            "ray start --head, and give its --address."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_somebody_listens(address: str) -> None:
    """Raises an OSError at once where Ray would try for minutes; names such as ``auto`` are left to Ray."""
    target = urlsplit(address if "://" in address else f"ray://{address}")
    if target.port is not None:
        socket.create_connection((target.hostname, target.port), timeout=_ANSWER_LIMIT_S).close()
