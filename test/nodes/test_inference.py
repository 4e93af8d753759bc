from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from salus_ros.errors import SalusError
from salus_ros.nodes.inference import InferenceThread
from salus_ros.types import ActionChunk, Observation, PolicyOutput, RobotState, Uncertainty

WAIT_S = 5.0


def observation(stamp_s: float) -> Observation:
    zeros = np.zeros(7)
    return Observation(stamp_s, RobotState(stamp_s, zeros, zeros, zeros, 0.08), {}, "go")


class Policy:
    """Waits for permission before it answers."""

    name, hash, action_period_s = "test", "0" * 16, 0.05

    def __init__(self) -> None:
        self.permission = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.resets: list[int | None] = []
        self.commitments = 0
        self.lifts_m: list[float] = []
        self.sequence = 0
        self.value = 0.0
        self.error: BaseException | None = None
        self.held: Callable[[], object] = lambda: None
        """What the last inference that failed worked with, for as long as somebody holds it."""

    def reset(self, seed: int | None = None) -> None:
        self.resets.append(seed)

    def commit(self) -> None:
        assert self.resets, "it is to forget first"
        self.commitments += 1

    def lift(self, height_m: float) -> None:
        assert self.resets, "it is to forget first"
        self.lifts_m.append(height_m)

    def act(self, observation: Observation) -> PolicyOutput:
        self.begun.release()
        assert self.permission.acquire(timeout=WAIT_S)
        if self.error is not None:
            batch = np.zeros(1)
            self.held = weakref.ref(batch)
            raise self.error
        self.sequence += 1
        chunk = ActionChunk(
            observation.stamp_s, np.array([0.05]), np.full((1, 7), self.value), np.array([0.08])
        )
        return PolicyOutput(
            self.sequence,
            "test",
            "0",
            "go",
            chunk,
            Uncertainty(1),
            np.zeros((1, 1, 1, 1), np.float32),
            np.nan,
        )


class PlainPolicy(Policy):
    """Has nothing to commit to, and does not know how to lift."""

    commit = None  # type: ignore[assignment]
    lift = None  # type: ignore[assignment]


class Bench:
    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.outputs: list[PolicyOutput] = []
        self.faults: list[str] = []
        self.answered = threading.Semaphore(0)
        self.thread = InferenceThread(
            self.policy, self._taking(self.outputs.append), self._taking(self.faults.append)
        )

    def _taking(self, take: Callable[..., None]) -> Callable[..., None]:
        def taken(value: object) -> None:
            take(value)
            self.answered.release()

        return taken

    def submit(self, stamp_s: float) -> None:
        self.thread.submit(lambda: observation(stamp_s))

    def wait_until_begun(self) -> None:
        assert self.policy.begun.acquire(timeout=WAIT_S), "the inference never began"

    def let_one_finish(self) -> None:
        self.policy.permission.release()
        assert self.answered.acquire(timeout=WAIT_S), "neither an output nor a fault came"


@pytest.fixture(params=[Policy])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param())
    yield made
    for _ in range(10):
        made.policy.permission.release()
    made.thread.close()


def test_the_newest_observation_wins_while_one_is_worked_on(bench: Bench) -> None:
    bench.submit(1.0)
    bench.wait_until_begun()
    for stamp_s in (2.0, 3.0, 4.0):
        bench.submit(stamp_s)
    bench.let_one_finish()
    bench.let_one_finish()
    assert [output.stamp_s for output in bench.outputs] == [1.0, 4.0]


def test_submitting_never_waits_for_the_inference(bench: Bench) -> None:
    bench.submit(1.0)
    bench.wait_until_begun()
    bench.submit(2.0)  # would hang here
    assert bench.thread.busy


def test_an_inference_begun_before_a_reset_is_thrown_away(bench: Bench) -> None:
    bench.submit(1.0)
    bench.wait_until_begun()
    bench.thread.reset(seed=5)
    bench.policy.permission.release()
    bench.submit(2.0)
    bench.let_one_finish()
    assert [output.stamp_s for output in bench.outputs] == [2.0]
    assert bench.policy.resets == [5]


def test_the_policy_forgets_once_for_each_reset(bench: Bench) -> None:
    bench.thread.reset()
    for stamp_s in (1.0, 2.0):
        bench.submit(stamp_s)
        bench.let_one_finish()
    assert bench.policy.resets == [None]


def test_the_policy_commits_once_after_a_reset_that_asks_for_it_and_after_no_other(bench: Bench) -> None:
    bench.thread.reset(commit=True)
    for stamp_s in (1.0, 2.0):
        bench.submit(stamp_s)
        bench.let_one_finish()
    assert bench.policy.commitments == 1
    bench.thread.reset()
    bench.submit(3.0)
    bench.let_one_finish()
    assert (bench.policy.commitments, bench.policy.resets) == (1, [None, None])


def test_the_policy_lifts_the_tool_once_after_a_reset_that_asks_for_it_and_after_no_other(
    bench: Bench,
) -> None:
    bench.thread.reset(lift_m=0.12)
    for stamp_s in (1.0, 2.0):
        bench.submit(stamp_s)
        bench.let_one_finish()
    bench.thread.reset()
    bench.submit(3.0)
    bench.let_one_finish()
    assert (bench.policy.lifts_m, bench.policy.resets) == ([0.12], [None, None])


@pytest.mark.parametrize("bench", [PlainPolicy], indirect=True)
def test_a_policy_that_can_neither_commit_nor_lift_is_only_reset(bench: Bench) -> None:
    bench.thread.reset(commit=True, lift_m=0.12)
    bench.submit(1.0)
    bench.let_one_finish()
    assert (len(bench.outputs), bench.faults, bench.policy.resets) == (1, [], [None])


def test_the_time_taken_is_filled_in(bench: Bench) -> None:
    bench.submit(1.0)
    bench.let_one_finish()
    assert 0.0 < bench.outputs[0].inference_time_s < WAIT_S


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_chunk_that_is_not_finite_is_a_named_fault_and_no_output(bench: Bench, value: float) -> None:
    bench.policy.value = value
    bench.submit(1.0)
    bench.let_one_finish()
    assert bench.outputs == []
    assert "joint positions that are not finite" in bench.faults[0]


@pytest.mark.parametrize(
    "error", [SalusError("camera front is missing"), ValueError("camera front is missing")]
)
def test_a_policy_that_raises_is_reported_and_the_next_inference_works(
    bench: Bench, error: Exception
) -> None:
    bench.policy.error = error
    bench.submit(1.0)
    bench.let_one_finish()
    assert "camera front is missing" in bench.faults[0]
    bench.policy.error = None
    bench.submit(2.0)
    bench.let_one_finish()
    assert [output.stamp_s for output in bench.outputs] == [2.0]


def test_an_observation_that_cannot_be_read_is_a_fault(bench: Bench) -> None:
    def broken() -> Observation:
        raise SalusError("the image cannot be read")

    bench.thread.submit(broken)
    assert bench.answered.acquire(timeout=WAIT_S)
    assert bench.faults == ["the image cannot be read"]


def test_a_hung_inference_is_noticed_and_what_it_gives_in_the_end_is_thrown_away(bench: Bench) -> None:
    bench.submit(1.0)
    bench.wait_until_begun()
    now_s = time.monotonic()
    assert bench.thread.overdue(now_s, deadline_s=60.0) == ""
    fault = bench.thread.overdue(now_s + 61.0, deadline_s=60.0)
    assert "longer than its deadline of 60 s" in fault
    assert bench.thread.overdue(now_s + 62.0, deadline_s=60.0) != "", "the fault stands while it hangs"
    bench.policy.permission.release()
    bench.submit(2.0)
    bench.let_one_finish()
    assert [output.stamp_s for output in bench.outputs] == [2.0]
    assert bench.thread.overdue(time.monotonic() + 61.0, deadline_s=60.0) == "", "all is well again"


def test_nothing_is_overdue_while_nothing_runs(bench: Bench) -> None:
    assert bench.thread.overdue(time.monotonic() + 1e6, deadline_s=0.1) == ""


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), torch.OutOfMemoryError("CUDA out of memory. Tried")]
)
def test_memory_that_ran_out_is_a_fault_with_a_name(bench: Bench, error: Exception) -> None:
    bench.policy.error = error
    bench.submit(1.0)
    bench.let_one_finish()
    assert bench.outputs == []
    assert "memory ran out" in bench.faults[0] and "fewer draws" in bench.faults[0]


def test_memory_that_ran_out_is_no_longer_held_when_the_fault_is_told() -> None:
    policy, told = Policy(), threading.Event()
    held: list[object] = []

    def on_fault(_: str) -> None:
        held.append(policy.held())
        told.set()

    policy.error = MemoryError("no room")
    policy.permission.release()
    thread = InferenceThread(policy, lambda _: None, on_fault)
    thread.submit(lambda: observation(1.0))
    assert told.wait(WAIT_S), "no fault came"
    thread.close()
    assert held == [None], "what the inference worked with is still in memory"


def test_an_inference_that_outlives_its_thread_s_end_is_thrown_away(bench: Bench) -> None:
    bench.submit(1.0)
    bench.wait_until_begun()
    bench.thread.close(timeout_s=0.0)
    bench.policy.permission.release()
    bench.thread.close(timeout_s=WAIT_S)
    assert bench.outputs == [] and bench.faults == []


def test_a_policy_that_still_infers_is_not_given_a_second_thread(bench: Bench) -> None:
    bench.submit(1.0)
    bench.wait_until_begun()
    bench.thread.close(timeout_s=0.0)
    with pytest.raises(SalusError, match="still busy with an inference of before"):
        InferenceThread(bench.policy, bench.outputs.append, bench.faults.append)
    InferenceThread(Policy(), bench.outputs.append, bench.faults.append).close()  # another policy may
    bench.policy.permission.release()
    bench.thread.close(timeout_s=WAIT_S)
    InferenceThread(bench.policy, bench.outputs.append, bench.faults.append).close()


def _until_dead(thread: InferenceThread) -> str:
    end_s = time.monotonic() + WAIT_S
    while not (fault := thread.overdue(time.monotonic(), deadline_s=60.0)):
        assert time.monotonic() < end_s, "nobody notices that the thread has died"
        time.sleep(0.005)
    return fault


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_a_policy_ends_is_a_fault_for_ever(bench: Bench) -> None:
    bench.policy.error = SystemExit("a library wanted to go")
    bench.policy.permission.release()
    bench.submit(1.0)
    assert "the inference thread has died (SystemExit: a library wanted to go)" in _until_dead(bench.thread)
    assert "has died" in bench.thread.overdue(time.monotonic(), deadline_s=60.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_in_telling_a_fault_is_one(bench: Bench) -> None:
    def cannot_tell(fault: str) -> None:
        raise RuntimeError(f"nobody hears of {fault}")

    policy = Policy()
    policy.error = ValueError("camera front is missing")
    policy.permission.release()
    thread = InferenceThread(policy, bench.outputs.append, cannot_tell)
    thread.submit(lambda: observation(1.0))
    assert "has died (RuntimeError: nobody hears of" in _until_dead(thread)
