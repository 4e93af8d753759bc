"""What happened, in the order in which it did, in words for a person."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from salus_ros.types import EpisodeEvent, EventKind, FailureType, InterventionState, Mode

Level = Literal["info", "warning", "error"]

KEPT: Final = 200

_MODE_LEVEL: Final[dict[Mode, Level]] = {
    Mode.SLOW_DOWN: "warning",
    Mode.REPLAN: "warning",
    Mode.HOLD: "warning",
    Mode.ASSIST: "error",
    Mode.PROTECTIVE_STOP: "error",
    Mode.EMERGENCY_STOP: "error",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list."""

    number: int
    """Counts up from 1."""
    wall_s: float
    """Wall time, seconds since 1970."""
    source: str
    """Who it is about: ``gate``, ``episode``, ``console``, or a node's name."""
    level: Level
    text: str


class Journal:
    """Keeps the newest entries; each ``see_*`` notes what is new in what it is shown."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self._count = 0
        self._gate: tuple[object, ...] = ()
        self._health: dict[str, tuple[int, str]] = {}

    def note(self, wall_s: float, source: str, text: str, level: Level = "info") -> None:
        """Add a line."""
        self._count += 1
        self.entries.append(Entry(self._count, wall_s, source, level, text))

    def since(self, number: int) -> list[Entry]:
        """Entries after the one of this number, oldest first."""
        return [entry for entry in self.entries if entry.number > number]

    def see_state(self, wall_s: float, state: InterventionState) -> None:
        """Note a change of mode or cause."""
        gate = (state.mode, state.cause)
        if gate == self._gate:
            return
        self._gate = gate
        name = state.mode.name.replace("_", " ").lower()
        text = f"{name}: {state.reason}" if state.reason else name
        self.note(wall_s, "gate", text, _MODE_LEVEL.get(state.mode, "info"))

    def see_event(self, wall_s: float, event: EpisodeEvent) -> None:
        """Note what a simulator or an operator says about the episode."""
        words = {
            EventKind.EPISODE_START: f"begins, seed {event.seed}" if event.seed >= 0 else "begins",
            EventKind.SUCCESS: "success",
            EventKind.TIMEOUT: "out of time",
            EventKind.EPISODE_END: "ends",
        }
        failed = event.kind == EventKind.FAILURE_ONSET
        what = FailureType(event.failure).name.lower() if failed and event.failure is not None else "failure"
        text = words.get(event.kind, what)
        detail = event.detail or event.disturbance
        self.note(wall_s, "episode", f"{text}: {detail}" if detail else text, "error" if failed else "info")

    def see_health(self, wall_s: float, node: str, level: int, message: str) -> None:
        """Note a node that stops or begins to be well. ``level``: 0 well, 1 warning, from 2 on error.

        The gate's own health repeats its mode and is left out by whoever calls this.
        """
        before = self._health.get(node, (0, ""))
        self._health[node] = (level, message)
        if level != before[0]:
            grade: Level = "info" if level == 0 else "warning" if level == 1 else "error"
            self.note(wall_s, node, message if level else f"well again: {message}", grade)
