"""A policy acts, and the expert says at each frame what it would do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from salus_ros.assets import asset
from salus_ros.corrections import FRAME_PERIOD_S, record_corrections
from salus_ros.data.episode import EpisodeMeta
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.settings import GateSettings
from salus_ros.placebo import PlaceboSettings
from salus_ros.policy.registry import load_policy
from salus_ros.rollout import RolloutSettings, run_episode
from salus_ros.sim.simulation import SimSettings, Simulation

SETTINGS = SimSettings(time_limit_s=4.0)
SLIPS = 3
"""Scene in which the shipped policy fails when the cube is slippery; odd, so that the gate is told."""


def test_the_policy_acts_as_it_does_alone_and_each_frame_has_the_experts_way_on() -> None:
    torch.set_num_threads(1)
    simulation, policy = Simulation(SETTINGS), load_policy(str(asset("models/tinyvla-small")))
    meta = EpisodeMeta(seed=8, task="bin", disturbance="")
    corrected = record_corrections(simulation, policy, meta, lambda image: image[::8, ::8])
    alone = run_episode(
        simulation,
        policy,
        Gate(GateSettings(monitor="absent"), simulation.arm_model),
        None,
        meta,
        RolloutSettings(record_frames=False, depth_clouds=False),
    )
    np.testing.assert_allclose(np.diff(corrected.time_s), FRAME_PERIOD_S, atol=1e-6)
    at = np.searchsorted(alone.robot.stamp_s, corrected.time_s - 1e-6)
    np.testing.assert_allclose(corrected.joint_position_rad, alone.robot.joint_position_rad[at], atol=1e-6)

    assert len(corrected.label_position_m) == len(corrected.time_s) > 20
    cube = corrected.cube_position_m[:, corrected.target, :2]
    now = np.linalg.norm(corrected.tool_pose[:, :2, 3] - cube, axis=1)
    then = np.linalg.norm(corrected.label_position_m[:, -1, :2] - cube, axis=1)
    approaching = (now > 0.03) & ~corrected.gripped
    assert approaching.sum() > 5
    assert (then[approaching] < now[approaching]).all(), "the expert's way leads away from the cube"


def test_with_random_stops_it_is_corrected_from_a_standstill_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(
        "salus_ros.corrections.STOPS", PlaceboSettings(slow_rate_per_s=0.0, alarm_rate_per_s=2.0)
    )
    simulation, policy = Simulation(SETTINGS), load_policy(str(asset("models/tinyvla-small")))
    meta = EpisodeMeta(seed=4, task="bin", random_interventions=True)
    corrected = record_corrections(simulation, policy, meta, lambda image: image[::8, ::8])
    on_the_way = corrected.time_s > 1.0
    slowest_rad_s = np.abs(corrected.joint_velocity_rad_s[on_the_way]).max(axis=1).min()
    assert slowest_rad_s < 0.01, f"the arm never stood: its slowest moment has {slowest_rad_s:.3f} rad/s"


def test_before_a_foreseen_failure_it_is_corrected_on_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    simulation, policy = Simulation(SETTINGS), load_policy(str(asset("models/tinyvla-small")))
    meta = EpisodeMeta(seed=SLIPS, task="bin", disturbance="slippery:1.0", random_interventions=True)
    told = record_corrections(simulation, policy, meta, lambda image: image[::8, ::8])
    jumps = np.flatnonzero(np.diff(told.time_s) < 0)
    assert len(jumps), f"no failure was foreseen; events: {[event.kind.name for event in told.events]}"
    before, after = told.time_s[jumps[0]], told.time_s[jumps[0] + 1]
    assert 0.3 < before - after < 1.0, f"went back from {before:.2f} s to {after:.2f} s"
    again = np.flatnonzero(np.abs(told.time_s[: jumps[0]] - after) < 0.5 * FRAME_PERIOD_S)
    assert len(again) == 1, "the frames of what was undone are gone"
