from __future__ import annotations

import numpy as np
import pytest
import torch

from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla.tokenizer import train_tokenizer
from salus_ros.policy.training import Trainer, TrainingSettings, small_configuration

from .small import INSTRUCTIONS, WIDTHS, demonstrations

SETTINGS = TrainingSettings(members=3, batch=12, warm_up_steps=5)


def trainer(settings: TrainingSettings = SETTINGS, episodes: int = 20) -> Trainer:
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(INSTRUCTIONS)
    config = small_configuration(tokenizer.get_vocab_size(), 16, ("front", "wrist"), 0.05, settings.members)
    return Trainer(demonstrations(episodes), config, tokenizer, WIDTHS, settings)


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


def test_every_episode_belongs_to_as_many_members_as_asked():
    training = trainer()
    seen: dict[int, set[int]] = {}
    for members, frames in training._groups:
        for episode in training.data.episode[frames]:
            seen.setdefault(int(episode), set()).update(members)
    assert set(seen) == set(range(20)), "every episode is used"
    assert all(len(members) == SETTINGS.members_per_episode for members in seen.values())
    per_member = [sum(k in members for members in seen.values()) for k in range(SETTINGS.members)]
    assert max(per_member) < 20, "no member sees all episodes"


def test_each_member_learns_from_its_own_rows_only():
    training = trainer()
    index = next(training._batches)
    rows = training._rows(len(index))
    for member in range(SETTINGS.members):
        for row in rows[:, member].tolist():
            frame = index[row]
            assert any(member in members and frame in frames for members, frames in training._groups)


def test_members_differ_from_the_start():
    weight = trainer().model.embed_out.combine.weight.chunk(SETTINGS.members)
    assert (weight[0] - weight[1]).abs().max() > 0.01


def test_the_rate_ends_at_zero():
    training = trainer()
    training.step(1.0)
    assert training._optimizer.param_groups[0]["lr"] == 0.0


def test_validation_names_every_instruction():
    figures = trainer().validate(demonstrations(5, seed=1))
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
