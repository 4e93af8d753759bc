"""A Ray cluster gives the same episodes as this machine."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from salus_ros.cli.collect import collect_missing
from salus_ros.cli.main import main
from salus_ros.cluster import run_on_ray
from salus_ros.collection import run_in_parallel
from salus_ros.data.episode import Episode, EpisodeMeta
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.types import RobotState

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray"
)


def make_run() -> partial[Episode]:
    """A rollout that takes no time. Not a module's function, so that workers need not find this file."""

    def run(length: int, seed: int) -> Episode:
        random, recorder = np.random.default_rng(seed), EpisodeRecorder()
        for i in range(length):
            values = random.normal(size=(3, 7))
            recorder.robot(RobotState(i / 100, values[0], values[1], values[2], 0.08))
        return recorder.finish(EpisodeMeta(seed=seed))

    return partial(run, 20)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two processors on this machine."""
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster.address
    cluster.shutdown()


@needs_ray
@pytest.mark.parametrize("workers", [2, -1])
def test_a_cluster_gives_the_same_store_as_this_machine(tmp_path: Path, address: str, workers: int) -> None:
    digests = []
    for name, run_all in (
        ("here", partial(run_in_parallel, workers=1)),
        ("there", partial(run_on_ray, workers=workers, address=address)),
    ):
        with Store.create(tmp_path / name) as store:
            collect_missing(store, make_run(), range(11), run_all)
            digests.append([(record.meta.seed, record.digests) for record in store.records()])
    assert digests[0] == digests[1]
    assert len(digests[0]) == 11


@needs_ray
def test_without_an_address_a_cluster_is_started_here(tmp_path: Path) -> None:
    with Store.create(tmp_path / "s") as store:
        collect_missing(store, make_run(), range(3), partial(run_on_ray, workers=2))
        assert [meta.seed for meta in store.metas()] == [0, 1, 2]


@needs_ray
def test_a_cluster_that_is_not_there_is_named() -> None:
    with pytest.raises(SalusError, match=r"No Ray cluster could be reached at 127.0.0.1:1 .*ray start"):
        list(run_on_ray(make_run(), range(2), 2, "127.0.0.1:1"))


def test_without_ray_the_sentence_says_what_to_install_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SalusError, match=r"Ray is not installed; pip install ray"):
        list(run_on_ray(make_run(), range(2), 2))
    words = ["collect", "--episodes", "1", "--output", str(tmp_path / "s"), "--backend", "ray"]
    assert main(words) == 2
    assert "Ray is not installed" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_an_address_without_the_backend_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["collect", "--episodes", "1", "--output", str(tmp_path / "s"), "--address", "auto"]
    assert main(words) == 2
    assert "--address auto was given without --backend ray" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
