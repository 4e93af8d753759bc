"""What a signal is, and the register of all of them.

A family is a function from the monitor's view of the newest inputs to a few numbers. It sees measured
joint states, policy outputs, depth clouds and what the gate does: nothing else. In particular neither
the time since the episode began nor anything that only a simulator knows, since a label that can be
told from the clock is worthless. Differences of stamps (an age, a speed) are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.monitor.view import View
from salus_ros.types import Floats


@dataclass(frozen=True, slots=True)
class Signal:
    """One number of a family."""

    name: str
    unit: str
    low: float
    """Values below are set to it, so that one wild reading cannot carry the network away."""
    high: float
    meaning: str
    """What it says and what it is computed from."""


Measure = Callable[[View], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Family:
    """Signals that are computed together from the same inputs."""

    name: str
    signals: tuple[Signal, ...]
    measure: Measure
    """Values by signal name; a signal left out, or nan, is not available."""


_FAMILIES: dict[str, Family] = {}


def family(name: str, *signals: Signal) -> Callable[[Measure], Measure]:
    """Registers the decorated function as the family ``name``."""

    def register(measure: Measure) -> Measure:
        _FAMILIES[name] = Family(name, signals, measure)
        return measure

    return register


def families() -> tuple[Family, ...]:
    """All registered families, by name."""
    return tuple(_FAMILIES[name] for name in sorted(_FAMILIES))


LEFT_OUT: Final = ("latent",)
"""Families that training leaves out unless they are asked for. With an earlier policy the monitor separated
better without the policy's latent, on unseen tasks most of all; with the shipped one (docs/results.md) it
makes hardly a difference. And nothing else ties a monitor so closely to one policy."""


class SignalSet:
    """Measures a fixed list of signals, in its order."""

    def __init__(self, names: Iterable[str] | None = None) -> None:
        """``names``: ``family.signal`` each; default: all that are registered.

        Raises:
            SalusError: a name is not registered, as with a checkpoint of another version.
        """
        known = {f"{f.name}.{s.name}": (f, s) for f in families() for s in f.signals}
        self.names: tuple[str, ...] = tuple(known if names is None else names)
        unknown = [name for name in self.names if name not in known]
        if unknown:
            raise SalusError(
                f"the monitor was given the signals {', '.join(unknown)}, which are none of the {len(known)} "
                "registered ones; train the monitor again with this version of salus_ros."
            )
        self.signals: tuple[Signal, ...] = tuple(known[name][1] for name in self.names)
        self._position = {name: i for i, name in enumerate(self.names)}
        wanted = {name.split(".", 1)[0] for name in self.names}
        self._families = tuple(f for f in families() if f.name in wanted)
        self._low = np.array([signal.low for signal in self.signals])
        self._high = np.array([signal.high for signal in self.signals])

    def measure(self, view: View) -> Floats:
        """The signals now, (F,), each inside its range, nan where not available."""
        values = np.full(len(self.names), np.nan)
        with np.errstate(all="ignore"):
            for entry in self._families:
                for name, value in entry.measure(view).items():
                    position = self._position.get(f"{entry.name}.{name}")
                    if position is not None:
                        values[position] = value
            values[np.isinf(values)] = np.nan
            return np.clip(values, self._low, self._high)


def without(families_left_out: Iterable[str]) -> tuple[str, ...]:
    """Names of all registered signals but those of some families.

    Raises:
        SalusError: there is no such family.
    """
    left_out = set(families_left_out)
    known = {f.name for f in families()}
    if not left_out <= known:
        raise SalusError(
            f"there is no signal family {', '.join(sorted(left_out - known))}; the families are "
            f"{', '.join(sorted(known))}."
        )
    return tuple(f"{f.name}.{s.name}" for f in families() if f.name not in left_out for s in f.signals)


def default_signals(added: Iterable[str] = (), left_out: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the signals that a monitor is trained with: all but the families of ``LEFT_OUT``.

    Args:
        added: families of ``LEFT_OUT`` that are wanted all the same.
        left_out: further families that are not.

    Raises:
        SalusError: a family is added that would not be left out, or there is no such family.
    """
    wanted = set(added)
    if not wanted <= set(LEFT_OUT):
        raise SalusError(
            f"the signal family {', '.join(sorted(wanted - set(LEFT_OUT)))} was to be added; those that are "
            f"left out, and can be added, are {', '.join(LEFT_OUT)}."
        )
    return without([*(set(LEFT_OUT) - wanted), *left_out])
