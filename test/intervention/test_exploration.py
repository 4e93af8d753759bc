"""The mode machine, explored exhaustively: what holds on every edge from every state."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from salus_ros.intervention.exploration import (
    COLLISION,
    LATE,
    LATE_TASK,
    MISS,
    PRESENT,
    REPLANS,
    REQUESTS,
    WHERE,
    WRITER,
    Edge,
    explore,
)
from salus_ros.intervention.exploration import SETTINGS as EXPLORED_SETTINGS
from salus_ros.intervention.inputs import RequestKind
from salus_ros.intervention.modes import Facts, ModeState, step
from salus_ros.intervention.rules import FOLLOWING, LEARNED, NEWER_PLAN, Trigger
from salus_ros.types import Cause, Mode

pytestmark = pytest.mark.xdist_group("explored")


@pytest.fixture(scope="module")
def edges(explored: list[Edge]) -> list[tuple[ModeState, Facts, RequestKind | None, ModeState, bool]]:
    return [
        (edge.before, edge.facts, edge.request, edge.after, edge.accepted)
        for edge in (*explored, *explore(REPLANS))
    ]


def test_every_mode_can_be_reached_and_left_again(edges: list) -> None:
    assert {after.mode for *_, after, _ in edges} == set(Mode)
    assert {state.mode for state, _, _, after, _ in edges if state.mode != after.mode} == set(Mode)


def test_on_every_edge_an_emergency_stop_is_left_by_an_accepted_reset_alone(edges: list) -> None:
    for state, facts, request, after, accepted in edges:
        if state.mode == Mode.EMERGENCY_STOP != after.mode:
            assert request is RequestKind.RESET, f"left by {request}"
            assert accepted
            assert facts.standing
            assert WRITER not in facts.present


def test_on_every_edge_the_arm_starts_only_with_a_newer_plan(edges: list) -> None:
    following = (Mode.NOMINAL, Mode.SLOW_DOWN)
    for state, facts, request, after, _ in edges:
        if state.mode not in following and after.mode in following:
            assert facts.plan_ready, f"{state.trigger} to {after.trigger} by {request} without a newer plan"
            assert facts.standing, f"{state.trigger} to {after.trigger} before the arm stood"


def test_on_every_edge_a_granted_request_waits_for_a_plan_newer_than_itself(edges: list) -> None:
    for state, _, request, after, accepted in edges:
        if (
            accepted
            and request in NEWER_PLAN
            and state.mode in (Mode.INACTIVE, Mode.ASSIST, Mode.EMERGENCY_STOP)
        ):
            assert after.mode not in FOLLOWING, f"{state.trigger} to {after.trigger} at once by {request}"


def test_on_every_edge_whatever_is_present_keeps_its_mode_or_a_higher_one(edges: list) -> None:
    for state, facts, request, after, _ in edges:
        if not after.active or not state.active or after.leaving != Cause.NONE:
            continue  # a gate that is stopping for good cannot stop more
        for trigger in facts.present:
            if trigger == COLLISION and facts.standing:
                continue  # a protective stop ends at the standstill
            if trigger in (MISS, LATE_TASK) and facts.plan_ready and facts.standing:
                continue  # a replan ends with its plan
            assert after.mode >= trigger.mode, f"{trigger} is present after {request}, but {after.trigger}"


def test_on_every_edge_learned_risk_never_lowers_the_mode(edges: list) -> None:
    for state, facts, request, after, _ in edges:
        if not facts.present & LEARNED or state.mode not in FOLLOWING:
            continue  # the gate hears of learned risk only while it follows
        without = replace(facts, present=facts.present - LEARNED)
        spared = step(state, without, (request,) if request else (), EXPLORED_SETTINGS).state
        assert after.mode >= spared.mode, f"{facts.present} lowers {spared.trigger} to {after.trigger}"


def test_on_every_edge_an_accepted_reset_leaves_no_emergency_stop(edges: list) -> None:
    """The node lets the driver go on after it."""
    for state, facts, request, after, accepted in edges:
        if accepted and request is RequestKind.RESET:
            assert after.mode != Mode.EMERGENCY_STOP, f"{facts.present} with a reset in {state.trigger}"
            assert state.mode not in FOLLOWING, "the arm moves"


def test_on_every_edge_nobody_but_an_activation_makes_it_active(edges: list) -> None:
    for state, _, request, after, accepted in edges:
        if after.active and not state.active:
            assert request is RequestKind.ACTIVATE
            assert accepted


def test_every_edge_tells_what_was_the_case_and_what_the_machine_made_of_it() -> None:
    for edge in explore(REPLANS):
        result = step(edge.before, edge.facts, (edge.request,) if edge.request else (), EXPLORED_SETTINGS)
        answers = ((edge.accepted, edge.message),)
        assert result.answers == (answers if edge.request else ()), edge
        assert edge.request or answers == ((False, ""),), edge
        after, made = edge.after, result.state
        assert (after.active, after.leaving, after.held) == (made.active, made.leaving, made.held), edge
        assert after.mode != Mode.INACTIVE or after.trigger.cause == Cause.STARTUP, edge


@pytest.mark.parametrize("triggers", [PRESENT, REPLANS, (None, LATE)], ids=["all kinds", "replans", "holds"])
def test_no_history_of_the_machine_takes_an_edge_that_was_not_explored(
    triggers: tuple[Trigger | None, ...], request: pytest.FixtureRequest
) -> None:
    """Its clocks and counters run on here; were too little kept of them, some edge would be missing."""

    def kept(state: ModeState) -> tuple[object, ...]:
        return state.mode, state.held, min(state.replans, 2), min(state.stops, 2)

    edges = request.getfixturevalue("explored") if triggers is PRESENT else explore(triggers)
    known = {(kept(edge.before), edge.facts, edge.request, kept(edge.after)) for edge in edges}
    draw = random.Random(0)
    state = ModeState()
    for _ in range(40_000):
        facts, present = draw.choice(WHERE), draw.choice(triggers[:1] * 3 + triggers)
        facts = replace(facts, present=frozenset({present} if present else ()))
        asked = draw.choice((None,) * 30 + REQUESTS)
        for _ in range(draw.randint(1, 4)):
            before = state
            state = step(before, facts, (asked,) if asked else (), EXPLORED_SETTINGS).state
            edge = kept(before), facts, asked, kept(state)
            assert edge in known, f"not explored: {edge}"
