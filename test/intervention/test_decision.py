"""The gate tick by tick: what each fact makes of the decision."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from gate_world import ARM, HOME, Controller, chunk, output, prediction
from told import PERIOD_S, REST, turned

from salus_ros.intervention.gate import Gate
from salus_ros.intervention.inputs import Answer, Decision, Fault, GateInputs, Request, RequestKind
from salus_ros.intervention.latch import LatchRecord
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause, Floats, Mode, PolicyOutput, RobotState

ASK = RequestKind
FOLLOWING = (Mode.NOMINAL, Mode.SLOW_DOWN)
STEPS = 0.05 * np.arange(1, 17)


class Ticked:
    """A gate whose arm does as it is told, with a policy and a monitor that speak on time or fall silent."""

    def __init__(self, latched: LatchRecord | None = None, **settings: object) -> None:
        self.gate = Gate(
            GateSettings(**{"hold_off_s": 0.0, "jump_margin_rad": 9.0, **settings}), ARM, latched
        )
        self.now_s, self.ros_s = 100.0, 1000.0
        self.controller = Controller(HOME)
        self.sag = REST
        self.rate_rad_s = 0.3
        self.policy_on = self.monitor_on = self.robot_on = True
        self.risk: dict[str, object] = {}
        self.faults: tuple[Fault, ...] = ()
        self.effort = REST
        self.sequence = self.ticks = 0
        self.decision: Decision | None = None

    @property
    def commanded(self) -> Floats:
        return self.controller.at(self.now_s)[0]

    @property
    def speed_rad_s(self) -> float:
        return float(np.abs(self.controller.at(self.now_s)[1]).max())

    def plan(self) -> PolicyOutput:
        """Joint 1 goes on from the command at a constant rate."""
        self.sequence += 1
        points = self.commanded + np.outer(STEPS - STEPS[0], turned(0, self.rate_rad_s, REST))
        return output(self.sequence, chunk(self.ros_s, points))

    def tick(self, *requests: RequestKind, step_s: float = PERIOD_S, **inputs: object) -> Decision:
        self.now_s += step_s
        self.ros_s += step_s
        self.ticks += 1
        assert self.ticks < 2000, "what the test waits for never comes"
        q, v = self.controller.at(self.now_s)
        heard: dict[str, object] = {}
        if self.robot_on:
            heard["robot"] = RobotState(self.ros_s, q + self.sag, v, self.effort, 0.08)
        if self.policy_on and round(self.now_s / PERIOD_S) % 10 == 0:
            heard["plan"] = self.plan()
        if self.monitor_on:
            heard["prediction"] = prediction(self.ros_s, **self.risk)
        asked = tuple(Request(kind, "somebody") for kind in requests)
        arguments = {"requests": asked, "faults": self.faults, **heard, **inputs}
        decision = self.gate.update(self.now_s, GateInputs(self.ros_s, **arguments))
        if decision.command is not None:
            self.controller.accept(self.now_s, decision.command)
        self.decision = decision
        return decision

    def until(self, *modes: Mode, ticks: int = 200) -> Decision:
        for _ in range(ticks):
            decision = self.tick()
            if decision.state.mode in modes:
                return decision
        raise AssertionError(f"no {modes} but {decision.state.reason}")

    def runs(self, ticks: int) -> list[Decision]:
        return [self.tick() for _ in range(ticks)]

    def active(self) -> Ticked:
        while not self.decision or self.decision.state.mode == Mode.INACTIVE:
            self.tick(ASK.ACTIVATE)
        return self

    def following(self, ticks: int = 60) -> Ticked:
        self.active().until(Mode.NOMINAL)
        self.runs(ticks)
        assert self.speed_rad_s > 0.1, "the test's arm does not move"
        return self


# Before and at the activation


def test_an_inactive_gate_says_so_and_commands_nothing() -> None:
    gate = Ticked()
    first, second = gate.tick(), gate.tick()
    assert (first.state.mode, first.state.cause) == (Mode.INACTIVE, Cause.STARTUP)
    assert first.state.reason == "waiting for a plan newer than the activation"
    for decision in (first, second):
        assert (decision.command, decision.gripper_opening_m) == (None, None)
        assert (decision.request_replan, decision.stop_driver, decision.standing) == (False, False, True)
        assert (decision.answers, decision.refused, decision.risk_would) == ((), (), None)
    assert (second.state.speed_scale, second.state.sequence) == (0.0, -1)
    assert math.isnan(second.state.path_time_s)
    assert (first.state.time_in_mode_s, second.state.time_in_mode_s) == (0.0, pytest.approx(PERIOD_S))
    assert second.state.stamp_s == gate.ros_s
    state = first.state
    assert (state.replan_count, state.assist_count, state.refused_message_count) == (0, 0, 0)
    assert (state.protective_stop_count, state.emergency_stop_count, state.overrun_count) == (0, 0, 0)


def test_an_activation_is_answered_to_who_asked_and_holds_where_the_arm_is_measured() -> None:
    gate = Ticked()
    gate.sag = turned(1, 0.01, REST)
    gate.monitor_on = False
    why = "not fresh: failure prediction"
    gate.policy_on = False
    decision = gate.tick(ASK.ACTIVATE, plan=gate.plan())
    assert decision.answers == (Answer(Request(ASK.ACTIVATE, "somebody"), False, why),)
    assert decision.state.mode == Mode.INACTIVE
    gate.monitor_on = True
    decision = gate.tick(ASK.BUTTON_RELEASED, ASK.ACTIVATE)
    assert decision.answers == (
        Answer(Request(ASK.BUTTON_RELEASED, "somebody"), True, ""),
        Answer(Request(ASK.ACTIVATE, "somebody"), True, ""),
    )
    assert (decision.state.mode, decision.state.cause) == (Mode.HOLD, Cause.STARTUP)
    assert decision.command is not None
    assert decision.command.position_rad[-1] == pytest.approx(HOME + gate.sag)
    assert not decision.standing, "it takes the controller a moment to come to where the arm is"


def test_an_arm_outside_its_limits_by_a_little_is_held_inside_them() -> None:
    gate = Ticked()
    gate.sag = turned(6, float(ARM.position_upper_rad[6] - HOME[6]) + 0.01, REST)
    gate.tick(ASK.ACTIVATE, plan=gate.plan())
    decision = gate.tick(ASK.ACTIVATE)
    assert decision.answers[0].accepted
    assert decision.command is not None
    assert decision.command.position_rad[-1, 6] == pytest.approx(ARM.position_upper_rad[6])


def test_an_arm_that_was_moved_before_the_activation_is_taken_up_where_it_is_measured_after_the_request() -> (
    None
):
    gate = Ticked().following()
    gate.tick(ASK.DEACTIVATE)
    gate.until(Mode.INACTIVE)
    gate.tick(plan=gate.plan())
    (answer,) = gate.tick(ASK.ACTIVATE).answers
    assert (answer.accepted, answer.message) == (False, "not fresh: joint states newer than the request")
    before = gate.commanded
    gate.sag = turned(0, 0.3, REST)
    decision = gate.tick(ASK.ACTIVATE)
    assert decision.answers[0].accepted
    moved = turned(0, 0.3, before)
    np.testing.assert_allclose(decision.command.position_rad[-1], moved, atol=1e-9)


def test_a_plan_from_before_the_activation_moves_nothing() -> None:
    gate = Ticked()
    old = gate.plan()
    gate.policy_on = False
    gate.tick(ASK.ACTIVATE, plan=replace(old, chunk=replace(old.chunk, stamp_s=gate.ros_s + PERIOD_S)))
    assert gate.tick(ASK.ACTIVATE).answers[0].accepted
    assert {decision.state.mode for decision in gate.runs(29)} == {Mode.HOLD}
    for _ in range(20):
        gate.tick(plan=gate.plan()) if gate.now_s > 100.45 else gate.tick()
    assert gate.decision is not None
    assert gate.decision.state.mode == Mode.NOMINAL


def test_counts_begin_with_each_activation() -> None:
    gate = Ticked().following()
    bad = gate.tick(prediction=replace(prediction(gate.ros_s), risk=9.0))
    assert bad.refused == ("prediction: the risk is not within 0 and 1",)
    gate.now_s += 0.05
    gate.tick()
    gate.risk = {"collision": 1.0, "miss": 1.0}
    gate.until(Mode.PROTECTIVE_STOP)
    gate.risk = {}
    gate.until(Mode.NOMINAL)
    gate.runs(20)
    gate.tick(ASK.EMERGENCY_STOP)
    state = gate.runs(50)[-1].state
    assert (state.protective_stop_count, state.replan_count, state.emergency_stop_count) == (1, 1, 1)
    assert (state.refused_message_count, state.overrun_count, state.assist_count) == (1, 3, 0)
    gate.tick(ASK.RESET)
    gate.runs(50)
    gate.tick(ASK.DEACTIVATE)
    gate.until(Mode.INACTIVE)
    gate.decision = None
    gate.active()
    state = gate.tick().state
    assert (state.protective_stop_count, state.replan_count, state.emergency_stop_count) == (0, 0, 0)
    assert (state.refused_message_count, state.overrun_count) == (0, 0)


# Following


def test_while_it_follows_the_state_tells_plan_place_and_speed() -> None:
    gate = Ticked().following()
    decision = gate.tick()
    state = decision.state
    assert (state.mode, state.cause, state.reason) == (Mode.NOMINAL, Cause.NONE, "following the policy")
    assert state.sequence == gate.sequence
    assert state.speed_scale == 1.0
    assert 0.0 < state.path_time_s < 0.8
    assert not decision.standing
    assert decision.command is not None
    assert not decision.command.velocity_rad_s[-1].any()
    before = gate.tick().state
    after = gate.tick().state
    assert after.time_in_mode_s == pytest.approx(before.time_in_mode_s + PERIOD_S)


def test_the_gripper_is_told_once_and_only_while_it_follows() -> None:
    gate = Ticked()
    gate.active()
    assert all(decision.gripper_opening_m is None for decision in gate.runs(20))
    gate.until(Mode.NOMINAL)
    assert gate.decision is not None
    told = [gate.decision.gripper_opening_m, *(one.gripper_opening_m for one in gate.runs(20))]
    assert [opening for opening in told if opening is not None] == [0.08]
    assert gate.tick(ASK.EMERGENCY_STOP).gripper_opening_m is None


@pytest.mark.parametrize(
    ("setting", "fraction"), [("velocity_fraction", 0.05), ("acceleration_fraction", 0.02)]
)
def test_a_share_of_the_limits_is_used_and_no_more(setting: str, fraction: float) -> None:
    gate = Ticked(**{setting: fraction}, stall_s=99.0)
    gate.active().until(Mode.NOMINAL)
    last = gate.controller.at(gate.now_s)[1]
    limit = {
        "velocity_fraction": fraction * ARM.velocity_limit_rad_s,
        "acceleration_fraction": fraction * ARM.acceleration_limit_rad_s2 * PERIOD_S,
    }[setting]
    fastest = 0.0
    for _ in range(60):
        gate.tick()
        velocity = gate.controller.at(gate.now_s)[1]
        used = np.abs(velocity if setting == "velocity_fraction" else velocity - last) / limit
        last = velocity
        fastest = max(fastest, float(used.max()))
    assert 0.25 < fastest <= 1.2


def test_a_command_is_sent_when_time_has_passed_or_the_mode_has_changed() -> None:
    gate = Ticked().following()
    kept = gate.ros_s
    gate.ros_s -= PERIOD_S
    assert gate.tick().command is None, "no time has passed"
    assert gate.ros_s == kept
    gate.ros_s -= PERIOD_S
    assert gate.tick(ASK.EMERGENCY_STOP).command is not None
    assert gate.tick().command is not None


def test_the_arm_is_compared_with_what_it_was_commanded_and_each_mode_tells_how_far_off_it_is() -> None:
    gate = Ticked().following()
    for mode, off_rad in ((Mode.SLOW_DOWN, "0.100"), (Mode.HOLD, "0.200")):
        gate.sag = turned(2, float(off_rad), REST)
        state = gate.until(mode).state
        assert state.cause == Cause.TRACKING_ERROR
        assert state.reason == (
            f"the arm does not follow its commands: {off_rad} rad off its recent commands"
        )


# The speed


@pytest.mark.parametrize(
    ("settings", "happens", "speed"),
    [
        ({"late_prediction_speed": 0.5, "prediction_hold_deadline_s": 9.0}, {"monitor_on": False}, 0.5),
        ({"tracking_speed": 0.25}, {"sag": turned(2, 0.1, REST)}, 0.25),
        ({"slow_speed": 0.125, "replan_risk": 99.0}, {"risk": {"miss": 0.5}}, 0.125),
        (
            {"slow_speed": 0.125, "replan_risk": 99.0, "tracking_speed": 0.5},
            {"risk": {"miss": 0.5}, "sag": turned(2, 0.1, REST)},
            0.125,
        ),
        (
            {
                **{"late_prediction_speed": 0.25, "prediction_hold_deadline_s": 9.0},
                **{"tracking_speed": 0.5, "tracking_persistence_s": 0.0},
            },
            {"monitor_on": False, "sag": turned(2, 0.1, REST)},
            0.25,
        ),
        ({"shadow_mode": True, "replan_risk": 99.0}, {"risk": {"miss": 0.5}}, 1.0),
    ],
)
def test_the_speed_is_the_lowest_that_anything_asks_for(settings: dict, happens: dict, speed: float) -> None:
    gate = Ticked(**settings).following()
    for name, value in happens.items():
        setattr(gate, name, value)
    gate.runs(40)
    assert gate.tick().state.speed_scale == pytest.approx(speed)


# Learned risk


def test_risk_is_asked_of_motion_alone() -> None:
    gate = Ticked()
    gate.risk = {"collision": 1.0}
    gate.active()
    assert {decision.state.mode for decision in gate.runs(25)} == {Mode.HOLD}


def test_risk_is_not_asked_of_an_arm_whose_plan_has_ended() -> None:
    gate = Ticked(hold_off_s=0.5, policy_deadline_s=9.0).following()
    gate.policy_on = False
    while gate.tick().state.sequence >= 0:
        pass
    gate.risk = {"collision": 1.0}
    assert {decision.state.mode for decision in gate.runs(20)} == {Mode.NOMINAL}


def test_in_shadow_mode_the_state_says_what_risk_would_have_done_and_without_risk_nothing() -> None:
    gate = Ticked(shadow_mode=True).following()
    quiet = gate.tick()
    assert (quiet.risk_would, quiet.state.reason) == (None, "following the policy")
    gate.risk = {"collision": 1.0}
    gate.runs(3)
    loud = gate.tick()
    assert loud.risk_would == Mode.PROTECTIVE_STOP
    assert loud.state.reason == "following the policy; learned risk alone would lead to PROTECTIVE_STOP"
    assert loud.state.mode == Mode.NOMINAL
    acts = Ticked().following()
    acts.risk = {"collision": 1.0}
    assert acts.until(Mode.PROTECTIVE_STOP).risk_would is None


def test_for_a_while_after_a_replan_a_miss_that_is_still_foreseen_is_not_acted_on() -> None:
    gate = Ticked(replan_grace_s=0.2, retrace_path_s=0.0, replan_attempts=9).following()
    gate.risk = {"miss": 1.0}
    gate.until(Mode.REPLAN)
    gate.until(*FOLLOWING)
    grace = 0
    while gate.tick().state.mode in FOLLOWING:
        grace += 1
    assert 18 <= grace <= 22


@pytest.mark.parametrize("attempts", [0, 2])
def test_once_attempts_are_used_up_mishaps_are_tried_where_so_set_and_collisions_never(attempts: int) -> None:
    gate = Ticked(
        when_replans_are_used_up="go_on", replan_attempts=attempts, retrace_path_s=0.0, replan_grace_s=0.0
    ).following()
    gate.risk = {"miss": 1.0, "drop": 1.0}
    for _ in range(attempts):
        gate.until(Mode.REPLAN)
        gate.until(*FOLLOWING)
    assert {decision.state.mode for decision in gate.runs(60)} <= set(FOLLOWING)
    gate.risk = {"collision": 1.0}
    gate.until(Mode.PROTECTIVE_STOP)


@pytest.mark.parametrize(("ticks", "mode"), [(60, Mode.ASSIST), (140, Mode.REPLAN)])
def test_attempts_are_renewed_by_the_path_that_is_followed_without_intervention(
    ticks: int, mode: Mode
) -> None:
    gate = Ticked(replan_attempts=1, attempts_renew_s=0.75, retrace_path_s=0.0).following()
    gate.risk = {"miss": 1.0}
    gate.until(Mode.REPLAN)
    gate.risk = {}
    gate.until(*FOLLOWING)
    gate.runs(ticks)
    gate.risk = {"miss": 1.0}
    assert gate.until(Mode.REPLAN, Mode.ASSIST).state.mode == mode


# Asking for a new plan


WAITS = {"retrace_path_s": 0.0, "policy_deadline_s": 9.0}


def test_the_policy_is_asked_once_for_each_attempt() -> None:
    gate = Ticked(replan_grace_s=0.0, replan_attempts=2, **WAITS).following()
    gate.risk = {"miss": 1.0}
    first = gate.until(Mode.REPLAN)
    assert first.request_replan
    assert not any(decision.request_replan for decision in gate.runs(5))
    gate.until(*FOLLOWING)
    second = gate.until(Mode.REPLAN)
    assert second.request_replan
    assert (first.state.replan_count, second.state.replan_count) == (1, 2)
    gate.policy_on = False
    asked = [decision.request_replan for decision in gate.runs(100)]
    assert not any(asked)


def test_for_a_foreseen_time_out_the_policy_is_asked_to_commit_and_nothing_is_driven_back() -> None:
    gate = Ticked(timeout_grace_s=0.0, policy_deadline_s=9.0).following()
    gate.policy_on = False
    gate.risk = {"timeout": 1.0}
    asked = gate.until(Mode.REPLAN)
    assert (asked.state.cause, asked.request_replan, asked.commit) == (Cause.FORESEEN_TIMEOUT, True, True)
    path = [asked, *gate.runs(100)]
    assert not any(decision.request_replan or decision.commit for decision in path[1:]), "asked once"
    assert path[-1].standing
    places = np.array([decision.command.position_rad[0] for decision in path])
    ahead = places[-1] - places[0]
    assert (np.diff(places, axis=0) * np.sign(ahead) > -1e-9).all(), "it turned back on its way to rest"


@pytest.mark.parametrize(
    ("beside", "cause"),
    [
        ({"miss": 1.0}, Cause.FORESEEN_MISS),
        ({"drop": 1.0}, Cause.FORESEEN_DROP),
        ({"collision": 1.0}, Cause.AFTER_STOP),
    ],
)
def test_a_time_out_foreseen_beside_something_worse_hides_neither_its_name_nor_its_way_back(
    beside: dict[str, float], cause: Cause
) -> None:
    same = {"timeout_grace_s": 0.0, "timeout_persistence": 3, "stop_persistence": 3}
    gate = Ticked(replan_persistence=3, stop_horizon_s=0.3, **same, policy_deadline_s=9.0).following()
    gate.policy_on = False
    gate.risk = {"timeout": 1.0, **beside}
    asked = gate.until(Mode.REPLAN)
    assert asked.state.cause is cause
    places = np.array([decision.command.position_rad[0] for decision in gate.runs(150)])
    assert np.diff(places[:, 0]).min() < -1e-5, "it did not drive back"


def test_replans_for_a_foreseen_time_out_use_no_attempts_up_and_go_on_for_as_long_as_it_is_foreseen() -> None:
    gate = Ticked(timeout_grace_s=0.3, replan_attempts=1).following()
    gate.risk = {"timeout": 1.0}
    for _ in range(5):
        asked = gate.until(Mode.REPLAN)
        assert asked.request_replan and asked.commit
        gate.until(*FOLLOWING)
    gate.risk = {"miss": 1.0}
    assert gate.until(Mode.REPLAN, Mode.ASSIST).state.mode == Mode.REPLAN, "the one attempt was left"


def test_for_any_other_replan_the_policy_is_not_asked_to_commit() -> None:
    gate = Ticked(**WAITS).following()
    gate.risk = {"miss": 1.0}
    asked = gate.until(Mode.REPLAN)
    assert asked.request_replan and not asked.commit


@pytest.mark.parametrize("worse", ["collision", "drop"])
def test_after_a_foreseen_collision_or_drop_the_policy_plans_from_higher_up_and_twice_as_high_the_next_time(
    worse: str,
) -> None:
    gate = Ticked(lift_m=0.12, protective_stops=3, **WAITS).following()
    for attempt in (1, 2):
        gate.risk = {worse: 1.0}
        asked = gate.until(Mode.REPLAN)
        assert asked.request_replan
        assert asked.lift_m == pytest.approx(0.12 * attempt)
        gate.risk = {}
        assert not any(decision.lift_m for decision in gate.runs(5)), "it is asked once"
        gate.until(*FOLLOWING)


def test_for_any_other_replan_the_policy_plans_where_the_arm_is() -> None:
    gate = Ticked(lift_m=0.12, timeout_grace_s=0.0, **WAITS).following()
    for risk in ({"miss": 1.0}, {"timeout": 1.0}):
        gate.risk = risk
        asked = gate.until(Mode.REPLAN)
        assert asked.request_replan and asked.lift_m == 0.0
        gate.risk = {}
        gate.until(*FOLLOWING)


def test_the_tool_is_lifted_no_higher_than_the_workspace_box() -> None:
    gate = Ticked(**WAITS).following()
    height_m = float(ARM.forward(gate.until(*FOLLOWING).command.position_rad[0])[2, 3])
    box = (0.95, 0.9, height_m + 0.05)
    gate = Ticked(lift_m=0.12, workspace_upper_m=box, **WAITS).following()
    gate.risk = {"drop": 1.0}
    assert 0.0 < gate.until(Mode.REPLAN).lift_m < 0.06


def test_after_waiting_in_vain_and_after_the_next_activation_it_is_asked_again() -> None:
    gate = Ticked(replan_timeout_s=0.5, **WAITS).following()
    gate.policy_on = False
    gate.risk = {"miss": 1.0}
    asked = [decision.request_replan for decision in gate.runs(100)]
    assert asked.count(True) == 2
    gate.tick(ASK.DEACTIVATE)
    gate.until(Mode.INACTIVE)
    gate.policy_on, gate.decision, gate.risk = True, None, {}
    gate.following()
    gate.risk = {"miss": 1.0}
    assert gate.until(Mode.REPLAN).request_replan


def test_a_person_who_retries_makes_the_policy_be_asked_though_its_plans_keep_coming() -> None:
    gate = Ticked(assist_persistence=1, replan_risk=9.0).following()
    gate.risk = {"out_of_distribution": True, "miss": 0.5}
    gate.until(Mode.ASSIST)
    gate.risk = {}
    gate.runs(60)
    decision = gate.tick(ASK.RETRY)
    assert decision.answers[0].accepted
    assert (decision.state.mode, decision.request_replan) == (Mode.REPLAN, True)
    gate.until(Mode.NOMINAL)


# Plans


def test_plans_that_cannot_be_joined_in_a_row_ask_for_a_replan_and_the_row_begins_anew() -> None:
    gate = Ticked(refused_plans_to_replan=2, replan_attempts=9).following()
    gate.policy_on = False

    def far() -> Decision:
        plan = gate.plan()
        far_points = plan.chunk.joint_position_rad + 0.5
        chunk_ = replace(plan.chunk, joint_position_rad=far_points, stamp_s=gate.ros_s + PERIOD_S)
        return gate.tick(plan=replace(plan, chunk=chunk_))

    assert far().state.mode == Mode.NOMINAL
    assert gate.tick().state.refused_message_count == 1
    far()
    decision = gate.tick()
    assert (decision.state.mode, decision.state.cause) == (Mode.REPLAN, Cause.PLAN_REFUSED)
    assert decision.state.reason.startswith("plans cannot be joined to where the arm is")
    gate.policy_on = True
    gate.until(Mode.NOMINAL)
    gate.policy_on = False
    far()
    assert gate.tick().state.mode == Mode.NOMINAL


def test_an_arm_outside_the_box_whose_way_to_every_plan_begins_outside_replans_and_then_calls_a_person() -> (
    None
):
    height_m = float(ARM.forward(HOME)[2, 3])
    gate = Ticked(
        **{"workspace_lower_m": (-0.4, -0.9, height_m + 1e-4), "refused_plans_to_replan": 2},
        **{"replan_attempts": 2, "hold_off_s": 0.5},
    )
    inside = gate.plan().chunk.joint_position_rad + turned(3, 0.05, REST)
    gate.policy_on = False
    modes = []
    while not modes or modes[-1] != Mode.ASSIST:
        plan = output(1, chunk(gate.ros_s + PERIOD_S, inside))
        ask = (ASK.ACTIVATE,) if not modes or modes[-1] == Mode.INACTIVE else ()
        mode = gate.tick(*ask, **({"plan": plan} if gate.ticks % 10 == 0 else {})).state.mode
        modes += [mode] if not modes or mode != modes[-1] else []
    replan = [Mode.NOMINAL, Mode.REPLAN]
    assert modes == [Mode.INACTIVE, Mode.HOLD, *replan, *replan, Mode.NOMINAL, Mode.ASSIST], gate.decision
    assert gate.decision.state.refused_message_count == 6, "two refused plans for each replan and the call"


def test_without_a_plan_for_the_hold_off_time_the_plan_has_ended() -> None:
    gate = Ticked(hold_off_s=0.25, policy_deadline_s=9.0).following()
    gate.policy_on = False
    while gate.tick().state.sequence >= 0:
        assert gate.decision is not None and gate.decision.state.mode == Mode.NOMINAL
    waited = 0
    while gate.tick().state.mode == Mode.NOMINAL:
        waited += 1
    assert gate.decision is not None
    assert gate.decision.state.cause == Cause.PLAN_ENDED
    assert 24 <= waited <= 27


def test_a_plan_that_leads_nowhere_for_too_long_is_a_stall() -> None:
    gate = Ticked(stall_s=0.5, stall_progress=0.5, tracking_speed=0.0).following()
    gate.sag = turned(2, 0.1, REST)
    decision = gate.until(Mode.ASSIST)
    assert decision.state.cause == Cause.STALL
    assert decision.state.assist_count == 1
    assert gate.until(Mode.ASSIST).state.assist_count == 1
    assert decision.state.speed_scale == 0.0


def test_time_without_following_is_no_stall() -> None:
    gate = Ticked(stall_s=0.5, stall_progress=0.5, policy_deadline_s=0.2).following(20)
    gate.policy_on = False
    gate.until(Mode.HOLD)
    gate.runs(100)
    gate.policy_on = True
    gate.until(Mode.NOMINAL)
    assert {decision.state.mode for decision in gate.runs(48)} == {Mode.NOMINAL}


# Stopping


def test_a_request_that_changes_nothing_leaves_an_arm_slowed_to_nothing_on_its_plan() -> None:
    gate = Ticked(late_prediction_speed=0.0, prediction_hold_deadline_s=9.0)
    gate.active()
    gate.monitor_on = False
    gate.until(Mode.SLOW_DOWN)
    gate.sag = turned(2, 0.02, REST)
    held = gate.commanded
    decision = gate.tick(ASK.ACTIVATE)
    assert decision.answers[0].accepted
    assert decision.state.sequence >= 0
    assert decision.command is not None
    assert decision.command.position_rad[-1] == pytest.approx(held), "it was held where it is measured"


def test_an_arm_that_stands_on_its_plan_drives_nothing_back_before_a_replan() -> None:
    slowed = {"tracking_speed": 0.0, "tracking_slow_rad": 0.002}
    gate = Ticked(**slowed, replan_grace_s=0.0, hold_off_s=0.02).following()
    gate.faults = (Fault(Cause.GATE_OVERRUN),)
    gate.runs(40)
    gate.sag = turned(2, 0.003, REST)
    gate.runs(20)
    gate.faults = ()
    gate.until(Mode.SLOW_DOWN)
    gate.risk = {"miss": 1.0}
    assert gate.until(Mode.REPLAN).state.cause == Cause.FORESEEN_MISS
    places = [decision.command.position_rad[-1, 0] for decision in gate.runs(80)]
    assert min(places) >= places[0] - 1e-6, "it drove back what it had driven on an earlier plan"


def test_a_stop_brakes_on_the_path_gives_the_plan_up_and_stands() -> None:
    gate = Ticked().following()
    speed = gate.speed_rad_s
    decision = gate.tick(ASK.EMERGENCY_STOP)
    assert (decision.state.mode, decision.state.cause) == (Mode.EMERGENCY_STOP, Cause.PERSON)
    assert decision.state.reason == "a person asked for it"
    assert decision.stop_driver
    assert not decision.standing
    assert decision.state.sequence == -1
    assert math.isnan(decision.state.path_time_s)
    later = gate.runs(60)
    assert not any(one.stop_driver for one in later), "the driver is called once"
    assert later[-1].standing
    assert gate.speed_rad_s < 1e-9 < speed
    assert later[-1].state.emergency_stop_count == 1
    assert later[-1].state.time_in_mode_s == pytest.approx(0.6)


def test_after_a_reset_the_arm_is_held_where_it_is_by_then_and_waits_for_a_newer_plan() -> None:
    gate = Ticked().following()
    gate.tick(ASK.EMERGENCY_STOP)
    gate.runs(80)
    gate.sag = turned(2, 0.04, REST)
    gate.policy_on = False
    gate.tick(plan=gate.plan())
    measured = gate.commanded + gate.sag
    decision = gate.tick(ASK.RESET)
    assert decision.answers[0].accepted
    assert decision.command is not None
    assert decision.command.position_rad[-1] == pytest.approx(measured)
    assert {one.state.mode for one in gate.runs(25)} == {Mode.HOLD}
    gate.sag = REST
    assert {one.state.mode for one in gate.runs(30)} == {Mode.HOLD}, "moved by a plan from before the reset"
    gate.tick(plan=gate.plan())
    gate.until(Mode.NOMINAL, ticks=5)


def test_an_answer_that_is_denied_changes_nothing_about_which_plans_count() -> None:
    gate = Ticked(replan_attempts=0, policy_deadline_s=9.0, retrace_path_s=0.0).following()
    gate.tick(ASK.EMERGENCY_STOP)
    gate.runs(80)
    held = gate.commanded
    gate.sag = turned(2, 0.04, REST)
    decision = gate.tick(ASK.ACTIVATE)
    assert not decision.answers[0].accepted
    assert decision.command is not None
    assert decision.command.position_rad[-1] == pytest.approx(held), "a denied request moved the hold"


@pytest.mark.parametrize("stop", [ASK.DEACTIVATE, ASK.SHUTDOWN])
def test_who_leaves_decelerates_then_commands_nothing_and_watches_nothing(stop: RequestKind) -> None:
    gate = Ticked().following()
    decision = gate.tick(stop)
    assert decision.state.mode == Mode.HOLD
    gate.until(Mode.INACTIVE, ticks=60)
    assert gate.speed_rad_s < 1e-9
    gate.robot_on = gate.monitor_on = gate.policy_on = False
    for decision in gate.runs(60):
        assert decision.state.mode == Mode.INACTIVE
        assert decision.command is None
        assert decision.standing


def test_watchdogs_begin_anew_with_a_reset() -> None:
    gate = Ticked(prediction_slow_deadline_s=0.5, prediction_hold_deadline_s=0.6).following()
    gate.robot_on = False
    decision = gate.until(Mode.EMERGENCY_STOP)
    assert decision.state.reason == "no valid joint states in time"
    gate.runs(80)
    (answer,) = gate.tick(ASK.RESET).answers
    assert (answer.accepted, answer.message) == (False, "the cause still stands: joint_state_late")
    gate.robot_on = True
    gate.runs(80)
    gate.monitor_on = False
    gate.runs(70)
    assert gate.tick(ASK.RESET).answers[0].accepted
    gate.until(Mode.NOMINAL, ticks=50)  # its silence before the reset does not count
    assert gate.until(Mode.HOLD, ticks=50).state.cause == Cause.PREDICTION_LATE


def press(position: Floats, force_n: float) -> Floats:
    rows = np.concatenate([position[None], position + 1e-6 * np.eye(7)])
    place = ARM.forward(rows)[:, 2, 3]
    return (place[1:] - place[0]) / 1e-6 * force_n


def test_a_contact_is_held_where_it_was_measured_and_forgotten_with_the_answer() -> None:
    gate = Ticked(contact_persistence_s=0.0).following()
    gate.effort = press(gate.commanded, 200.0)
    gate.sag = turned(3, -0.03, REST)
    decision = gate.tick()
    assert (decision.state.mode, decision.state.cause) == (Mode.ASSIST, Cause.CONTACT)
    assert decision.command is not None
    assert decision.command.position_rad[-1] == pytest.approx(gate.gate._senses.measured)
    assert decision.state.reason.startswith("contact: about 2")
    gate.runs(40)
    assert not gate.tick(ASK.RESUME).answers[0].accepted
    gate.effort = REST
    gate.runs(100)
    gate.effort = press(gate.commanded, 60.0)
    assert gate.tick(ASK.RESUME).answers[0].accepted
    gate.effort = press(gate.commanded, 130.0)
    modes = {one.state.mode for one in gate.runs(10)}
    assert Mode.ASSIST not in modes, "the load at the answer was not taken for normal"


def test_a_contact_is_forgotten_by_an_answer_that_was_accepted_and_by_none_that_was_not() -> None:
    gate = Ticked(contact_persistence_s=0.0, effort_baseline_s=9.0).following()
    gate.effort = press(gate.commanded, 200.0)
    gate.until(Mode.ASSIST)
    gate.runs(30)
    for _ in range(2):
        assert not gate.tick(ASK.RESUME).answers[0].accepted
    assert gate.gate._senses.contact.force_n > 150.0
    gate.effort = press(gate.commanded, 60.0)
    gate.runs(2)
    assert gate.gate._senses.contact.force_n > 40.0
    assert gate.tick(ASK.RESUME).answers[0].accepted
    gate.tick()
    assert gate.gate._senses.contact.force_n == 0.0


@pytest.mark.parametrize("allowed", [1, 2])
def test_an_arm_that_is_held_for_not_following_is_tried_again_as_often_as_allowed(allowed: int) -> None:
    gate = Ticked(tracking_holds=allowed, tracking_persistence_s=0.0, attempts_renew_s=9.0).following()
    for _ in range(2):
        gate.sag = turned(2, 0.2, REST)
        gate.until(Mode.HOLD)
        gate.sag = REST
        decision = gate.until(Mode.NOMINAL, Mode.ASSIST)
        gate.runs(10)
    assert decision.state.mode == (Mode.ASSIST if allowed == 1 else Mode.NOMINAL)
    if allowed == 1:
        assert decision.state.cause == Cause.STALL


def test_a_standing_arm_counts_the_plans_that_it_cannot_join() -> None:
    gate = Ticked(refused_plans_to_replan=2, policy_deadline_s=0.3).following()
    gate.policy_on = False
    gate.until(Mode.HOLD)
    gate.runs(60)

    def far() -> Decision:
        plan = gate.plan()
        points = plan.chunk.joint_position_rad + 0.5
        action = replace(plan.chunk, joint_position_rad=points, stamp_s=gate.ros_s + PERIOD_S)
        gate.tick(plan=replace(plan, chunk=action))
        gate.tick()
        return gate.tick()

    assert far().state.mode == Mode.HOLD
    decision = far()
    assert (decision.state.mode, decision.state.cause) == (Mode.REPLAN, Cause.PLAN_REFUSED)
    assert decision.state.refused_message_count == 2


def test_a_hard_contact_latches_where_it_was_measured() -> None:
    gate = Ticked(hard_force_persistence_s=0.0, contact_persistence_s=9.0).following()
    gate.effort = press(gate.commanded, 400.0)
    gate.sag = turned(3, -0.03, REST)
    decision = gate.tick()
    assert (decision.state.mode, decision.state.cause) == (Mode.EMERGENCY_STOP, Cause.CONTACT_FORCE)
    assert decision.command is not None
    assert decision.command.position_rad[-1] == pytest.approx(gate.gate._senses.measured)


def test_a_replan_drives_back_before_it_takes_a_newer_plan() -> None:
    gate = Ticked(retrace_path_s=0.2).following()
    gate.risk = {"miss": 1.0}
    gate.until(Mode.REPLAN)
    gate.risk = {}
    rows = []
    while gate.tick().state.mode == Mode.REPLAN:
        assert gate.decision is not None
        rows.append(gate.commanded[0])
        assert gate.decision.state.speed_scale >= 0.0
        assert len(rows) < 300
    assert max(rows) - rows[-1] == pytest.approx(0.3 * 0.2, abs=0.015)


def test_the_state_tells_no_speed_on_the_way_back() -> None:
    gate = Ticked(retrace_path_s=0.3).following()
    gate.risk = {"miss": 1.0}
    gate.until(Mode.REPLAN)
    gate.risk = {}
    gate.runs(60)
    assert gate.speed_rad_s > 0.05, "it does not drive back"
    decision = gate.tick()
    assert decision.state.speed_scale == 0.0
    assert math.isnan(decision.state.path_time_s)


# Time


def test_after_a_clock_jump_only_a_plan_from_after_it_moves_the_arm() -> None:
    gate = Ticked().following()
    gate.ros_s -= 0.5
    gate.policy_on = False
    decision = gate.tick(plan=gate.plan())
    assert (decision.state.mode, decision.state.cause) == (Mode.HOLD, Cause.TIME_UNSOUND)
    assert decision.state.reason == "the ROS clock is missing, stands still or has jumped"
    assert {one.state.mode for one in gate.runs(25)} == {Mode.HOLD}


def test_a_plan_that_comes_with_a_clock_jump_moves_no_arm_that_holds() -> None:
    gate = Ticked(hold_off_s=0.02, policy_deadline_s=9.0).following()
    gate.faults = (Fault(Cause.GATE_OVERRUN),)
    assert gate.runs(60)[-1].standing
    gate.faults, gate.policy_on = (), False
    gate.ros_s -= 0.5
    plan = gate.plan()
    gate.tick(plan=replace(plan, chunk=replace(plan.chunk, stamp_s=gate.ros_s + PERIOD_S)))
    assert gate.gate._senses.clock.jumped
    assert {one.state.mode for one in gate.runs(20)} == {Mode.HOLD}
    gate.tick(plan=gate.plan())
    gate.until(Mode.NOMINAL, ticks=5)


def test_while_the_clock_stands_nothing_is_sent_and_when_it_goes_on_the_arm_is_found() -> None:
    gate = Ticked(clock_stall_s=0.05).following()
    for _ in range(8):
        gate.ros_s -= PERIOD_S
        decision = gate.tick()
        assert decision.command is None
    assert decision.state.mode == Mode.HOLD
    assert decision.standing, "where it is is unknown: no motion is in hand"
    gate.until(Mode.NOMINAL)


def test_a_steady_clock_that_goes_back_takes_no_time_back() -> None:
    gate = Ticked(hold_off_s=0.2).following()
    gate.faults = (Fault(Cause.GATE_OVERRUN),)
    assert gate.tick().state.mode == Mode.HOLD
    gate.faults = ()
    gate.runs(40)
    gate.faults = (Fault(Cause.GATE_OVERRUN),)
    gate.tick()
    gate.faults = ()
    gate.now_s -= 50.0
    gate.controller._start_s -= 50.0
    gate.until(Mode.NOMINAL, ticks=60)


# Errors


def broken(gate: Ticked, monkeypatch: pytest.MonkeyPatch, ticks: int = 1) -> list[Decision]:
    with monkeypatch.context() as patch:
        patch.setattr(gate.gate._senses, "present", lambda *_: 1 / 0)
        return [gate.tick(ASK.RESUME) for _ in range(ticks)]


def test_an_error_is_told_stops_the_driver_and_latches(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Ticked().following()
    (decision,) = broken(gate, monkeypatch)
    state = decision.state
    assert (state.mode, state.cause) == (Mode.EMERGENCY_STOP, Cause.EXCEPTION)
    why = "ZeroDivisionError: division by zero"
    assert state.reason == f"an internal error: {why}"
    assert (decision.command, decision.gripper_opening_m, decision.risk_would) == (None, None, None)
    assert (decision.stop_driver, decision.request_replan, decision.refused) == (True, False, ())
    assert decision.answers == (Answer(Request(ASK.RESUME, "somebody"), False, why),)
    assert (state.sequence, state.emergency_stop_count, state.time_in_mode_s) == (-1, 1, 0.0)
    assert decision.standing, "where the controller is by now is unknown"
    decision = gate.tick(ASK.RESET)
    assert decision.answers[0].message == "the cause still stands: exception"
    assert decision.state.reason == f"an internal error: {why}"
    assert not decision.stop_driver
    gate.runs(60)
    assert gate.tick(ASK.RESET).answers[0].accepted
    gate.until(Mode.NOMINAL)


def test_after_an_error_nothing_is_sent_until_the_arm_is_measured_to_stand_and_then_it_is_held_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Ticked().following()
    broken(gate, monkeypatch)
    gate.sag = turned(2, 0.02, REST)
    waited = 0
    while gate.tick().command is None:
        waited += 1
    assert 3 <= waited <= 20, "as long as what was sent last takes to come to its rest"
    assert gate.decision is not None and gate.decision.command is not None
    assert gate.decision.command.position_rad[-1] == pytest.approx(gate.gate._senses.measured)


def test_an_error_after_another_is_told_instead_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Ticked().following()
    broken(gate, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(gate.gate._senses, "take", lambda *_: [].pop())
        assert gate.tick().state.reason == "an internal error: IndexError: pop from empty list"


def test_an_error_that_goes_on_is_one_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [decision.state for decision in broken(Ticked().following(), monkeypatch, ticks=3)]
    assert [state.emergency_stop_count for state in states] == [1, 1, 1]
    assert states[2].time_in_mode_s > states[1].time_in_mode_s > states[0].time_in_mode_s == 0.0


def test_an_error_before_the_activation_is_told_and_latches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Ticked()
    gate.tick()
    (decision,) = broken(gate, monkeypatch)
    assert (decision.state.mode, decision.state.cause) == (Mode.EMERGENCY_STOP, Cause.EXCEPTION)
    gate.tick()
    assert gate.tick(ASK.RESET).answers[0].accepted
    gate.following()


def test_a_command_beyond_the_limits_is_withheld_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Ticked().following()
    with monkeypatch.context() as patch:
        patch.setattr(gate.gate._limits, "objection", lambda *_: "it is not to be")
        decision = gate.tick()
        assert decision.command is None
        assert decision.state.mode == Mode.NOMINAL
    decision = gate.tick()
    assert (decision.state.mode, decision.state.cause) == (Mode.EMERGENCY_STOP, Cause.EXCEPTION)
    assert decision.state.reason == "an internal error: a command was withheld: it is not to be"
    decision = gate.tick()
    assert decision.state.reason == "an internal error: a command was withheld: it is not to be"
    assert gate.gate._standing.lost, "the controller has gone on along what it was sent last"
    assert decision.command is None


@pytest.mark.parametrize(
    ("objections", "first_s", "stops"),
    [
        *((0, 0.03, False), (1, 0.03, False), (2, 0.01, False)),
        *((3, 0.03, True), (4, 0.02, True), (5, 0.01, True)),
    ],
)
def test_a_command_that_would_be_withheld_is_sent_with_every_corner_then_as_a_stop(
    monkeypatch: pytest.MonkeyPatch, objections: int, first_s: float, stops: bool
) -> None:
    gate = Ticked().following()
    said = iter(["it is not to be"] * objections)
    with monkeypatch.context() as patch:
        patch.setattr(gate.gate._limits, "objection", lambda *_: next(said, ""))
        sent = gate.tick().command
    assert sent is not None
    assert sent.time_from_start_s[0] == pytest.approx(first_s, abs=0.005)
    # At full speed it keeps it for the lead of 30 ms and then brakes at 20/s, or brakes at once.
    assert sent.time_from_start_s[-1] == pytest.approx(0.05 if stops else 0.08, abs=0.005)
    assert gate.tick().state.mode == Mode.NOMINAL


def test_an_emergency_stop_says_when_the_arm_is_just_being_taken_up() -> None:
    """No hold ends that: where the controller is by then is not known, so the driver is stopped."""
    gate = Ticked().active()
    first = gate.tick(ASK.EMERGENCY_STOP)
    assert (first.stop_driver, first.placing) == (True, True)
    assert not gate.tick().placing, "it is told once"
    gate.runs(60)
    gate.tick(ASK.RESET)
    gate.runs(60)
    later = gate.tick(ASK.EMERGENCY_STOP)
    assert (later.stop_driver, later.placing) == (True, False)


def test_a_lost_arm_whose_joint_states_are_wrong_is_taken_up_by_a_reset_where_they_say() -> None:
    gate = Ticked(jump_margin_rad=0.05).following()
    gate.runs(5)
    gate.gate._standing.lost = True
    gate.sag = turned(2, 1.0, REST)
    assert gate.tick().state.cause == Cause.JOINT_STATE_INVALID
    assert not gate.tick(ASK.RESET).answers[0].accepted, "its command has not come to rest"
    gate.runs(100)
    assert gate.gate._standing.lost
    reset = gate.tick(ASK.RESET)
    assert reset.answers[0].accepted, reset.answers[0].message
    assert not gate.gate._standing.lost


def test_an_arm_that_was_lost_in_a_hold_and_is_far_from_its_command_is_taken_up_by_a_reset() -> None:
    gate = Ticked().following()
    gate.policy_on = False
    gate.until(Mode.HOLD)
    gate.runs(60)
    gate.gate._standing.lost = True
    gate.sag = turned(2, 0.6, REST)
    gate.runs(60)
    assert gate.gate._standing.lost
    assert gate.tick(ASK.RESET).answers[0].accepted
    assert not gate.gate._standing.lost


# Reasons


def test_a_reason_is_kept_while_its_mode_lasts_and_a_second_writer_is_named_when_its_name_is_known() -> None:
    gate = Ticked().following()
    gate.faults = (Fault(Cause.SECOND_COMMAND_PUBLISHER, "somebody"),)
    assert gate.tick().state.reason == "another node commands the arm: somebody"
    gate.faults = (Fault(Cause.SECOND_COMMAND_PUBLISHER, "/rogue"),)
    assert gate.tick().state.reason == "another node commands the arm: /rogue"
    gate.faults = ()
    assert gate.tick().state.reason == "another node commands the arm: /rogue"
    other = Ticked().following()
    other.faults = (Fault(Cause.GATE_OVERRUN, "first"),)
    assert other.tick().state.reason == "the gate misses its control period: first"
    other.faults = (Fault(Cause.GATE_OVERRUN, "second"),)
    assert other.tick().state.reason == "the gate misses its control period: first"


def test_a_second_writer_is_told_once_at_the_tick_it_comes_though_the_arm_is_stopped_already() -> None:
    gate = Ticked().following()
    gate.tick(ASK.EMERGENCY_STOP)
    gate.runs(20)
    gate.faults = (Fault(Cause.SECOND_COMMAND_PUBLISHER, "/rogue"),)
    assert [decision.second_writer for decision in gate.runs(3)] == [True, False, False]
    gate.faults = ()
    assert not gate.tick().second_writer


def test_a_latch_from_before_a_restart_is_told_with_its_reason_and_calls_no_driver() -> None:
    gate = Ticked(LatchRecord(Cause.PERSON, "stopped yesterday"))
    decision = gate.tick(ASK.ACTIVATE)
    assert (decision.state.mode, decision.state.cause) == (Mode.EMERGENCY_STOP, Cause.LATCH_RESTORED)
    assert decision.state.reason == (
        "stopped before the restart, or the latch file cannot be read: stopped yesterday"
    )
    assert not decision.stop_driver
    assert not decision.answers[0].accepted
    gate.tick(ASK.RESET)
    decision = gate.tick()
    assert (decision.state.mode, decision.state.cause) == (Mode.INACTIVE, Cause.STARTUP)


# The report


def test_the_report_tells_limits_of_the_command_or_else_of_the_arm_and_else_none() -> None:
    gate = Ticked()
    assert gate.gate.report(gate.now_s).limits == ()
    gate.sag = turned(1, 0.04, REST)
    gate.tick()
    assert "joint 4 at" in gate.gate.report(gate.now_s).limits[0].detail
    gate.sag = turned(5, 1.0, REST)
    gate.tick()
    assert "joint 6 at 2.950 rad" in gate.gate.report(gate.now_s).limits[0].detail
    gate.sag = REST
    gate.following()
    gate.sag = turned(5, 1.0, REST)
    gate.tick()
    report = gate.gate.report(gate.now_s)
    assert "joint 6 at 2.950" not in report.limits[0].detail
    assert report.limits[1].detail == "joint 1 at 0.300 rad/s"
    assert [one.name for one in report.limits][3:] == ["contact force", "distance from commands"]
    assert [one.name for one in report.inputs][:2] == ["joint states", "policy output"]
    assert report.inputs[0].silence_s == pytest.approx(0.0)
