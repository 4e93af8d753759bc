"""Collecting is continued after a kill, and gives the same arrays for any number of workers."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from salus_ros.assets import asset
from salus_ros.cli import collect
from salus_ros.cli.main import build_parser, main
from salus_ros.collection import FailedEpisode, run_in_parallel
from salus_ros.data.records import digest
from salus_ros.data.store import Store, StoreSettings
from salus_ros.errors import SalusError
from salus_ros.mixture import Mixture
from salus_ros.monitor.splits import Split, split_of
from salus_ros.types import ActionChunk, Observation, PolicyOutput, Uncertainty

ROLLOUT = """
import sys
import numpy as np
from salus_ros.collection import FailedEpisode
from salus_ros.data.episode import EpisodeMeta
from salus_ros.data.recorder import EpisodeRecorder
from salus_ros.types import RobotState

def run(seed, failing=()):
    if seed in failing:
        return FailedEpisode(seed, "ValueError: broken", "trace")
    rng, recorder = np.random.default_rng(seed), EpisodeRecorder()
    for i in range(50):
        recorder.robot(RobotState(i / 100, rng.normal(size=7), rng.normal(size=7), rng.normal(size=7), 0.08))
    return recorder.finish(EpisodeMeta(seed=seed))
"""
COLLECT = """
import sys
from functools import partial
from fake_rollout import run
from salus_ros.collection import run_in_parallel
from salus_ros.cli.collect import collect_missing
from salus_ros.data.store import Store
with Store.open(sys.argv[1], write=True) as store:
    collect_missing(store, run, range(int(sys.argv[2])), partial(run_in_parallel, workers=2))
"""


HERE = partial(run_in_parallel, workers=1)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Lets this process's children, and theirs, import a rollout that takes no time."""
    (tmp_path / "fake_rollout.py").write_text(ROLLOUT)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}


def script(environment: dict[str, str], *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", COLLECT, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def workers_of(tmp_path: Path) -> list[str]:
    """Processes that can import this test's rollout."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if str(tmp_path).encode() in environ.read_bytes():
                found.append(environ.parent.name)
    return found


def arguments(tmp_path: Path, *more: str) -> argparse.Namespace:
    words = ["collect", "--episodes", "4", "--output", str(tmp_path / "s"), *more]
    return build_parser("collect").parse_args(words)


def test_a_killed_collection_goes_on_without_losing_or_doubling_an_episode(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    Store.create(tmp_path / "s").close()
    process = script(environment, tmp_path / "s", 1000)
    deadline = time.monotonic() + 60
    while len(Store.open(tmp_path / "s")) < 2:
        assert time.monotonic() < deadline and process.poll() is None, "nothing was collected"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    gone = time.monotonic() + 30
    while workers_of(tmp_path):
        assert time.monotonic() < gone, "workers outlive the process that started them"
        time.sleep(0.1)
    before = len(Store.open(tmp_path / "s"))
    assert script(environment, tmp_path / "s", before + 3).wait(120) == 0
    store = Store.open(tmp_path / "s")
    assert [meta.seed for meta in store.metas()] == list(range(before + 3))
    store.episode(before - 1)
    store.episode(before)


def test_any_number_of_workers_gives_the_same_store(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    import fake_rollout

    Store.create(tmp_path / "two").close()
    assert script(environment, tmp_path / "two", 6).wait(120) == 0
    with Store.create(tmp_path / "one") as store:
        collect.collect_missing(store, fake_rollout.run, range(6), HERE)
        one = [record.digests for record in store.records()]
    assert [record.digests for record in Store.open(tmp_path / "two").records()] == one


def test_failed_episodes_are_reported_and_tried_again(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    import fake_rollout

    with Store.create(tmp_path / "s") as store:
        failed = collect.collect_missing(store, partial(fake_rollout.run, failing=(1,)), range(3), HERE)
        assert [episode.seed for episode in failed] == [1]
        assert '"seed": 1' in (tmp_path / "s" / collect.FAILURES).read_text()
        assert [meta.seed for meta in store.metas()] == [0, 2]
        assert collect.collect_missing(store, fake_rollout.run, range(3), HERE) == []
        assert [meta.seed for meta in store.metas()] == [0, 2, 1]


def test_a_store_of_another_policy_or_mixture_is_refused(tmp_path: Path) -> None:
    settings = StoreSettings(policy_hash="aaaa", mixture=Mixture().describe())
    Store.create(tmp_path / "s", settings).close()
    with pytest.raises(SalusError, match="collected with the policy aaaa, and bbbb was given"):
        collect.open_store(tmp_path / "s", Mixture(), "bbbb")
    sentence = (
        r'collected with the mixture \{"disturbed_share": 0.7\}, and \{"disturbed_share": 0.5\} was given'
    )
    with pytest.raises(SalusError, match=sentence):
        collect.open_store(tmp_path / "s", Mixture(disturbed_share=0.5), "aaaa")
    collect.open_store(tmp_path / "s", Mixture(), "aaaa").close()


def test_a_store_of_another_robot_is_refused_and_a_new_one_says_which(tmp_path: Path) -> None:
    with collect.open_store(tmp_path / "new", Mixture(), "aaaa") as store:
        assert store.settings.robot and len(store.settings.joint_names) == 7
    settings = StoreSettings(policy_hash="aaaa", robot="ur5e", mixture=Mixture().describe())
    Store.create(tmp_path / "s", settings).close()
    with pytest.raises(SalusError, match=r"collected with the robot ur5e, and \w+ was given"):
        collect.open_store(tmp_path / "s", Mixture(), "aaaa")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--episodes", "0"), "--episodes 0 was given; expected 1 or more"),
        (("--seed", "-1"), "--seed -1 was given; expected 0 or more"),
        (("--workers", "0"), "--workers 0 was given"),
        (("--intervention-share", "1.5"), "--intervention-share 1.5 was given; expected a share from 0 to 1"),
        (("--mixture", "m.yaml", "--task", "bin"), "--mixture and --task were given"),
        (("--mixture", "m.yaml"), "m.yaml cannot be read"),
        (("--task", "juggle"), "There is no task 'juggle'; choose one of bin"),
        (("--disturbance", "storm"), "There is no disturbance 'storm'; choose one of"),
        (("--disturbance", "slippery:2"), "'slippery:2' has no strength from 0 to 1"),
        (("--policy", "nowhere"), "nowhere is neither a directory nor a known policy"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SalusError, match=sentence):
        collect.run(arguments(tmp_path, *words))
    assert not (tmp_path / "s").exists()


def test_a_mixture_file_says_what_is_drawn(tmp_path: Path) -> None:
    file = asset("config/mixtures/unseen.yaml")
    assert collect._mixture(arguments(tmp_path, "--mixture", str(file))) == Mixture.read(file)
    assert collect._mixture(arguments(tmp_path)) == Mixture()
    assert collect._mixture(arguments(tmp_path, "--disturbance", "none")).disturbed_share == 0.0


def test_a_split_passes_over_the_seeds_of_the_others() -> None:
    seeds = collect._seeds(60000, 20, "test")
    assert [split_of(seed) for seed in seeds] == [Split.TEST] * 20
    between = set(range(60000, seeds[-1])) - set(seeds)
    assert Split.TEST not in {split_of(seed) for seed in between}, "a seed of the split was passed over"
    assert collect._seeds(5, 3, None) == [5, 6, 7]


def test_a_split_beside_a_manifest_is_refused(tmp_path: Path) -> None:
    words = ["collect", "--manifest", "m", "--split", "test", "--output", str(tmp_path / "s")]
    with pytest.raises(SalusError, match="--split test was given with --manifest, which names its seeds"):
        collect.run(build_parser("collect").parse_args(words))


def test_what_an_episode_raises_is_returned_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    from salus_ros import collection

    def broken(policy: str) -> None:
        raise FloatingPointError("diverged")

    monkeypatch.setattr(collection, "_workplace", broken)
    result = collection.run_seed("policy", Mixture(), 7)
    assert isinstance(result, FailedEpisode)
    assert (result.seed, result.error) == (7, "FloatingPointError: diverged")


def test_a_dataset_is_collected_again_from_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from salus_ros import collection
    from salus_ros.policy import registry
    from salus_ros.sim.simulation import SimSettings, Simulation

    workplace = Simulation(SimSettings(time_limit_s=0.5)), collection.NumberedByEpisode(Swaying())
    monkeypatch.setattr(collection, "_workplace", lambda policy: workplace)
    monkeypatch.setattr(registry, "load_policy", lambda policy: Swaying())
    file = tmp_path / "manifest.jsonl"
    first = ["--policy", "swaying", "--workers", "1", "--seed", "3", "--save-manifest", str(file)]
    assert main(["collect", "--episodes", "2", "--output", str(tmp_path / "s"), *first]) == 0
    again = ["collect", "--manifest", str(file), "--workers", "1", "--output"]
    assert main([*again, str(tmp_path / "again")]) == 0
    assert "2 of 2 episodes are those of the manifest" in capsys.readouterr().out
    text = file.read_text()
    lines = text.splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace('"digest":"', '"digest":"0'), lines[2]]) + "\n")
    assert main([*again, str(tmp_path / "again")]) == 1
    assert "1 have other arrays and the same outcome: seeds 3." in capsys.readouterr().out
    file.write_text(text.replace("5a5a", "5b5b"))
    assert main([*again, str(tmp_path / "other")]) == 2
    assert "was made with the policy 5b5b" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


class Swaying:
    """A policy that needs no training: it sways at random around where the arm is."""

    name, hash, action_period_s = "swaying", "5a" * 8, 0.05

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._count = 0

    def reset(self, seed: int | None = None) -> None:
        if seed is not None:
            self._random = np.random.default_rng(seed)

    def act(self, observation: Observation) -> PolicyOutput:
        times = np.arange(1, 17) * self.action_period_s
        sway = np.sin(2 * times[:, None]) * self._random.normal(size=7) * 0.02
        chunk = ActionChunk(
            observation.stamp_s, times, observation.robot.joint_position_rad + sway, np.full(16, 0.08)
        )
        self._count += 1
        samples = np.zeros((1, 1, 16, 10), np.float32)
        return PolicyOutput(
            self._count, self.name, self.hash, observation.instruction, chunk, Uncertainty(1), samples, 0.05
        )


def test_an_episode_does_not_depend_on_what_the_process_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from salus_ros import collection
    from salus_ros.sim.simulation import SimSettings, Simulation

    workplace = Simulation(SimSettings(time_limit_s=1.5)), collection.NumberedByEpisode(Swaying())
    monkeypatch.setattr(collection, "_workplace", lambda policy: workplace)
    mixture = Mixture(intervention_share=1.0)
    digests = []
    for seed in (5, 3, 5):
        episode = collection.run_seed("swaying", mixture, seed)
        assert not isinstance(episode, FailedEpisode), episode
        assert episode.meta.disturbance != "mixed", "the family drawn is kept, not the name of the mixture"
        assert episode.meta.random_interventions and len(episode.predictions)
        digests.append({name: digest(stream) for name, stream in episode.streams().items()})
    assert digests[0] == digests[2]
    assert digests[0] != digests[1]
