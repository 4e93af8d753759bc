"""The monitor as its node and the rollout use it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_episodes import POLICY_HASH, Recipe, gate_state, make_episode, policy_output, robot_state

from salus_ros.data.episode import Episode
from salus_ros.errors import SalusError
from salus_ros.monitor import Monitor, MonitorSettings
from salus_ros.monitor.calibration import Platt
from salus_ros.monitor.checkpoint import FILE_NAME, Checkpoint
from salus_ros.monitor.latents import LatentReference
from salus_ros.monitor.network import Network
from salus_ros.monitor.novelty import Novelty
from salus_ros.monitor.predictor import Normalisation
from salus_ros.monitor.replay import feed, ticks
from salus_ros.monitor.signals import SignalSet
from salus_ros.types import HORIZONS_S, FailurePrediction, FailureType, PointCloud, Uncertainty


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Untrained, at full size."""
    names = SignalSet().names
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append({k: v.numpy() for k, v in Network(2 * len(names), 64).state_dict().items()})
    rng = np.random.default_rng(0)
    return Checkpoint(
        settings=MonitorSettings(),
        kind="temporal",
        signals=names,
        members=members,
        normalisation=Normalisation(rng.normal(size=len(names)), rng.uniform(0.5, 2, len(names))),
        calibration=tuple(tuple(Platt(0.9, -1.0) for _ in HORIZONS_S) for _ in FailureType),
        timeout_calibration=Platt(),
        usual=np.stack([np.zeros(3), np.ones(3)]),
        threshold=np.array([0.3, 0.4, 0.5]),
        alpha=0.05,
        novelty=Novelty(np.zeros(2 * len(names)), np.eye(2 * len(names)), 5.0),
        novelty_alpha=0.05,
        smoothing=0.5,
        latents=LatentReference.fit(rng.normal(size=(200, 16)).astype(np.float32)),
        data_hash="feedfacefeedface",
        policy_hashes=(POLICY_HASH,),
        seed=0,
        report={"note": "untrained"},
    )


@pytest.fixture(scope="module")
def episode() -> Episode:
    return make_episode(5, Recipe(length_s=2.5))


@pytest.fixture
def monitor(checkpoint: Checkpoint) -> Monitor:
    return Monitor(checkpoint)


def said(monitor: Monitor, episode: Episode) -> list[FailurePrediction]:
    out: list[FailurePrediction] = []

    def look(now_s: float) -> None:
        prediction = monitor.predict(now_s)
        if prediction is not None:
            out.append(prediction)

    feed(episode, monitor._perception.inputs, ticks(episode, monitor.period_s), look)
    return out


def check(prediction: FailurePrediction | None) -> FailurePrediction:
    """A prediction that a gate would accept."""
    assert prediction is not None
    p = prediction.probability
    assert p.shape == (3, 4)
    assert np.isfinite(p).all()
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p, axis=1) >= 0).all()
    assert 0 <= prediction.risk <= 1
    assert 0 <= prediction.timeout_probability <= 1
    assert prediction.alarm == bool((p[:, -1] >= prediction.threshold).any())
    assert prediction.alarm == (prediction.risk >= 0.5)
    return prediction


def test_it_says_nothing_before_there_is_a_joint_state_and_a_plan(monitor: Monitor) -> None:
    assert monitor.predict(0.0) is None
    monitor.observe_robot(robot_state(0.0))
    assert monitor.predict(0.0) is None
    monitor.observe_policy(policy_output(0.0, sequence=7))
    assert check(monitor.predict(0.05)).sequence == 7


def test_it_forgets_on_reset(monitor: Monitor) -> None:
    monitor.observe_robot(robot_state(0.0))
    monitor.observe_policy(policy_output(0.0))
    monitor.reset()
    assert monitor.predict(0.05) is None


def test_an_episode_is_judged_from_the_first_plan_to_its_end(monitor: Monitor, episode: Episode) -> None:
    predictions = said(monitor, episode)
    assert len(predictions) >= len(ticks(episode, 0.05)) - 3
    for prediction in predictions:
        check(prediction)


def test_a_second_pass_after_a_reset_says_the_same(monitor: Monitor, episode: Episode) -> None:
    first = said(monitor, episode)
    monitor.reset()
    for a, b in zip(first, said(monitor, episode), strict=True):
        np.testing.assert_array_equal(a.probability, b.probability)


def test_live_and_replayed_say_the_same(monitor: Monitor, episode: Episode) -> None:
    live: list[FailurePrediction] = []
    messages = sorted(
        [(t, 0, episode.robot.item(i)) for i, t in enumerate(episode.robot.arrival_s)]
        + [
            (t, 1, episode.points.item(i, episode.point_frame_id))
            for i, t in enumerate(episode.points.arrival_s)
        ]
        + [(t, 2, episode.policy.item(i, episode.meta)) for i, t in enumerate(episode.policy.arrival_s)]
        + [
            (t, 4, episode.interventions.item(i, episode.reasons))
            for i, t in enumerate(episode.interventions.arrival_s)
        ]
        + [(t, 3, None) for t in ticks(episode, 0.05)],
        key=lambda m: (round(m[0], 6), m[1]),
    )
    take = (
        monitor.observe_robot,
        monitor.observe_points,
        monitor.observe_policy,
        None,
        monitor.observe_intervention,
    )
    for t, kind, message in messages:
        call = take[kind]
        if call is not None:
            call(message)  # type: ignore[operator]
        elif (prediction := monitor.predict(float(t))) is not None:
            live.append(prediction)
    monitor.reset()
    for a, b in zip(live, said(monitor, episode), strict=True):
        np.testing.assert_allclose(a.probability, b.probability, atol=1e-12)
        assert a.risk_type == b.risk_type


@pytest.mark.parametrize(
    "missing", ["points", "interventions", "effort", "velocity", "gripper", "uncertainty"]
)
def test_a_robot_without_some_sensor_still_gets_predictions(
    monitor: Monitor, episode: Episode, missing: str
) -> None:
    robot, policy = episode.robot, episode.policy
    if missing in ("points", "interventions"):
        stream = getattr(episode, missing)
        episode = replace(
            episode, **{missing: type(stream)(**{n: v[:0] for n, v in stream.arrays().items()})}
        )
    elif missing == "uncertainty":
        nan = np.full(len(policy), np.nan)
        policy = replace(
            policy, epistemic=nan, aleatoric=nan, latent=policy.latent[:, :0], samples=policy.samples[:, :0]
        )
        episode = replace(episode, policy=policy)
    else:
        name = {
            "effort": "joint_effort_nm",
            "velocity": "joint_velocity_rad_s",
            "gripper": "gripper_opening_m",
        }[missing]
        episode = replace(episode, robot=replace(robot, **{name: np.full_like(getattr(robot, name), np.nan)}))
    predictions = said(monitor, episode)
    assert len(predictions) > 15
    for prediction in predictions:
        check(prediction)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_no_number_makes_it_raise(monitor: Monitor, bad: float) -> None:
    monitor.observe_robot(robot_state(1.0))
    monitor.observe_policy(policy_output(1.0))
    before = check(monitor.predict(1.0))
    seven = np.full(7, bad)
    monitor.observe_robot(replace(robot_state(1.01), joint_position_rad=seven))
    monitor.observe_robot(
        replace(robot_state(1.02), joint_velocity_rad_s=seven, joint_effort_nm=seven, gripper_opening_m=bad)
    )
    monitor.observe_robot(robot_state(bad))
    monitor.observe_policy(policy_output(1.1, joints=np.full((16, 7), bad)))
    monitor.observe_policy(policy_output(bad))
    monitor.observe_policy(policy_output(1.12, uncertainty=Uncertainty(3, bad, bad, latent=np.full(4, bad))))
    monitor.observe_points(PointCloud(1.0, "front_optical_frame", np.full((9, 3), bad, np.float64)))
    monitor.observe_intervention(gate_state(1.05, path_time_s=bad, speed=bad))
    monitor.observe_robot(robot_state(1.14))
    monitor.observe_policy(policy_output(1.14))
    check(monitor.predict(1.15))
    assert monitor.predict(bad) is None or bad == 1e300
    assert before.probability.shape == (3, 4)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda m: m.observe_robot(replace(robot_state(1.0), joint_position_rad=np.zeros(6))),
            "number of joints",
        ),
        (lambda m: m.observe_policy(policy_output(1.0, joints=np.zeros((16, 6)))), "wrong shape"),
        (
            lambda m: m.observe_points(PointCloud(1.0, "moon", np.zeros((3, 3), np.float32))),
            "unknown frame 'moon'",
        ),
        (
            lambda m: m.observe_points(PointCloud(1.0, "front_optical_frame", np.zeros(3, np.float32))),
            "wrong shape",
        ),
    ],
)
def test_what_cannot_be_used_is_counted_by_reason(monitor: Monitor, spoil, reason: str) -> None:  # type: ignore[no-untyped-def]
    spoil(monitor)
    assert any(reason in key for key in monitor.refused), dict(monitor.refused)


def test_stale_inputs_are_named(monitor: Monitor) -> None:
    assert monitor.stale(0.0) == ("robot", "policy", "points", "intervention")
    monitor.observe_robot(robot_state(0.0))
    monitor.observe_policy(policy_output(0.0))
    monitor.observe_points(PointCloud(0.0, "front_optical_frame", np.zeros((1, 3), np.float32)))
    assert monitor.stale(0.05) == ("intervention",)
    assert monitor.stale(0.3) == ("robot", "intervention")
    assert monitor.stale(0.7) == ("robot", "points", "intervention")
    assert monitor.predict(0.7) is None, "nothing to judge without a joint state"


def test_a_clock_set_back_starts_anew(monitor: Monitor) -> None:
    monitor.observe_robot(robot_state(100.0))
    monitor.observe_policy(policy_output(100.0))
    monitor.observe_robot(robot_state(0.0))
    monitor.observe_policy(policy_output(0.0, sequence=3))
    assert check(monitor.predict(0.05)).sequence == 3


def test_a_policy_that_it_was_not_trained_on_is_named(monitor: Monitor) -> None:
    monitor.observe_policy(policy_output(0.0))
    assert monitor.foreign_policy == ""
    monitor.observe_policy(replace(policy_output(0.2), policy_hash="0000000000000000"))
    assert monitor.foreign_policy == "0000000000000000"


def test_what_was_never_seen_is_out_of_distribution(checkpoint: Checkpoint) -> None:
    def flag(threshold: float) -> bool:
        novelty = replace(checkpoint.novelty, threshold=threshold)
        monitor = Monitor(replace(checkpoint, novelty=novelty))
        monitor.observe_robot(robot_state(0.0))
        monitor.observe_policy(policy_output(0.0))
        return check(monitor.predict(0.05)).out_of_distribution

    assert flag(0.1)
    assert not flag(1e6)


def test_a_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint, episode: Episode, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / FILE_NAME)
    assert (tmp_path / FILE_NAME).stat().st_size < 1_000_000
    for path in (tmp_path, tmp_path / FILE_NAME):
        loaded = Monitor.load(path)
        for a, b in zip(said(Monitor(checkpoint), episode), said(loaded, episode), strict=True):
            np.testing.assert_allclose(a.probability, b.probability, atol=1e-9)
            assert (a.alarm, a.risk_horizon_s) == (b.alarm, b.risk_horizon_s)
    assert loaded.checkpoint.report == {"note": "untrained"}
    assert loaded.checkpoint.settings == checkpoint.settings


def test_a_file_that_is_no_checkpoint_is_refused_in_one_sentence(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(SalusError, match="no monitor checkpoint at"):
        Monitor.load(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(b"rubbish")
    with pytest.raises(SalusError, match="train it again"):
        Monitor.load(path)
    checkpoint.save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(SalusError, match="train it again"):
        Monitor.load(path)


def test_a_checkpoint_with_a_signal_that_is_gone_says_which(checkpoint: Checkpoint) -> None:
    gone = replace(checkpoint, signals=("motion.warp", *checkpoint.signals[1:]))
    with pytest.raises(SalusError, match=r"motion\.warp"):
        Monitor(gone)


def test_it_runs_without_torch() -> None:
    code = "import sys, salus_ros.monitor; sys.exit('torch' in sys.modules or 'salus_ros.sim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
