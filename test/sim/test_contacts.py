"""Which touches a task asks for, contact by contact."""

import numpy as np
import pytest

from salus_ros.sim.contacts import gripped, judge
from salus_ros.sim.tasks import BinTask, PushTask, StackTask
from salus_ros.sim.world import Owner

BIN, STACK, PUSH = BinTask(), StackTask(), PushTask()
NAMED, SECOND, THIRD = Owner.CUBE, Owner.CUBE + 1, Owner.CUBE + 2
GRIP = [(Owner.LEFT_FINGER, NAMED, 20.0), (Owner.RIGHT_FINGER, NAMED, 20.0)]
SIZES = np.full(3, 0.04)
SHOVE = [(Owner.LEFT_FINGER, NAMED, 1.0)]


def forces(pairs, task, held=-1, second=-1):
    contacts = judge(pairs, task, target=0, second=second, held=held)
    return contacts.fixed_force_n, contacts.cube_force_n


def test_two_fingers_grip_one_only_touches():
    assert gripped(judge(GRIP, BIN, 0, -1, -1), 0.04, SIZES) == 0
    touching = judge(SHOVE, BIN, 0, -1, -1)
    assert gripped(touching, 0.04, SIZES) == -1 and touching.touched.tolist() == [True, False, False]


def test_closed_fingers_that_both_touch_a_cube_do_not_grip_it():
    pushing = judge(GRIP, PUSH, 0, -1, -1)
    assert gripped(pushing, 0.0, SIZES) == gripped(pushing, 0.019, SIZES) == -1
    assert gripped(pushing, 0.039, SIZES) == 0


@pytest.mark.parametrize("task", [BIN, STACK, PUSH])
def test_the_named_cube_may_be_touched_in_every_task(task):
    assert forces(GRIP, task, second=1) == (0.0, 0.0)


@pytest.mark.parametrize("task", [BIN, STACK, PUSH])
@pytest.mark.parametrize("cube", [SECOND, THIRD])
def test_a_finger_on_another_cube_counts_even_on_the_one_to_stack_on(task, cube):
    assert forces([(Owner.RIGHT_FINGER, cube, 2.0)], task, second=1) == (0.0, 2.0)


@pytest.mark.parametrize(("named", "pressed"), [(NAMED, 70.0), (SECOND, 70.0), (THIRD, 0.0)])
def test_how_hard_a_named_cube_is_pressed_on_the_table_is_told(named, pressed):
    pairs = [(Owner.LEFT_FINGER, named, 69.5), (Owner.TABLE, named, 50.0), (Owner.TABLE, named, 20.0)]
    assert judge(pairs, STACK, target=0, second=1, held=-1).press_force_n == pressed


def test_a_held_cube_on_another_counts_unless_it_is_to_be_put_there():
    on_second = [*GRIP, (NAMED, SECOND, 3.0)]
    assert forces(on_second, STACK, held=0, second=1) == (0.0, 0.0)
    assert forces(on_second, BIN, held=0) == (0.0, 3.0)
    assert forces([*GRIP, (NAMED, THIRD, 3.0)], STACK, held=0, second=1) == (0.0, 3.0)


def test_a_wrong_cube_held_against_the_second_counts():
    assert forces([(SECOND, THIRD, 3.0)], STACK, held=2, second=1) == (0.0, 3.0)


def test_a_pushed_cube_acts_for_the_hand_and_one_that_was_let_go_does_not():
    assert forces([*SHOVE, (NAMED, THIRD, 2.0)], PUSH) == (0.0, 2.0)
    assert forces([*SHOVE, (Owner.BIN, NAMED, 12.0)], PUSH) == (12.0, 0.0)
    assert forces([(NAMED, THIRD, 2.0), (Owner.BIN, NAMED, 12.0)], PUSH) == (0.0, 0.0)
    assert forces([*SHOVE, (NAMED, THIRD, 2.0)], BIN) == (0.0, 0.0), "a grasp pushes nothing"


@pytest.mark.parametrize("task", [BIN, STACK, PUSH])
def test_the_moved_cube_may_touch_the_table_and_the_hand_may_not(task):
    moved = SHOVE if task is PUSH else GRIP
    held = -1 if task is PUSH else 0
    assert forces([*moved, (Owner.TABLE, NAMED, 15.0)], task, held, second=1) == (0.0, 0.0)
    assert forces([(Owner.RIGHT_FINGER, Owner.TABLE, 15.0)], task) == (15.0, 0.0)
