"""What can stand behind a monitor besides the temporal network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_episodes import make_sample
from sklearn.metrics import roc_auc_score

from salus_ros.errors import SalusError
from salus_ros.monitor import Monitor
from salus_ros.monitor.checkpoint import FILE_NAME
from salus_ros.monitor.dataset import Sample
from salus_ros.monitor.predictor import REACH, probabilities
from salus_ros.monitor.predictors import SEED_SIGNALS, SeedPerceptron, load_predictor
from salus_ros.monitor.scoring import judgements, score
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import SignalSet
from salus_ros.monitor.splits import Split
from salus_ros.monitor.training import train
from salus_ros.monitor.training_settings import TrainingSettings

NAMES = SignalSet().names


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [make_sample(seed, NAMES, length_s=3.0) for seed in range(150)]


def test_the_first_predictor_has_its_4868_parameters_and_four_outputs(samples: list[Sample]) -> None:
    settings = TrainingSettings(predictor="seed", alpha=0.2, novelty_alpha=0.2)
    checkpoint = train(samples, settings, MonitorSettings(), progress=False)
    assert sum(w.size for w in checkpoint.members[0].values()) == 4868
    (scored,) = score(checkpoint, samples[:1])
    probability = scored.raw.probability
    np.testing.assert_allclose(probability[..., 0], probability[..., -1], err_msg="one horizon for all")


def test_the_first_predictor_needs_its_six_signals() -> None:
    with pytest.raises(SalusError, match=r"motion\.jerk"):
        SeedPerceptron({}, [name for name in SEED_SIGNALS if name != "motion.jerk"])


def test_successes_alone_suffice_and_failures_stand_out(samples: list[Sample], tmp_path: Path) -> None:
    settings = TrainingSettings(predictor="successes", alpha=0.2, novelty_alpha=0.2)
    good = [s for s in samples if s.success]
    checkpoint = train(good, settings, MonitorSettings(), progress=False)
    others = [s for s in samples if s.split is Split.TEST or not s.success]

    label, risk = [], []
    for sample in others:
        soon = sample.target[:, :, -1].any(axis=1)
        label += soon[sample.judged].tolist()
        risk += [p.risk for p, j in zip(judgements(checkpoint, sample), sample.judged, strict=True) if j]
    assert roc_auc_score(label, risk) > 0.7
    checkpoint.save(tmp_path / FILE_NAME)
    assert (tmp_path / FILE_NAME).stat().st_size < 1_000_000
    assert Monitor.load(tmp_path).checkpoint.kind == "successes"


def test_a_distance_rises_with_what_was_never_seen(samples: list[Sample]) -> None:
    settings = TrainingSettings(predictor="successes", alpha=0.2, novelty_alpha=0.2)
    checkpoint = train([s for s in samples if s.success], settings, MonitorSettings(), progress=False)
    predictor = load_predictor("successes", checkpoint.members, checkpoint.signals)
    near = np.zeros((REACH, predictor.inputs), np.float32)
    far = near + 4.0
    risk = [probabilities(predictor.sequence(x).hazard)[0, 0, -1] for x in (near, far)]
    assert risk[1] > risk[0]


def test_a_kind_that_is_not_known_is_named() -> None:
    with pytest.raises(SalusError, match="'oracle'"):
        load_predictor("oracle", [], [])
