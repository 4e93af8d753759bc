import numpy as np
import pytest

from salus_ros.robot.model import ArmModel
from salus_ros.sim.demonstrations import DemonstrationSettings, record
from salus_ros.sim.expert import EXPERTS
from salus_ros.sim.tasks import TASKS
from salus_ros.types import FailureType

QUIET = DemonstrationSettings(
    noise_m=(0.0, 0.0), noise_rad=0.0, push_rate_hz=0.0, open_share=0.0, empty_close_share=0.0, image_stride=4
)


def shrink(image):
    return image[::8, ::8]


def failures(demonstration):
    return [event.failure for event in demonstration.events if event.failure is not None]


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("seed", range(3))
def test_without_noise_the_expert_succeeds_without_any_failure(simulation, task, seed):
    demonstration = record(simulation, seed, QUIET, task, image_transform=shrink)
    assert demonstration.succeeded
    assert not failures(demonstration)
    assert simulation.time_s < 7.0


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("seed", range(10, 12))
def test_with_noise_it_succeeds_too(simulation, task, seed):
    assert record(simulation, seed, task=task, image_transform=shrink).succeeded


def test_every_task_has_an_expert():
    assert set(EXPERTS) == set(TASKS)


def test_it_recovers_from_an_empty_closed_hand(simulation):
    clumsy = QUIET.model_copy(update={"empty_close_share": 1.0})
    demonstration = record(simulation, 0, clumsy, image_transform=shrink)
    assert demonstration.succeeded
    assert FailureType.MISS in failures(demonstration)


def test_it_picks_up_again_what_was_dropped(simulation):
    clumsy = QUIET.model_copy(update={"open_share": 1.0})
    demonstration = record(simulation, 1, clumsy, image_transform=shrink)
    assert demonstration.succeeded
    assert FailureType.DROP in failures(demonstration)


def test_it_carries_over_a_post_on_the_way(simulation):
    demonstration = record(simulation, 0, QUIET, disturbance="obstacle", image_transform=shrink)
    assert simulation.truth().has_obstacle
    assert demonstration.succeeded
    assert not failures(demonstration)


def test_frames_fit_together(simulation):
    demonstration = record(simulation, 2, QUIET, image_transform=shrink)
    frames = len(demonstration.time_s)
    assert demonstration.images["front"].shape == (frames, 16, 16, 3)
    assert demonstration.images["wrist"].dtype == np.uint8
    assert demonstration.label_position_m.shape == (frames, 16, 3)
    assert demonstration.label_rotation.shape == (frames, 16, 3, 3)
    np.testing.assert_allclose(np.diff(demonstration.time_s), 0.2)
    arm: ArmModel = simulation.arm_model
    np.testing.assert_allclose(
        arm.forward(demonstration.joint_position_rad), demonstration.tool_pose, atol=1e-9
    )
    assert demonstration.colours[demonstration.target] in demonstration.instruction


def test_labels_start_at_the_measured_tool_and_foretell_where_it_goes(simulation):
    demonstration = record(simulation, 2, QUIET, image_transform=shrink)
    measured = demonstration.tool_pose[:, :3, 3]
    first = demonstration.label_position_m[:, 0]
    assert np.linalg.norm(first - measured, axis=1).max() < 0.31 * 0.05 + 0.002
    after_four_steps = demonstration.label_position_m[:-1, 3]
    assert np.median(np.linalg.norm(after_four_steps - measured[1:], axis=1)) < 0.01


def test_the_same_seed_gives_the_same_demonstration(simulation):
    first = record(simulation, 11, image_transform=shrink)
    again = record(simulation, 11, image_transform=shrink)
    np.testing.assert_array_equal(first.label_position_m, again.label_position_m)
    np.testing.assert_array_equal(first.images["wrist"], again.images["wrist"])
    assert first.events == again.events
