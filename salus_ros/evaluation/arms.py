"""The arms of the closed-loop study: what each of them is, and one seed of one of them."""

from __future__ import annotations

import traceback
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.collection import FailedEpisode, NumberedByEpisode, as_drawn
from salus_ros.data.episode import Episode, EpisodeMeta, PredictionStream
from salus_ros.data.recorder import build_stream
from salus_ros.errors import SalusError
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.settings import GateSettings
from salus_ros.judges import ControlSettings, EffortThreshold, NoiseThreshold, PlainJudge
from salus_ros.mixture import Mixture
from salus_ros.oracle import NO_PERSISTENCE, Oracle, OracleSettings, Remedy, run_with_oracle
from salus_ros.placebo import PlaceboSettings, RandomTrigger
from salus_ros.rollout import Judge, Rollout, RolloutSettings, let_watch, run_episode

if TYPE_CHECKING:
    from salus_ros.monitor.monitor import Monitor
    from salus_ros.policy.base import Policy
    from salus_ros.sim.simulation import Simulation

ARMS = {
    "none": "the gate with learned risk off; the monitor is heard by nobody",
    "none-live": "none on the ROS graph, in real time",
    "none2": "none with other policy noise: what luck alone flips",
    "random": "as many interventions of each kind as salus made, at random times",
    "noise": "an alarm on random numbers, what the uncertainty of a policy that knows nothing comes to",
    "shuffled": "a monitor trained on the labels of other steps",
    "effort": "an alarm on the motors' effort, taken for a collision",
    "oracle": "told the true future: half a second before each failure, 8 s before a time-out",
    "oracle-slow": "the same, and slows down whatever comes",
    "oracle-stop": "the same, and stops, retraces and asks for a new plan whatever comes",
    "oracle-replan": "the same, and asks for a new plan whatever comes",
    "salus-live": "salus on the ROS graph, in real time",
    "salus": "the gate with the monitor",
}
"""Name to meaning, in the order in which they are shown: the first is compared with the others."""

REMEDIES = {
    "oracle": Remedy.OWN,
    "oracle-slow": Remedy.SLOW_DOWN,
    "oracle-stop": Remedy.STOP,
    "oracle-replan": Remedy.REPLAN,
}
LIVE = ("none-live", "salus-live")
"""Arms that are run by ``salus study --live`` beside those of the same name."""

LISTENS = ("none", "salus", *LIVE)
"""Arms in which the monitor runs."""

CONTROLS = ("noise", "effort")
"""Arms whose thresholds are set on tune seeds by the study itself."""

OTHER_NOISE = 1_000_003
"""Added to the seed of the policy's noise in the second ``none``."""


class Setup(BaseModel):
    """All that an episode of the study depends on, besides its arm and its seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(description="Checkpoint folder of the policy.")
    monitor: str = Field(description="Checkpoint folder of the monitor.")
    shuffled: str = Field("", description="Checkpoint folder of a monitor trained on shuffled labels.")
    mixture: Mixture = Field(description="What the episodes are drawn from.")
    rollout: RolloutSettings = Field(RolloutSettings(), description="Rates and delays.")
    gate: GateSettings = Field(GateSettings(), description="Of all arms.")
    placebo: PlaceboSettings = Field(PlaceboSettings(), description="Of the arm random.")
    controls: ControlSettings = Field(ControlSettings(), description="Of the arms effort and noise.")
    oracle: OracleSettings = Field(OracleSettings(), description="Of the oracle's arms.")


class OtherNoise(NumberedByEpisode):
    """A policy whose noise has another seed; scene and disturbance stay those of the episode."""

    def reset(self, seed: int | None = None) -> None:
        """As the policy, with another seed."""
        super().reset(None if seed is None else seed + OTHER_NOISE)


def run_arm(arm: str, setup: Setup, seed: int) -> Episode | FailedEpisode:
    """One seed in one arm, in this process; a module's function, so that workers can be sent it.

    Raises:
        SalusError: what is missing or wrong for all seeds alike; other errors are returned.
    """
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        simulation, policy = _workplace(setup.policy)
        meta = replace(setup.mixture.draw(seed), arm=arm, random_interventions=False)
        episode = _run(arm, setup, meta, simulation, policy)
        # A mixture draws one of its families for each seed; the simulator knows which.
        drawn = as_drawn(episode.meta, simulation.scene)
        return replace(episode, meta=drawn)
    except SalusError:
        raise
    except Exception as error:
        return FailedEpisode(seed, f"{type(error).__name__}: {error}", traceback.format_exc())


def as_oracle(episode: Episode, arm: str) -> Episode:
    """An episode of ``none`` in which nothing fails, as an oracle's arm has it: nobody foresees anything."""
    nothing = build_stream(PredictionStream, {})
    return replace(episode, meta=replace(episode.meta, arm=arm), predictions=nothing)


def _run(arm: str, setup: Setup, meta: EpisodeMeta, simulation: Simulation, policy: Policy) -> Episode:
    needs_points = arm in LISTENS or arm == "shuffled"
    rollout = setup.rollout.model_copy(update={"depth_clouds": needs_points})
    acting = OtherNoise(policy) if arm == "none2" else NumberedByEpisode(policy)
    gate = Gate(gate_settings(arm, setup.gate), simulation.arm_model)
    if arm in REMEDIES:
        remedy = REMEDIES[arm]
        settings = setup.oracle.model_copy(update={"collision": remedy, "drop": remedy, "miss": remedy})
        oracle = Oracle(settings)
        return run_with_oracle(Rollout(simulation, acting, gate, oracle, rollout), oracle, meta, settings)
    return run_episode(simulation, acting, gate, _judge(arm, setup, meta.seed, simulation), meta, rollout)


def gate_settings(arm: str, settings: GateSettings) -> GateSettings:
    """The settings of the study's gate as they are in an arm."""
    changes: dict[str, object] = {"shadow_mode": arm in ("none", "none2")}
    if arm in REMEDIES:
        changes |= NO_PERSISTENCE
    return GateSettings(**(settings.model_dump() | changes))


def _judge(arm: str, setup: Setup, seed: int, simulation: Simulation) -> Judge:
    if arm == "random":
        return RandomTrigger(seed, setup.placebo)
    if arm == "noise":
        return NoiseThreshold(seed, setup.controls.noise)
    if arm == "effort":
        return EffortThreshold(setup.controls.effort, simulation.arm_model.effort_limit_nm)
    if arm == "none2":
        return PlainJudge()
    return _monitor(setup.shuffled, True) if arm == "shuffled" else _monitor(setup.monitor, False)


@lru_cache(maxsize=1)
def _workplace(policy: str) -> tuple[Simulation, Policy]:
    """Built once in each process."""
    from salus_ros.policy.registry import load_policy
    from salus_ros.sim.simulation import Simulation

    simulation = Simulation()
    return simulation, let_watch(load_policy(policy), simulation)


@lru_cache(maxsize=2)
def _monitor(path: str, shuffled: bool) -> Monitor:
    from salus_ros.monitor.monitor import Monitor

    monitor = Monitor.load(path)
    if bool(monitor.checkpoint.report.get("shuffled_labels")) is not shuffled:
        was, expected = ("shuffled", "true") if not shuffled else ("true", "shuffled")
        raise SalusError(
            f"The monitor {path} was trained on {was} labels; expected one of {expected} labels."
        )
    return monitor
