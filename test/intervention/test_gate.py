"""The gate in a small world: what it does, how long it takes, and what it must not do."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
from gate_world import ARM, HOME, PERIOD_S, Controller, World, chunk, output

from salus_ros.intervention.gate import Gate
from salus_ros.intervention.inputs import Decision, Fault, GateInputs, RequestKind
from salus_ros.intervention.latch import LatchRecord
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause, Floats, Mode, PolicyOutput, RobotState

FOLLOWING = (Mode.NOMINAL, Mode.SLOW_DOWN)
REST_S = 0.35
"""From the last tick that follows to the rest of the command, at the speeds of the test's motion."""


def moving(**arguments: object) -> World:
    world = World(**arguments).start()  # type: ignore[arg-type]
    world.run(1.5)
    assert speed(world) > 0.05, "the test's arm does not move"
    return world


def speed(world: World) -> float:
    return float(np.abs(world.controller.at(world.now_s)[1]).max())


def time_to_rest(world: World) -> float:
    start_s = world.now_s
    while speed(world) > 1e-3:
        world.step()
        assert world.now_s - start_s < 2.0, "the command does not come to rest"
    return world.now_s - start_s


def openings(decisions: list[Decision]) -> list[float]:
    return [d.gripper_opening_m for d in decisions if d.gripper_opening_m is not None]


# Nominal running


@pytest.mark.parametrize(("noise_rad", "lag_s"), [(0.0, 0.08), (0.008, 0.08), (0.008, 0.12)])
def test_a_realistic_stream_of_chunks_is_followed_smoothly_and_without_refusals(
    noise_rad: float, lag_s: float
) -> None:
    world = World(noise_rad=noise_rad, lag_s=lag_s).start()
    world.run(1.0)
    begin = len(world.log)
    decisions = world.run(5.0)
    assert {d.state.mode for d in decisions} == {Mode.NOMINAL}
    assert decisions[-1].state.refused_message_count == 0
    assert np.mean([d.state.speed_scale for d in decisions]) > 0.93, "nominal running is slowed down"
    _, _, velocity = world.executed()
    acceleration = np.abs(np.diff(velocity[begin:], axis=0)) / PERIOD_S
    assert (acceleration <= ARM.acceleration_limit_rad_s2).all()


def test_a_late_message_now_and_then_does_not_stop_the_arm() -> None:
    world = World(jitter_s=0.015).start()
    world.run(1.0)
    begin = len(world.log)
    decisions = world.run(3.0)
    assert {d.state.mode for d in decisions} == {Mode.NOMINAL}
    _, _, velocity = world.executed()
    still = (np.abs(velocity[begin:]).max(axis=1) < 1e-3).mean()
    assert still < 0.02, f"the arm stood {100 * still:.0f} % of the time"


def test_the_gripper_follows_path_time() -> None:
    world = World()
    world.change_plan = lambda plan: replace(
        plan, chunk=replace(plan.chunk, gripper_opening_m=np.linspace(0.08, 0.0, 16))
    )
    world.start()
    sent = openings(world.run(1.0))
    assert sent
    assert all(0.0 <= value <= 0.08 for value in sent)


def test_a_gripper_command_out_of_range_is_clipped() -> None:
    world = World()
    world.change_plan = lambda plan: replace(
        plan, chunk=replace(plan.chunk, gripper_opening_m=np.full(16, 5.0))
    )
    world.start()
    assert openings(world.run(0.5) + [row[3] for row in world.log]) == [0.08]


# Silence and faults: (what happens, the mode, the longest time until the command rests)

SILENCES = {
    "policy": ("policy_on", Mode.HOLD, Cause.POLICY_LATE, 0.3 + REST_S),
    "monitor": ("monitor_on", Mode.HOLD, Cause.PREDICTION_LATE, 0.3 + REST_S),
    "joint states": ("joints_on", Mode.EMERGENCY_STOP, Cause.JOINT_STATE_LATE, 0.05 + REST_S),
}


@pytest.mark.parametrize("name", SILENCES)
def test_silence_leads_to_standstill_within_its_time(name: str) -> None:
    field, mode, cause, limit_s = SILENCES[name]
    world = moving()
    setattr(world, field, False)
    start_s = world.now_s
    world.until(mode)
    time_to_rest(world)
    assert world.now_s - start_s <= limit_s
    assert world.decision is not None
    assert world.decision.state.cause == cause


def test_a_late_monitor_slows_before_it_stops() -> None:
    world = moving()
    world.monitor_on = False
    assert world.until(Mode.SLOW_DOWN) <= 0.16
    while world.step().state.mode == Mode.SLOW_DOWN:
        pass
    assert world.decision is not None
    assert world.decision.state.mode == Mode.HOLD
    assert world.log[-2][3].state.speed_scale <= 0.31


def test_without_a_monitor_by_choice_its_silence_is_no_fault_and_its_word_has_no_weight() -> None:
    world = moving(settings=GateSettings(monitor="absent"))
    world.risk = {"collision": 1.0}
    assert {d.state.mode for d in world.run(1.0)} == {Mode.NOMINAL}
    world.monitor_on = False
    assert {d.state.mode for d in world.run(1.0)} == {Mode.NOMINAL}
    world.policy_on = False
    world.until(Mode.HOLD)


@pytest.mark.parametrize(
    ("cause", "mode"),
    [
        (Cause.SECOND_COMMAND_PUBLISHER, Mode.EMERGENCY_STOP),
        (Cause.EXCEPTION, Mode.EMERGENCY_STOP),
        (Cause.SECOND_POLICY_PUBLISHER, Mode.HOLD),
    ],
)
def test_a_fault_seen_from_outside_stops_the_arm(cause: Cause, mode: Mode) -> None:
    world = moving()
    world.faults = (Fault(cause, "/rogue"),)
    decision = world.step()
    assert (decision.state.mode, decision.state.cause) == (mode, cause)
    assert "/rogue" in decision.state.reason
    assert decision.stop_driver == (mode == Mode.EMERGENCY_STOP)
    assert time_to_rest(world) <= REST_S


@pytest.mark.parametrize("stopped_by", [None, RequestKind.EMERGENCY_STOP])
def test_the_driver_is_to_be_stopped_once_when_another_node_commands_the_arm_whatever_else_has_stopped_it(
    stopped_by: RequestKind | None,
) -> None:
    world = moving()
    if stopped_by is not None:
        assert not world.step(stopped_by).second_writer
    world.faults = (Fault(Cause.SECOND_COMMAND_PUBLISHER, "/rogue"),)
    assert [decision.second_writer for decision in world.run(0.05)] == [True] + [False] * 4
    world.faults = ()
    world.until_accepted(RequestKind.RESET)
    world.faults = (Fault(Cause.SECOND_COMMAND_PUBLISHER, "/rogue"),)
    assert world.step().second_writer, "it has come again after the reset"


@pytest.mark.parametrize(
    "cause",
    [
        Cause.SECOND_COMMAND_PUBLISHER,
        Cause.SECOND_POLICY_PUBLISHER,
        Cause.PREDICTION_INVALID,
        Cause.JOINT_STATE_INVALID,
    ],
)
def test_a_second_writer_is_named_as_soon_as_its_name_is_known_and_stays_named(cause: Cause) -> None:
    world = moving()
    for detail in ("a node not known by name yet", "/rogue"):
        world.faults = (Fault(cause, detail),)
        assert detail in world.step().state.reason
    world.faults = ()
    assert "/rogue" in world.step().state.reason


def rests_where_it_is_measured(world: World) -> None:
    time_to_rest(world)
    world.run(0.2)
    q, _ = world.controller.at(world.now_s)
    assert np.abs(q - world.measured).max() < 0.01, "the command stands where the arm is not"


def test_an_arm_that_does_not_follow_is_slowed_then_held_where_it_is() -> None:
    world = moving()
    world.arm_follows = False
    world.until(Mode.SLOW_DOWN)
    world.until(Mode.HOLD)
    rests_where_it_is_measured(world)


def test_an_arm_that_stays_blocked_is_tried_again_twice_and_then_a_person_is_called() -> None:
    world = moving()
    world.arm_follows = False
    world.run(20.0)
    modes = [decision.state.mode for _, _, _, decision in world.log]
    holds = sum(before != mode == Mode.HOLD for before, mode in itertools.pairwise(modes))
    assert (modes[-1], holds) == (Mode.ASSIST, 1 + 3), "the first hold is that of the start"
    assert world.decision is not None
    assert world.decision.state.cause == Cause.STALL
    rests_where_it_is_measured(world)


def test_an_arm_that_follows_again_between_its_holds_needs_nobody() -> None:
    world = moving()
    for _ in range(5):
        world.arm_follows = False
        world.until(Mode.HOLD)
        world.arm_follows = True
        world.until(Mode.NOMINAL)
        world.run(5.0)
    assert Mode.ASSIST not in {decision.state.mode for _, _, _, decision in world.log}


class Swooping(World):
    """A policy that goes fast and closely above a floor, whatever the arm does."""

    def plan(self) -> PolicyOutput:
        self.sequence += 1
        points = self.goal(self.progress_s + 0.05 * np.arange(1, 17))
        return output(self.sequence, chunk(self.ros_s, points))


def swoop(t: Floats) -> Floats:
    """(N, 7) down to its lowest place after 3.1 s, with more than 1 rad/s there."""
    u = np.minimum(t, 1.0)[:, None]
    t = np.asarray(t, float)[:, None]
    middle = np.array([-0.136, -0.211, 0.018, -2.339, 0.042, 1.814, 0.814])
    size = np.array([0.238, 0.403, 0.297, 0.43, 0.0, 0.0, 0.0])
    rate, phase = (
        np.array([2.408, 2.931, 2.311, 2.572] + 3 * [0.0]),
        np.array([0.746, 4.218, 0.737, 4.903] + 3 * [0.0]),
    )
    return middle + size * np.sin(rate * t + phase) * (u * u * (3.0 - 2.0 * u))


def test_a_contact_near_the_floor_stops_a_fast_arm_above_it_and_calls_a_person() -> None:
    """The quickest way to where it is measured would swing below; withheld, it left the arm to itself."""
    times = np.linspace(0.0, 4.0, 800)
    lowest_m = float(ARM.forward(swoop(times))[240:, 2, 3].min())
    box = {"workspace_lower_m": (-5.0, -5.0, lowest_m - 0.002), "workspace_upper_m": (5.0, 5.0, 5.0)}
    world = Swooping(settings=GateSettings(monitor="absent", **box), goal=swoop)
    world.measured = swoop(np.zeros(1))[0]
    world.controller = Controller(world.measured)
    world.start()
    while world.progress_s < 2.74:
        world.step()
    for _ in range(8):
        world.run(0.03)
        touched = copy.deepcopy(world)
        begin = len(touched.log)
        touched.effort = np.array([0.0, -85.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        touched.run(0.8)
        assert touched.decision is not None
        assert touched.decision.state.mode == Mode.ASSIST, touched.decision.state.reason
        velocity = np.array([row[2] for row in touched.log[begin - 1 :]])
        hardest = np.abs(np.diff(velocity, axis=0)).max(axis=0) / PERIOD_S / ARM.acceleration_limit_rad_s2
        assert hardest.max() < 1.0, f"{hardest.max():.1f} times the acceleration limit"


def test_a_contact_that_lasts_is_felt_though_another_stop_took_over_from_the_call() -> None:
    world = moving()
    world.effort = np.array([0.0, -100.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    world.until(Mode.ASSIST)
    world.policy_on = False
    world._in_flight.clear()
    world.until(Mode.HOLD)
    answer = world.step(RequestKind.RESUME).answers[0]
    assert (answer.accepted, answer.message) == (False, "the cause still stands: contact")
    world.effort = np.zeros(7)
    world.policy_on = True
    world.run(1.0)
    assert world.step(RequestKind.RESUME).answers[0].accepted


@pytest.mark.parametrize("when", ["at the activation", "after a hold"])
def test_plans_that_a_standing_arm_cannot_join_are_asked_for_anew_and_then_a_person_is_called(
    when: str,
) -> None:
    shift = 0.15 * (np.arange(7) == 3)

    def elsewhere(plan: PolicyOutput) -> PolicyOutput:
        return replace(
            plan, chunk=replace(plan.chunk, joint_position_rad=plan.chunk.joint_position_rad + shift)
        )

    world = World()
    if when == "after a hold":
        world.start()
        world.policy_on = False
        world.until(Mode.HOLD)
        world.policy_on = True
    world.change_plan = elsewhere
    if when == "at the activation":
        world.until_accepted(RequestKind.ACTIVATE)
    begin = len(world.log)
    world.until(Mode.REPLAN)
    assert world.decision is not None and world.decision.state.cause == Cause.PLAN_REFUSED
    assert "0.15" in world.decision.state.reason
    world.until(Mode.ASSIST, timeout_s=20.0)
    assert world.decision.state.cause == Cause.REPLANS_EXHAUSTED
    assert world.replan_requests > 0
    assert not {Mode.NOMINAL, Mode.SLOW_DOWN} & {row[3].state.mode for row in world.log[begin:]}


def test_a_plan_that_can_be_joined_ends_the_wait_for_it() -> None:
    world = moving()
    world.policy_on = False
    world.until(Mode.HOLD)
    world.policy_on = True
    shift = 0.15 * (np.arange(7) == 3)
    world.change_plan = lambda plan: replace(
        plan, chunk=replace(plan.chunk, joint_position_rad=plan.chunk.joint_position_rad + shift)
    )
    world.until(Mode.REPLAN)
    world.change_plan = lambda plan: plan
    world.until(Mode.NOMINAL)


@pytest.mark.parametrize("stands", ["in a hold", "in an emergency stop", "after the activation"])
@pytest.mark.parametrize("offset_rad", [0.16, 0.18, 0.3])
def test_joint_states_that_drift_and_stay_wrong_do_not_make_a_standing_arm_walk(
    offset_rad: float, stands: str
) -> None:
    """Held where it seems to be, the arm seems to be ahead of that by as much again."""
    if stands == "after the activation":
        world = World()
        world.until_accepted(RequestKind.ACTIVATE)
        world.policy_on = False
        world._in_flight.clear()
    else:
        world = moving()
        if stands == "in an emergency stop":
            world.step(RequestKind.EMERGENCY_STOP)
        else:
            world.policy_on = False
            world.until(Mode.HOLD)
        world.run(1.0)
    stood, begun_s = world.measured.copy(), world.now_s

    def drift(state: RobotState) -> RobotState:
        shift = min(world.now_s - begun_s, offset_rad) * (np.arange(7) == 0)
        return replace(state, joint_position_rad=state.joint_position_rad + shift)

    world.change_robot = drift
    world.run(10.0)
    assert np.abs(world.measured - stood).max() < 0.41


def test_impossible_joint_states_latch() -> None:
    world = moving()
    world.change_robot = lambda state: replace(state, joint_position_rad=state.joint_position_rad + 1.0)
    assert world.step().state.cause == Cause.JOINT_STATE_INVALID


@pytest.mark.parametrize("reading_rad", [1e9, 3.0, 1.5])
@pytest.mark.parametrize("goes_on", [True, False])
def test_an_impossible_joint_state_does_not_move_the_arm_it_stops(reading_rad: float, goes_on: bool) -> None:
    """Neither when it was the last one, nor when all that follow say the same."""
    world = moving()

    def lie(state: RobotState) -> RobotState:
        position = state.joint_position_rad.copy()
        position[5] = reading_rad
        return replace(state, joint_position_rad=position)

    world.change_robot = lie
    world.step()
    world.joints_on = goes_on
    stopped, _ = world.controller.at(world.now_s)
    time_to_rest(world)
    world.run(3.0)
    q, v = world.controller.at(world.now_s)
    assert world.decision is not None
    assert world.decision.state.mode == Mode.EMERGENCY_STOP
    assert np.abs(q - stopped).max() < 0.1
    assert np.abs(v).max() == 0.0
    reset = world.step(RequestKind.RESET).answers[0]
    assert reset.accepted == (goes_on and reading_rad < 4.0), reset.message


def test_a_fast_arm_that_is_blocked_is_held_where_it_is() -> None:
    world = World(goal=lambda t: HOME + np.outer(1.5 * (np.asarray(t) - 0.5).clip(0.0), np.eye(7)[6])).start()
    while speed(world) < 1.2:
        world.step()
        assert world.now_s < 110.0, "the test's arm does not become fast"
    world.arm_follows = False
    world.until(Mode.HOLD)
    assert np.abs(world.controller.at(world.now_s)[0] - world.measured).max() > 0.4, "the case tests nothing"
    rests_where_it_is_measured(world)


def test_no_reset_is_accepted_between_two_impossible_joint_states() -> None:
    world = moving()
    world.change_robot = lambda state: replace(state, joint_position_rad=np.full(7, 1e9))
    world.step()
    time_to_rest(world)
    world.run(1.0)
    world.joints_on = False
    answer = world.step(RequestKind.RESET).answers[0]
    assert (answer.accepted, answer.message) == (False, "the cause still stands: joint_state_invalid")


def test_joint_states_that_come_back_elsewhere_after_a_silence_do_not_drive_the_arm_there() -> None:
    world = moving()
    world.joints_on = False
    world.run(3.0)
    stopped, _ = world.controller.at(world.now_s)
    world.joints_on = True
    world.change_robot = lambda state: replace(
        state, joint_position_rad=state.joint_position_rad + 1.2 * (np.arange(7) == 5)
    )
    world.run(3.0)
    q, _ = world.controller.at(world.now_s)
    assert np.abs(q - stopped).max() < 0.1


def test_after_an_impossible_joint_state_a_reset_takes_the_arm_up_where_it_is_at_its_limits_at_most() -> None:
    world = moving()
    world.change_robot = lambda state: replace(state, joint_position_rad=state.joint_position_rad + 1.0)
    world.step()
    time_to_rest(world)
    world.policy_on = False
    world.until_accepted(RequestKind.RESET)
    before, _ = world.controller.at(world.now_s)
    world.run(3.0)
    _, places, speeds = world.executed()
    assert np.abs(places[-1] - before).max() > 0.5, "a person says that they are right"
    assert (np.abs(speeds) <= ARM.velocity_limit_rad_s).all()


def test_a_missed_period_is_counted_and_three_in_a_row_hold() -> None:
    world = moving()
    for _ in range(3):
        world.now_s += 0.02
        decision = world.step()
    assert decision.state.overrun_count == 3
    assert (decision.state.mode, decision.state.cause) == (Mode.HOLD, Cause.GATE_OVERRUN)


@pytest.mark.parametrize("jump_s", [-500.0, -0.5, 0.5, 500.0])
def test_a_clock_jump_holds_and_only_a_plan_from_after_it_moves_the_arm(jump_s: float) -> None:
    world = moving()
    world.ros_offset_s += jump_s
    decision = world.step()
    assert (decision.state.mode, decision.state.cause) == (Mode.HOLD, Cause.TIME_UNSOUND)
    assert time_to_rest(world) <= REST_S
    world.until(Mode.NOMINAL)


def test_a_paused_clock_holds_without_a_step() -> None:
    world = moving()
    for _ in range(40):
        world.ros_offset_s -= PERIOD_S
        decision = world.step()
    assert decision.state.mode == Mode.HOLD


def test_a_clock_at_half_speed_is_followed_at_half_speed() -> None:
    settings = GateSettings(
        policy_deadline_s=0.9, prediction_hold_deadline_s=0.9, prediction_slow_deadline_s=0.9
    )
    world = moving(settings=settings)
    progress_s = 0.0
    last_s = 0.0
    for _ in range(300):
        world.ros_offset_s -= PERIOD_S / 2
        state = world.step().state
        assert state.mode == Mode.NOMINAL, state.reason
        progress_s += max(state.path_time_s - last_s, 0.0) if last_s and state.path_time_s > last_s else 0.0
        last_s = state.path_time_s
    assert progress_s < 300 * PERIOD_S * 0.75


# Learned risk


def test_a_foreseen_collision_stops_at_once_replans_and_goes_on() -> None:
    world = moving()
    world.risk = {"collision": 0.9}
    assert world.until(Mode.PROTECTIVE_STOP) <= 0.06
    assert time_to_rest(world) <= REST_S
    world.risk = {}
    world.until(Mode.REPLAN)
    world.until(Mode.NOMINAL)
    assert world.replan_requests >= 1
    world.run(0.5)
    assert speed(world) > 0.02


def test_a_replan_retraces_slowly_what_was_driven_and_no_further() -> None:
    world = moving(settings=GateSettings(retrace_path_s=0.3))
    begin = len(world.log)
    driven = np.array([row[1] for row in world.log[begin - 100 : begin]])
    world.risk = {"miss": 0.9}
    world.until(Mode.REPLAN)
    world.risk = {}
    first = len(world.log)
    world.until(Mode.NOMINAL)
    rows = world.log[first : len(world.log) - 1]
    places = np.array([row[1] for row in rows])
    speeds = np.array([np.abs(row[2]).max() for row in rows])
    after_stop = places[60:]
    everything = np.concatenate([driven, places[:60]])
    distance = np.abs(after_stop[:, None, :] - everything[None]).max(axis=2).min(axis=1)
    assert distance.max() < 0.02, "it went where it had not been"
    assert speeds[80:].max() < 0.3 * 0.7, "it went back fast"
    assert np.abs(places[-1] - places[60]).max() > 0.005, "it did not go back at all"


def test_the_policy_is_asked_once_an_attempt_so_that_a_slow_one_can_finish() -> None:
    world = moving(settings=GateSettings(policy_deadline_s=30.0))
    world.risk = {"miss": 0.9}
    world.until(Mode.REPLAN)
    world.policy_on = False  # it thinks
    world._in_flight.clear()
    world.replan_requests = 1 if world.replan_requests else 0
    world.run(GateSettings().replan_timeout_s - 0.2)
    assert world.replan_requests == 1, "asked again, which makes the policy begin again"
    world.until(Mode.ASSIST, timeout_s=20.0)
    assert world.replan_requests == GateSettings().replan_attempts


def test_risk_that_stays_uses_up_the_attempts_and_calls_a_person() -> None:
    world = moving()
    world.risk = {"miss": 0.9}
    world.until(Mode.ASSIST, timeout_s=30.0)
    assert world.decision is not None
    assert world.decision.state.replan_count == GateSettings().replan_attempts
    assert {d.state.mode for d in world.run(2.0)} == {Mode.ASSIST}


def test_risk_that_stays_may_be_set_to_slow_the_arm_down_once_the_attempts_are_used_up() -> None:
    world = moving(settings=GateSettings(when_replans_are_used_up="go_on"))
    world.risk = {"miss": 0.9}
    for _ in range(GateSettings().replan_attempts):
        world.until(Mode.REPLAN, timeout_s=10.0)
        world.until(Mode.SLOW_DOWN, timeout_s=10.0)
    later = world.run(3.0)
    assert {d.state.mode for d in later} == {Mode.SLOW_DOWN}
    assert later[-1].state.speed_scale == pytest.approx(GateSettings().slow_speed, abs=0.05)
    world.risk = {"collision": 0.9}
    world.until(Mode.ASSIST, timeout_s=10.0)


def test_shadow_mode_mutes_learned_risk_and_says_what_it_would_have_done() -> None:
    world = moving(settings=GateSettings(shadow_mode=True))
    world.risk = {"collision": 0.9}
    decisions = world.run(0.5)
    assert {d.state.mode for d in decisions} == {Mode.NOMINAL}
    assert decisions[-1].risk_would == Mode.PROTECTIVE_STOP
    world.monitor_on = False
    world.until(Mode.HOLD)


# Persons


def test_after_a_reset_only_a_plan_newer_than_the_reset_moves_the_arm() -> None:
    world = moving()
    world.step(RequestKind.EMERGENCY_STOP)
    world.run(1.0)
    world.policy_on = False
    world._in_flight.clear()
    old = output(10_000, chunk(world.ros_s - 0.05, np.tile(world.measured, (16, 1)) + 0.01))
    decision = world.step(RequestKind.RESET)
    assert decision.answers[0].accepted
    world._in_flight.append((world.now_s, old))
    for decision in world.run(1.5):
        assert decision.state.mode not in FOLLOWING
    world.policy_on = True
    world.until(Mode.NOMINAL)


def test_watchdogs_fire_again_after_a_reset() -> None:
    world = moving()
    for _ in range(2):
        world.joints_on = False
        world.until(Mode.EMERGENCY_STOP)
        world.joints_on = True
        world.run(1.0)
        assert world.step(RequestKind.RESET).answers[0].accepted
        world.until(Mode.NOMINAL)
        world.run(0.3)


def test_a_restored_latch_stays_until_a_person_resets_it() -> None:
    world = World()
    world.gate = Gate(GateSettings(), ARM, LatchRecord(Cause.PERSON, "stopped yesterday"))
    for _ in range(50):
        decision = world.step(RequestKind.ACTIVATE)
        assert decision.command is None
    assert decision.state.mode == Mode.EMERGENCY_STOP
    assert "stopped yesterday" in decision.state.reason
    assert not decision.answers[0].accepted
    world.step(RequestKind.RESET)
    world.start()


def test_after_a_reset_while_inactive_an_activation_says_which_input_is_missing() -> None:
    world = World()
    world.gate = Gate(GateSettings(), ARM, LatchRecord(Cause.PERSON, "stopped yesterday"))
    world.joints_on = False
    world.step(RequestKind.RESET)
    world.run(0.2)
    answer = world.step(RequestKind.ACTIVATE).answers[0]
    assert not answer.accepted
    assert answer.message == "not fresh: joint states"


def test_a_pressed_button_stops_even_when_no_button_is_expected() -> None:
    world = moving()
    assert world.step(RequestKind.BUTTON_PRESSED).state.cause == Cause.BUTTON
    world.run(1.0)
    assert not world.step(RequestKind.RESET).answers[0].accepted
    world.step(RequestKind.BUTTON_RELEASED)
    assert world.step(RequestKind.RESET).answers[0].accepted


def test_a_supervised_button_that_falls_silent_stops_the_arm() -> None:
    world = World(settings=GateSettings(button=True))
    for _ in range(60):
        decision = world.step(RequestKind.BUTTON_RELEASED, RequestKind.ACTIVATE)
    assert decision.answers[1].accepted
    for _ in range(100):
        assert world.step(RequestKind.BUTTON_RELEASED).state.mode != Mode.EMERGENCY_STOP
    world.until(Mode.EMERGENCY_STOP)
    assert world.decision is not None
    assert world.decision.state.cause == Cause.BUTTON_LOST


def test_a_deactivation_decelerates_first_and_commands_nothing_after() -> None:
    world = moving()
    assert world.step(RequestKind.DEACTIVATE).state.mode == Mode.HOLD
    world.until(Mode.INACTIVE)
    assert speed(world) < 1e-3
    assert all(d.command is None for d in world.run(0.5))


def test_contact_is_held_where_it_was_felt_and_a_person_is_called() -> None:
    world = moving()
    rows = np.concatenate([world.measured[None], world.measured + 1e-6 * np.eye(7)])
    place = ARM.forward(rows)[:, 2, 3]
    world.effort = (place[1:] - place[0]) / 1e-6 * 200.0
    world.until(Mode.ASSIST)
    felt = world.measured.copy()
    world.run(0.5)
    q, _ = world.controller.at(world.now_s)
    assert np.abs(q - felt).max() < 0.02


# The gate itself


def test_an_internal_error_latches_and_the_loop_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    world = moving()
    with monkeypatch.context() as broken:
        broken.setattr(world.gate._senses, "present", lambda *_: 1 / 0)
        decision = world.step()
    assert (decision.state.mode, decision.state.cause) == (Mode.EMERGENCY_STOP, Cause.EXCEPTION)
    assert decision.command is None
    assert time_to_rest(world) <= REST_S, "the last command did not end in rest"
    world.run(0.5)
    assert world.step(RequestKind.RESET).answers[0].accepted


def test_a_frozen_gate_leaves_a_command_that_ends_in_rest_inside_the_limits() -> None:
    world = moving()
    world.gate.update = lambda *_: Decision(world.log[-1][3].state)  # type: ignore[method-assign]
    assert time_to_rest(world) <= REST_S


def test_a_gate_that_freezes_and_comes_back_does_not_leap() -> None:
    world = moving()
    update, world.gate.update = world.gate.update, lambda *_: Decision(world.log[-1][3].state)  # type: ignore[method-assign]
    world.run(0.5)
    world.gate.update = update  # type: ignore[method-assign]
    begin = len(world.log)
    world.run(1.0)
    _, _, velocity = world.executed()
    acceleration = np.abs(np.diff(velocity[begin - 1 :], axis=0)) / PERIOD_S
    assert (acceleration <= ARM.acceleration_limit_rad_s2 * 1.05).all()


def test_a_plan_far_from_the_arm_is_refused_and_repeatedly_leads_to_a_replan() -> None:
    world = moving()
    world.change_plan = lambda plan: replace(
        plan, chunk=replace(plan.chunk, joint_position_rad=plan.chunk.joint_position_rad + 0.3)
    )
    world.until(Mode.REPLAN)
    assert world.decision is not None
    assert world.decision.state.cause == Cause.PLAN_REFUSED
    world.until(Mode.ASSIST, timeout_s=20.0)


def test_garbage_is_counted_and_repeated_garbage_holds() -> None:
    world = moving()
    world.change_plan = lambda plan: replace(
        plan, chunk=replace(plan.chunk, joint_position_rad=np.full((16, 7), np.nan))
    )
    world.until(Mode.HOLD)
    assert world.decision is not None
    assert world.decision.state.refused_message_count >= 1
    world.change_plan = lambda plan: plan
    world.until(Mode.NOMINAL)


def test_an_update_before_anything_came_is_harmless() -> None:
    decision = Gate(GateSettings(), ARM).update(0.0, GateInputs(float("nan")))
    assert decision.state.mode == Mode.INACTIVE
    assert decision.command is None


@pytest.mark.parametrize(
    ("limit_rad_s2", "delay_s", "jitter_s"), [(0.3, 0.005, 0.004), (0.35, 0.005, 0.0), (0.5, 0.035, 0.004)]
)
def test_an_arm_that_takes_a_second_to_stop_is_followed_and_never_latched(
    limit_rad_s2: float, delay_s: float, jitter_s: float
) -> None:
    arm = replace(ARM, acceleration_limit_rad_s2=np.full(7, limit_rad_s2))
    world = World(arm=arm, seed=1, delay_s=delay_s, jitter_s=jitter_s)

    def turn(plan: PolicyOutput) -> PolicyOutput:
        """Four seconds at 0.3 rad/s from wherever the arm is."""
        angle = 0.3 * 0.05 * np.arange(1, 81)
        return output(
            plan.sequence, chunk(plan.chunk.stamp_s, world.measured + np.outer(angle, np.eye(7)[0]))
        )

    world.change_plan = turn
    world.start()
    for decision in world.run(4.5):
        assert decision.state.mode != Mode.EMERGENCY_STOP, decision.state.reason
    assert max(row[3].state.speed_scale for row in world.log) > 0.7, "it was not followed"
