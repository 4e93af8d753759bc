"""Policies beside TinyVLA: found by name, each under the one interface."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import msgpack
import numpy as np
import pytest
from websockets.sync.server import serve

from salus_ros.cli.policy_evaluation import run_trial
from salus_ros.errors import SalusError
from salus_ros.expert_policy import ExpertPolicy, load
from salus_ros.policy.base import Policy, Privileged
from salus_ros.policy.openpi import pack, padded_square, unpack
from salus_ros.policy.registry import GROUP, load_policy
from salus_ros.rollout import let_watch
from salus_ros.sim.simulation import Simulation
from salus_ros.sim.tasks import TASKS

from .small import START_RAD, observation

PAGE = Path(__file__).parents[2] / "docs" / "own-policy.md"


class Server:
    """Speaks openpi's protocol: greets with metadata, then answers each observation."""

    def __init__(self) -> None:
        self.seen: list[dict] = []
        self.answer: object = {"actions": np.tile(np.r_[np.full(7, 0.1), 1.0], (10, 1))}
        self.answers: Iterator[object] | None = None
        """Given one after the other instead of ``answer``."""
        self.silent = threading.Event()
        self.delay_s = 0.0
        self._server = serve(self._talk, "127.0.0.1", 0, compression=None)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _talk(self, connection) -> None:
        connection.send(pack({"model": "stand-in"}))
        for message in connection:
            self.seen.append(unpack(message))
            answer = self.answer if self.answers is None else next(self.answers)
            time.sleep(self.delay_s)
            if not self.silent.is_set():
                connection.send(answer if isinstance(answer, str) else pack(answer))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5.0)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def openpi(server, options=""):
    return load_policy(f"openpi:127.0.0.1:{server.port}{options}")


def test_the_wire_is_openpi_clients_to_the_byte():
    """What openpi_client.msgpack_numpy 0.1.2 packs."""
    values = {"a": np.arange(2, dtype=np.float32), "n": np.float64(1.5), "prompt": "go"}
    theirs = bytes.fromhex(
        "83a16184c40b5f5f6e6461727261795f5fc3c40464617461c408000000000000803fc4056474797065a33c6634c405736861"
        "70659102a16ecb3ff8000000000000a670726f6d7074a2676f"
        ""
    )
    assert pack(values) == theirs
    again = unpack(theirs)
    np.testing.assert_array_equal(again["a"], values["a"])
    assert again["n"] == 1.5 and again["prompt"] == "go"


def test_openpi_sends_what_droid_policies_take_and_follows_velocities(server):
    policy = openpi(server)
    assert isinstance(policy, Policy)
    output = policy.act(observation(stamp_s=2.0))
    request = server.seen[0]
    assert request["observation/exterior_image_1_left"].shape == (224, 224, 3)
    np.testing.assert_allclose(request["observation/joint_position"], START_RAD, rtol=1e-6)
    np.testing.assert_allclose(request["observation/gripper_position"], [0.0])
    assert request["prompt"] == observation().instruction
    np.testing.assert_allclose(output.chunk.joint_position_rad[-1], START_RAD + 10 * 0.1 * 0.2)
    np.testing.assert_allclose(output.chunk.time_from_start_s, np.arange(1, 11) / 15)
    np.testing.assert_allclose(output.chunk.gripper_opening_m, 0.0)
    assert np.isnan(output.uncertainty.epistemic) and np.isnan(output.uncertainty.aleatoric)


def test_openpi_positions_and_draws(server):
    output = openpi(server, "?action=joint_position&draws=3").act(observation())
    np.testing.assert_allclose(output.chunk.joint_position_rad, 0.1)
    assert output.samples.shape == (1, 3, 10, 8) and len(server.seen) == 3
    assert output.uncertainty.aleatoric == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Traceback\nValueError: no such key", "no such key"),
        ({"actions": np.zeros((10, 4))}, r"shape \(10, 4\)"),
        ({"actions": np.full((10, 8), np.nan)}, "finite"),
        ({"actions": np.zeros((0, 8))}, r"shape \(0, 8\)"),
        ({"actions": [["left"] * 8] * 10}, "no array of numbers"),
        ({"actions": [[0.0] * 8, [0.0] * 7]}, "no array of numbers"),
        ({"actions": {"left": 1}}, "no array of numbers"),
        ({}, "shape"),
    ],
)
def test_an_answer_that_cannot_be_used_is_told_and_the_next_one_works(server, answer, reason):
    policy = openpi(server)
    good, server.answer = server.answer, answer
    with pytest.raises(SalusError, match=reason):
        policy.act(observation())
    server.answer = good
    assert policy.act(observation()).sequence == 0


@pytest.mark.parametrize(
    "dtype", ["|O", "O", "<U4", "|S4", "|V8", "i4,O", "<M8[s]", "(2,)<f4", 7, None, "f9"]
)
@pytest.mark.parametrize("kind", [b"__ndarray__", b"__npgeneric__"])
def test_only_numbers_and_booleans_are_unpacked(kind, dtype):
    """Bytes of the server that were taken for objects would be used as pointers."""
    message = msgpack.packb({kind: True, b"data": bytes(8), b"dtype": dtype, b"shape": [1]})
    with pytest.raises(SalusError, match="does not speak openpi's protocol"):
        unpack(message)


def test_draws_of_different_lengths_are_told(server):
    policy = openpi(server, "?draws=2")
    server.answers = iter([{"actions": np.zeros((steps, 8))} for steps in (10, 9)])
    with pytest.raises(SalusError, match="chunks of 10, 9 actions"):
        policy.act(observation())


def test_a_silent_server_is_told(server):
    policy = openpi(server, "?timeout_s=0.2&first_timeout_s=0.2")
    server.silent.set()
    with pytest.raises(SalusError, match="did not answer"):
        policy.act(observation())


def test_a_server_may_compile_before_its_first_answer_and_not_before_a_later_one(server):
    policy = openpi(server, "?timeout_s=0.2")
    server.delay_s = 0.6
    assert policy.act(observation()).sequence == 0
    with pytest.raises(SalusError, match="did not answer"):
        policy.act(observation())


def test_an_absent_server_is_told(server):
    server.close()
    with pytest.raises(SalusError, match="cannot be reached"):
        openpi(server)


def test_a_missing_camera_is_told(server):
    with pytest.raises(SalusError, match="wrist"):
        openpi(server).act(replace(observation(), images={"front": observation().images["front"]}))


def test_images_keep_their_proportions():
    square = padded_square(np.full((50, 100, 3), 200, np.uint8), 20)
    assert (square[5:15] == 200).all() and (square[:5] == 0).all() and (square[15:] == 0).all()


def test_random_moves_the_same_way_for_the_same_seed_and_foretells_nothing():
    policy = load_policy("random", seed=3)
    assert isinstance(policy, Policy)
    first = policy.act(observation())
    policy.reset(3)
    again = policy.act(observation())
    np.testing.assert_array_equal(first.chunk.joint_position_rad, again.chunk.joint_position_rad)
    assert again.sequence == 1
    epistemic = [policy.act(observation(seed=seed)).uncertainty.epistemic for seed in range(50)]
    assert np.std(epistemic) < 0.2 * np.mean(epistemic), "its spread does not depend on what it sees"


def test_random_does_not_solve_the_task():
    trial = run_trial(load_policy("random"), Simulation(), 2_000_000, "")
    assert not trial.success


def test_the_expert_solves_every_task_from_the_truth():
    simulation = Simulation()
    policy = let_watch(load(None, 0), simulation)
    assert isinstance(policy, Policy) and isinstance(policy, Privileged)
    for task in TASKS:
        trial = run_trial(policy, simulation, 2_000_000, "", task)
        assert trial.success, trial


def test_the_expert_without_a_simulator_is_refused():
    with pytest.raises(SalusError, match="truth"):
        load(None, 0).act(observation())


def test_the_expert_is_found_by_its_entry_point():
    if not any(entry.name == "expert" for entry in entry_points(group=GROUP)):
        pytest.skip(
            "salus_ros was installed before this entry point was added; `make setup` installs it again"
        )
    assert isinstance(load_policy("expert"), ExpertPolicy)


def test_the_policy_of_the_documentation_page_runs(tmp_path, monkeypatch):
    text = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    entry = re.search(r'^(\w+) = "(my_policy:load)"$', text, re.M)
    assert entry is not None
    assert len(code.splitlines()) <= 40, "the page promises a short one"
    (tmp_path / "my_policy.py").write_text(code)
    information = tmp_path / "my_policy-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-policy\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\n{entry[1]} = {entry[2]}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    policy = load_policy("mine")
    assert isinstance(policy, Policy)
    first, second = policy.act(observation()), policy.act(observation(0.2))
    assert (first.sequence, second.sequence) == (0, 1)
    assert np.isfinite(first.chunk.joint_position_rad).all()
    assert first.chunk.joint_position_rad.shape == (16, 7)
    assert np.isnan(first.uncertainty.epistemic)
