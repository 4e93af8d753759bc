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
from salus_ros.intervention.settings import GateSettings
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


def test_its_numbers_are_those_of_the_gates_settings() -> None:
    numbers = {"hold_off_s": 1.0, "replan_attempts": 2, "protective_stops": 3}
    times = {"attempts_renew_s": 4.0, "replan_timeout_s": 5.0, "assist_timeout_s": 6.0}
    assert ModeSettings.of(GateSettings(**numbers, **times)) == ModeSettings(**numbers, **times)


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


# Answers


ASK = RequestKind
DROP = Trigger(Mode.REPLAN, Cause.FORESEEN_DROP)
STILL_LATCHED = "an emergency stop is latched or its cause stands: reset it first"


def test_requests_of_one_tick_are_answered_one_after_the_other() -> None:
    asked = (ASK.ACTIVATE, ASK.DEACTIVATE, ASK.ACTIVATE, ASK.BUTTON_RELEASED, ASK.RESUME)
    result = step(ModeState(), MOVING, asked, SETTINGS)
    assert result.answers == (
        *((True, ""), (True, ""), (False, "still stopping"), (True, "")),
        (False, "nobody was called for assistance"),
    )
    assert result.state.trigger == Trigger(Mode.HOLD, Cause.DEACTIVATED)
    assert step(ModeState(), MOVING, (), SETTINGS).answers == ()


@pytest.mark.parametrize("request_", [ASK.BUTTON_PRESSED, ASK.BUTTON_RELEASED])
def test_a_buttons_heartbeat_changes_nothing(request_: RequestKind) -> None:
    story = Story().nominal()
    assert story.tick(facts=MOVING, ask=request_) == Mode.NOMINAL
    assert story.answers == ((True, ""),)


def test_an_activation_is_denied_while_latched_or_while_the_cause_of_a_latch_is_present() -> None:
    story = Story()
    assert story.tick(PERSON, ask=ASK.ACTIVATE) == Mode.EMERGENCY_STOP
    assert story.answers == ((False, STILL_LATCHED),)
    assert story.tick(ask=ASK.ACTIVATE) == Mode.EMERGENCY_STOP
    assert story.answers == ((False, STILL_LATCHED),)
    fresh = Story()
    assert fresh.tick(JOINTS, ask=ASK.ACTIVATE) == Mode.INACTIVE, (
        "late joint states latch only an active gate"
    )
    assert fresh.answers == ((False, STILL_LATCHED),)


def test_who_is_active_may_be_activated_again_unless_it_is_stopping() -> None:
    story = Story().nominal()
    assert story.tick(facts=MOVING, ask=ASK.ACTIVATE) == Mode.NOMINAL
    assert story.answers == ((True, ""),)
    story.tick(facts=MOVING, ask=ASK.DEACTIVATE)
    story.tick(facts=MOVING, ask=ASK.ACTIVATE)
    assert story.answers == ((False, "still stopping"),)


@pytest.mark.parametrize(
    ("request_", "cause"),
    [(ASK.DEACTIVATE, Cause.DEACTIVATED), (ASK.SHUTDOWN, Cause.SHUTDOWN), (ASK.ABORT, Cause.PERSON)],
)
def test_who_leaves_holds_until_it_stands_and_says_why_whatever_else_comes(
    request_: RequestKind, cause: Cause
) -> None:
    story = Story().nominal()
    story.tick(LOST, facts=MOVING)
    story.tick(facts=MOVING, ask=request_)
    assert story.answers == ((True, ""),)
    for present in ((), (MISS,), (LATE,), (COLLISION,)):
        story.tick(*present, facts=replace(MOVING, plan_ready=True))
        assert story.state.trigger == Trigger(Mode.HOLD, cause)
    story.wait(9.0, facts=replace(MOVING, plan_ready=True))
    assert story.state.trigger == Trigger(Mode.HOLD, cause)
    story.tick(facts=READY)
    assert story.state.trigger == Trigger(Mode.INACTIVE, cause)
    assert story.state.held == frozenset()


def test_who_is_inactive_already_takes_the_newer_reason() -> None:
    story = Story()
    assert story.state.trigger == Trigger(Mode.INACTIVE, Cause.STARTUP)
    story.tick(ask=ASK.DEACTIVATE)
    assert story.answers == ((True, ""),)
    assert story.state.trigger == Trigger(Mode.INACTIVE, Cause.DEACTIVATED)
    story.tick(ask=ASK.SHUTDOWN)
    assert story.state.trigger == Trigger(Mode.INACTIVE, Cause.SHUTDOWN)


def test_a_reset_without_a_latch_is_for_a_standing_arm_and_changes_nothing() -> None:
    story = Story().nominal()
    story.tick(MISS, ask=ASK.RESET)
    assert story.answers == ((False, "nothing is stopped: the arm follows the policy"),)
    story.tick(MISS, facts=MOVING, ask=ASK.RESET)
    assert story.answers == ((False, "the arm has not come to rest yet"),)
    before = story.state
    story.tick(MISS, ask=ASK.RESET)
    assert story.answers == ((True, ""),)
    assert story.state.held == before.held
    story.tick(MISS, facts=replace(MOVING, lost=True), ask=ASK.RESET)
    assert story.answers == ((True, ""),), "only a person can take it up"
    button = Trigger(Mode.EMERGENCY_STOP, Cause.BUTTON)
    story.tick(MISS, button, ask=ASK.RESET)
    assert story.answers == ((False, "the cause still stands: button"),), "it came with the request"


def test_a_reset_names_every_cause_that_stands() -> None:
    story = Story().nominal()
    button = Trigger(Mode.EMERGENCY_STOP, Cause.BUTTON)
    story.tick(JOINTS, button, facts=MOVING)
    story.tick(JOINTS, button, LATE, facts=MOVING, ask=ASK.RESET)
    assert story.answers == ((False, "the cause still stands: button, joint_state_late"),)
    story.tick(LATE, facts=MOVING, ask=ASK.RESET)
    assert story.answers == ((False, "the arm has not come to rest yet"),)
    story.tick(LATE, ask=ASK.RESET)
    assert story.answers == ((True, ""),)


def test_a_hold_whose_causes_are_gone_gives_way_to_what_waits_for_a_plan_or_a_person_itself() -> None:
    for below in (Trigger(Mode.REPLAN, Cause.PLAN_REFUSED), Trigger(Mode.ASSIST, Cause.STALL)):
        story = Story().nominal()
        story.tick(LATE, below)
        assert story.wait(0.48) == Mode.HOLD
        assert story.wait(0.04, facts=MOVING) == Mode.HOLD, "in motion"
        assert story.wait(0.02) == below.mode
        story = Story().nominal()
        story.tick(LATE)
        assert story.wait(9.0) == Mode.HOLD, "nothing but the hold waits for a plan here"


def test_after_a_reset_only_the_wait_for_a_newer_plan_is_left() -> None:
    story = Story().nominal()
    story.tick(MISS, SLOW, LATE, JOINTS, facts=MOVING)
    assert story.state.trigger == JOINTS
    story.tick(ask=ASK.RESET)
    assert story.state.trigger == Trigger(Mode.HOLD, Cause.AFTER_STOP)
    assert story.wait(0.48, facts=READY) == Mode.HOLD
    assert story.wait(0.02, facts=READY) == Mode.NOMINAL


def test_a_stop_while_inactive_is_latched_and_reset_to_where_it_was() -> None:
    story = Story()
    story.tick(ask=ASK.DEACTIVATE)
    story.tick(ask=ASK.EMERGENCY_STOP)
    assert story.answers == ((True, ""),)
    assert story.state.trigger == PERSON
    story.tick(ask=ASK.RESET)
    assert story.answers == ((True, ""),)
    assert story.state.trigger == Trigger(Mode.INACTIVE, Cause.DEACTIVATED)


def test_a_stop_while_leaving_is_latched_and_the_leaving_goes_on_after_the_reset() -> None:
    story = Story().nominal()
    story.tick(facts=MOVING, ask=ASK.SHUTDOWN)
    story.tick(facts=MOVING, ask=ASK.EMERGENCY_STOP)
    assert story.state.trigger == PERSON
    story.tick()
    assert story.state.trigger == PERSON
    story.tick(ask=ASK.RESET)
    assert story.state.trigger == Trigger(Mode.INACTIVE, Cause.SHUTDOWN)
    story = Story().nominal()
    story.tick(facts=MOVING, ask=ASK.EMERGENCY_STOP)
    result = step(story.state, STANDING, (ASK.SHUTDOWN, ASK.RESET), SETTINGS)
    assert result.answers == ((True, ""), (True, ""))
    assert result.state.trigger == Trigger(Mode.INACTIVE, Cause.SHUTDOWN)


# Attempts


ONE = replace(SETTINGS, replan_attempts=1, protective_stops=1)
TWO = replace(SETTINGS, replan_attempts=2, protective_stops=2)


def test_reasons_for_one_replan_count_as_one_attempt() -> None:
    story = Story(ONE).nominal()
    assert story.tick(MISS, DROP, facts=MOVING) == Mode.REPLAN
    later = Story(ONE).nominal()
    assert later.tick(MISS, facts=MOVING) == Mode.REPLAN
    for _ in range(3):
        assert later.tick(MISS, DROP, facts=MOVING) == Mode.REPLAN
    assert later.tick(facts=READY) == Mode.NOMINAL
    assert later.tick(DROP, facts=MOVING) == Mode.ASSIST


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_as_many_replans_as_allowed_and_then_a_person(attempts: int) -> None:
    story = Story(replace(SETTINGS, replan_attempts=attempts)).nominal()
    for _ in range(attempts):
        assert story.tick(MISS, facts=MOVING) == Mode.REPLAN
        assert story.tick(facts=replace(MOVING, plan_ready=True)) == Mode.REPLAN, "left in motion"
        assert story.tick(facts=READY) == Mode.NOMINAL
    story.tick(MISS, facts=MOVING)
    assert story.state.held == {Trigger(Mode.ASSIST, Cause.REPLANS_EXHAUSTED)}


@pytest.mark.parametrize(
    ("present", "ends", "mode"),
    [(MISS, READY, Mode.NOMINAL), (LATE, READY, Mode.NOMINAL), (COLLISION, STANDING, Mode.REPLAN)],
)
def test_what_is_gone_is_cleared_in_the_tick_in_which_something_else_ends(
    present: Trigger, ends: Facts, mode: Mode
) -> None:
    story = Story(replace(TWO, hold_off_s=0.0)).nominal()
    story.tick(present, SLOW, facts=MOVING)
    assert story.tick(facts=ends) == mode
    assert SLOW not in story.state.held


@pytest.mark.parametrize("stops", [0, 1, 2])
def test_as_many_protective_stops_as_allowed_and_then_a_person(stops: int) -> None:
    story = Story(replace(SETTINGS, protective_stops=stops, replan_attempts=9)).nominal()
    for _ in range(stops):
        for _ in range(3):
            assert story.tick(COLLISION, facts=MOVING) == Mode.PROTECTIVE_STOP
        story.tick()
        assert story.state.trigger == Trigger(Mode.REPLAN, Cause.AFTER_STOP)
        assert story.tick(facts=READY) == Mode.NOMINAL
    assert story.tick(COLLISION, facts=MOVING) == Mode.PROTECTIVE_STOP
    story.tick()
    assert story.state.trigger == Trigger(Mode.ASSIST, Cause.FORESEEN_COLLISION)
    assert story.tick(facts=READY) == Mode.ASSIST


def test_a_replan_after_a_stop_is_an_attempt_unless_there_was_a_reason_for_one_already() -> None:
    story = Story(replace(ONE, protective_stops=9)).nominal()
    for mode in (Mode.REPLAN, Mode.ASSIST):
        story.tick(COLLISION, facts=MOVING)
        assert story.tick() == mode
        story.tick(facts=READY)
    both = Story(replace(ONE, protective_stops=9)).nominal()
    both.tick(COLLISION, MISS, facts=MOVING)
    both.tick()
    assert both.state.trigger == MISS


def test_attempts_are_renewed_by_exactly_the_stretch_without_intervention() -> None:
    def after(*stretches: tuple[float, tuple[Trigger, ...]]) -> Mode:
        story = Story(ONE).nominal()
        story.tick(MISS, facts=replace(MOVING, progress_s=1.0))
        story.tick(facts=READY)
        for progress_s, present in stretches:
            story.tick(*present, facts=Facts(standing=False, progress_s=progress_s))
            story.wait(1.0, facts=READY)
        return story.tick(MISS, facts=MOVING)

    assert after((0.5, ()), (0.5, ())) == Mode.REPLAN
    assert after((0.5, ()), (0.5, (SLOW,))) == Mode.REPLAN
    assert after((0.5, ()), (0.49, ())) == Mode.ASSIST
    assert after((0.5, ()), (0.0, (LATE,)), (0.5, ())) == Mode.ASSIST, "an intervention lay between"
    assert after((0.5, ()), (9.0, (LATE,)), (0.5, ())) == Mode.ASSIST, "path time of a hold counted"


def test_a_replan_that_is_over_within_a_tick_counts_and_begins_the_stretch_anew() -> None:
    story = Story(ONE).nominal()
    story.tick(facts=replace(MOVING, progress_s=9.0))
    assert story.tick(MISS, facts=READY) == Mode.NOMINAL
    assert story.state.replans == 1
    story.tick(facts=MOVING)
    assert story.tick(MISS, facts=READY) == Mode.ASSIST


def test_without_a_hold_off_time_a_hold_still_lasts_while_its_cause_is_present() -> None:
    story = Story(replace(SETTINGS, hold_off_s=0.0)).nominal()
    assert story.tick(LATE, facts=MOVING) == Mode.HOLD
    assert story.tick(LATE, facts=READY) == Mode.HOLD, "held by nothing while its cause is present"
    assert story.tick(facts=READY) == Mode.NOMINAL


def test_protective_stops_are_renewed_too() -> None:
    story = Story(replace(ONE, replan_attempts=9)).nominal()
    for _ in range(3):
        story.tick(COLLISION, facts=MOVING)
        assert story.tick() == Mode.REPLAN
        story.tick(facts=READY)
        story.tick(facts=replace(MOVING, progress_s=1.0))


def test_waiting_for_a_plan_uses_up_an_attempt_each_time_and_counts_from_the_standstill() -> None:
    story = Story(TWO).nominal()
    story.tick(MISS, facts=MOVING)
    assert story.wait(5.0, facts=MOVING) == Mode.REPLAN
    for _ in range(3):
        assert story.wait(0.5) == Mode.REPLAN
    assert story.wait(0.5) == Mode.ASSIST
    assert story.state.trigger.cause == Cause.REPLANS_EXHAUSTED
    moved = Story(TWO).nominal()
    moved.tick(MISS, facts=MOVING)
    for _ in range(9):
        assert moved.wait(0.75) == Mode.REPLAN
        assert moved.wait(0.75, facts=MOVING) == Mode.REPLAN


def test_holds_that_come_between_do_not_begin_the_wait_for_a_plan_anew() -> None:
    story = Story().nominal()
    story.tick(MISS)
    for _ in range(2):
        assert story.wait(0.4) == Mode.REPLAN
        assert story.tick(LATE) == Mode.HOLD
        assert story.wait(SETTINGS.hold_off_s - 0.01) == Mode.HOLD
        assert story.tick() == Mode.REPLAN
    assert story.wait(0.25) == Mode.ASSIST
    assert story.state.trigger.cause == Cause.REPLANS_EXHAUSTED
    fresh = Story(TWO).nominal()
    fresh.tick(MISS)
    fresh.wait(0.75)
    fresh.tick(facts=READY)
    fresh.tick(MISS)
    assert fresh.wait(0.75) == Mode.REPLAN, "the wait of the replan before counted"


# Persons


def test_an_unanswered_call_stops_at_exactly_its_time_and_each_call_has_its_own() -> None:
    story = Story(replace(SETTINGS, assist_timeout_s=3.0)).nominal()
    story.tick(LOST, facts=MOVING)
    story.wait(2.0)
    story.tick(ask=ASK.RESUME)
    assert story.wait(9.0, facts=READY) == Mode.NOMINAL
    story.wait(1.0, LOST, facts=MOVING)
    assert story.wait(1.5) == Mode.ASSIST
    story.wait(0.5)
    assert story.state.trigger == Trigger(Mode.EMERGENCY_STOP, Cause.REPLANS_EXHAUSTED)
    short = Story(replace(SETTINGS, assist_timeout_s=0.5)).nominal()
    short.tick(LOST, facts=MOVING)
    assert short.wait(0.5) == Mode.EMERGENCY_STOP
    never = Story(replace(SETTINGS, assist_timeout_s=0.0)).nominal()
    never.tick(LOST, facts=MOVING)
    assert never.wait(1e9) == Mode.ASSIST


def test_a_person_who_resumes_gives_all_attempts_anew_and_one_who_retries_takes_the_first() -> None:
    for answer, cause, next_miss in (
        (ASK.RESUME, Trigger(Mode.HOLD, Cause.AFTER_STOP), Mode.REPLAN),
        (ASK.RETRY, Trigger(Mode.REPLAN, Cause.PERSON), Mode.ASSIST),
    ):
        story = Story(ONE).nominal()
        story.tick(COLLISION, MISS, facts=MOVING)
        story.tick()
        story.tick(LOST, MISS)
        assert story.tick(ask=answer) in (Mode.HOLD, Mode.REPLAN)
        assert story.answers == ((True, ""),)
        assert story.state.trigger == cause
        assert story.wait(0.5, facts=READY) == Mode.NOMINAL
        assert story.tick(COLLISION, facts=MOVING) == Mode.PROTECTIVE_STOP
        story.tick(MISS)
        assert story.state.mode == next_miss, "stops and attempts after the answer"


@pytest.mark.parametrize(
    ("present", "answer", "mode"),
    [(LOST, ASK.RETRY, Mode.REPLAN), (LOST, ASK.RESUME, Mode.HOLD), (JOINTS, ASK.RESET, Mode.HOLD)],
)
def test_a_plan_that_was_at_hand_before_an_answer_does_not_end_the_wait_for_a_newer_one(
    present: Trigger, answer: RequestKind, mode: Mode
) -> None:
    story = Story(replace(SETTINGS, hold_off_s=0.0)).nominal()
    story.tick(present, facts=MOVING)
    assert story.tick(facts=READY, ask=answer) == mode
    assert story.answers == ((True, ""),)
    assert story.tick(facts=READY) == Mode.NOMINAL
    fresh = Story(replace(SETTINGS, hold_off_s=0.0))
    assert fresh.tick(facts=READY, ask=ASK.ACTIVATE) == Mode.HOLD


def test_a_request_that_is_denied_or_does_not_move_the_arm_leaves_the_plan_at_hand() -> None:
    for request in (ASK.RESUME, ASK.RETRY, ASK.BUTTON_RELEASED):
        story = Story(replace(SETTINGS, hold_off_s=0.0)).nominal()
        story.tick(LATE, facts=MOVING)
        assert story.tick(facts=READY, ask=request) == Mode.NOMINAL


def test_the_hold_after_an_answer_lasts_for_the_hold_off_however_long_the_call_was() -> None:
    story = Story().nominal()
    story.tick(LOST, facts=MOVING)
    story.wait(99.0)
    story.tick(ask=ASK.RESUME)
    assert story.wait(0.45, facts=READY) == Mode.HOLD
    assert story.wait(0.1, facts=READY) == Mode.NOMINAL


def test_what_a_person_does_not_answer_stays_and_reasons_to_replan_are_answered() -> None:
    story = Story(TWO).nominal()
    story.tick(LOST, CONTACT, MISS, SLOW, facts=MOVING)
    assert story.state.trigger == CONTACT
    story.tick(SLOW, LATE)
    assert story.state.trigger == LATE
    story.tick(SLOW, ask=ASK.RESUME)
    assert story.answers == ((True, ""),)
    assert story.state.held == {LATE, SLOW, Trigger(Mode.HOLD, Cause.AFTER_STOP)}
    assert story.wait(0.48, SLOW, facts=READY) == Mode.HOLD, "the hold-off did not begin with the answer"
    assert story.wait(0.02, SLOW, facts=READY) == Mode.SLOW_DOWN


@pytest.mark.parametrize("answer", [ASK.RESUME, ASK.RETRY, ASK.ABORT])
def test_an_answer_is_denied_while_a_contact_stands_and_only_for_it(answer: RequestKind) -> None:
    story = Story().nominal()
    story.tick(CONTACT, LOST, facts=MOVING)
    story.tick(CONTACT, LOST, ask=answer)
    assert story.answers == ((False, "the cause still stands: contact"),)
    assert story.state.mode == Mode.ASSIST
    if answer is not ASK.ABORT:
        story.tick(LOST, facts=MOVING, ask=answer)
        assert story.answers == ((False, "the arm has not come to rest yet"),)
    story.tick(LOST, facts=replace(MOVING, lost=answer is not ASK.ABORT), ask=answer)
    assert story.answers == ((True, ""),), "out of the training data needs no more than the answer"


@pytest.mark.parametrize("answer", [ASK.RESUME, ASK.RETRY])
def test_an_answer_takes_up_an_arm_that_stands(answer: RequestKind) -> None:
    story = Story().nominal()
    story.tick(LOST, facts=MOVING)
    story.tick(LOST, ask=answer)
    assert story.answers == ((True, ""),)


def test_the_hold_off_is_that_of_the_last_cause_and_ends_to_the_tick() -> None:
    story = Story().nominal()
    story.tick(LATE, facts=MOVING)
    assert story.wait(0.25, facts=READY) == Mode.HOLD
    assert story.wait(0.25, LATE, facts=READY) == Mode.HOLD
    assert story.wait(0.25, facts=READY) == Mode.HOLD
    assert story.wait(0.25, facts=replace(MOVING, plan_ready=True)) == Mode.HOLD, "left in motion"
    assert story.tick(facts=READY) == Mode.NOMINAL
    exact = Story().nominal()
    exact.tick(LATE, facts=MOVING)
    assert exact.wait(0.25, facts=READY) == Mode.HOLD
    assert exact.wait(0.25, facts=READY) == Mode.NOMINAL
