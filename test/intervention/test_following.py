"""The plan in hand: which plan takes over, where on it the arm goes on, and what the gripper is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_world import HOME, chunk, output
from told import PERIOD_S, REST, Told, arm_at, turned

from salus_ros.intervention.following import Following
from salus_ros.types import Cause, Floats, PolicyOutput

STEPS = 0.05 * np.arange(1, 17)


class Followed(Told):
    """An arm that follows what it is told, with the gripper's openings that were sent."""

    def __init__(self, start: Floats = HOME, **settings: object) -> None:
        super().__init__(**settings)
        self.following = Following(self.settings, self.senses)
        self.motion = arm_at(start, self.settings)
        self.openings: list[float] = []
        self.tick()

    def hear(self, plan: PolicyOutput) -> None:
        """A plan comes at this moment."""
        assert self.tick(0.0, plan=plan) == ()

    def observed(self, points: Floats, age_s: float = 0.0, gripper_m: Floats | float = 0.08) -> PolicyOutput:
        """A plan from an observation of some time ago."""
        return output(1, chunk(self.ros_s - age_s, points, gripper_m=gripper_m))

    def straight(self, rate_rad_s: float = 0.5, age_s: float = 0.0) -> PolicyOutput:
        """Joint 1 goes on from the command at a constant rate."""
        return self.observed(self.motion.position + np.outer(STEPS, turned(0, rate_rad_s, REST)), age_s)

    def follow(self, speed: float = 1.0) -> float | None:
        opening = self.following.follow(self.motion, speed, self.ros_s)
        if opening is not None:
            self.openings.append(opening)
        return opening

    def goes_on(self, duration_s: float, speed: float = 1.0) -> None:
        for _ in range(round(duration_s / PERIOD_S)):
            self.tick()
            self.motion.advance(PERIOD_S)
            self.following.advance(self.ros_s, self.motion.advanced_s)
            self.follow(speed)

    def ready(self) -> bool:
        return self.following.ready(self.motion, self.ros_s)


# Which plan moves the arm


def test_without_a_plan_the_arm_stands_and_none_is_ready() -> None:
    arm = Followed()
    assert not arm.ready()
    assert arm.follow() is None
    assert arm.motion.standing
    assert arm.following.plan is None


def test_a_plan_that_can_be_begun_is_ready_and_followed() -> None:
    arm = Followed()
    arm.hear(arm.straight())
    assert arm.ready()
    arm.follow()
    assert arm.following.plan is arm.senses.plan
    arm.goes_on(0.5)
    assert arm.motion.speed == pytest.approx(0.98, abs=0.03)
    assert arm.following.progress_s == pytest.approx(arm.motion.path_time_s - 0.05)
    assert not arm.ready(), "a plan that is being followed is no newer one"


def test_a_plan_no_newer_than_the_bar_moves_nothing() -> None:
    arm = Followed()
    plan = arm.straight()
    arm.hear(plan)
    arm.following.bar(plan.stamp_s)
    assert not arm.ready()
    arm.follow()
    assert arm.following.plan is None
    arm.following.bar(np.nextafter(plan.stamp_s, 0.0))
    assert arm.ready()
    arm.following.bar(arm.ros_s + 1.0)
    arm.following.renew()
    assert arm.ready(), "a bar from before an activation"


def test_a_plan_moves_the_arm_up_to_its_age_and_no_longer() -> None:
    arm = Followed(plan_age_max_s=0.5)
    arm.ros_s = 1024.0
    arm.hear(arm.observed(np.tile(HOME, (16, 1))))
    arm.ros_s = 1024.5
    assert arm.ready()
    arm.ros_s = 1024.501
    assert not arm.ready()
    arm.follow()
    assert arm.following.plan is None


def test_a_plan_far_from_the_arm_is_not_ready() -> None:
    arm = Followed()
    arm.hear(arm.observed(np.tile(HOME + 0.3, (16, 1))))
    assert not arm.ready()


def test_a_newer_plan_takes_over_at_once_and_an_older_one_never() -> None:
    arm = Followed()
    first = arm.straight()
    arm.hear(first)
    arm.follow()
    arm.goes_on(0.3)
    second = arm.straight()
    arm.hear(second)
    arm.follow()
    assert arm.following.plan is not None
    assert arm.following.plan.output is second
    arm.senses.plan = replace(arm.senses.plan, output=first)
    arm.goes_on(0.1)
    assert arm.following.plan.output is second


def test_a_plan_that_was_given_up_is_not_taken_up_again_after_a_bar() -> None:
    arm = Followed()
    arm.hear(arm.straight())
    arm.follow()
    arm.following.give_up()
    assert arm.following.plan is None
    arm.following.bar(arm.ros_s)
    arm.goes_on(0.3)
    assert arm.motion.standing
    assert arm.following.plan is None


# Refusals


def test_a_standing_arm_refuses_a_plan_that_it_cannot_join_once_with_its_reason() -> None:
    arm = Followed()
    for count in (1, 2):
        arm.tick()
        arm.hear(arm.observed(np.tile(HOME + 0.3, (16, 1))))
        arm.senses.details.clear()
        for _ in range(3):
            assert not arm.ready()
        assert arm.following.refused_in_a_row == arm.senses.refused_count == count
        why = "it lies 0.300 rad from where the arm is commanded to be"
        assert arm.senses.details[Cause.PLAN_REFUSED] == why


def test_a_plan_that_was_refused_is_followed_when_a_standing_arm_can_join_it_after_all() -> None:
    arm = Followed()
    arm.hear(arm.observed(HOME + 0.3 + np.outer(STEPS, turned(0, 0.5, REST))))
    assert not arm.ready()
    arm.follow()
    assert arm.following.plan is None
    arm.motion.place(HOME + 0.3)
    arm.motion.advance(9.0)
    arm.follow()
    assert arm.following.plan is None, "a plan that was refused is not tried again as long as the arm follows"
    assert arm.ready()
    arm.follow()
    assert arm.following.plan is arm.senses.plan
    assert arm.senses.refused_count == 1


def test_without_a_plan_nothing_is_tried_whatever_was_refused_before() -> None:
    arm = Followed()
    arm.hear(arm.observed(np.tile(HOME + 0.3, (16, 1))))
    arm.follow()
    arm.following.bar(arm.ros_s)
    assert arm.follow() is None
    assert arm.senses.refused_count == 1


def test_a_plan_that_cannot_be_joined_is_refused_once_with_its_reason() -> None:
    arm = Followed()
    for count in (1, 2):
        arm.tick()
        arm.hear(arm.observed(np.tile(HOME + 0.3, (16, 1))))
        for _ in range(3):
            arm.follow()
        assert arm.following.refused_in_a_row == count
        assert arm.senses.refused_count == count
    assert arm.senses.details[Cause.PLAN_REFUSED] == "it lies 0.300 rad from where the arm is commanded to be"
    arm.tick()
    arm.hear(arm.straight())
    arm.follow()
    assert arm.following.refused_in_a_row == 0
    assert arm.senses.refused_count == 2


def test_a_refused_plan_is_tried_again_after_a_new_activation() -> None:
    arm = Followed()
    arm.hear(arm.observed(np.tile(HOME + 0.3, (16, 1))))
    arm.follow()
    arm.following.renew()
    assert arm.following.refused_in_a_row == 0
    arm.motion.place(HOME + 0.3)
    arm.follow()
    assert arm.following.plan is not None


def slowed_for_a_plan() -> Followed:
    """At full speed, with a newer plan at hand that ends so soon that it can only be entered at less."""
    arm = Followed()
    arm.hear(arm.straight())
    arm.follow()
    arm.goes_on(0.55)
    assert arm.motion.speed == 1.0
    times = np.array([0.0, 0.02, 0.04])
    points = arm.motion.position + np.outer(times, turned(0, 0.5, REST))
    arm.hear(output(2, replace(chunk(arm.ros_s, points), time_from_start_s=times)))
    arm.follow()
    return arm


def test_for_a_plan_that_is_too_fast_for_now_the_arm_slows_until_it_can_be_entered() -> None:
    arm = slowed_for_a_plan()
    first, soon = arm.following.plan, arm.senses.plan
    assert first is not soon
    assert arm.following.refused_in_a_row == 0, "it is not refused"
    for _ in range(30):
        arm.goes_on(PERIOD_S)
        if arm.following.plan is soon:
            break
        assert arm.following.plan is first
        assert arm.motion.speed < 1.0
    assert arm.following.plan is soon


@pytest.mark.parametrize("refused", [False, True])
def test_the_arm_is_no_longer_slowed_for_a_plan_that_another_one_has_replaced(refused: bool) -> None:
    arm = slowed_for_a_plan()
    arm.tick()
    arm.motion.advance(PERIOD_S)
    arm.following.advance(arm.ros_s, arm.motion.advanced_s)
    arm.hear(arm.observed(np.tile(HOME + 1.5, (16, 1))) if refused else arm.straight())
    speed = arm.motion.speed
    assert speed < 1.0
    arm.follow()
    arm.goes_on(0.1)
    assert arm.motion.speed > speed


# Where on it


def test_a_plan_goes_on_where_the_arm_is_by_now_since_its_observation() -> None:
    arm = Followed()
    arm.hear(arm.straight(0.2))
    arm.follow()
    arm.goes_on(0.6)
    # It was made of an observation 0.2 s ago, and stands still, so that only time says where to enter it.
    arm.hear(arm.observed(np.tile(arm.motion.position, (16, 1)), age_s=0.2))
    arm.follow()
    assert arm.motion.path_time_s == pytest.approx(0.2, abs=0.011)


def test_what_was_followed_at_half_speed_counts_half() -> None:
    arm = Followed()
    arm.hear(arm.straight(0.2))
    arm.follow()
    arm.goes_on(0.6, speed=0.5)
    arm.hear(arm.observed(np.tile(arm.motion.position, (16, 1)), age_s=0.3))
    arm.follow()
    assert arm.motion.path_time_s == pytest.approx(0.15, abs=0.011)


@pytest.mark.parametrize("forget", ["forget_times", "renew"])
def test_when_what_was_followed_is_not_known_a_plan_is_entered_at_its_beginning(forget: str) -> None:
    arm = Followed()
    arm.hear(arm.straight(0.2))
    arm.follow()
    arm.goes_on(0.6)
    getattr(arm.following, forget)()
    arm.hear(arm.observed(np.tile(arm.motion.position, (16, 1)), age_s=0.3))
    arm.follow()
    assert arm.motion.path_time_s == pytest.approx(0.05)
    assert (arm.following.progress_s == 0.0) == (forget == "renew")


def test_a_second_and_a_half_of_what_was_followed_is_remembered_and_no_more() -> None:
    arm = Followed(plan_age_max_s=9.0)
    arm.following.advance(arm.ros_s, 0.0)
    for _ in range(399):
        arm.tick()
        arm.following.advance(arm.ros_s, 0.005)
    assert arm.following.progress_s == pytest.approx(1.995)
    for age_s, due_s in ((3.0, 0.745), (1.48, 0.74), (0.2, 0.1)):
        arm.following.give_up()
        arm.tick(0.001)
        arm.hear(arm.observed(np.tile(HOME, (31, 1)), age_s))
        arm.following.bar(-1.0)
        arm.follow()
        assert arm.motion.path_time_s == pytest.approx(due_s, abs=0.011)
        arm.senses._plan_stamp_s = -1.0


# Its end


def test_at_the_end_of_its_plan_the_arm_stands_and_only_a_newer_plan_moves_it() -> None:
    arm = Followed()
    arm.hear(arm.straight())
    arm.follow()
    assert arm.following.plan is not None, "given up before it began"
    arm.goes_on(1.3)
    assert arm.motion.standing
    assert arm.following.plan is None
    place = arm.motion.position
    between = arm.observed(np.tile(place, (16, 1)), age_s=0.25)
    arm.hear(between)
    arm.follow()
    assert arm.following.plan is None, "a plan from before the standstill moved the arm"
    arm.tick()
    arm.hear(arm.straight())
    arm.follow()
    assert arm.following.plan is not None


def test_a_plan_that_was_over_by_now_is_not_ready() -> None:
    arm = Followed(plan_age_max_s=9.0)
    for _ in range(120):
        arm.tick()
        arm.following.advance(arm.ros_s, PERIOD_S)
    arm.hear(arm.observed(np.tile(HOME, (16, 1)), age_s=1.1))
    assert not arm.ready()
    arm.tick()
    arm.hear(arm.observed(np.tile(HOME, (16, 1)), age_s=0.5))
    assert arm.ready()


# The speed


def test_a_plan_that_may_not_be_followed_for_now_is_kept() -> None:
    arm = Followed()
    arm.hear(arm.straight())
    for _ in range(3):
        arm.follow(0.0)
        arm.tick()
    assert arm.motion.standing
    assert arm.following.plan is arm.senses.plan
    arm.goes_on(0.3)
    assert arm.motion.speed > 0.3


def test_the_speed_is_at_most_the_one_asked_for() -> None:
    arm = Followed()
    arm.hear(arm.straight())
    arm.follow(0.25)
    arm.goes_on(0.5, speed=0.25)
    assert arm.motion.speed == pytest.approx(0.25)


# The gripper


def test_the_gripper_is_told_the_opening_of_where_the_arm_is_on_its_path() -> None:
    arm = Followed()
    arm.hear(arm.observed(np.tile(HOME, (16, 1)), gripper_m=np.linspace(0.08, 0.005, 16)))
    assert arm.follow() == pytest.approx(0.08)
    assert arm.follow() is None, "told what it has been told"
    arm.goes_on(0.6)
    expected = np.interp(arm.motion.path_time_s, STEPS, np.linspace(0.08, 0.005, 16))
    assert arm.openings[-1] == pytest.approx(expected, abs=1e-3)
    assert all(before > after for before, after in zip(arm.openings, arm.openings[1:], strict=False))


@pytest.mark.parametrize(
    ("opening_m", "told_m"), [(5.0, 0.08), (-1.0, 0.0), (0.03125, 0.03125), (0.08, 0.08), (0.0, 0.0)]
)
def test_an_opening_out_of_range_is_clipped(opening_m: float, told_m: float) -> None:
    arm = Followed(gripper_opening_max_m=0.08)
    arm.hear(arm.observed(np.tile(HOME, (16, 1)), gripper_m=opening_m))
    assert arm.follow() == told_m


def test_the_gripper_is_told_of_half_a_millimetre_and_of_nothing_less() -> None:
    for change_m, told in ((4.9e-4, False), (5e-4, True), (-4.9e-4, False), (-5e-4, True)):
        arm = Followed()
        arm.hear(arm.observed(np.tile(HOME, (16, 1)), gripper_m=0.0 if change_m > 0 else -change_m))
        first = arm.follow()
        assert first is not None
        arm.tick()
        arm.hear(arm.observed(np.tile(HOME, (16, 1)), gripper_m=first + change_m))
        assert (arm.follow() is not None) is told, change_m


def test_after_an_activation_the_gripper_is_told_anew() -> None:
    arm = Followed()
    arm.hear(arm.observed(np.tile(HOME, (16, 1)), gripper_m=0.03))
    assert arm.follow() == 0.03
    arm.following.renew()
    assert arm.follow() == 0.03
