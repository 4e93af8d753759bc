"""The network: numpy against torch, hazards, normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from salus_ros.errors import SalusError
from salus_ros.monitor.network import Network, hazard_loss
from salus_ros.monitor.predictor import (
    HORIZONS,
    REACH,
    TYPES,
    Normalisation,
    TemporalNetwork,
    probabilities,
    sigmoid,
)


def network(seed: int, inputs: int = 10, channels: int = 8) -> Network:
    torch.manual_seed(seed)
    return Network(inputs, channels).eval()


def weights(of: Network) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in of.state_dict().items()}


def test_numpy_says_what_torch_says() -> None:
    networks = [network(seed) for seed in range(3)]
    predictor = TemporalNetwork([weights(n) for n in networks])
    windows = np.random.default_rng(0).normal(0, 2, (5, 20, 10)).astype(np.float32)
    with torch.no_grad():
        outputs = [n(torch.from_numpy(windows)) for n in networks]
    hazard = torch.stack([h[:, -1] for h, _ in outputs]).mean(0).numpy()
    timeout = torch.stack([t[:, -1] for _, t in outputs]).mean(0).numpy()
    for i, window in enumerate(windows):
        logits = predictor.sequence(window[-REACH:])
        np.testing.assert_allclose(logits.hazard[0], hazard[i], atol=1e-5)
        np.testing.assert_allclose(logits.timeout[0], timeout[i], atol=1e-5)


def test_a_whole_episode_at_once_says_what_each_window_says() -> None:
    predictor = TemporalNetwork([weights(network(seed)) for seed in range(2)])
    rows = np.random.default_rng(2).normal(size=(REACH + 11, 10)).astype(np.float32)
    together = predictor.sequence(rows)
    assert together.hazard.shape == (12, TYPES, HORIZONS)
    for i in range(12):
        alone = predictor.sequence(rows[i : i + REACH])
        np.testing.assert_allclose(together.hazard[i], alone.hazard[0], atol=1e-5)


def test_the_last_output_depends_on_the_reach_and_on_nothing_before_it() -> None:
    predictor = TemporalNetwork([weights(network(0))])
    long = np.random.default_rng(1).normal(size=(60, 10)).astype(np.float32)
    newest = predictor.sequence(long).hazard[-1]
    np.testing.assert_allclose(newest, predictor.sequence(long[-REACH:]).hazard[0], atol=1e-5)
    changed = long.copy()
    changed[-REACH] += 1.0
    assert not np.allclose(newest, predictor.sequence(changed).hazard[-1], atol=1e-6)


def test_the_network_is_causal() -> None:
    n = network(0)
    x = torch.randn(1, 40, 10)
    y = x.clone()
    y[:, 30:] += 1.0
    with torch.no_grad():
        before, after = n(x)[0], n(y)[0]
    assert torch.equal(before[:, :30], after[:, :30])
    assert not torch.allclose(before[:, 30:], after[:, 30:])


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (TYPES, HORIZONS), elements=st.floats(-200, 200)))
def test_probability_never_falls_with_the_horizon(hazard_logits: np.ndarray) -> None:
    p = probabilities(hazard_logits)
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p, axis=-1) >= 0).all()


def test_probabilities_are_those_of_the_chain_of_hazards() -> None:
    hazard = np.array([0.1, 0.2, 0.5, 0.0001])
    p = probabilities(np.log(hazard / (1 - hazard)))
    np.testing.assert_allclose(p, 1 - np.cumprod(1 - hazard), rtol=1e-9)


def test_a_signal_that_is_not_available_is_zero_with_a_mask_of_zero() -> None:
    frames = np.array([[1.0, np.nan], [3.0, 5.0]])
    inputs = Normalisation.fit(frames).apply(frames)
    np.testing.assert_allclose(inputs, [[-1, 0, 1, 0], [1, 0, 1, 1]], atol=1e-6)


def test_wild_signals_are_cut_off() -> None:
    normalisation = Normalisation(np.zeros(1), np.ones(1))
    assert normalisation.apply(np.array([[1e30]])).max() < 10


def test_weights_that_do_not_fit_are_refused_in_one_sentence() -> None:
    broken = weights(network(0))
    del broken["head.bias"]
    with pytest.raises(SalusError, match="do not fit each other"):
        TemporalNetwork([broken])
    with pytest.raises(SalusError, match="0 networks"):
        TemporalNetwork([])


def test_a_censored_horizon_and_one_after_the_onset_cost_nothing() -> None:
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    target = torch.tensor([[[False, True, True, True]]])
    valid = torch.tensor([[[True, True, True, True]]])
    hazard_loss(logits, target, valid, torch.ones(1, 4)).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[[True, True, False, False]]]
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    none = torch.zeros(1, 1, 4, dtype=torch.bool)
    seen = torch.tensor([[[True, True, False, False]]])
    hazard_loss(logits, none, seen, torch.ones(1, 4)).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[[True, True, False, False]]]


def test_the_sigmoid_is_safe_at_any_size() -> None:
    np.testing.assert_allclose(sigmoid(np.array([-1e4, 0.0, 1e4])), [0.0, 0.5, 1.0])
