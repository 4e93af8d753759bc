"""What every policy is: something that turns observations into plans, and says how sure it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from salus_ros.types import Observation, PolicyOutput


@runtime_checkable
class Policy(Protocol):
    """A policy, whatever it is made of.

    Outputs are numbered from 0 after construction and never start again, so that a sequence
    number names one output of one policy object.
    """

    @property
    def name(self) -> str:
        """Short name, e.g. ``tinyvla``."""
        ...

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 over weights and configuration."""
        ...

    @property
    def action_period_s(self) -> float:
        """Time between the points of a chunk."""
        ...

    def act(self, observation: Observation) -> PolicyOutput:
        """One inference.

        ``inference_time_s`` of the result is nan: whoever calls knows the clock and fills it in.

        Raises:
            SalusError: the observation lacks a camera or a joint, or has another shape than
                the policy was trained for; or the result is not finite.
        """
        ...

    def reset(self, seed: int | None = None) -> None:
        """Forget the past: the next output is sampled afresh and has no overlap with the one before.

        With a seed, what is sampled from now on is the same each time; without, it goes on
        from wherever the policy's own generator is.
        """
        ...


@runtime_checkable
class Committing(Protocol):
    """What a policy of several samples has besides when it can follow one of them."""

    def commit(self) -> None:
        """Follow one sample at a time instead of the mean of all, until the next ``reset``.

        The mean of two ways to go on may be none: down to the object and up for another try makes a hand
        that hovers.
        """
        ...


@runtime_checkable
class Lifting(Protocol):
    """What a policy has besides when it can move the tool out of the way before it plans."""

    def lift(self, height_m: float) -> None:
        """Raise the tool so far above where the next observation finds it, then plan; until the next
        ``reset`` at most.
        """
        ...


@runtime_checkable
class Rewindable(Protocol):
    """What a policy has besides when it can go back to an earlier moment, as a simulator that looks ahead
    needs it."""

    def save(self) -> object:
        """All that the next outputs depend on besides the observations, to be given to ``restore``."""
        ...

    def restore(self, state: object) -> None:
        """Go back to a saved moment; the same one may be restored many times."""
        ...


@runtime_checkable
class Privileged(Protocol):
    """A policy that plans from the simulator's truth. Whoever runs both in one process says where it is."""

    def watch(self, truth: Callable[[], Any]) -> None:
        """Plan from what this returns from now on."""
        ...
