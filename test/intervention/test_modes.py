"""The mode machine, narrated; test_exploration.py looks at all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus_ros.intervention.exploration import COLLISION, CONTACT, LATE, MISS, SLOW
from salus_ros.intervention.inputs import RequestKind
from salus_ros.intervention.modes import Facts, ModeSettings, ModeState, step
from salus_ros.intervention.rules import FAULT_MODES, REASONS, RULES, Clear, Trigger
from salus_ros.types import Cause, Mode

SETTINGS = ModeSettings(
    hold_off_s=0.5,
    replan_attempts=1,
    protective_stops=1,
    attempts_renew_s=1.0,
    replan_timeout_s=1.0,
    assist_timeout_s=0.0,
)
LOST = Trigger(Mode.ASSIST, Cause.OUT_OF_DISTRIBUTION)
JOINTS = Trigger(Mode.EMERGENCY_STOP, Cause.JOINT_STATE_LATE)

PERSON = Trigger(Mode.EMERGENCY_STOP, Cause.PERSON)
MOVING = Facts(standing=False)
STANDING = Facts()
READY = Facts(plan_ready=True)


class Story:
    """Steps a machine and tells its mode."""

    def __init__(self, settings: ModeSettings = SETTINGS) -> None:
        self.settings = settings
        self.state = ModeState()
        self.answers: tuple[tuple[bool, str], ...] = ()

    def tick(self, *present: Trigger, facts: Facts = STANDING, ask: RequestKind | None = None) -> Mode:
        facts = replace(facts, present=frozenset(present), step_s=facts.step_s or 0.01)
        result = step(self.state, facts, (ask,) if ask else (), self.settings)
        self.state, self.answers = result.state, result.answers
        return self.state.mode

    def wait(self, duration_s: float, *present: Trigger, facts: Facts = STANDING) -> Mode:
        return self.tick(*present, facts=replace(facts, step_s=duration_s))

    def nominal(self) -> Story:
        assert self.tick(ask=RequestKind.ACTIVATE) == Mode.HOLD
        assert self.wait(1.0, facts=READY) == Mode.NOMINAL
        return self


def test_it_starts_inactive_and_nothing_but_an_activation_changes_that() -> None:
    story = Story()
    assert story.tick(SLOW, MISS, LATE, COLLISION, JOINTS, facts=READY) == Mode.INACTIVE


def test_activation_is_denied_while_inputs_are_missing_with_their_names() -> None:
    story = Story()
    assert story.tick(facts=Facts(inputs_missing="not fresh: policy output"), ask=RequestKind.ACTIVATE) == (
        Mode.INACTIVE
    )
    assert story.answers == ((False, "not fresh: policy output"),)


def test_after_the_activation_only_a_newer_plan_starts_the_arm() -> None:
    story = Story()
    story.tick(ask=RequestKind.ACTIVATE)
    assert story.wait(9.0) == Mode.HOLD
    assert story.tick(facts=READY) == Mode.NOMINAL


def test_slowing_ends_when_its_cause_is_gone() -> None:
    story = Story().nominal()
    assert story.tick(SLOW, facts=MOVING) == Mode.SLOW_DOWN
    assert story.tick(facts=MOVING) == Mode.NOMINAL


def test_a_hold_ends_only_after_its_time_and_with_a_newer_plan() -> None:
    story = Story().nominal()
    assert story.tick(LATE, facts=MOVING) == Mode.HOLD
    assert story.wait(0.4, facts=READY) == Mode.HOLD, "released before all causes were gone for the hold-off"
    assert story.tick(LATE) == Mode.HOLD
    assert story.wait(0.4, facts=READY) == Mode.HOLD, "the hold-off did not start again"
    assert story.wait(5.0) == Mode.HOLD, "released without a newer plan"
    assert story.tick(facts=READY) == Mode.NOMINAL


def test_a_replan_ends_with_a_plan_and_is_given_up_when_the_attempts_are_used_up() -> None:
    story = Story().nominal()
    assert story.tick(MISS, facts=MOVING) == Mode.REPLAN
    assert story.tick(facts=READY) == Mode.NOMINAL
    assert story.tick(MISS, facts=MOVING) == Mode.ASSIST
    assert story.state.trigger.cause == Cause.REPLANS_EXHAUSTED


def test_attempts_are_renewed_by_a_stretch_without_intervention() -> None:
    story = Story().nominal()
    for _ in range(5):
        assert story.tick(MISS, facts=MOVING) == Mode.REPLAN
        assert story.tick(facts=READY) == Mode.NOMINAL
        story.tick(facts=replace(MOVING, progress_s=1.1))


def test_a_replan_that_gets_no_plan_counts_attempts_and_calls_a_person() -> None:
    story = Story().nominal()
    assert story.tick(MISS, facts=MOVING) == Mode.REPLAN
    assert story.wait(0.9) == Mode.REPLAN
    assert story.wait(0.2) == Mode.ASSIST


def test_a_protective_stop_becomes_a_replan_at_standstill_and_a_call_when_used_up() -> None:
    story = Story(replace(SETTINGS, replan_attempts=5)).nominal()
    assert story.tick(COLLISION, facts=MOVING) == Mode.PROTECTIVE_STOP
    assert story.tick(facts=MOVING) == Mode.PROTECTIVE_STOP, "left before the arm stood"
    assert story.tick() == Mode.REPLAN
    assert story.tick(facts=READY) == Mode.NOMINAL
    assert story.tick(COLLISION, facts=MOVING) == Mode.PROTECTIVE_STOP
    assert story.tick() == Mode.ASSIST


@pytest.mark.parametrize(
    ("answer", "mode"), [(RequestKind.RESUME, Mode.HOLD), (RequestKind.RETRY, Mode.REPLAN)]
)
def test_a_person_ends_assistance_and_only_a_newer_plan_moves_the_arm(
    answer: RequestKind, mode: Mode
) -> None:
    story = Story().nominal()
    assert story.tick(LOST, facts=MOVING) == Mode.ASSIST
    assert story.wait(99.0, facts=READY) == Mode.ASSIST, "left without a person"
    assert story.tick(ask=answer) == mode
    assert story.answers == ((True, ""),)
    assert story.wait(0.6, facts=READY) == Mode.NOMINAL


def test_assistance_is_not_resumed_while_the_contact_stands() -> None:
    story = Story().nominal()
    story.tick(CONTACT, facts=MOVING)
    assert story.tick(CONTACT, ask=RequestKind.RESUME) == Mode.ASSIST
    assert story.answers[0][0] is False
    assert "contact" in story.answers[0][1]
    assert story.tick(ask=RequestKind.RESUME) == Mode.HOLD


def test_abort_makes_the_gate_inactive_once_the_arm_stands() -> None:
    story = Story().nominal()
    story.tick(LOST, facts=MOVING)
    assert story.tick(facts=MOVING, ask=RequestKind.ABORT) == Mode.HOLD
    assert story.tick() == Mode.INACTIVE


def test_nobody_is_resumed_who_was_not_called() -> None:
    story = Story().nominal()
    for request in (RequestKind.RESUME, RequestKind.RETRY, RequestKind.ABORT):
        assert story.tick(facts=MOVING, ask=request) == Mode.NOMINAL
        assert story.answers == ((False, "nobody was called for assistance"),)


def test_an_unanswered_call_becomes_an_emergency_stop_where_configured() -> None:
    story = Story(replace(SETTINGS, assist_timeout_s=3.0)).nominal()
    story.tick(LOST, facts=MOVING)
    assert story.wait(2.0) == Mode.ASSIST
    assert story.wait(2.0) == Mode.EMERGENCY_STOP


def test_an_emergency_stop_is_reset_by_a_person_only_when_its_cause_is_gone() -> None:
    story = Story().nominal()
    assert story.tick(JOINTS, facts=MOVING) == Mode.EMERGENCY_STOP
    assert story.wait(99.0, facts=READY) == Mode.EMERGENCY_STOP
    assert story.tick(JOINTS, ask=RequestKind.RESET) == Mode.EMERGENCY_STOP
    assert story.answers[0] == (False, "the cause still stands: joint_state_late")
    assert story.tick(facts=MOVING, ask=RequestKind.RESET) == Mode.EMERGENCY_STOP, "reset in motion"
    assert story.tick(ask=RequestKind.RESET) == Mode.HOLD
    assert story.wait(9.0) == Mode.HOLD, "moved without a plan newer than the reset"
    assert story.tick(facts=READY) == Mode.NOMINAL


def test_a_latch_is_not_lost_by_deactivating() -> None:
    story = Story().nominal()
    story.tick(ask=RequestKind.EMERGENCY_STOP)
    story.tick(ask=RequestKind.DEACTIVATE)
    assert story.tick() == Mode.EMERGENCY_STOP
    assert story.tick(ask=RequestKind.ACTIVATE) == Mode.EMERGENCY_STOP
    assert story.answers[0][0] is False
    assert story.tick(ask=RequestKind.RESET) == Mode.INACTIVE


def test_deactivation_waits_for_the_standstill() -> None:
    story = Story().nominal()
    assert story.tick(facts=MOVING, ask=RequestKind.DEACTIVATE) == Mode.HOLD
    assert story.tick(facts=MOVING) == Mode.HOLD
    assert story.tick() == Mode.INACTIVE


def test_every_trigger_has_words_and_every_fault_a_mode() -> None:
    assert {trigger.cause for trigger in RULES} <= set(REASONS)
    assert set(Cause) == set(REASONS)
    assert all(mode in (Mode.HOLD, Mode.EMERGENCY_STOP) for mode in FAULT_MODES.values())


def test_latches_are_left_by_nothing_but_a_reset() -> None:
    for trigger, rule in RULES.items():
        assert (trigger.mode == Mode.EMERGENCY_STOP) == (rule.clear is Clear.RESET)
        if rule.clear is Clear.RESET:
            assert rule.requests == {RequestKind.RESET}
            assert rule.must_be_gone


@given(st.lists(st.tuples(st.sampled_from(sorted(RULES)), st.booleans(), st.booleans()), max_size=30))
def test_histories_of_all_triggers_never_start_the_arm_against_the_rules(history: list) -> None:
    story = Story().nominal()
    for trigger, standing, ready in history:
        before = story.state.mode
        after = story.wait(0.3, trigger, facts=Facts(standing=standing, plan_ready=ready))
        assert before != Mode.EMERGENCY_STOP or after == Mode.EMERGENCY_STOP
        if before not in (Mode.NOMINAL, Mode.SLOW_DOWN) and after in (Mode.NOMINAL, Mode.SLOW_DOWN):
            assert standing
            assert ready
