"""Coming to a stand: where the arm is held, what it drives back, and how it is found again."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from gate_world import ARM, HOME
from told import PERIOD_S, REST, Told, arm_at, limits_of, turned

from salus_ros.intervention.path import spline
from salus_ros.intervention.rules import Trigger
from salus_ros.intervention.standing import Standing
from salus_ros.types import Cause, Floats, Mode

HOLD = Trigger(Mode.HOLD, Cause.POLICY_LATE)
MISS = Trigger(Mode.REPLAN, Cause.FORESEEN_MISS)
STOP = Trigger(Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION)
AFTER_STOP = Trigger(Mode.REPLAN, Cause.AFTER_STOP)
SAG = turned(1, 0.02, REST)
"""How far the measured arm is from its command."""
MOVING = np.full(7, 0.1)


class Stood(Told):
    """An arm at home whose measured place is a little beside its command."""

    def __init__(self, start: Floats = HOME, **settings: object) -> None:
        super().__init__(**settings)
        self.motion = arm_at(start, self.settings)
        self.standing = Standing(self.settings, self.senses, limits_of(self.settings))
        self.velocity = REST
        self.hears = True
        self.sag = SAG
        self.goes_on()

    @property
    def measured(self) -> Floats:
        return self.motion.position + self.sag

    def goes_on(self, step_s: float = PERIOD_S) -> None:
        robot = self.robot(self.measured, age_s=-step_s, joint_velocity_rad_s=self.velocity)
        assert self.tick(step_s, **({"robot": robot} if self.hears else {})) == ()
        self.motion.advance(step_s)

    def drives(self, duration_s: float = 0.6, notes: bool = True) -> Stood:
        """Joint 1 along a path at its own timing, which is then given up."""
        times = np.linspace(0.0, 1.0, 21)
        path = spline(times, self.motion.position + np.outer(times, turned(0, 0.5, REST)), 0.02)
        assert self.motion.enter(path, 0.0, path.end_s).entered
        for _ in range(round(duration_s / PERIOD_S)):
            self.motion.follow(1.0)
            self.goes_on()
            if notes:
                self.standing.note(self.motion.advanced_s, self.motion.position)
        self.standing.leave()
        self.standing.begin(self.motion.speed > 0.0)
        return self

    def stands(self, trigger: Trigger = HOLD, duration_s: float = 0.0, at_measured: bool = False) -> Stood:
        """Comes to a stand for a tick, or for as long as it says."""
        for _ in range(max(round(duration_s / PERIOD_S), 1)):
            self.standing.stand(self.motion, trigger, at_measured, self.now_s)
            self.goes_on()
        return self

    def over(self, mode: Mode = Mode.HOLD) -> bool:
        return self.standing.over(self.motion, mode)


def rest(arm: Stood) -> Floats:
    """Where the arm will rest."""
    return arm.motion.trajectory().position_rad[-1]


# Settling


def test_it_begins_settled_with_nothing_to_drive_back() -> None:
    arm = Stood()
    assert arm.over() and arm.over(Mode.REPLAN)
    assert (arm.standing.settled, arm.standing.lost, arm.standing.retracing) == (True, False, False)
    arm.stands(MISS, 0.1)
    assert rest(arm) == pytest.approx(HOME), "a place that is measured already was measured again"


@pytest.mark.parametrize("trigger", [HOLD, STOP, Trigger(Mode.ASSIST, Cause.STALL)])
def test_an_arm_in_motion_brakes_on_its_path_and_is_then_held_where_it_is_measured_once(
    trigger: Trigger,
) -> None:
    arm = Stood().drives()
    assert not arm.over()
    on_path = arm.motion.path_time_s
    arm.stands(trigger)
    assert arm.motion.path_time_s >= on_path, "it left its path before it stood"
    assert not arm.standing.settled
    while not arm.standing.settled:
        arm.stands(trigger)
        assert not arm.over()
    held = rest(arm)
    assert held == pytest.approx(arm.motion.position + SAG, abs=5e-3)
    arm.stands(trigger, 1.0)
    assert arm.over()
    assert rest(arm) == pytest.approx(held), "the hold follows what is measured"
    assert arm.motion.position == pytest.approx(held)


def stands_until(arm: Stood, done: Callable[[], bool]) -> float:
    """Ticks of a sixty-fourth of a second from a round time on; how long it took."""
    arm.now_s = 128.0
    arm.goes_on(1 / 64)
    start_s = arm.now_s
    while not done():
        arm.standing.stand(arm.motion, HOLD, False, arm.now_s)
        took_s = arm.now_s - start_s
        arm.goes_on(1 / 64)
        assert took_s < 1.0, "it never settles"
    return took_s


@pytest.mark.parametrize(("velocity", "took_s"), [(REST, 0.0), (MOVING, 0.25)])
def test_the_place_is_measured_when_the_arm_stands_and_at_the_latest_after_the_timeout(
    velocity: Floats, took_s: float
) -> None:
    arm = Stood(settle_timeout_s=0.25)
    arm.standing.begin(False)
    arm.velocity = velocity
    assert stands_until(arm, lambda: arm.standing.settled) == took_s
    assert rest(arm) == pytest.approx(HOME + SAG)


def test_the_timeout_begins_anew_with_each_stand() -> None:
    arm = Stood(settle_timeout_s=0.25)
    arm.velocity = MOVING
    arm.goes_on()
    arm.standing.begin(False)
    arm.stands(HOLD, 0.2)
    arm.standing.leave()
    arm.standing.begin(False)
    arm.stands(HOLD, 0.2)
    assert not arm.standing.settled
    arm.stands(HOLD, 0.1)
    assert arm.standing.settled


def test_an_arm_that_is_not_measured_is_held_where_it_was_commanded_to_be_after_the_timeout() -> None:
    arm = Stood(settle_timeout_s=0.25)
    arm.hears = False
    for _ in range(6):
        arm.goes_on()
    arm.standing.begin(False)
    arm.stands(HOLD, 0.2)
    assert not arm.standing.settled
    arm.stands(HOLD, 0.1)
    assert arm.standing.settled
    assert rest(arm) == pytest.approx(HOME)
    never = Told()
    standing = Standing(never.settings, never.senses, limits_of(never.settings))
    standing.begin(False)
    standing.stand(arm.motion, HOLD, False, 0.0)
    assert not standing.settled
    standing.stand(arm.motion, HOLD, False, 0.5)
    assert standing.settled


def doubtful(arm: Stood) -> Stood:
    """Joint states have jumped, and go on from there as if nothing had been."""
    arm.sag = turned(3, 0.5, REST)
    arm.goes_on()
    arm.goes_on()
    assert arm.senses.doubted
    assert arm.senses.measured == pytest.approx(arm.motion.position + arm.sag), "not because it is unknown"
    return arm


def test_an_arm_whose_joint_states_were_impossible_is_held_where_it_was_commanded_to_be() -> None:
    """Held where they say, it would be driven there."""
    arm = doubtful(Stood(settle_timeout_s=0.25))
    arm.standing.begin(False)
    arm.stands(HOLD, 0.2, at_measured=True)
    assert not arm.standing.settled
    arm.stands(HOLD, 0.1)
    assert arm.standing.settled
    assert rest(arm) == pytest.approx(HOME)


@pytest.mark.parametrize("at_measured", [False, True])
@pytest.mark.parametrize(("off_rad", "held"), [(0.374, True), (-0.376, False), (0.376, False)])
def test_an_arm_is_held_where_it_is_measured_only_near_its_command(
    off_rad: float, held: bool, at_measured: bool
) -> None:
    """What is measured farther away is more likely wrong, and the arm would be driven there."""
    arm = Stood(held_within_rad=0.375, settle_timeout_s=0.25)
    arm.sag = turned(3, off_rad, REST)
    arm.goes_on(step_s=5.0)
    assert not arm.senses.doubted
    arm.standing.begin(False)
    arm.stands(HOLD, at_measured=at_measured).stands(HOLD, 0.3)
    assert arm.standing.settled
    assert rest(arm) == pytest.approx(HOME + arm.sag if held else HOME)


def test_an_arm_is_held_where_it_is_measured_near_where_it_was_commanded_to_be_a_moment_ago() -> None:
    """A fast arm that is blocked has left its command far behind when that is noticed."""
    arm = Stood(held_within_rad=0.375)
    arm.senses.tracking.command(turned(3, 0.3))
    arm.senses.tracking.command(HOME)
    arm.sag = turned(3, 0.6, REST)
    arm.goes_on(step_s=5.0)
    arm.standing.begin(False)
    arm.stands(HOLD, at_measured=True)
    assert rest(arm) == pytest.approx(HOME + arm.sag)


def test_in_one_standstill_an_arm_is_held_no_farther_than_that_from_where_it_was_held_first() -> None:
    """It seems to be ahead of each place it is held at."""
    arm = Stood(held_within_rad=0.3, jump_margin_rad=9.0).drives()
    arm.stands(HOLD, 1.0)
    first = rest(arm)
    arm.sag = ahead = turned(0, 0.2, REST)
    arm.goes_on()

    def held_after_another_push() -> Floats:
        arm.stands(HOLD, at_measured=True)
        arm.stands(HOLD, 1.0)
        return rest(arm) - first

    assert held_after_another_push() == pytest.approx(ahead)
    assert held_after_another_push() == pytest.approx(ahead), "it walks"
    assert arm.standing.settled, "it stays where it is held"
    arm.standing.begin(False)
    assert held_after_another_push() == pytest.approx(2.0 * ahead), "another standstill"
    arm.standing.leave()
    assert held_after_another_push() == pytest.approx(3.0 * ahead), "a plan was entered meanwhile"
    arm.standing.place(arm.motion, arm.now_s)
    assert rest(arm) - first == pytest.approx(4.0 * ahead)
    arm.goes_on()
    assert held_after_another_push() == pytest.approx(5.0 * ahead)
    assert held_after_another_push() == pytest.approx(5.0 * ahead), (
        "the place counts as where it was held first"
    )


def test_a_lost_arm_is_not_taken_up_far_from_where_it_can_be() -> None:
    arm = Stood(held_within_rad=0.375, settle_timeout_s=0.25).drives()
    arm.standing.lost = True
    ahead = arm.motion.end[0] - arm.motion.position[0]
    assert ahead > 0.01
    arm.sag = turned(0, 0.376 + ahead, REST)
    arm.goes_on(step_s=5.0)
    arm.motion = arm_at(arm.motion.position, arm.settings)
    arm.stands(HOLD, 0.5)
    assert arm.standing.lost
    arm.sag = turned(0, 0.374, REST)
    arm.stands(HOLD, 0.5)
    assert not arm.standing.lost


def test_a_lost_arm_may_be_as_far_as_the_end_of_its_last_command() -> None:
    """Whether the controller went on, nobody knows."""
    arm = Stood(tracking_slow_rad=0.001, tracking_hold_rad=0.001, held_within_rad=0.001).drives()
    arm.standing.lost = True
    arm.sag = arm.motion.end - arm.motion.position
    assert np.abs(arm.sag).max() > 0.001
    arm.hears = False
    arm.goes_on()
    arm.tick(0.0, robot=arm.robot(arm.motion.end))
    arm.standing.stand(arm.motion, HOLD, False, arm.now_s)
    assert not arm.standing.lost


def test_a_lost_arm_may_be_where_its_last_command_has_come_to() -> None:
    """Far from the end of it, and from what was commanded before."""
    arm = Stood(tracking_slow_rad=0.001, tracking_hold_rad=0.001, held_within_rad=0.001).drives()
    arm.standing.lost = True
    arm.sag = REST
    arm.senses.tracking.command(arm.motion.position + 1.0)
    assert np.abs(arm.motion.end - arm.motion.position).max() > 0.001
    arm.tick(0.0, robot=arm.robot(arm.motion.position))
    arm.standing.stand(arm.motion, HOLD, False, arm.now_s)
    assert not arm.standing.lost


def test_only_a_lost_arm_that_rests_and_is_measured_where_it_cannot_be_waits_for_a_person() -> None:
    arm = Stood(held_within_rad=0.375)

    def waits() -> bool:
        return arm.standing.waits_for_a_person(arm.motion, arm.now_s)

    assert not waits(), "it is not lost"
    arm.standing.lost = True
    assert not waits(), "it is found where it stands"
    doubtful(arm)
    assert waits()
    arm.drives(0.1)
    arm.standing.lost = True
    assert not waits(), "its command has not come to rest"
    arm.motion.advance(5.0)
    assert waits()
    arm.hears = False
    for _ in range(6):
        arm.goes_on()
    assert not waits(), "nothing is heard of it"


def test_a_lost_arm_whose_joint_states_were_impossible_is_taken_up_once_a_person_has_looked() -> None:
    arm = doubtful(Stood(settle_timeout_s=0.25))
    arm.standing.lost = True
    arm.stands(HOLD, 0.5)
    assert arm.standing.lost
    arm.standing.place(arm.motion, arm.now_s)
    assert not arm.standing.lost
    assert rest(arm) == pytest.approx(HOME + arm.sag)


def test_an_arm_that_hangs_out_of_the_box_is_held_where_it_was_commanded_to_be() -> None:
    arm = Stood(workspace_lower_m=(-0.4, -0.9, float(ARM.forward(HOME)[2, 3]) - 1e-5))
    arm.standing.begin(False)
    arm.stands(HOLD, 0.1)
    assert arm.standing.settled
    assert rest(arm) == pytest.approx(HOME)
    assert arm.over()


def test_an_arm_that_leaves_a_standstill_must_settle_anew() -> None:
    arm = Stood()
    arm.standing.leave()
    assert not arm.over()


# At the place measured at once


def test_where_the_command_must_not_be_the_arm_stops_at_the_place_measured_at_once() -> None:
    arm = Stood().drives()
    measured = arm.senses.measured
    assert measured is not None
    arm.standing.stand(arm.motion, Trigger(Mode.ASSIST, Cause.CONTACT), True, arm.now_s)
    assert arm.standing.settled
    assert math.isnan(arm.motion.path_time_s)
    assert rest(arm) == pytest.approx(measured)
    arm.goes_on()
    arm.stands(MISS, 2.0)
    assert arm.motion.position == pytest.approx(measured), "it drove back what it had driven into a contact"
    assert arm.over(Mode.REPLAN)


def test_a_contact_during_a_protective_stop_leaves_nothing_to_drive_back() -> None:
    arm = Stood().drives()
    arm.stands(STOP, at_measured=True)
    assert not arm.standing.retracing
    arm.stands(STOP, 1.0)
    assert arm.over(Mode.REPLAN)


def test_without_joint_states_it_stops_on_its_path_instead() -> None:
    arm = Stood().drives()
    arm.hears = False
    for _ in range(6):
        arm.motion.follow(1.0)
        arm.goes_on()
    arm.stands(HOLD, at_measured=True)
    assert not arm.standing.settled
    assert not math.isnan(arm.motion.path_time_s)


# Driving back


@pytest.mark.parametrize("cause", [Cause.FORESEEN_MISS, Cause.FORESEEN_DROP, Cause.AFTER_STOP])
def test_before_a_new_plan_it_drives_back_slowly_what_was_asked_for_and_settles_again(cause: Cause) -> None:
    arm = Stood(retrace_path_s=0.2).drives()
    trigger = Trigger(Mode.REPLAN, cause)
    while not arm.standing.retracing:
        arm.stands(trigger)
        assert not arm.over(Mode.REPLAN)
    farthest = arm.motion.position[0]
    while arm.standing.retracing:
        arm.stands(trigger)
        assert not arm.over(Mode.REPLAN)
        assert arm.motion.speed <= arm.settings.retrace_speed + 1e-9
    assert rest(arm) == pytest.approx(arm.motion.position + SAG, abs=1e-3), "the place was not measured"
    back = farthest - arm.motion.position[0]
    assert back == pytest.approx(0.5 * 0.2, abs=0.02)
    arm.stands(trigger, 1.0)
    assert arm.over(Mode.REPLAN)
    assert rest(arm)[0] == pytest.approx(arm.motion.position[0])
    held = rest(arm)
    arm.stands(trigger, 1.0)
    assert rest(arm) == pytest.approx(held), "it drove back twice"


def test_it_does_not_drive_back_before_it_is_measured_where_it_stands() -> None:
    arm = Stood(settle_timeout_s=0.25).drives()
    arm.velocity = MOVING
    while not arm.motion.standing:
        arm.stands(MISS)
    arm.stands(MISS, 0.2)
    assert not arm.standing.retracing
    assert not arm.standing.settled
    assert drives_back(arm, MISS)


def drives_back(arm: Stood, *triggers: Trigger) -> bool:
    """Whether it drives back during the last of the triggers, each of which lasts for a second."""
    for trigger in triggers:
        begin = arm.motion.position[0]
        retraced = False
        for _ in range(100):
            arm.stands(trigger)
            retraced |= arm.standing.retracing
    assert retraced == (arm.motion.position[0] < begin - 0.03), "it moved against its own word"
    return retraced


def test_a_replan_after_a_protective_stop_drives_back_and_one_after_a_hold_does_not() -> None:
    assert drives_back(Stood().drives(), STOP, AFTER_STOP)
    assert not drives_back(Stood().drives(), HOLD, MISS)
    assert not drives_back(Stood().drives(), STOP, HOLD, AFTER_STOP)


@pytest.mark.parametrize("cause", [Cause.PLAN_REFUSED, Cause.PERSON])
def test_a_replan_for_another_reason_does_not_drive_back_neither_then_nor_later(cause: Cause) -> None:
    arm = Stood().drives()
    assert not drives_back(arm, Trigger(Mode.REPLAN, cause))
    assert arm.over(Mode.REPLAN)
    assert not drives_back(arm, MISS)


def test_it_does_not_drive_back_where_that_is_switched_off_or_there_is_no_way() -> None:
    assert not drives_back(Stood(retrace_path_s=0.0).drives(), MISS)
    unknown = Stood().drives(notes=False)
    assert not drives_back(unknown, MISS)
    assert unknown.over(Mode.REPLAN)


def test_an_arm_that_stood_when_its_plan_was_given_up_does_not_drive_back() -> None:
    arm = Stood().drives()
    arm.stands(HOLD, 1.0)
    arm.standing.begin(False)
    assert not drives_back(arm, MISS)


def test_a_standstill_for_another_reason_ends_the_way_back_where_it_is() -> None:
    arm = Stood().drives()
    while not arm.standing.retracing:
        arm.stands(MISS)
    arm.stands(MISS, 0.5)
    assert arm.motion.speed > 0.0
    assert not arm.over(Mode.REPLAN)
    arm.stands(HOLD)
    assert not arm.standing.retracing
    at = arm.motion.position[0]
    arm.stands(HOLD, 1.0)
    assert arm.motion.position[0] == pytest.approx(at, abs=0.01)
    assert arm.over()


def test_a_plan_entered_on_the_way_back_ends_it() -> None:
    arm = Stood().drives()
    while not arm.standing.retracing:
        arm.stands(MISS)
    arm.standing.leave()
    assert not arm.standing.retracing
    arm.stands(MISS, 2.0)
    assert arm.over(Mode.REPLAN)


def press(arm: Stood, force_n: float, ticks: int) -> None:
    rows = np.concatenate([arm.measured[None], arm.measured + 1e-6 * np.eye(7)])
    place = ARM.forward(rows)[:, 2, 3]
    effort = (place[1:] - place[0]) / 1e-6 * force_n
    for _ in range(ticks):
        arm.tick(PERIOD_S, robot=arm.robot(arm.measured, joint_effort_nm=effort))


def test_what_was_driven_before_and_during_a_contact_is_not_driven_back() -> None:
    arm = Stood()
    arm.senses.arm(arm.now_s)
    arm.goes_on()
    press(arm, 200.0, 15)
    assert arm.senses.contact.contact
    arm.drives(0.0)
    for _ in range(60):
        arm.motion.follow(1.0)
        arm.motion.advance(PERIOD_S)
        arm.standing.note(arm.motion.advanced_s, arm.motion.position)
    arm.standing.begin(True)
    assert not drives_back(arm, MISS)


def test_when_it_begins_anew_what_it_drove_before_is_forgotten() -> None:
    arm = Stood().drives()
    arm.stands(HOLD, 1.0)
    arm.standing.renew()
    assert arm.over()
    arm.standing.begin(True)
    assert not drives_back(arm, MISS)


# Placing, and finding an arm that was lost


def test_a_placed_arm_is_held_where_it_is_measured_inside_the_limits_with_nothing_left_to_do() -> None:
    arm = Stood().drives()
    arm.senses.tracking.command(HOME + 0.5)
    arm.senses.tracking.measure(HOME)
    arm.standing.lost = arm.standing.retracing = True
    measured = arm.senses.measured
    assert measured is not None
    arm.standing.place(arm.motion, arm.now_s)
    assert rest(arm) == pytest.approx(measured)
    assert not arm.motion.standing
    assert (arm.standing.settled, arm.standing.lost, arm.standing.retracing) == (True, False, False)
    assert arm.senses.tracking.error_rad == 0.0
    arm.motion.advance(1.0)
    assert arm.over(Mode.REPLAN)
    assert not drives_back(arm, MISS)
    arm.sag = turned(6, ARM.position_upper_rad[6] + 0.04 - arm.motion.position[6], REST)
    arm.goes_on(step_s=5.0)
    arm.standing.place(arm.motion, arm.now_s)
    assert rest(arm)[6] == pytest.approx(ARM.position_upper_rad[6])


def test_an_arm_without_joint_states_is_not_placed() -> None:
    arm = Stood().drives()
    arm.hears = False
    for _ in range(6):
        arm.goes_on()
    before = rest(arm)
    arm.standing.lost = True
    arm.standing.place(arm.motion, arm.now_s)
    assert arm.standing.lost
    assert rest(arm) == pytest.approx(before)


def test_a_lost_arm_is_not_over_and_is_taken_up_where_it_stands() -> None:
    arm = Stood()
    arm.standing.lost = True
    assert not arm.over()
    arm.sag = turned(0, 0.04, REST)
    arm.goes_on()
    expected = arm.senses.measured
    arm.standing.stand(arm.motion, HOLD, False, arm.now_s)
    assert not arm.standing.lost
    assert rest(arm) == pytest.approx(expected)


@pytest.mark.parametrize(("velocity", "took_s"), [(REST, 0.0), (MOVING, 0.25)])
def test_a_lost_arm_that_does_not_stand_is_taken_up_after_the_timeout(
    velocity: Floats, took_s: float
) -> None:
    arm = Stood(settle_timeout_s=0.25)
    arm.standing.lost = True
    arm.velocity = velocity
    assert stands_until(arm, lambda: not arm.standing.lost) == took_s
    assert rest(arm) == pytest.approx(HOME + SAG)


@pytest.mark.parametrize("missing", ["clock", "joint states"])
def test_a_lost_arm_is_not_taken_up_without_clock_and_joint_states_and_its_time_begins_with_them(
    missing: str,
) -> None:
    arm = Stood(settle_timeout_s=0.25)
    arm.standing.lost = True
    arm.velocity = MOVING
    arm.goes_on()
    arm.stands(HOLD, 0.2)
    kept = arm.ros_s
    if missing == "clock":
        arm.ros_s = math.nan
    arm.hears = False
    for _ in range(10):
        arm.tick()
        arm.motion.advance(PERIOD_S)
    arm.stands(HOLD, 0.3)
    assert arm.standing.lost
    arm.ros_s = kept + 1.0
    arm.hears = True
    arm.goes_on()
    arm.goes_on()
    arm.stands(HOLD, 0.24)
    assert arm.standing.lost, "the time before the gap counted"
    arm.stands(HOLD, 0.05)
    assert not arm.standing.lost
