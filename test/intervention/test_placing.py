"""Where the controller is unknown, the gate takes the arm where it is measured, and never makes it leap."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from gate_world import ARM, HOME, PERIOD_S, World, chunk, output

from salus_ros.intervention.inputs import Fault, RequestKind
from salus_ros.intervention.limits import Limits
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause, Mode


def moving(**arguments: object) -> World:
    world = World(**arguments).start()  # type: ignore[arg-type]
    world.run(1.5)
    return world


def push(world: World, distance_rad: float) -> None:
    """Every joint, slowly, as a hand does."""
    for _ in range(10):
        world.measured = world.measured + distance_rad / 10
        world.run(0.05)


def hardest(world: World, begin: int) -> float:
    """Largest acceleration of the controller since a row of the log, as a share of the joint's limit."""
    _, _, velocity = world.executed()
    acceleration = np.abs(np.diff(velocity[begin:], axis=0)) / PERIOD_S
    return float((acceleration / ARM.acceleration_limit_rad_s2).max())


def test_an_arm_that_sags_below_its_controller_is_taken_up_gently() -> None:
    world = World()
    sag = np.array([0.0, 0.02, 0.0, 0.015, 0.0, 0.0, 0.0])
    world.arm_follows = False
    world.measured = HOME + sag
    for _ in range(60):
        world.step(RequestKind.ACTIVATE)
    q, _ = world.controller.at(world.now_s)
    assert np.abs(q - world.measured).max() < 1e-4, "it does not hold where the arm is"
    assert hardest(world, 0) < 1.0


@pytest.mark.parametrize("origin_s", [0.0, 1000.0, 1e6])
def test_a_rest_is_reached_in_the_same_period_however_late_it_is(origin_s: float) -> None:
    world = World().start()
    motion = world.gate._motion
    assert motion is not None
    motion.place(HOME)
    periods = round(motion.rest_in_s / PERIOD_S)
    times_s = [origin_s + number * PERIOD_S for number in range(periods + 1)]
    for before_s, now_s in itertools.pairwise(times_s):
        assert not motion.standing
        motion.advance(now_s - before_s)
    assert motion.standing


@pytest.mark.parametrize(
    ("stop", "answer"),
    [(RequestKind.EMERGENCY_STOP, RequestKind.RESET), (None, RequestKind.RESUME), (None, RequestKind.RETRY)],
)
def test_an_arm_moved_by_hand_while_stopped_does_not_leap_back(
    stop: RequestKind | None, answer: RequestKind
) -> None:
    world = moving()
    if stop is None:
        world.risk = {"miss": 0.9, "out_of_distribution": True}
        world.until(Mode.ASSIST, timeout_s=30.0)
        world.risk = {}
    else:
        world.step(stop)
    world.run(1.5)
    world.arm_follows = False  # the driver has stopped
    push(world, 0.1)
    world.controller = type(world.controller)(world.measured)
    begin = len(world.log)
    assert world.step(answer).answers[0].accepted
    world.arm_follows = True
    while world.step().state.mode not in (Mode.NOMINAL, Mode.SLOW_DOWN):
        assert len(world.log) - begin < 500
    q, _ = world.controller.at(world.now_s)
    assert hardest(world, begin) < 1.0
    assert np.abs(q - world.measured).max() < 0.02, "it went back to where it was held before"


def test_a_hold_follows_an_arm_that_is_pushed_away_even_while_latched() -> None:
    world = moving()
    world.step(RequestKind.EMERGENCY_STOP)
    world.run(1.0)
    world.arm_follows = False
    push(world, 0.2)
    world.run(1.0)
    q, _ = world.controller.at(world.now_s)
    assert np.abs(q - world.measured).max() < GateSettings().tracking_hold_rad
    assert world.decision is not None and world.decision.state.mode == Mode.EMERGENCY_STOP


def test_a_contact_during_another_stop_is_held_where_it_was_felt() -> None:
    world = moving()
    world.policy_on = False
    world.until(Mode.HOLD)
    place = ARM.forward(np.concatenate([world.measured[None], world.measured + 1e-6 * np.eye(7)]))[:, 2, 3]
    world.effort = (place[1:] - place[0]) / 1e-6 * 200.0
    world.gate._senses.contact._contact_s = 0.0
    world.step()
    world.step()
    assert world.gate._standing.settled, "the contact under a hold was not noticed"


def test_when_the_clock_stands_nothing_is_sent_and_the_last_command_stops_the_arm() -> None:
    world = moving()
    for _ in range(100):
        world.ros_offset_s -= PERIOD_S
        decision = world.step()
        assert decision.command is None or decision.state.mode != world.log[-2][3].state.mode
    assert (decision.state.mode, decision.state.cause) == (Mode.HOLD, Cause.TIME_UNSOUND)
    assert np.abs(world.controller.at(world.now_s)[1]).max() == 0.0
    begin = len(world.log)
    world.until(Mode.NOMINAL)
    world.run(0.5)
    assert hardest(world, begin) < 1.0, "it leapt when the clock came back"


def test_a_clock_that_is_gone_holds_until_it_is_back() -> None:
    world = moving()
    offset_s, world.ros_offset_s = world.ros_offset_s, math.nan
    begin = len(world.log)
    decisions = world.run(0.03)
    assert decisions[0].state.mode == Mode.HOLD
    assert all(d.command is None for d in decisions)
    world.ros_offset_s = offset_s
    world.until(Mode.NOMINAL)
    assert hardest(world, begin) < 1.0


def test_a_simulation_that_begins_again_at_zero_is_followed_again() -> None:
    """At zero there is no clock yet, as far as ROS can tell."""
    world = moving()
    world.ros_offset_s = math.nan
    world.run(0.05)
    world.ros_offset_s = -world.now_s
    world.run(0.5)
    world.until_accepted(RequestKind.RESET)
    world.until(Mode.NOMINAL)


@pytest.mark.parametrize("gone_at", range(0, 30, 3))
def test_what_is_due_of_a_plan_is_known_over_a_tick_without_a_clock(gone_at: int) -> None:
    world = moving()
    following, plan = world.gate._following, world.gate._senses.plan
    assert plan is not None
    following.renew()
    for tick in range(31):
        following.advance(50.0 + 0.01 * tick, 0.01)
        if tick == gone_at:
            following.advance(math.nan, 0.0)
    for observed in range(30):
        seen = replace(plan, output=output(1, chunk(50.0 + 0.01 * observed, np.array([HOME, HOME]))))
        assert following._due_s(seen) == pytest.approx(0.01 * (30 - observed))


def test_after_many_failed_updates_the_arm_is_taken_up_where_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = moving()
    begin = len(world.log)
    with monkeypatch.context() as broken:
        broken.setattr(world.gate._senses, "present", lambda *_: 1 / 0)
        assert all(d.command is None for d in world.run(0.5))
    world.run(1.0)
    assert hardest(world, begin) < 1.0, "it was commanded back to where it had been before the errors"
    assert world.step(RequestKind.RESET).answers[0].accepted
    world.until(Mode.NOMINAL)


def test_an_arm_that_hangs_a_little_out_of_the_box_may_stand_there() -> None:
    z = float(ARM.forward(HOME[None])[0, 2, 3])
    world = World(
        settings=GateSettings(workspace_lower_m=(-0.4, -0.9, z - 1e-4)),
        goal=lambda t: np.tile(HOME, (len(t), 1)),
    )
    world.start()
    world.arm_follows = False
    world.measured = HOME + np.array([0.0, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert not Limits(ARM, 0.0, (-0.4, -0.9, z - 1e-4), (0.95, 0.9, 1.3)).in_box(world.measured)
    world.policy_on = False
    decisions = world.run(2.0)
    assert {d.state.mode for d in decisions[-100:]} == {Mode.HOLD}, decisions[-1].state.reason


# What else counts as silence, or as too late


def test_a_driver_that_repeats_its_last_state_is_silent() -> None:
    world = moving()
    frozen = world.robot_state()
    world.change_robot = lambda _state: frozen
    assert world.until(Mode.EMERGENCY_STOP) <= GateSettings().joint_state_deadline_s + 2 * PERIOD_S


def test_a_monitor_that_repeats_its_last_prediction_is_silent() -> None:
    world = moving()
    kept = []

    def repeat(value):  # type: ignore[no-untyped-def]
        kept.append(value)
        return kept[0]

    world.change_prediction = repeat
    assert world.until(Mode.HOLD) <= GateSettings().prediction_hold_deadline_s + 0.05 + 2 * PERIOD_S


def test_joint_states_out_of_order_are_refused() -> None:
    world = moving()
    before = world.step().state.refused_message_count
    world.change_robot = lambda state: replace(state, stamp_s=state.stamp_s - 0.05)
    assert world.step().state.refused_message_count == before + 1


def test_one_long_freeze_of_the_gate_counts_every_period_that_it_missed() -> None:
    world = moving()
    world.now_s += 0.3
    decision = world.step()
    assert decision.state.overrun_count >= 3
    assert (decision.state.mode, decision.state.cause) == (Mode.HOLD, Cause.GATE_OVERRUN)


def test_a_plan_that_was_over_before_it_came_is_refused() -> None:
    world = moving(settings=GateSettings(policy_deadline_s=0.9))
    world.policy_on = False
    world._in_flight.clear()
    newest = world.gate._senses.plan
    assert newest is not None
    world.run(0.45)
    q, _ = world.controller.at(world.now_s)
    late = chunk(newest.output.stamp_s + 0.01, np.tile(q, (3, 1)), step_s=0.05)
    world._in_flight.append((0.0, output(10_000, late)))
    world.run(0.02)
    assert world.gate._following.plan is not None
    assert world.gate._following.plan.output.sequence != 10_000, "it went where the policy wanted it long ago"
    assert world.gate._following.refused_in_a_row == 1


def test_a_join_that_would_swing_wide_is_refused_though_its_ends_are_near() -> None:
    world = World(settings=GateSettings(monitor="absent", hold_off_s=0.0)).start()
    steps = 0.05 * np.arange(1, 17)
    rush = np.zeros(7)
    rush[0] = 1.9

    def plan(direction: float):  # type: ignore[no-untyped-def]
        q, _ = world.controller.at(world.now_s)
        return output(
            20_000 + len(world.log), chunk(world.ros_s, q + direction * np.outer(steps - 0.05, rush))
        )

    world.policy_on = False
    world._in_flight.clear()
    for _ in range(6):
        world._in_flight.append((0.0, plan(1.0)))
        world.run(0.08)
    before = world.gate._following.plan
    world._in_flight.append((0.0, plan(-1.0)))
    world.run(0.03)
    assert world.gate._following.plan is before, "joined over a swing of more than blend_rad"
    assert world.gate._following.refused_in_a_row == 1


def test_in_shadow_mode_the_state_says_what_risk_would_have_done() -> None:
    world = moving(settings=GateSettings(shadow_mode=True))
    world.risk = {"collision": 0.9}
    world.run(0.2)
    assert world.decision is not None
    assert world.decision.state.mode == Mode.NOMINAL
    assert "PROTECTIVE_STOP" in world.decision.state.reason


def test_a_message_that_could_not_be_read_is_refused_and_a_standing_fault_of_the_same_cause_is_not() -> None:
    world = moving()
    world.faults = (Fault(Cause.PREDICTION_INVALID, "unreadable", refused=True),)
    before = world.log[-1][3].state.refused_message_count
    decision = world.step()
    assert decision.state.mode == Mode.NOMINAL
    assert decision.state.refused_message_count == before + 1
    world.faults = (Fault(Cause.PREDICTION_INVALID, "/rogue besides /monitor"),)
    decision = world.step()
    assert (decision.state.mode, decision.state.cause) == (Mode.HOLD, Cause.PREDICTION_INVALID)
    assert "/rogue" in decision.state.reason
