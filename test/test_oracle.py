"""The oracle in the real simulator, with a policy that drives its fingers into the table until it replans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from salus_ros.data.episode import Episode, EpisodeMeta, Outcome
from salus_ros.errors import SalusError
from salus_ros.evaluation.outcomes import summarise
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.settings import GateSettings
from salus_ros.judges import PlainJudge
from salus_ros.oracle import Oracle, OracleSettings, Remedy, run_with_oracle
from salus_ros.rollout import Rollout, RolloutSettings, run_episode
from salus_ros.sim.simulation import SimSettings, Simulation
from salus_ros.types import ActionChunk, Cause, FailureType, Mode, Observation, PolicyOutput, Uncertainty

SETTINGS = RolloutSettings(record_frames=False, depth_clouds=False)
META = EpisodeMeta(seed=3, task="bin", disturbance="")
SHOULDER = 1
PERIOD_S = 0.05


class Plunger:
    """Lowers the shoulder after a seeded reset, and stands after the reset of a replan."""

    name = "plunger"
    hash = "0" * 16
    action_period_s = PERIOD_S

    def __init__(self) -> None:
        self._speed_rad_s = 0.0
        self._sequence = 0

    def reset(self, seed: int | None = None) -> None:
        self._speed_rad_s = 0.5 if seed is not None else 0.0

    def act(self, observation: Observation) -> PolicyOutput:
        time_s = PERIOD_S * np.arange(1, 17)
        joints = np.tile(observation.robot.joint_position_rad, (16, 1))
        joints[:, SHOULDER] += self._speed_rad_s * time_s
        chunk = ActionChunk(observation.stamp_s, time_s, joints, np.full(16, 0.08))
        self._sequence += 1
        return PolicyOutput(
            self._sequence,
            self.name,
            self.hash,
            observation.instruction,
            chunk,
            Uncertainty(1),
            np.zeros((1, 1, 16, 10), np.float32),
            float("nan"),
        )

    def save(self) -> object:
        return self._speed_rad_s, self._sequence

    def restore(self, state: object) -> None:
        assert isinstance(state, tuple)
        self._speed_rad_s, self._sequence = state


class Climber(Plunger):
    """Can lift as well, and says by how much it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.lifts_m: list[float] = []

    def lift(self, height_m: float) -> None:
        self.lifts_m.append(height_m)


@pytest.fixture(name="simulation", scope="module")
def fixture_simulation() -> Simulation:
    return Simulation(SimSettings(time_limit_s=4.0, image_size_px=16))


@pytest.fixture(name="foreseen", scope="module")
def fixture_foreseen(simulation: Simulation) -> Callable[[Remedy], Episode]:
    """An episode in which the oracle asks for a remedy."""

    def run(remedy: Remedy) -> Episode:
        settings = OracleSettings(collision=remedy)
        oracle = Oracle(settings)
        gate = Gate(GateSettings(replan_grace_s=0.0), simulation.arm_model)
        return run_with_oracle(Rollout(simulation, Plunger(), gate, oracle, SETTINGS), oracle, META, settings)

    return run


@pytest.fixture(name="unforeseen", scope="module")
def fixture_unforeseen(simulation: Simulation) -> Episode:
    gate = Gate(GateSettings(shadow_mode=True), simulation.arm_model)
    return run_episode(simulation, Plunger(), gate, PlainJudge(), META, SETTINGS)


def _first_collision_s(episode: Episode) -> float:
    return next(o.time_s for o in summarise(episode).onsets if o.type is FailureType.COLLISION)


def test_after_a_foreseen_collision_a_policy_that_can_is_asked_to_lift_the_tool(
    simulation: Simulation,
) -> None:
    policy, settings = Climber(), OracleSettings()
    oracle = Oracle(settings)
    gate = Gate(GateSettings(replan_grace_s=0.0, lift_m=0.1), simulation.arm_model)
    run_with_oracle(Rollout(simulation, policy, gate, oracle, SETTINGS), oracle, META, settings)
    assert policy.lifts_m == [pytest.approx(0.1)]


def test_without_foresight_the_fingers_hit_the_table(unforeseen: Episode) -> None:
    assert 0.5 < _first_collision_s(unforeseen) < 3.5


def test_going_back_changes_nothing_that_happens(
    unforeseen: Episode, foreseen: Callable[[Remedy], Episode]
) -> None:
    again = foreseen(Remedy.NOTHING)
    assert np.array_equal(again.robot.stamp_s, unforeseen.robot.stamp_s)
    assert np.array_equal(again.robot.joint_position_rad, unforeseen.robot.joint_position_rad)
    assert np.array_equal(again.policy.sequence, unforeseen.policy.sequence)
    assert again.events == unforeseen.events


@pytest.mark.parametrize(
    ("remedy", "mode"),
    [
        (Remedy.OWN, Mode.PROTECTIVE_STOP),
        (Remedy.STOP, Mode.PROTECTIVE_STOP),
        (Remedy.REPLAN, Mode.REPLAN),
        (Remedy.SLOW_DOWN, Mode.SLOW_DOWN),
    ],
)
def test_each_remedy_brings_about_its_mode_half_a_second_ahead(
    unforeseen: Episode, foreseen: Callable[[Remedy], Episode], remedy: Remedy, mode: Mode
) -> None:
    onset_s = _first_collision_s(unforeseen)
    summary = summarise(foreseen(remedy))
    first = summary.interventions[0]
    assert onset_s - 0.65 < first.start_s < onset_s - 0.4, f"onset at {onset_s}, intervention {first}"
    assert mode in summary.mode_entries


@pytest.mark.parametrize("remedy", [Remedy.OWN, Remedy.STOP, Remedy.REPLAN])
def test_a_new_plan_in_time_saves_the_arm(foreseen: Callable[[Remedy], Episode], remedy: Remedy) -> None:
    assert not summarise(foreseen(remedy)).had(FailureType.COLLISION)


def test_an_episode_that_runs_out_of_time_goes_back_once_and_a_new_plan_is_asked_for(
    simulation: Simulation,
) -> None:
    class Idle(Plunger):
        def reset(self, seed: int | None = None) -> None:
            self._speed_rad_s = 0.0

    settings = OracleSettings(timeout_lead_s=2.0)
    oracle = Oracle(settings)
    gate = Gate(GateSettings(timeout_grace_s=0.0), simulation.arm_model)
    episode = run_with_oracle(Rollout(simulation, Idle(), gate, oracle, SETTINGS), oracle, META, settings)
    late = [i for i in summarise(episode).interventions if Cause.FORESEEN_TIMEOUT in i.causes]
    assert episode.meta.outcome is Outcome.TIMEOUT
    assert len(late) == 1, f"told {len(late)} times"
    told_s = episode.meta.end_s - settings.timeout_lead_s
    assert told_s - 1.1 < late[0].start_s < told_s + 0.3, f"acted at {late[0].start_s}, told at {told_s}"


def test_a_failure_is_foreseen_while_a_time_out_is_too(unforeseen: Episode, simulation: Simulation) -> None:
    settings = OracleSettings()
    oracle = Oracle(settings)
    gate = Gate(GateSettings(replan_grace_s=0.0, timeout_grace_s=99.0), simulation.arm_model)
    episode = run_with_oracle(Rollout(simulation, Plunger(), gate, oracle, SETTINGS), oracle, META, settings)
    assert episode.meta.outcome is Outcome.TIMEOUT, "the plunger stands once it has stopped"
    assert not summarise(episode).had(FailureType.COLLISION)


def test_a_policy_that_cannot_go_back_is_refused(simulation: Simulation) -> None:
    class Forgetful(Plunger):
        save = None  # type: ignore[assignment]
        restore = None  # type: ignore[assignment]

    settings = OracleSettings()
    oracle = Oracle(settings)
    gate = Gate(GateSettings(), simulation.arm_model)
    rollout = Rollout(simulation, Forgetful(), gate, oracle, SETTINGS)
    with pytest.raises(SalusError, match="cannot go back"):
        run_with_oracle(rollout, oracle, replace(META, seed=4), settings)
