"""The gate's guarantees under histories of hostile inputs.

One state machine throws everything at the gate; after each tick all guarantees are checked:

1  on a chunk the command stays within 0.02 rad of the policy's points; it starts only where the arm is
2  every command is inside position, velocity, acceleration and workspace limits
3  every command ends in rest, inside the limits and soon
4  an emergency stop is left by an accepted reset only, and the command stands while it lasts
5  speed rises no faster than allowed
6  silence leads to standstill in bounded time
9  after a standstill only a plan newer than it moves the arm
10 the gripper is commanded only while following

A second test compares, at each prediction, with a copy of the gate that hears of more risk (5 and 7). 4, 7, 8
and 9 are checked on every edge of the mode machine in test_exploration.py, the writers of guarantee 8 in
test/nodes/test_intervention_node.py.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
from gate_world import ARM, HOME, PERIOD_S, World, chunk, output
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from salus_ros.intervention.gate import Gate
from salus_ros.intervention.inputs import Decision, Fault, GateInputs, RequestKind
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import Cause, Floats, JointTrajectory, Mode, PolicyOutput

FOLLOWING = (Mode.NOMINAL, Mode.SLOW_DOWN)
SETTINGS = GateSettings()
REST_S = 0.6
LATCHED_MOTION_RAD = 0.8
"""To brake from full speed, and to be held where the arm is measured, `held_within_rad` at most."""
STOOD_MOTION_RAD = 1.2
"""Where it is pushed away, or seems to be, it is held anew, `held_within_rad` from there at most."""
BAD = st.sampled_from([math.nan, math.inf, -math.inf, 1e9, -1e9])
ticks = st.integers(1, 40)


def accelerations(q0: Floats, v0: Floats, command: JointTrajectory) -> Floats:
    """Largest acceleration of each joint along the cubics of a command."""
    q = np.concatenate([q0[None], command.position_rad])
    v = np.concatenate([v0[None], command.velocity_rad_s])
    span = np.diff(np.concatenate([[0.0], command.time_from_start_s]))[:, None]
    slope = np.diff(q, axis=0) / span
    begin = np.abs(6 * slope - 4 * v[:-1] - 2 * v[1:]) / span
    end = np.abs(6 * slope - 2 * v[:-1] - 4 * v[1:]) / span
    return np.maximum(begin, end).max(axis=0)


class HostileWorld(RuleBasedStateMachine):
    """Every rule lets something happen and a little time pass."""

    @initialize(noise=st.sampled_from([0.0, 0.005, 0.02]), seed=st.integers(0, 99))
    def begin(self, noise: float, seed: int) -> None:
        self.world = World(noise_rad=noise, seed=seed)
        self.plans: dict[int, PolicyOutput] = {}
        self.blend_until_s = -1.0
        self.sequence = -1
        self.moving_since_stamp_s = -math.inf
        self.bar_s = -math.inf
        self.silent_s = {"policy_on": 0.0, "joints_on": 0.0}
        self.latched_rest_s = 0.0
        self.latched_at: Floats | None = None
        self.stood_at: Floats | None = None
        self.pushed_until_s = -math.inf
        self.last_speed = 0.0
        self.before = Mode.INACTIVE
        self.last_s = self.world.now_s
        original = self.world.gate.update

        def watched(now_s, inputs):  # type: ignore[no-untyped-def]
            if inputs.plan is not None:
                self.plans[inputs.plan.sequence] = inputs.plan
            return original(now_s, inputs)

        self.world.gate.update = watched  # type: ignore[method-assign]
        for _ in range(60):
            self.tick(RequestKind.ACTIVATE)

    def tick(self, *requests: RequestKind) -> None:
        world = self.world
        q0, v0 = world.controller.at(world.now_s + PERIOD_S)
        decision = world.step(*requests)
        state, command = decision.state, decision.command
        accepted = {a.request.kind for a in decision.answers if a.accepted}
        q, v = world.controller.at(world.now_s)
        passed_s, self.last_s = world.now_s - self.last_s, world.now_s

        if command is not None:
            self.check_limits(q0, v0, command)
        if state.mode in FOLLOWING and state.sequence >= 0:
            self.check_path(state.sequence, state.path_time_s, q)
        if self.before == Mode.EMERGENCY_STOP != state.mode:
            assert RequestKind.RESET in accepted, f"left the emergency stop by {requests}"
        if state.mode == Mode.EMERGENCY_STOP:
            self.latched_rest_s += passed_s
            pushed = world.now_s < self.pushed_until_s
            if self.latched_rest_s > REST_S + SETTINGS.settle_timeout_s and not pushed:
                assert np.abs(v).max() < 0.02, "the command moves in an emergency stop"
            if self.latched_at is None:
                self.latched_at, self.latched_bound_rad = q, LATCHED_MOTION_RAD
            if pushed:
                self.latched_bound_rad = STOOD_MOTION_RAD
            gone = np.abs(q - self.latched_at).max()
            assert gone < self.latched_bound_rad, f"moved {gone:.2f} rad in an emergency stop"
        else:
            self.latched_rest_s, self.latched_at = 0.0, None
        if state.mode in FOLLOWING or decision.placing or accepted or world.gate._standing.retracing:
            self.stood_at = None
        elif self.stood_at is None:
            self.stood_at = q
        else:
            gone = np.abs(q - self.stood_at).max()
            assert gone < STOOD_MOTION_RAD, f"moved {gone:.2f} rad in a standstill"
        if state.mode not in FOLLOWING:
            assert decision.gripper_opening_m is None, f"the gripper was commanded in {state.mode.name}"
        else:
            rise = state.speed_scale - self.last_speed
            assert rise <= SETTINGS.speeding_up_rate_s * 3 * PERIOD_S + 1e-6, f"the speed rose by {rise}"
        if state.mode not in FOLLOWING and np.abs(v).max() > 0.05:
            self.bar_s = world.ros_s
        if state.mode in FOLLOWING and self.before not in FOLLOWING:
            plan = world.gate._senses.plan
            assert plan is not None
            assert plan.output.stamp_s > self.bar_s, "a plan older than the standstill moved the arm"
        for name in self.silent_s:
            self.silent_s[name] = 0.0 if getattr(world, name) else self.silent_s[name] + passed_s
        if self.silent_s["policy_on"] > 0.3 + world.delay_s + REST_S + SETTINGS.settle_timeout_s + 0.2:
            assert state.mode not in FOLLOWING, "followed a silent policy"
        if self.silent_s["joints_on"] > 0.06 and state.mode != Mode.INACTIVE:
            assert state.mode == Mode.EMERGENCY_STOP, f"{state.mode.name} without joint states"
        self.last_speed = state.speed_scale if state.mode in FOLLOWING else 0.0
        self.before = state.mode

    def check_limits(self, q0: Floats, v0: Floats, command: JointTrajectory) -> None:
        assert np.isfinite(command.position_rad).all()
        assert np.isfinite(command.velocity_rad_s).all()
        assert (np.diff(command.time_from_start_s) > 0.0).all()
        assert command.time_from_start_s[0] > 0.0
        assert command.time_from_start_s[-1] < 5.0, "the rest is far away"
        assert not command.velocity_rad_s[-1].any(), "a command does not end in rest"
        assert (command.position_rad >= ARM.position_lower_rad - 1e-6).all()
        assert (command.position_rad <= ARM.position_upper_rad + 1e-6).all()
        assert (np.abs(command.velocity_rad_s) <= ARM.velocity_limit_rad_s + 1e-6).all()
        place = ARM.forward(command.position_rad)[:, :3, 3]
        if np.abs(command.position_rad - q0).max() > 1e-6:
            assert (place >= np.array(SETTINGS.workspace_lower_m)).all()
            assert (place <= np.array(SETTINGS.workspace_upper_m)).all()
        # From where the controller is, which has cut the corners of what it was sent before.
        excess = accelerations(q0, v0, command) / ARM.acceleration_limit_rad_s2
        assert excess.max() <= 1.2, f"{excess.max():.2f} times the acceleration limit"

    def check_path(self, sequence: int, path_time_s: float, q: Floats) -> None:
        action = self.plans[sequence].chunk
        if sequence != self.sequence:
            self.sequence = sequence
            self.blend_until_s = path_time_s + SETTINGS.blend_s + 0.05
        points = np.array(
            [np.interp(path_time_s, action.time_from_start_s, c) for c in action.joint_position_rad.T]
        )
        distance = np.abs(q - points).max()
        # The controller is one period behind what the gate decides at this tick.
        slack = 0.5 * PERIOD_S * np.abs(self.world.controller.at(self.world.now_s)[1]).max() + 1e-3
        bound = SETTINGS.path_tolerance_rad
        if path_time_s <= self.blend_until_s:
            bound += SETTINGS.blend_rad
        assert distance <= bound + slack, f"{distance:.3f} rad from the policy's points"

    def run(self, count: int) -> None:
        for _ in range(count):
            self.tick()

    @rule(count=ticks)
    def time_passes(self, count: int) -> None:
        self.run(count)

    @rule(
        collision=st.floats(0, 1), drop=st.floats(0, 1), miss=st.floats(0, 1), out=st.booleans(), count=ticks
    )
    def risk(self, collision: float, drop: float, miss: float, out: bool, count: int) -> None:
        self.world.risk = {"collision": collision, "drop": drop, "miss": miss, "out_of_distribution": out}
        self.run(count)
        self.world.risk = {}

    @rule(request=st.sampled_from(list(RequestKind)), count=ticks)
    def somebody_asks(self, request: RequestKind, count: int) -> None:
        self.tick(request)
        self.run(count)

    @rule(count=st.integers(30, 80))
    def a_person_puts_it_right(self, count: int) -> None:
        """Otherwise most histories would end latched."""
        world = self.world
        world.policy_on = world.monitor_on = world.joints_on = world.arm_follows = True
        world.effort = np.zeros(7)
        world.faults = ()
        self.run(count)
        self.tick(RequestKind.BUTTON_RELEASED, RequestKind.RESET, RequestKind.RESUME, RequestKind.ACTIVATE)
        self.run(count)

    @rule(
        name=st.sampled_from(["policy_on", "monitor_on", "joints_on", "arm_follows"]),
        count=st.integers(1, 60),
    )
    def something_falls_silent(self, name: str, count: int) -> None:
        setattr(self.world, name, False)
        self.run(count)

    @rule(name=st.sampled_from(["policy_on", "monitor_on", "joints_on", "arm_follows"]), count=ticks)
    def it_speaks_again(self, name: str, count: int) -> None:
        setattr(self.world, name, True)
        self.run(count)

    @rule(jump=st.sampled_from([-1e6, -10.0, -0.05, 0.3, 10.0, 1e6]), count=ticks)
    def the_clock_jumps(self, jump: float, count: int) -> None:
        """Small steps ahead are no jumps: the controller is assumed to run on the same clock."""
        self.world.ros_offset_s += jump
        self.bar_s = -math.inf
        self.run(count)

    @rule(late_s=st.floats(0.0, 0.5), count=ticks)
    def the_gate_is_late(self, late_s: float, count: int) -> None:
        self.world.now_s += late_s
        self.run(count)

    @rule(late_s=st.floats(0.0, 0.009))
    def the_gate_is_called_between_periods(self, late_s: float) -> None:
        self.world.now_s += late_s - PERIOD_S
        self.tick()

    @rule(
        field=st.sampled_from(["time_from_start_s", "joint_position_rad", "gripper_opening_m"]),
        value=BAD,
        place=st.integers(0, 15),
        count=ticks,
    )
    def the_policy_sends_garbage(self, field: str, value: float, place: int, count: int) -> None:
        def spoil(plan: PolicyOutput) -> PolicyOutput:
            values = getattr(plan.chunk, field).copy()
            values[place] = value
            return replace(plan, chunk=replace(plan.chunk, **{field: values}))

        self.world.change_plan = spoil
        self.run(count)
        self.world.change_plan = lambda plan: plan

    @rule(offset=st.floats(-0.5, 0.5), joint=st.integers(0, 6), corner=st.floats(-0.3, 0.3), count=ticks)
    def the_policy_jumps(self, offset: float, joint: int, corner: float, count: int) -> None:
        def shift(plan: PolicyOutput) -> PolicyOutput:
            points = plan.chunk.joint_position_rad.copy()
            points[:, joint] += offset
            points[7:, (joint + 1) % 7] += corner
            return replace(plan, chunk=replace(plan.chunk, joint_position_rad=points))

        self.world.change_plan = shift
        self.run(count)
        self.world.change_plan = lambda plan: plan

    @rule(joint=st.integers(0, 6), goal=st.sampled_from([-1.0, 1.0]), count=ticks)
    def the_policy_heads_for_a_limit(self, joint: int, goal: float, count: int) -> None:
        def head(plan: PolicyOutput) -> PolicyOutput:
            points = plan.chunk.joint_position_rad.copy()
            points[:, joint] += goal * np.linspace(0.0, 1.5, 16)
            return replace(plan, chunk=replace(plan.chunk, joint_position_rad=points))

        self.world.change_plan = head
        self.run(count)
        self.world.change_plan = lambda plan: plan

    @rule(shift_s=st.sampled_from([-1e9, -5.0, -0.3, 0.2, 5.0, 1e9, math.nan]), count=ticks)
    def stamps_are_wrong(self, shift_s: float, count: int) -> None:
        def stamp(plan: PolicyOutput) -> PolicyOutput:
            return replace(plan, chunk=replace(plan.chunk, stamp_s=plan.chunk.stamp_s + shift_s))

        self.world.change_plan = stamp
        self.run(count)
        self.world.change_plan = lambda plan: plan

    @rule(value=BAD, count=ticks)
    def predictions_are_garbage(self, value: float, count: int) -> None:
        self.world.change_prediction = lambda p: replace(p, probability=np.full((3, 4), value))
        self.run(count)
        self.world.change_prediction = lambda p: p

    @rule(value=BAD, joint=st.integers(0, 6))
    def a_joint_state_is_garbage(self, value: float, joint: int) -> None:
        def spoil(state):  # type: ignore[no-untyped-def]
            position = state.joint_position_rad.copy()
            position[joint] = value
            return replace(state, joint_position_rad=position)

        self.world.change_robot = spoil
        self.tick()
        self.world.change_robot = lambda state: state

    @rule(
        offset=st.floats(-2.0, 2.0), joint=st.integers(0, 6), silent=st.sampled_from([0, 8, 60]), count=ticks
    )
    def joint_states_lie(self, offset: float, joint: int, silent: int, count: int) -> None:
        joints_on, self.world.joints_on = self.world.joints_on, False
        self.run(silent)
        self.world.joints_on = joints_on
        shift = offset * (np.arange(7) == joint)
        self.world.change_robot = lambda state: replace(
            state, joint_position_rad=state.joint_position_rad + shift
        )
        self.run(count)
        self.world.change_robot = lambda state: state

    @rule(
        rate=st.floats(-2.0, 2.0),
        offset=st.floats(0.0, 0.5),
        joint=st.integers(0, 6),
        count=st.integers(1, 300),
    )
    def joint_states_drift(self, rate: float, offset: float, joint: int, count: int) -> None:
        """As slowly as an arm moves, and then they stay wrong: an encoder slips, or the arm is pushed."""
        world, begun_s = self.world, self.world.now_s
        rate *= ARM.velocity_limit_rad_s[joint] / 2.2

        def drift(state):  # type: ignore[no-untyped-def]
            shift = math.copysign(min(abs(rate) * (world.now_s - begun_s), offset), rate)
            return replace(
                state, joint_position_rad=state.joint_position_rad + shift * (np.arange(7) == joint)
            )

        world.change_robot = drift
        for _ in range(count):
            self.pushed_until_s = world.now_s + REST_S + SETTINGS.settle_timeout_s
            self.tick()
        world.change_robot = lambda state: state

    @rule(effort=st.floats(-80, 80), joint=st.integers(0, 3), count=ticks)
    def something_is_touched(self, effort: float, joint: int, count: int) -> None:
        self.world.effort = np.zeros(7)
        self.world.effort[joint] = effort
        self.run(count)
        self.world.effort = np.zeros(7)

    @rule(cause=st.sampled_from(list(Cause)), count=st.integers(1, 5))
    def the_node_reports_a_fault(self, cause: Cause, count: int) -> None:
        self.world.faults = (Fault(cause, "from outside"),)
        self.run(count)
        self.world.faults = ()

    @rule()
    def another_policy_floods(self) -> None:
        for i in range(20):
            points = np.tile(HOME + 0.01 * i, (16, 1))
            self.world._in_flight.append((0.0, output(10_000 + i, chunk(self.world.ros_s, points))))
        self.run(25)


TestHostileWorld = HostileWorld.TestCase
TestHostileWorld.settings = hypothesis_settings(
    hypothesis_settings.default,
    max_examples=max(hypothesis_settings.default.max_examples // 2, 1),
    stateful_step_count=25,
)


class Compared:
    """A gate beside which, at each prediction, a copy hears of more risk."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.more = np.zeros((3, 4))
        self.differences = 0

    def update(self, now_s: float, inputs: GateInputs) -> Decision:
        riskier = None
        if inputs.prediction is not None:
            copied = copy.deepcopy(self.gate)
            probability = np.maximum(inputs.prediction.probability, self.more)
            more = replace(inputs.prediction, probability=probability, out_of_distribution=True)
            riskier = copied.update(now_s, replace(inputs, prediction=more))
        decision = self.gate.update(now_s, inputs)
        if riskier is not None:
            assert riskier.state.mode >= decision.state.mode, (
                f"more risk led to {riskier.state.mode.name} instead of {decision.state.mode.name}"
            )
            if riskier.state.mode in FOLLOWING:
                assert copied._speed() <= self.gate._speed(), "more risk, more speed"
            # A command that stops harder is shorter, so what it comes to is compared, not its points.
            self.differences += riskier.state.mode != decision.state.mode
        return decision


@given(
    history=st.lists(
        st.tuples(
            st.sampled_from(["collision", "drop", "miss"]),
            st.floats(0.0, 1.0),
            st.floats(0.0, 1.0),
            st.integers(5, 40),
            st.sampled_from([None, "policy_on", "monitor_on"]),
        ),
        min_size=1,
        max_size=8,
    )
)
@hypothesis_settings(max_examples=max(hypothesis_settings.default.max_examples // 5, 3))
def test_more_risk_never_means_more_speed_or_a_lower_mode(history: list) -> None:
    """Guarantees 5 and 7 on the whole gate: at each prediction of a history, a copy hears of more risk."""
    world = World().start()
    compared = Compared(world.gate)
    world.gate = compared  # type: ignore[assignment]
    for kind, level, more, count, silent in history:
        world.policy_on = silent != "policy_on"
        world.monitor_on = silent != "monitor_on"
        world.risk = {kind: level}
        compared.more = np.full((3, 4), more)
        world.run(count * PERIOD_S)


def test_more_risk_makes_a_difference_at_all() -> None:
    """That the test above compares something."""
    world = World().start()
    compared = Compared(world.gate)
    world.gate = compared  # type: ignore[assignment]
    compared.more = np.full((3, 4), 0.9)
    world.run(0.3)
    assert compared.differences > 0
