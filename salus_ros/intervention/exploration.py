"""Every state that the mode machine can come into, and every edge between them.

One trigger of each way to be cleared, every request, standing or moving, with and without a newer plan, from
every state that can be reached. The tests check the guarantees on each edge; the docs' tables and their
interactive page are made from the same edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from salus_ros.intervention.inputs import RequestKind
from salus_ros.intervention.modes import Facts, ModeSettings, ModeState, step
from salus_ros.intervention.rules import Trigger
from salus_ros.types import Cause, Mode

TICK_S: Final = 0.3
"""Long enough that two ticks pass every time limit of :data:`SETTINGS`."""

SETTINGS: Final = ModeSettings(
    hold_off_s=2 * TICK_S,
    replan_attempts=1,
    protective_stops=1,
    attempts_renew_s=2 * TICK_S,
    replan_timeout_s=2 * TICK_S,
    assist_timeout_s=0.0,
)

SLOW: Final = Trigger(Mode.SLOW_DOWN, Cause.RISK)
MISS: Final = Trigger(Mode.REPLAN, Cause.FORESEEN_MISS)
LATE_TASK: Final = Trigger(Mode.REPLAN, Cause.FORESEEN_TIMEOUT)
CONTACT: Final = Trigger(Mode.ASSIST, Cause.CONTACT)
LATE: Final = Trigger(Mode.HOLD, Cause.POLICY_LATE)
COLLISION: Final = Trigger(Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION)
WRITER: Final = Trigger(Mode.EMERGENCY_STOP, Cause.SECOND_COMMAND_PUBLISHER)
PRESENT: Final = (None, SLOW, MISS, CONTACT, LATE, COLLISION, WRITER)
"""What may be present at a tick: nothing, or one trigger of each kind of rule."""
REPLANS: Final = (None, MISS, LATE_TASK, COLLISION)
"""What leads to a replan: counted as an attempt, not counted, or after a stop. Explored apart, since all at
once would be twice as much."""

REQUESTS: Final = tuple(
    kind
    for kind in RequestKind
    # As deactivate, or heartbeats that ask for nothing.
    if kind not in (RequestKind.SHUTDOWN, RequestKind.BUTTON_PRESSED, RequestKind.BUTTON_RELEASED)
)


@dataclass(frozen=True, slots=True)
class Edge:
    """One tick of the machine."""

    before: ModeState
    facts: Facts
    request: RequestKind | None
    after: ModeState
    accepted: bool
    """Whether there was a request, and it was granted."""
    message: str
    """Why not, when it was not."""


WHERE: Final = tuple(
    Facts(standing=standing, plan_ready=ready, step_s=TICK_S, progress_s=TICK_S)
    for standing in (True, False)
    for ready in (True, False)
)


def explore(triggers: Sequence[Trigger | None] = PRESENT) -> Iterator[Edge]:
    """Every edge from every state that can be reached, breadth first from the start.

    The edges of one state follow one another: for each of :data:`WHERE`, each of ``triggers`` with each
    request.
    """
    ticks = [
        (replace(facts, present=frozenset({present} if present else ())), request)
        for facts in WHERE
        for present in triggers
        for request in (None, *REQUESTS)
    ]
    seen, frontier = {ModeState()}, [ModeState()]
    settled: dict[ModeState, ModeState] = {}
    for state in frontier:
        for facts, request in ticks:
            result = step(state, facts, (request,) if request else (), SETTINGS)
            after = settled.get(result.state)
            if after is None:
                after = settled[result.state] = coarse(result.state)
            accepted, message = result.answers[0] if result.answers else (False, "")
            yield Edge(state, facts, request, after, accepted, message)
            if after not in seen:
                seen.add(after)
                frontier.append(after)


def coarse(state: ModeState) -> ModeState:
    """Clocks and counters beyond their thresholds are all alike; else the states would be endless."""
    return replace(
        state,
        calm_s=TICK_S if state.calm_s >= TICK_S else 0.0,
        renew_s=TICK_S if state.renew_s >= TICK_S and (state.replans or state.stops) else 0.0,
        waiting_s=TICK_S if state.waiting_s >= TICK_S else 0.0,
        unanswered_s=0.0,
        replans=min(state.replans, 2),
        stops=min(state.stops, 2),
        inactive_cause=Cause.STARTUP,
    )
