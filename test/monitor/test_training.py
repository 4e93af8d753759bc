"""Training end to end on episodes in which a failure is foreseeable by construction."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_episodes import Recipe, make_episode, make_sample

from salus_ros.cli.main import main
from salus_ros.data.episode import Outcome
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.monitor import Monitor, fitting
from salus_ros.monitor.checkpoint import Checkpoint
from salus_ros.monitor.dataset import Sample, load_samples, sample
from salus_ros.monitor.examination import as_text, examine
from salus_ros.monitor.perception import Perception
from salus_ros.monitor.preparation import shuffle_labels
from salus_ros.monitor.replay import feed
from salus_ros.monitor.scoring import judgements, series
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import SignalSet, default_signals
from salus_ros.monitor.splits import SHARES, Split, split_of, stops_early
from salus_ros.monitor.training import train
from salus_ros.monitor.training_settings import TrainingSettings
from salus_ros.types import FailurePrediction

EPISODES = 200
RECIPE = Recipe(length_s=2.5, points=10, robot_period_s=0.05)
SETTINGS = TrainingSettings(
    members=1,
    channels=24,
    epochs=24,
    patience=24,
    learning_rate=8e-3,
    dropout=0.15,
    noise=0.05,
    weight_decay=0.02,
    signal_dropout=0.2,
    family_dropout=0.0,
    smoothing=0.0,
    alpha=0.1,
    novelty_alpha=0.1,
)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [make_sample(seed, SignalSet().names) for seed in range(EPISODES)]


@pytest.fixture(scope="module")
def checkpoint(samples: list[Sample]) -> Checkpoint:
    return train(samples, SETTINGS, MonitorSettings(), progress=False)


def held_out(samples: list[Sample]) -> list[Sample]:
    return [s for s in samples if s.split in (Split.TEST, Split.CALIBRATE)]


def mean_auroc(figures: dict) -> float:  # type: ignore[type-arg]
    return float(
        np.mean([c["value"] for row in figures["auroc"].values() for c in row if c["value"] is not None])
    )


def test_a_foreseeable_failure_is_foreseen(checkpoint: Checkpoint, samples: list[Sample]) -> None:
    figures = examine(checkpoint, held_out(samples))
    assert mean_auroc(figures) > 0.9, as_text(figures)
    hits = sum(hit for hit, _ in figures["foreseen_first_onsets"].values())
    onsets = sum(of for _, of in figures["foreseen_first_onsets"].values())
    assert hits >= 0.7 * onsets, as_text(figures)


def test_with_shuffled_labels_it_comes_out_at_chance(samples: list[Sample]) -> None:
    shuffled = shuffle_labels(samples, seed=1)
    figures = examine(train(shuffled, SETTINGS, MonitorSettings(), progress=False), held_out(shuffled))
    assert abs(mean_auroc(figures) - 0.5) < 0.08, as_text(figures)


def test_shuffling_moves_how_episodes_ended_too_save_in_the_calibration_set() -> None:
    samples = [make_sample(seed, SignalSet().names, length_s=3.0) for seed in range(120)]
    shuffled = shuffle_labels(samples, seed=1)
    changed = {a.split for a, b in zip(samples, shuffled, strict=True) if a.outcome is not b.outcome}
    assert Split.TRAIN in changed and Split.CALIBRATE not in changed
    assert Counter(s.outcome for s in samples) == Counter(s.outcome for s in shuffled)


def test_the_same_seed_gives_the_same_monitor(samples: list[Sample]) -> None:
    quick = SETTINGS.model_copy(update={"epochs": 1})
    a, b = (train(samples, quick, MonitorSettings(), progress=False) for _ in range(2))
    other = train(samples, quick.model_copy(update={"seed": 1}), MonitorSettings(), progress=False)
    name = "head.weight"
    np.testing.assert_array_equal(a.members[0][name], b.members[0][name])
    assert not np.array_equal(a.members[0][name], other.members[0][name])


def test_an_interrupted_training_goes_on_where_it_was(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = SETTINGS.model_copy(update={"epochs": 4, "signal_dropout": 0.1})
    whole = train(samples, short, MonitorSettings(), progress=False)
    save = fitting._Run.save

    def save_and_stop(self: fitting._Run, path: Path) -> None:
        save(self, path)
        if len(self.curve) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting._Run, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(samples, short, MonitorSettings(), progress=False, state=tmp_path)
    resumed = train(samples, short, MonitorSettings(), progress=False, state=tmp_path)
    for name, value in whole.members[0].items():
        np.testing.assert_array_equal(resumed.members[0][name], value, err_msg=name)


def test_a_network_with_less_history_does_not_see_the_past(samples: list[Sample]) -> None:
    blind = SETTINGS.model_copy(update={"epochs": 2, "history_steps": 1})
    trained = train(samples, blind, MonitorSettings(), progress=False)
    for i in range(3):
        assert not trained.members[0][f"blocks.{i}.conv.weight"][:, :, :-1].any()


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_the_deployed_monitor_says_what_training_measured(checkpoint: Checkpoint, smoothing: float) -> None:
    checkpoint = replace(checkpoint, smoothing=smoothing)
    recorded = sample(make_episode(3, RECIPE), Perception(MonitorSettings()))
    assert recorded is not None
    monitor = Monitor(checkpoint)
    seen: list[FailurePrediction | None] = []

    def look(now_s: float) -> None:
        seen.append(monitor.predict(now_s))

    feed(make_episode(3, RECIPE), monitor._perception.inputs, recorded.time_s, look)
    (at_once,) = series(checkpoint, [recorded])
    for i, (live, offline) in enumerate(zip(seen, judgements(checkpoint, recorded), strict=True)):
        assert live is not None
        np.testing.assert_allclose(live.probability, offline.probability, atol=1e-6)
        np.testing.assert_allclose(live.probability, at_once.probability[i], atol=1e-6)
        assert live.timeout_probability == pytest.approx(at_once.timeout[i], abs=1e-6)
        assert live.out_of_distribution == offline.out_of_distribution == at_once.out_of_distribution[i]


def test_successes_of_the_calibration_set_raise_no_more_alarms_than_promised(
    checkpoint: Checkpoint, samples: list[Sample]
) -> None:
    successes = [s for s in samples if s.split is Split.CALIBRATE and s.success]
    alarmed = sum(any(p.alarm for p in judgements(checkpoint, s)) for s in successes)
    assert alarmed <= SETTINGS.alpha * (len(successes) + 1)


def test_too_few_successes_for_the_rate_are_refused_before_training(samples: list[Sample]) -> None:
    with pytest.raises(SalusError, match="needs 999 or more"):
        train(samples, SETTINGS.model_copy(update={"alpha": 0.001}), MonitorSettings(), progress=False)


def test_a_data_set_without_failures_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(SalusError, match="not both a failure and a success"):
        train([s for s in samples if s.success], SETTINGS, MonitorSettings(), progress=False)


def test_successes_only_sees_nothing_of_failed_episodes(samples: list[Sample], tmp_path: Path) -> None:
    """Failed episodes are swapped for garbage; the file stays the same to the bit."""
    rng = np.random.default_rng(0)

    def garbage(s: Sample) -> Sample:
        if s.success:
            return s
        return replace(
            s,
            frames=rng.uniform(-1e6, 1e6, s.frames.shape),
            latent=rng.uniform(-1e6, 1e6, s.latent.shape).astype(np.float32),
            target=rng.random(s.target.shape) < 0.5,
            valid=rng.random(s.valid.shape) < 0.5,
            judged=rng.random(s.judged.shape) < 0.5,
            outcome=Outcome.TIMEOUT,
            policy_hash="another",
        )

    settings = SETTINGS.model_copy(update={"predictor": "successes"})
    written = []
    for name, given in (("as they are", samples), ("garbage", [garbage(s) for s in samples])):
        every = SignalSet().names  # the latents' too
        train(given, settings, MonitorSettings(), signals=every, progress=False).save(tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_successes_only_says_nothing_about_time_outs(samples: list[Sample]) -> None:
    settings = SETTINGS.model_copy(update={"predictor": "successes"})
    trained = train(samples, settings, MonitorSettings(), progress=False)
    assert all(np.isnan(p.timeout_probability) for p in judgements(trained, samples[0]))


def test_probabilities_are_calibrated_on_episodes_that_early_stopping_does_not_see(
    samples: list[Sample],
) -> None:
    """Labels of the other half say what the calibration says, and what the epochs say they do not."""
    quick = SETTINGS.model_copy(update={"epochs": 2})
    tune = [s.seed for s in samples if s.split is Split.TUNE]
    assert 0 < sum(map(stops_early, tune)) < len(tune)

    def failing(own: bool) -> list[Sample]:
        """Every known label of one half of the tune split is a failure."""
        return [
            replace(s, target=s.valid.copy()) if s.split is Split.TUNE and stops_early(s.seed) is own else s
            for s in samples
        ]

    as_is, stopping, calibrating = (
        train(given, quick, MonitorSettings(), progress=False)
        for given in (samples, failing(True), failing(False))
    )
    loss = [c.report["members"][0]["tune_loss"] for c in (as_is, stopping, calibrating)]
    assert loss[0] == loss[2] != loss[1]
    offset = [np.mean([p.offset for row in c.calibration for p in row]) for c in (as_is, calibrating)]
    assert offset[1] > offset[0] + 2.0


def test_half_of_the_tune_seeds_stop_training_and_always_the_same() -> None:
    half = [stops_early(seed) for seed in range(20_000) if split_of(seed) is Split.TUNE]
    assert np.mean(half) == pytest.approx(0.5, abs=0.03)
    assert [stops_early(seed) for seed in range(8)] == [True, True, False, True, False, True, False, False]


def test_a_monitor_leaves_the_latent_out_unless_it_is_asked_for(checkpoint: Checkpoint) -> None:
    assert not any(name.startswith("latent.") for name in checkpoint.signals)
    assert checkpoint.latents is None
    assert set(default_signals(["latent"])) == set(SignalSet().names)
    with pytest.raises(SalusError, match="motion was to be added"):
        default_signals(["motion"])


def test_splits_are_disjoint_fixed_and_as_large_as_stated() -> None:
    assert [split_of(seed) for seed in (0, 1, 2, 3)] == [split_of(seed) for seed in (0, 1, 2, 3)]
    counts = Counter(split_of(seed) for seed in range(20_000))
    for split, share in SHARES:
        assert counts[split] / 20_000 == pytest.approx(share, abs=0.015)
    assert split_of(12345) is Split.TRAIN, "changing the rule would put old test episodes into training"


def test_a_store_is_replayed_in_its_order(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        for seed in (4, 9):
            store.append(make_episode(seed, RECIPE))
    found = load_samples([tmp_path / "store"], MonitorSettings(), jobs=1, progress=False)
    assert [s.seed for s in found] == [4, 9]
    cached = load_samples([tmp_path / "store"], MonitorSettings(), jobs=1, progress=False)
    np.testing.assert_array_equal(cached[1].frames, found[1].frames)
    direct = sample(make_episode(9, RECIPE), Perception(MonitorSettings()))
    assert direct is not None
    np.testing.assert_allclose(found[1].frames, direct.frames, atol=1e-9, equal_nan=True)
    np.testing.assert_array_equal(found[1].target, direct.target)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere"),
        (["nowhere", "--alpha", "2"], "--alpha is 2.0"),
        (["nowhere", "--members", "9"], "--members"),
    ],
)
def test_bad_arguments_end_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train-monitor", *arguments, "--output", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
