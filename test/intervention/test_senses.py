"""What the gate knows: what it accepts, what it calls silent, and the triggers that follow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from gate_world import ARM, HOME, prediction
from told import Told

from salus_ros.intervention.inputs import Fault, RequestKind
from salus_ros.intervention.report import InputReport, LimitReport
from salus_ros.intervention.rules import Trigger
from salus_ros.types import Cause, Floats, Mode

NOTHING = np.full(7, np.nan)
PRESSED, RELEASED = RequestKind.BUTTON_PRESSED, RequestKind.BUTTON_RELEASED
ROBOT, POLICY, PREDICTION = "joint states", "policy output", "failure prediction"
BUTTON = "emergency stop button"
LATE = {
    ROBOT: Trigger(Mode.EMERGENCY_STOP, Cause.JOINT_STATE_LATE),
    POLICY: Trigger(Mode.HOLD, Cause.POLICY_LATE),
    PREDICTION: Trigger(Mode.HOLD, Cause.PREDICTION_LATE),
    BUTTON: Trigger(Mode.EMERGENCY_STOP, Cause.BUTTON_LOST),
}
SLOW = Trigger(Mode.SLOW_DOWN, Cause.PREDICTION_LATE)


# Silence


def test_each_silence_is_present_after_its_own_deadline() -> None:
    told = Told(button=True).armed()
    armed_s = told.now_s
    late: set[Trigger] = set()
    for deadline_s, triggers in (
        (0.05, {LATE[ROBOT]}),
        (0.15, {SLOW}),
        (0.3, {LATE[POLICY], LATE[PREDICTION]}),
        (0.5, {LATE[BUTTON]}),
    ):
        assert told.passes(armed_s + deadline_s - told.now_s) == late
        late |= triggers
        assert told.passes(0.01) == late
        assert told.senses.details == {}


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, {LATE[ROBOT], LATE[POLICY], LATE[PREDICTION], SLOW}),
        ({"monitor": "absent"}, {LATE[ROBOT], LATE[POLICY]}),
        ({"button": True}, {*LATE.values(), SLOW}),
    ],
)
def test_what_never_came_is_late_if_it_is_required(settings: dict, missing: set) -> None:
    told = Told(**settings)
    told.tick()
    told.senses.arm(told.now_s)
    assert told.passes(1.0) == missing


def test_nothing_is_late_before_it_is_armed_and_after_it_is_disarmed() -> None:
    told = Told()
    assert told.passes(1.0) == set()
    told.senses.arm(told.now_s)
    assert told.passes(1.0) != set()
    told.senses.disarm()
    assert told.passes(1.0) == set()
    for beyond_rad in (0.0, 1.0):
        told.tick(0.01, robot=told.robot(HOME + beyond_rad, joint_effort_nm=press(900.0)))
        assert told.present() == set(), "something that only matters to a moving arm"


def test_every_input_is_reported_with_its_silence_its_deadline_and_whether_it_is_required() -> None:
    told = Told()
    told.tick(0.01, robot=told.robot())
    told.passes(0.04)
    silences = [report.silence_s for report in told.senses.inputs(told.now_s)]
    assert silences == [pytest.approx(0.04), math.inf, math.inf, math.inf]

    def required(**settings: object) -> list[InputReport]:
        return [replace(one, silence_s=0.0) for one in Told(**settings).senses.inputs(0.0)]

    assert required() == [
        InputReport(ROBOT, 0.0, 0.05, True),
        InputReport(POLICY, 0.0, 0.3, True),
        InputReport(PREDICTION, 0.0, 0.3, True),
        InputReport(BUTTON, 0.0, 0.5, False),
    ]
    assert [one.required for one in required(monitor="absent", button=True)] == [True, True, False, True]


# What stands against an activation


@pytest.mark.parametrize(
    ("settings", "heard", "why"),
    [
        ({}, (), "not fresh: joint states, policy output, failure prediction"),
        ({"monitor": "absent"}, (), "not fresh: joint states, policy output"),
        (
            {"button": True},
            (),
            "not fresh: joint states, policy output, failure prediction, emergency stop button",
        ),
        ({}, ("robot", "plan"), "not fresh: failure prediction"),
        ({}, ("robot", "prediction"), "not fresh: policy output"),
        ({}, ("plan", "prediction"), "not fresh: joint states"),
        ({"button": True}, ("robot", "plan", "prediction"), "not fresh: emergency stop button"),
        ({}, ("robot", "plan", "prediction"), ""),
        ({"monitor": "absent"}, ("robot", "plan"), ""),
    ],
)
def test_an_activation_is_told_which_inputs_are_not_fresh(settings: dict, heard: tuple, why: str) -> None:
    told = Told(**settings)
    inputs = {"robot": told.robot(), "plan": told.plan(), "prediction": told.foreseen()}
    told.tick(0.01, **{name: inputs[name] for name in heard})
    assert told.senses.missing(told.now_s) == why


def test_inputs_are_fresh_up_to_their_deadlines() -> None:
    told = Told().all_fresh()
    told.passes(0.05)
    assert told.senses.missing(told.now_s) == ""
    told.tick()
    assert told.senses.missing(told.now_s) == "not fresh: joint states"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"joint_velocity_rad_s": np.full(7, 0.1)}, ""),
        ({"joint_velocity_rad_s": NOTHING}, ""),
        ({"joint_velocity_rad_s": np.array([0, 0, 0, 0, 0, 0, 0.11])}, "the arm is moving"),
        ({"joint_velocity_rad_s": np.array([-0.11, 0, 0, 0, 0, 0, 0])}, "the arm is moving"),
    ],
)
def test_an_arm_that_moves_is_not_activated(changes: dict, why: str) -> None:
    told = Told(standing_rad_s=0.02)
    told.tick(0.01, robot=told.robot(**changes), plan=told.plan(), prediction=told.foreseen())
    assert told.senses.missing(told.now_s) == why


@pytest.mark.parametrize("joint", [0, 3])
def test_an_arm_outside_its_position_limits_is_not_activated_but_a_little_outside_it_is(joint: int) -> None:
    told = Told(path_tolerance_rad=0.03125)
    for beyond_rad, why in ((0.031, ""), (0.032, f"joint {joint + 1} is outside its position limits")):
        position = HOME.copy()
        position[joint] = ARM.position_upper_rad[joint] + beyond_rad
        told.tick(0.01, robot=told.robot(position), plan=told.plan(), prediction=told.foreseen())
        assert told.senses.missing(told.now_s) == why


def test_without_a_sound_clock_nothing_is_activated() -> None:
    told = Told().all_fresh()
    told.ros_s -= 5.0
    told.tick(0.01, robot=told.robot(), plan=told.plan(), prediction=told.foreseen())
    assert told.senses.missing(told.now_s) == "the ROS clock is not sound"


def test_an_activation_waits_for_joint_states_from_after_the_first_of_its_requests() -> None:
    told = Told()
    ask, why = RequestKind.ACTIVATE, "not fresh: joint states newer than the request"

    def asks(*requests: RequestKind, **inputs: object) -> str:
        told.tick(0.01, *requests, **inputs)
        return told.senses.missing(told.now_s)

    heard = {"robot": told.robot(), "plan": told.plan(), "prediction": told.foreseen()}
    assert asks(ask, **heard) == why
    assert asks(ask) == why
    newer = told.robot(age_s=-0.03)
    assert asks(ask, robot=newer) == "", "the request that was repeated counted as a new one"
    assert asks(RequestKind.BUTTON_RELEASED) == ""
    assert asks(ask) == "", "a heartbeat between two of its requests made it a new one"
    assert asks() == "", "nobody asks"
    assert asks(ask, robot=newer) == why, "stamped ahead of the clock, but known when it was asked for"
    assert asks(ask, robot=told.robot(age_s=-0.04)) == ""
    assert asks(RequestKind.BUTTON_RELEASED, RequestKind.EMERGENCY_STOP) == "", (
        "somebody asks for another thing"
    )
    assert asks(ask) == why


def test_after_a_clock_jump_an_activation_asked_for_before_it_is_asked_for_anew() -> None:
    told = Told().all_fresh()
    told.tick(0.01, RequestKind.ACTIVATE)
    told.ros_s -= 500.0
    told.tick(0.01, RequestKind.ACTIVATE, robot=told.robot())
    inputs = {"robot": told.robot(), "plan": told.plan(), "prediction": told.foreseen()}
    told.tick(0.01, RequestKind.ACTIVATE, **inputs)
    assert told.senses.missing(told.now_s) == ""


# Standing


def test_an_arm_stands_when_every_joint_is_measured_to_be_as_slow_as_allowed() -> None:
    told = Told(standing_rad_s=0.125)
    assert not told.senses.still
    assert told.senses.measured is None
    for velocity, still in (
        (np.full(7, -0.125), True),
        (np.where(np.arange(7) == 6, 0.126, 0.0), False),
        (np.where(np.arange(7) == 6, np.nan, 0.0), False),
    ):
        told.tick(0.01, robot=told.robot(joint_velocity_rad_s=velocity))
        assert told.senses.still is still
    assert told.senses.measured == pytest.approx(HOME)


def test_joint_states_are_silent_after_their_deadline_whether_armed_or_not() -> None:
    told = Told()
    assert told.senses.robot_silent(told.now_s)
    told.all_fresh()
    told.passes(0.05)
    assert not told.senses.robot_silent(told.now_s)
    told.tick()
    assert told.senses.robot_silent(told.now_s)


# Refusals


@pytest.mark.parametrize(
    ("name", "age_s", "why"),
    [
        ("robot", 0.3, "joint states: 0.310 s old, at most 0.2 s are accepted"),
        ("robot", -0.2, "joint states: stamped 0.190 s ahead of the clock"),
        ("plan", 0.7, "policy output: 0.710 s old, at most 0.6 s are accepted"),
        ("plan", -0.2, "policy output: stamped 0.190 s ahead of the clock"),
        ("prediction", 0.6, "failure prediction: 0.610 s old, at most 0.5 s are accepted"),
        ("prediction", -0.2, "failure prediction: stamped 0.190 s ahead of the clock"),
    ],
)
def test_what_is_too_old_or_from_the_future_is_refused_and_stays_silent(
    name: str, age_s: float, why: str
) -> None:
    told = Told()
    message = {"robot": told.robot, "plan": told.plan, "prediction": told.foreseen}[name](age_s=age_s)
    assert told.tick(0.01, **{name: message}) == (why,)
    assert told.senses.refused_count == 1
    assert told.senses.missing(told.now_s) == "not fresh: joint states, policy output, failure prediction"
    assert told.senses.robot is None and told.senses.plan is None


def test_what_is_wrong_with_each_input_of_a_tick_is_told_in_turn() -> None:
    told = Told()
    refused = told.tick(
        0.01,
        robot=told.robot(NOTHING),
        plan=told.plan(points=np.tile(NOTHING, (16, 1))),
        prediction=replace(told.foreseen(), risk=2.0),
        faults=(
            Fault(Cause.PREDICTION_INVALID, "unreadable", refused=True),
            Fault(Cause.SECOND_COMMAND_PUBLISHER, "/rogue"),
            Fault(Cause.JOINT_STATE_INVALID, refused=True),
        ),
    )
    assert refused == (
        "joint states: positions are not finite",
        "policy output: values are not finite",
        "prediction: the risk is not within 0 and 1",
        "unreadable",
        "joint_state_invalid",
    )
    assert told.senses.refused_count == 5
    told.tick(0.01, robot=told.robot(NOTHING))
    assert told.senses.refused_count == 6
    told.senses.renew_counters()
    assert (told.senses.refused_count, told.senses.overrun_count) == (0, 0)


def test_messages_out_of_order_are_refused() -> None:
    told = Told().all_fresh()
    assert told.tick(0.01, robot=told.robot(age_s=0.001)) == ("joint states: older than the ones before",)
    assert told.tick(0.01, plan=told.plan(age_s=0.02)) == ("policy output: not newer than the one before",)
    assert told.tick(0.01, prediction=told.foreseen(age_s=0.05)) == (
        "failure prediction: older than the one before",
    )


def test_a_repeated_message_says_nothing_new() -> None:
    told = Told()
    same = {"robot": told.robot(), "plan": told.plan(), "prediction": told.foreseen()}
    told.tick(0.01, **same)
    told.senses.arm(told.now_s)
    for _ in range(6):
        assert told.tick(0.01, **same) == ("policy output: not newer than the one before",)
    assert told.present() == {LATE[ROBOT], Trigger(Mode.HOLD, Cause.POLICY_INVALID)}
    while told.now_s < 100.32:
        assert not told.tick(0.01, prediction=same["prediction"])
    assert LATE[PREDICTION] in told.present()


def test_while_the_clock_stands_a_repeated_joint_state_counts_as_heard() -> None:
    told = Told().all_fresh()
    told.senses.arm(told.now_s)
    kept = told.senses.robot
    for _ in range(10):
        told.ros_s -= 0.01
        told.tick(0.01, robot=kept)
    assert LATE[ROBOT] not in told.present()


def test_newer_joint_states_count_as_heard_while_the_clock_goes_on() -> None:
    told = Told().armed()
    for _ in range(10):
        told.tick(0.01, robot=told.robot())
    assert LATE[ROBOT] not in told.present()
    assert told.senses.robot is not None
    assert told.senses.robot.stamp_s == pytest.approx(told.ros_s)


def test_newer_predictions_and_plans_count_as_heard() -> None:
    told = Told().armed()
    for _ in range(40):
        told.tick(0.01, plan=told.plan(), prediction=told.foreseen())
    assert told.present() == {LATE[ROBOT]}


def test_without_a_monitor_by_choice_predictions_are_neither_heard_nor_refused() -> None:
    told = Told(monitor="absent")
    assert told.tick(0.01, prediction=replace(told.foreseen(), risk=2.0)) == ()
    told.tick(0.01, prediction=prediction(told.ros_s, collision=1.0))
    assert told.senses.risk.verdict.triggers == set()


def test_with_a_monitor_its_predictions_are_weighed() -> None:
    told = Told()
    told.tick(0.01, prediction=prediction(told.ros_s, collision=1.0))
    assert Trigger(Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION) in told.senses.risk.verdict.triggers


def test_the_grace_of_a_foreseen_miss_counts_in_the_time_of_the_gate() -> None:
    told = Told(replan_grace_s=0.125, replan_persistence=1)
    told.senses.risk.reset(told.now_s)
    for step_s, acted_on in ((0.12, False), (0.01, True)):
        told.tick(step_s, prediction=prediction(told.ros_s, miss=1.0))
        found = told.senses.risk.verdict.triggers
        assert (Trigger(Mode.REPLAN, Cause.FORESEEN_MISS) in found) is acted_on, step_s


# Plans


def test_a_plan_is_kept_as_a_path_with_the_time_up_to_which_it_is_inside_the_limits() -> None:
    told = Told()
    points = np.tile(HOME, (16, 1))
    points[:, 6] = np.linspace(2.7, 3.1, 16)
    plan = told.plan(points=points)
    assert told.tick(0.01, plan=plan) == ()
    kept = told.senses.plan
    assert kept is not None
    assert kept.output is plan
    assert kept.path.at(np.array([0.25]))[0][0] == pytest.approx(points[4], abs=1e-3)
    assert 0.05 < kept.end_s < 0.5
    assert kept.path.end_s == 0.8


def test_a_plan_that_is_no_smooth_path_is_refused_with_its_reason() -> None:
    rough = HOME + 3.0 * (np.arange(16) % 2)[:, None]
    told = Told(path_tolerance_rad=1e-6)
    assert told.tick(0.01, plan=told.plan(points=rough)) == (
        "policy output: its corners are too sharp for a smooth path within 1e-06 rad",
    )
    assert told.senses.plan is None
    uneven = replace(
        told.plan(), chunk=replace(told.plan().chunk, time_from_start_s=np.cumsum(np.arange(1, 17)))
    )
    told = Told(plan_points_max=50)
    assert told.tick(0.01, plan=uneven) == (
        "policy output: its uneven steps need 69 points, expected at most 50",
    )
    many = Told(plan_points_max=15)
    assert many.tick(0.01, plan=many.plan()) == ("policy output: 16 points, expected 2 to 15",)


INVALID = Trigger(Mode.HOLD, Cause.POLICY_INVALID)


def test_plans_that_are_bad_in_a_row_hold_and_a_good_one_ends_the_row() -> None:
    told = Told(bad_plans_to_hold=2).armed()
    told.tick(0.01, plan=told.plan(points=np.tile(NOTHING, (16, 1))))
    assert told.present() == set()
    told.tick(0.01, plan=told.plan())
    told.tick(0.01, faults=(Fault(Cause.POLICY_INVALID, "unreadable", refused=True),))
    assert told.present() == set()
    told.tick(0.01, faults=(Fault(Cause.PREDICTION_INVALID, "unreadable", refused=True),))
    assert told.present() == set(), "another input's garbage counted"
    told.tick(0.01, plan=told.plan(points=np.tile(NOTHING, (16, 1))))
    assert told.present() == {INVALID}
    told.tick(0.01, plan=told.plan(points=np.tile(NOTHING, (16, 1))))
    assert INVALID in told.present()
    told.tick(0.01, plan=told.plan())
    assert INVALID not in told.present()


def test_unreadable_plans_in_a_row_hold_and_other_unreadable_messages_do_not() -> None:
    for cause, held in ((Cause.POLICY_INVALID, True), (Cause.PREDICTION_INVALID, False)):
        told = Told(bad_plans_to_hold=3).armed()
        for count in range(1, 4):
            told.tick(0.01, faults=(Fault(cause, "unreadable", refused=True),))
            assert (INVALID in told.present()) == (held and count == 3)


# What is felt


def test_an_impossible_jump_is_present_until_a_possible_joint_state_comes_and_says_what_jumped() -> None:
    told = Told().armed()
    told.tick(0.01, robot=told.robot())
    told.tick(0.01, robot=told.robot(HOME + 0.5 * (np.arange(7) == 2)))
    impossible = Trigger(Mode.EMERGENCY_STOP, Cause.JOINT_STATE_INVALID)
    assert told.present() == {impossible}
    assert told.senses.details == {Cause.JOINT_STATE_INVALID: "joint 3 moved 0.500 rad in 0.010 s"}
    told.tick()
    assert told.present() == {impossible}, "nothing has been heard since"
    told.tick(0.01, robot=told.robot(HOME + 0.5 * (np.arange(7) == 2)))
    assert told.present() == set()
    assert told.senses.details == {}


def test_the_first_joint_state_after_an_arming_is_compared_with_the_one_before_it() -> None:
    """A reset that came while joint states were wrong shows when they are right again."""
    told = Told().all_fresh()
    told.tick(0.01, robot=told.robot(HOME + 0.5))
    told.tick(0.01, robot=told.robot(HOME + 0.5))
    told.senses.arm(told.now_s)
    assert not told.senses.doubted
    told.tick(0.01, robot=told.robot())
    assert told.present() == {Trigger(Mode.EMERGENCY_STOP, Cause.JOINT_STATE_INVALID)}


def test_an_impossible_joint_state_is_nowhere_taken_for_the_place_of_the_arm() -> None:
    told = Told().armed()
    told.tick(0.01, robot=told.robot())
    told.senses.tracking.command(HOME)
    pushed = told.robot(HOME + 0.5, joint_effort_nm=np.full(7, 80.0))
    assert told.tick(0.01, robot=pushed) == (), "it is not unreadable"
    assert told.senses.doubted
    assert told.senses.measured == pytest.approx(HOME)
    assert told.senses.tracking.error_rad == 0.0
    assert told.senses.contact.force_n == 0.0
    assert not told.senses.robot_silent(told.now_s)
    told.tick(0.01, robot=told.robot(HOME + 0.5))
    assert told.senses.measured == pytest.approx(HOME + 0.5), "from there on they are possible"
    assert told.senses.doubted, "but a person must look first"


def test_joint_states_that_were_late_are_doubted_until_it_is_armed_again() -> None:
    told = Told().armed()
    told.passes(0.05)
    assert not told.senses.doubted
    told.passes(0.01)
    assert told.senses.doubted
    told.tick(0.01, robot=told.robot())
    told.present()
    assert told.senses.doubted
    told.senses.arm(told.now_s)
    assert not told.senses.doubted


def test_while_joint_states_are_impossible_no_activation_is_accepted() -> None:
    told = Told().all_fresh()
    assert told.senses.missing(told.now_s) == ""
    told.tick(0.01, robot=told.robot(HOME + 0.5))
    why = told.senses.missing(told.now_s)
    assert why == "joint states are impossible: joint 1 moved 0.500 rad in 0.010 s"


def test_an_arm_away_from_its_commands_slows_and_farther_away_holds_with_the_distance_told() -> None:
    told = Told(tracking_slow_rad=0.0625, tracking_hold_rad=0.125, tracking_persistence_s=0.02).armed()
    slow, hold = (Trigger(mode, Cause.TRACKING_ERROR) for mode in (Mode.SLOW_DOWN, Mode.HOLD))
    told.senses.tracking.command(HOME + 0.1)
    told.tick(0.01, robot=told.robot())
    assert told.present() == set(), "it must last"
    told.tick(0.01, robot=told.robot())
    told.tick(0.011, robot=told.robot())
    assert told.present() == {slow}
    assert told.senses.details == {Cause.TRACKING_ERROR: "0.100 rad off its recent commands"}
    told.senses.tracking.reset()
    told.senses.tracking.command(HOME + 0.2)
    for _ in range(4):
        told.tick(0.01, robot=told.robot())
        told.present()
    assert told.present() == {slow, hold}


def press(force_n: float) -> Floats:
    """(J,) the effort of a vertical force at the tool."""
    rows = np.concatenate([HOME[None], HOME + 1e-6 * np.eye(7)])
    place = ARM.forward(rows)[:, 2, 3]
    return (place[1:] - place[0]) / 1e-6 * force_n


@pytest.mark.parametrize(
    ("force_n", "ticks", "felt"),
    [
        (120.0, 8, set()),
        (120.0, 13, {Trigger(Mode.ASSIST, Cause.CONTACT)}),
        (320.0, 5, {Trigger(Mode.EMERGENCY_STOP, Cause.CONTACT_FORCE)}),
    ],
)
def test_contact_calls_a_person_and_a_hard_one_latches_with_the_force_told(
    force_n: float, ticks: int, felt: set
) -> None:
    told = Told(policy_deadline_s=9.0, prediction_slow_deadline_s=8.0, prediction_hold_deadline_s=9.0).armed()
    told.tick(0.01, robot=told.robot())
    for _ in range(ticks):
        told.tick(0.01, robot=told.robot(joint_effort_nm=press(force_n)))
    assert told.present() == felt
    force = told.senses.contact.force_n
    assert force == pytest.approx(force_n, rel=0.1)
    assert told.senses.details == {trigger.cause: f"about {force:.0f} N at the tool" for trigger in felt}


def test_force_and_distance_are_told_as_shares_of_their_limits_with_the_largest_since_the_activation() -> (
    None
):
    told = Told(contact_force_n=100.0, tracking_slow_rad=0.125).armed()
    told.senses.tracking.command(HOME)
    told.tick(0.01, robot=told.robot())
    told.tick(0.01, robot=told.robot(HOME - 0.03125, joint_effort_nm=press(80.0)))
    largest_n = told.senses.contact.force_n
    assert largest_n == pytest.approx(80.0, rel=0.1)
    told.tick(0.01, robot=told.robot(HOME + 0.015625))
    force, distance = told.senses.uses()
    now_n = told.senses.contact.force_n
    assert now_n < 0.2 * largest_n
    said = f"about {now_n:.0f} N at the tool, {largest_n:.0f} N at most since the activation"
    assert force == LimitReport("contact force", now_n / 100.0, said)
    said = "0.016 rad off recent commands, 0.031 rad at most since the activation"
    assert distance == LimitReport("distance from commands", pytest.approx(0.125), said)
    told.senses.arm(told.now_s)
    told.tick(0.01, robot=told.robot())
    force, distance = told.senses.uses()
    assert f"{largest_n:.0f} N at most" in force.detail, "a reset is no activation"
    assert "0.031 rad at most" in distance.detail
    told.senses.renew_counters()
    force, distance = told.senses.uses()
    assert (force.detail, distance.detail) == (
        "about 0 N at the tool, 0 N at most since the activation",
        "0.000 rad off recent commands, 0.000 rad at most since the activation",
    )


def test_an_arm_without_effort_is_told_to_feel_no_contact() -> None:
    told = Told().armed()
    told.tick(0.01, robot=told.robot(joint_effort_nm=np.full(7, np.nan)))
    force, _ = told.senses.uses()
    assert math.isnan(force.used)
    assert (force.name, force.detail) == ("contact force", "no joint has effort, so that no contact is felt")
    told.tick(0.01, robot=told.robot(joint_effort_nm=np.where(np.arange(7) == 3, 1.0, np.nan)))
    force, _ = told.senses.uses()
    assert force.used == 0.0, "one joint is enough"


def test_arming_forgets_what_was_felt_foreseen_and_wrong_before() -> None:
    told = Told(bad_plans_to_hold=1, overruns_to_hold=1).armed()
    told.senses.tracking.command(HOME + 1.0)
    told.tick(0.01, robot=told.robot())
    for _ in range(20):
        told.tick(
            0.025,
            robot=told.robot(HOME + 0.5, joint_effort_nm=press(800.0), age_s=-0.02),
            plan=told.plan(points=np.tile(NOTHING, (16, 1))),
            prediction=prediction(told.ros_s, collision=1.0),
        )
        told.present()
    assert {trigger.cause for trigger in told.present()} == {
        *(Cause.TRACKING_ERROR, Cause.CONTACT, Cause.CONTACT_FORCE),
        *(Cause.POLICY_INVALID, Cause.POLICY_LATE, Cause.GATE_OVERRUN),
    }
    told.senses.arm(told.now_s)
    assert told.present() == set()
    assert told.senses.risk.verdict.triggers == set()
    assert told.tick(0.01, robot=told.robot(HOME + 0.5, joint_effort_nm=press(800.0))) == ()
    assert told.present() == set()


# Faults and the button


@pytest.mark.parametrize("armed", [False, True])
@pytest.mark.parametrize(
    ("fault", "trigger", "details"),
    [
        (
            Fault(Cause.SECOND_POLICY_PUBLISHER, "/rogue"),
            Trigger(Mode.HOLD, Cause.SECOND_POLICY_PUBLISHER),
            {Cause.SECOND_POLICY_PUBLISHER: "/rogue"},
        ),
        (
            Fault(Cause.SECOND_COMMAND_PUBLISHER),
            Trigger(Mode.EMERGENCY_STOP, Cause.SECOND_COMMAND_PUBLISHER),
            {},
        ),
        (
            Fault(Cause.CONTACT, "no fault that is known"),
            Trigger(Mode.EMERGENCY_STOP, Cause.EXCEPTION),
            {Cause.EXCEPTION: "no fault that is known"},
        ),
    ],
)
def test_a_fault_from_outside_is_present_while_it_stands_and_an_unknown_one_is_an_error(
    armed: bool, fault: Fault, trigger: Trigger, details: dict
) -> None:
    told = Told()
    if armed:
        told.armed()
    assert told.present(fault) == {trigger}
    assert told.senses.details == details
    assert told.present() == set()
    assert told.senses.details == {}


def test_an_unreadable_message_is_no_standing_fault() -> None:
    assert Told().armed().present(Fault(Cause.POLICY_INVALID, "unreadable", refused=True)) == set()


def test_a_button_is_present_while_it_is_pressed_armed_or_not() -> None:
    told = Told()
    pressed = Trigger(Mode.EMERGENCY_STOP, Cause.BUTTON)
    for _ in range(2):
        told.tick(0.01, PRESSED)
        assert told.present() == {pressed}
        told.tick(0.01, RequestKind.RESET)
        assert told.present() == {pressed}, "still pressed"
        told.tick(0.01, PRESSED, RELEASED)
        assert told.present() == set()
        told.armed()


def test_a_pressed_button_is_heard_and_what_else_is_asked_for_is_not_the_buttons() -> None:
    told = Told(button=True).armed()
    for _ in range(4):
        told.tick(0.2, PRESSED)
        assert LATE[BUTTON] not in told.present()
    for _ in range(3):
        told.tick(0.2, RequestKind.RESET)
    assert LATE[BUTTON] in told.present()


# Time


def test_after_a_clock_jump_stamps_from_before_it_say_nothing_and_the_plan_is_forgotten() -> None:
    told = Told().armed()
    told.tick(0.01, robot=told.robot())
    told.senses.tracking.command(HOME + 0.5)
    told.ros_s -= 500.0
    far = HOME + 0.5
    refused = told.tick(0.01, robot=told.robot(far), plan=told.plan(), prediction=told.foreseen())
    assert refused == ()
    assert told.present() == {Trigger(Mode.HOLD, Cause.TIME_UNSOUND)}
    assert told.senses.tracking.error_rad == 0.0
    told.ros_s -= 500.0
    told.tick()
    assert told.senses.plan is None


def test_time_is_unsound_without_a_clock_and_sound_again_with_one() -> None:
    told = Told().armed()
    kept, told.ros_s = told.ros_s, math.nan
    told.tick()
    assert told.present() == {Trigger(Mode.HOLD, Cause.TIME_UNSOUND)}
    told.ros_s = kept
    told.tick()
    assert told.present() == set()


OVERRUN = Trigger(Mode.HOLD, Cause.GATE_OVERRUN)


def quick() -> Told:
    """Periods of a sixty-fourth of a second, missed from two of them on; silence is no matter."""
    long_s = {
        f"{name}_deadline_s": 99.0
        for name in ("joint_state", "policy", "prediction_slow", "prediction_hold", "button")
    }
    told = Told(period_s=1 / 64, overrun_factor=2.0, overruns_to_hold=3, clock_stall_s=99.0, **long_s)
    told.now_s = 64.0
    told.tick(0.0)
    told.senses.arm(told.now_s)
    return told


@pytest.mark.parametrize(
    ("periods", "counted"),
    [((1, 1, 1), 0), ((1.984375, 1, 1), 0), ((2, 1, 2), 2), ((4,), 2), ((3.984375,), 1), ((6,), 3)],
)
def test_a_tick_later_than_allowed_missed_its_period_and_a_multiple_of_it_as_many(
    periods: tuple, counted: int
) -> None:
    told = quick()
    for period in periods:
        told.tick(period / 64)
    assert told.senses.overrun_count == counted


@pytest.mark.parametrize(
    ("periods", "held"),
    [
        ((2, 2), False),
        ((2, 2, 2), True),
        ((2, 4), True),
        ((6,), True),
        ((2, 2, 1, 2), False),
        ((2, 2, 0.5, 2), False),
        ((2, 2, 0.25, 2), True),
        ((2, 2, 2, 1), False),
    ],
)
def test_periods_missed_in_a_row_hold_and_a_tick_between_periods_does_not_end_the_row(
    periods: tuple, held: bool
) -> None:
    told = quick()
    for period in periods:
        told.tick(period / 64)
    assert (OVERRUN in told.present()) is held
    told.senses.renew_counters()
    assert (OVERRUN in told.present()) is held
    told.senses.arm(told.now_s)
    assert OVERRUN not in told.present()
