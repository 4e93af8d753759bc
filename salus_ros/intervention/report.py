"""How near the gate is to acting: every input's silence and every limit's use, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputReport:
    """One input."""

    name: str
    silence_s: float
    """Since it was heard last; infinite if never."""
    deadline_s: float
    """Silence after which the gate acts."""
    required: bool = True
    """Its silence counts."""

    @property
    def late(self) -> bool:
        """Whether it has been silent for too long."""
        return self.required and not self.silence_s <= self.deadline_s


@dataclass(frozen=True, slots=True)
class LimitReport:
    """One limit."""

    name: str
    used: float
    """Share of what is allowed that is used now; above 1 is beyond the limit, nan unknown."""
    detail: str
    """Where it is nearest, in words."""


@dataclass(frozen=True, slots=True)
class GateReport:
    """All of them."""

    inputs: tuple[InputReport, ...]
    limits: tuple[LimitReport, ...]
    """Empty while there is neither a command nor a measured position."""
