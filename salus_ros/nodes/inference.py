"""A policy on a thread of its own: the newest observation wins, and the executor never waits."""

from __future__ import annotations

import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.policy.base import Committing, Lifting, Policy
from salus_ros.types import Observation, PolicyOutput

SWITCH_INTERVAL_S: Final = 0.0005
"""How long one thread may keep the interpreter while another waits; Python's default is ten times this, and
an executor that waits for it several times in one callback would be late."""


class InferenceThread:
    """Runs ``policy.act`` on what was submitted last and hands the outputs on.

    PyTorch releases the interpreter lock in its operations, so the executor's thread keeps running.
    Both callbacks run on the inference thread. An inference that hangs cannot be ended from outside; ask
    :meth:`overdue` for it, and what it gives in the end is thrown away.

    Raises:
        SalusError: the policy is still busy with an inference of a thread that was closed before.
    """

    _running: ClassVar[weakref.WeakSet[InferenceThread]] = weakref.WeakSet()

    def __init__(
        self,
        policy: Policy,
        on_output: Callable[[PolicyOutput], None],
        on_fault: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._on_output = on_output
        self._on_fault = on_fault
        self._condition = threading.Condition()
        self._waiting: Callable[[], Observation] | None = None
        self._generation = 0
        """Counts resets: an inference begun before a reset is thrown away."""
        self._forgotten = 0
        self._afresh = _Afresh()
        self._busy = False
        self._began_s = float("nan")
        self._given_up = False
        self._ended = False
        self._died = ""
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        if any(other._policy is policy and other._thread.is_alive() for other in self._running):
            raise SalusError(
                f"The policy {policy.name} is still busy with an inference of before, and cannot run two at "
                "once; try again when it has ended, or start the node anew."
            )
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._running.add(self)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether an inference runs or waits."""
        with self._condition:
            return self._busy or self._waiting is not None

    def overdue(self, now_s: float, deadline_s: float) -> str:
        """Gives an inference up that has run for longer than ``deadline_s`` at monotonic time ``now_s``.

        Returns the fault in words, again and again while it hangs, and for ever when the thread has died;
        empty while all is well.
        """
        with self._condition:
            if self._died:
                return (
                    f"the inference thread has died ({self._died}); deactivate the node and activate it again"
                )
            if not self._busy or now_s - self._began_s <= deadline_s:
                return ""
            if not self._given_up:
                self._given_up = True
                self._generation += 1
            return (
                f"the inference has run for {now_s - self._began_s:.1f} s, longer than its deadline of "
                f"{deadline_s:g} s; its output will be thrown away"
            )

    def submit(self, observation: Callable[[], Observation]) -> None:
        """Infer on this next; what was waiting and not begun is replaced. Converted on the thread."""
        with self._condition:
            self._waiting = observation
            self._condition.notify()

    def reset(self, seed: int | None = None, *, commit: bool = False, lift_m: float = 0.0) -> None:
        """Let the policy forget, and commit or lift if asked and able, before its next inference; the one
        that runs is thrown away."""
        with self._condition:
            self._generation += 1
            self._afresh = _Afresh(seed, commit, lift_m)
            self._waiting = None

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread after the inference that runs; what comes of that one is thrown away."""
        with self._condition:
            self._ended = True
            self._generation += 1
            self._waiting = None
            self._condition.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # also what is no Exception ends the thread, and must not do so unseen
            with self._condition:
                self._died = f"{type(error).__name__}: {error}"
            raise

    def _serve(self) -> None:
        if (torch := sys.modules.get("torch")) is not None:
            # Weights near zero are denormal and ten times as slow. The setting holds for this thread alone.
            torch.set_flush_denormal(True)
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._ended or self._waiting is not None)
                if self._ended:
                    return
                assert self._waiting is not None
                observe, self._waiting = self._waiting, None
                generation, afresh = self._generation, self._afresh
                self._busy, self._began_s, self._given_up = True, time.monotonic(), False
            try:
                self._infer(observe, generation, afresh)
            except SalusError as error:
                self._on_fault(str(error))
            except Exception as error:  # whatever a policy does, the node must live and say so
                self._on_fault(_named(error))
            finally:
                with self._condition:
                    self._busy = False

    def _infer(self, observe: Callable[[], Observation], generation: int, afresh: _Afresh) -> None:
        if generation != self._forgotten:
            afresh.begin(self._policy)
            self._forgotten = generation
        begun_s = time.perf_counter()
        output = self._policy.act(observe())
        inference_time_s = time.perf_counter() - begun_s
        chunk = output.chunk
        for what, values in (
            ("joint positions", chunk.joint_position_rad),
            ("gripper openings", chunk.gripper_opening_m),
            ("times", chunk.time_from_start_s),
        ):
            if not np.isfinite(values).all():
                raise SalusError(
                    f"The policy {output.policy_name} gave {what} that are not finite in output "
                    f"{output.sequence}; it is not published."
                )
        with self._condition:
            stale = generation != self._generation
        if not stale:
            self._on_output(replace(output, inference_time_s=inference_time_s))


@dataclass(frozen=True, slots=True)
class _Afresh:
    """How a policy begins after a reset."""

    seed: int | None = None
    commit: bool = False
    lift_m: float = 0.0

    def begin(self, policy: Policy) -> None:
        policy.reset() if self.seed is None else policy.reset(self.seed)
        if self.commit and isinstance(policy, Committing):
            policy.commit()
        if self.lift_m > 0.0 and isinstance(policy, Lifting):
            policy.lift(self.lift_m)


def _named(error: Exception) -> str:
    """The fault in words. Memory that ran out is given back where that can be, for the next inference."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        # Where the error came from, the tensors of then are still held.
        traceback.clear_frames(error.__traceback__)
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        reason = str(error).strip().split("\n")[0]
        return f"memory ran out during the inference ({reason}); use fewer draws, or free memory"
    return f"{type(error).__name__}: {error}"
