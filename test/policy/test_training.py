from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.tokenizer import train_tokenizer
from salus_ros.policy.training.architecture import small_configuration
from salus_ros.policy.training.demonstrations import Demonstrations
from salus_ros.policy.training.settings import TrainingSettings
from salus_ros.policy.training.trainer import Trainer
from salus_ros.policy.training.validation import validate

from .small import INSTRUCTIONS, WIDTHS, demonstrations

SETTINGS = TrainingSettings(members=3, batch=12, warm_up_steps=5)


def trainer(settings: TrainingSettings = SETTINGS, episodes: int = 20) -> Trainer:
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(INSTRUCTIONS)
    config = small_configuration(
        tokenizer.get_vocab_size(), 16, ("front", "wrist"), 0.05, settings.members, settings.member_part
    )
    return Trainer(demonstrations(episodes), config, tokenizer, WIDTHS, settings)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@needs_gpu
def test_a_seed_trains_alike_on_a_gpu_and_on_a_processor(monkeypatch):
    on_gpu = trainer()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_processor = trainer()
    for _ in range(3):
        torch.manual_seed(on_gpu.step_count)
        first = on_gpu.step(0.0)
        torch.manual_seed(on_processor.step_count)
        assert on_processor.step(0.0) == pytest.approx(first, rel=0.02), "after as many steps"


def test_the_denoising_loss_falls():
    training = trainer()
    losses = [training.step(0.0)["action"] for _ in range(20)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4]), losses


def test_a_resumed_run_has_the_same_weights_and_steps():
    first = trainer()
    for _ in range(3):
        first.step(0.0)
    second = trainer()
    second.restore(first.state())
    assert second.step_count == 3
    for name, tensor in first.average.state_dict().items():
        torch.testing.assert_close(second.average.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    after = second.step(0.0)
    first.restore(first.state())
    assert first.step(0.0) == pytest.approx(after, rel=1e-4), "both go on alike"


def test_a_run_of_another_shape_is_not_gone_on_from():
    other = trainer(SETTINGS.model_copy(update={"member_part": "head"}))
    with pytest.raises(SalusError, match="other members"):
        trainer().restore(other.state())


def test_every_episode_belongs_to_as_many_members_as_asked():
    training = trainer()
    seen: dict[int, set[int]] = {}
    for members, strata in training.batches.groups:
        for episode in training.data.episode[np.concatenate(strata)]:
            seen.setdefault(int(episode), set()).update(members)
    assert set(seen) == set(range(20)), "every episode is used"
    assert all(len(members) == SETTINGS.members_per_episode for members in seen.values())
    per_member = [sum(k in members for members in seen.values()) for k in range(SETTINGS.members)]
    assert max(per_member) < 20, "no member sees all episodes"


def test_each_member_learns_from_its_own_rows_only():
    training = trainer()
    index = next(training._indices)
    rows = training.batches.rows(len(index))
    for member in range(SETTINGS.members):
        for row in rows[:, member].tolist():
            frame = index[row]
            assert any(
                member in members and any(frame in frames for frames in strata)
                for members, strata in training.batches.groups
            )


def test_members_differ_from_the_start():
    weight = trainer().model.embed_out.combine.weight.chunk(SETTINGS.members)
    assert (weight[0] - weight[1]).abs().max() > 0.01


def test_the_rate_ends_at_zero():
    training = trainer()
    training.step(1.0)
    assert training._optimizer.param_groups[0]["lr"] == 0.0


def test_validation_names_every_instruction():
    training = trainer()
    figures = validate(
        training.average.cpu(), training.inputs, training.statistics, demonstrations(5, seed=1)
    )
    assert {f"first_frame_cm/{text}" for text in INSTRUCTIONS} <= set(figures)
    near = figures.pop("target_near_cm")
    assert np.isnan(near) or near > 0, "not available where no frame is near"
    assert all(np.isfinite(value) for value in figures.values()), figures


def test_too_few_demonstrations_are_told():
    with pytest.raises(SalusError, match="too few"):
        trainer(episodes=2)


def test_every_word_of_an_instruction_is_one_token_and_other_words_still_have_some():
    tokenizer = train_tokenizer(INSTRUCTIONS)
    assert len(tokenizer.encode(" green cube").ids) == 2
    assert tokenizer.decode(tokenizer.encode(" purple éclair").ids) == " purple éclair"


MANY = ("put the blue cube in the bin", "stack the blue cube on the red cube")


def two_tasks(episodes: int = 20) -> Demonstrations:
    """The same scenes under two instructions of different lengths, every other episode under the second."""
    one = demonstrations(episodes)
    objects = np.concatenate([one.objects_m[:, :1], np.full_like(one.objects_m[:, :1], np.nan)], axis=1)
    objects[one.episode % 2 == 1, 1] = 0.1
    goals = np.zeros_like(objects)
    return dataclasses.replace(
        one,
        instruction=one.episode % 2,
        instructions=MANY,
        tasks=("bin", "stack"),
        objects_m=objects,
        goals_m=goals,
    )


def two_task_trainer(settings: TrainingSettings = SETTINGS, data: Demonstrations | None = None) -> Trainer:
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(MANY)
    config = small_configuration(tokenizer.get_vocab_size(), 16, ("front", "wrist"), 0.05, settings.members)
    return Trainer(data or two_tasks(), config, tokenizer, WIDTHS, settings)


def test_prompts_of_different_lengths_go_through_together_as_they_do_alone() -> None:
    training = two_task_trainer()
    index = next(training._indices)
    rows = training.batches.rows(len(index))
    instruction = torch.from_numpy(training.data.instruction[index])
    assert len(training.inputs.length[instruction].unique()) == 2, "the batch holds both lengths"
    on_device = training._on_device
    tokens = training.model.see(on_device(training.inputs.pixels(training.data.images[index])))
    state = on_device(training._state[index])
    together = training._condition(tokens, instruction, state, rows)
    for row in range(len(rows)):
        for member in range(SETTINGS.members):
            frame = rows[row, member]
            ids = on_device(training.inputs.ids[instruction[frame]][None])
            hidden = training.model.think(training.model.embed(tokens[frame][None], ids))
            alone = training.model.embed_out.condition(hidden, state[frame][None])[0, member]
            torch.testing.assert_close(together[row, member], alone, rtol=1e-4, atol=1e-4)


def test_a_batch_holds_the_tasks_by_their_weights() -> None:
    settings = SETTINGS.model_copy(update={"batch": 18, "task_weights": {"stack": 2.0}})
    training = two_task_trainer(settings)
    for _ in range(5):
        task = training.data.instruction[next(training._indices)]
        assert [int((task == number).sum()) for number in (0, 1)] == [6, 12]


def test_what_is_not_in_the_scene_is_not_asked_for() -> None:
    training = two_task_trainer()
    present = torch.tensor([[1.0, 0.0]]).repeat(3 * 2, 1)
    present[::2] = 1.0
    drawn = torch.stack([training.batches.other_instructions(present) for _ in range(50)])
    assert set(drawn[:, ::2].flatten().tolist()) == {0, 1}
    total, parts = training.loss(next(training._indices))
    assert torch.isfinite(total) and all(np.isfinite(value) for value in parts.values())


def test_a_run_that_starts_from_a_policy_predicts_as_it_did_for_the_words_it_knew() -> None:
    old = trainer()
    old_words = train_tokenizer(INSTRUCTIONS).get_vocab()
    new = two_task_trainer()
    new.start_from(old.model, old_words, train_tokenizer(MANY).get_vocab())
    pixels, state = torch.randn(1, 2, 3, 64, 64), torch.randn(1, 13)
    same = INSTRUCTIONS.index(MANY[0])
    before = old.model.cpu().condition(pixels, old.inputs.ids[same][None], state)
    after = new.average.cpu().condition(pixels, new.inputs.ids[0][None], state)
    torch.testing.assert_close(after, before)


def test_a_policy_of_another_shape_cannot_be_started_from() -> None:
    other = trainer(SETTINGS.model_copy(update={"members": 2}))
    with pytest.raises(SalusError, match="another shape"):
        two_task_trainer().start_from(other.model, {}, {})


@pytest.mark.parametrize("part", ["head", "adapter"])
def test_members_that_share_more_are_trained_too(part):
    training = trainer(TrainingSettings(members=3, batch=12, warm_up_steps=1, member_part=part))
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    for _ in range(2):
        assert np.isfinite(training.step(0.0)["loss"])
    after = training.model.state_dict()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert "gpt_neox.layers.2.attention.dense.weight" in moved, "the shared block learns from all members"
    assert "embed_out.combine.weight" in moved
    assert ("gpt_neox.adapter.up.weight" in moved) == (part == "adapter")
