from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from salus_ros.errors import SalusError
from salus_ros.policy.base import Policy
from salus_ros.policy.registry import load_policy, policy_names
from salus_ros.policy.tinyvla.policy import OUTPUTS_KEPT_TO

from .small import INSTRUCTIONS, observation, write_checkpoint

MEMBERS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return write_checkpoint(tmp_path_factory.mktemp("policy"), MEMBERS)


@pytest.fixture
def policy(folder):
    return load_policy(folder, seed=3)


def test_a_checkpoint_directory_is_a_policy(policy):
    assert isinstance(policy, Policy)
    assert policy.name == "tinyvla" and len(policy.hash) == 16


def test_one_inference_fills_everything_in(policy):
    output = policy.act(observation(stamp_s=1.5))
    assert output.stamp_s == 1.5 and output.sequence == 0
    assert output.policy_hash == policy.hash and output.instruction == INSTRUCTIONS[0]
    assert output.chunk.joint_position_rad.shape == (16, 7)
    np.testing.assert_allclose(output.chunk.time_from_start_s, 0.05 * np.arange(1, 17))
    assert np.isfinite(output.chunk.joint_position_rad).all()
    assert (output.chunk.gripper_opening_m >= 0).all()
    assert output.samples.shape == (MEMBERS, 4, 16, 10)
    uncertainty = output.uncertainty
    assert uncertainty.ensemble_size == MEMBERS
    for name in ("epistemic", "aleatoric", "velocity_field_disagreement"):
        assert getattr(uncertainty, name) > 0, name
    assert uncertainty.std_per_dimension.shape == (10,) and uncertainty.latent.shape == (128,)
    assert np.isnan(uncertainty.overlap_divergence), "the first chunk has none before it"


def test_the_noise_stays_so_that_the_same_sight_gives_the_same_plan(policy):
    policy.act(observation())
    output = policy.act(observation())
    assert output.sequence == 1
    assert output.uncertainty.overlap_divergence == pytest.approx(0.0, abs=1e-12)


def test_a_later_chunk_is_compared_with_the_one_before(policy):
    policy.act(observation(0.0))
    assert policy.act(observation(0.2, seed=1)).uncertainty.overlap_divergence > 0


def test_the_same_seed_gives_the_same_plan_to_the_bit(policy):
    policy.reset(seed=7)
    first = policy.act(observation())
    policy.reset(seed=7)
    second = policy.act(observation())
    np.testing.assert_array_equal(first.samples, second.samples)
    assert np.isnan(second.uncertainty.overlap_divergence), "a reset forgets the chunk before"


def test_a_reset_samples_afresh_and_keeps_counting(policy):
    first = policy.act(observation())
    policy.reset()
    second = policy.act(observation())
    assert second.sequence == first.sequence + 1
    assert np.abs(first.samples - second.samples).max() > 0


def test_a_committed_policy_follows_one_sample_for_a_while_then_another_until_the_reset(policy):
    free = policy.act(observation())
    policy.commit()
    followed = []
    for _ in range(3):
        plans = [policy.act(observation()) for _ in range(OUTPUTS_KEPT_TO)]
        for plan in plans:
            np.testing.assert_array_equal(plan.samples, free.samples)
        (only,) = {plan.chunk.joint_position_rad.tobytes() for plan in plans}
        followed.append(only)
    assert free.chunk.joint_position_rad.tobytes() not in followed
    assert len(set(followed)) > 1, "it never changed to another sample"

    policy.reset(seed=3)
    plan = policy.act(observation())
    policy.commit()
    policy.reset(seed=3)
    np.testing.assert_array_equal(
        policy.act(observation()).chunk.joint_position_rad, plan.chunk.joint_position_rad
    )


def test_a_policy_that_is_asked_to_lifts_the_tool_straight_up_before_it_plans(policy):
    policy.reset(seed=3)
    plan = policy.act(observation()).chunk
    policy.lift(0.1)
    way_up = policy.act(observation()).chunk
    tool = policy._arm.forward(observation().robot.joint_position_rad)
    places = policy._arm.forward(way_up.joint_position_rad)[:, :3, 3]
    np.testing.assert_allclose(places[:, :2], np.tile(tool[:2, 3], (len(places), 1)), atol=1e-3)
    np.testing.assert_allclose(places[-1, 2], tool[2, 3] + 0.1, atol=1e-3)
    assert set(way_up.gripper_opening_m) == {plan.gripper_opening_m[0]}
    moment = policy.save()
    policy.reset(seed=3)
    np.testing.assert_array_equal(policy.act(observation()).chunk.joint_position_rad, plan.joint_position_rad)
    policy.restore(moment)
    np.testing.assert_array_equal(
        policy.act(observation()).chunk.joint_position_rad, way_up.joint_position_rad
    )


def test_a_committed_policy_that_goes_back_follows_the_same_samples_again(policy):
    policy.commit()
    policy.act(observation())
    moment = policy.save()
    once = [policy.act(observation()).chunk.joint_position_rad for _ in range(OUTPUTS_KEPT_TO + 1)]
    policy.restore(moment)
    again = [policy.act(observation()).chunk.joint_position_rad for _ in range(OUTPUTS_KEPT_TO + 1)]
    np.testing.assert_array_equal(once, again)


def test_members_start_from_the_same_noise(policy):
    samples = policy.act(observation()).samples
    between_draws = np.abs(samples[:, 0] - samples[:, 1]).mean()
    assert between_draws > 0


def test_the_plan_depends_on_the_instruction_the_images_and_the_state(policy):
    base = observation()
    plans = [
        base,
        replace(base, instruction=INSTRUCTIONS[1]),
        replace(base, images=observation(seed=1).images),
        replace(base, robot=replace(base.robot, gripper_opening_m=0.0)),
    ]
    first, *others = (policy.act(changed).samples for changed in plans)
    for other, what in zip(others, ("instruction", "images", "state"), strict=True):
        assert np.abs(first - other).max() > 1e-5, f"the {what} changed nothing"


def test_a_driver_without_velocities_is_served(policy):
    robot = replace(observation().robot, joint_velocity_rad_s=np.full(7, np.nan))
    assert np.isfinite(policy.act(replace(observation(), robot=robot)).samples).all()


def test_images_of_another_size_are_served(policy):
    images = {name: np.zeros((90, 160, 3), np.uint8) for name in ("front", "wrist")}
    assert np.isfinite(policy.act(replace(observation(), images=images)).samples).all()


def test_a_missing_camera_is_named(policy):
    images = {"front": observation().images["front"]}
    with pytest.raises(SalusError, match="'wrist'"):
        policy.act(replace(observation(), images=images))


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4)])
def test_an_image_that_is_not_rgb_is_told(policy, shape):
    images = {name: np.zeros(shape, np.uint8) for name in ("front", "wrist")}
    with pytest.raises(SalusError, match="expected"):
        policy.act(replace(observation(), images=images))


def test_an_empty_instruction_is_told(policy):
    with pytest.raises(SalusError, match="instruction"):
        policy.act(replace(observation(), instruction=" "))


def test_a_chunk_that_is_not_finite_is_an_error(policy):
    with torch.no_grad():
        policy._engine.model.embed_out.combine.bias.fill_(float("nan"))
    with pytest.raises(SalusError, match="not finite"):
        policy.act(observation())


def test_an_unknown_policy_is_told_with_the_known_ones():
    with pytest.raises(SalusError, match="tinyvla"):
        load_policy("no_such_policy")
    assert "tinyvla" in policy_names()


def test_options_stand_behind_a_question_mark(folder):
    policy = load_policy(f"{folder}?draws=2&camera_names=wrist,front&action_period_s=0.1")
    output = policy.act(observation())
    assert output.samples.shape[:2] == (MEMBERS, 2)
    assert policy.action_period_s == 0.1 and policy._cameras == ("wrist", "front")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("telepathy=1", "telepathy"),
        ("draws=none", "draws"),
        ("draws", "form"),
        ("camera_names=front", "image tokens"),
    ],
)
def test_options_that_cannot_be_are_told(folder, options, reason):
    with pytest.raises(SalusError, match=reason):
        load_policy(f"{folder}?{options}")


def test_one_draw_of_one_member_has_no_uncertainty_and_never_a_zero(tmp_path):
    policy = load_policy(f"{write_checkpoint(tmp_path / 'one', members=1)}?draws=1")
    uncertainty = policy.act(observation()).uncertainty
    assert uncertainty.ensemble_size == 1
    for name in ("epistemic", "aleatoric", "velocity_field_disagreement"):
        assert np.isnan(getattr(uncertainty, name)), name


def test_relative_actions_are_not_aggregated_over_time(folder):
    with pytest.raises(SalusError, match="relative"):
        load_policy(f"{folder}?temporal_aggregation=true")


def test_half_precision_keeps_tables_whole_and_actions_near(folder):
    precise = load_policy(folder).act(observation()).samples
    coarse = load_policy(f"{folder}?precision=bfloat16").act(observation()).samples
    assert np.isfinite(coarse).all()
    np.testing.assert_allclose(coarse, precise, atol=0.15)


def test_a_device_that_is_not_there_is_told(folder):
    with pytest.raises(SalusError, match="warp"):
        load_policy(f"{folder}?device=warp")
