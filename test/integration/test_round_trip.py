"""What the live graph recorded becomes, through a bag and a store, what one process would have collected."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from graph_helpers import REACT_S, START_S, reset_simulation, start_policy, start_simulator

from salus_msgs.msg import InterventionState
from salus_ros.cli.main import main
from salus_ros.data.episode import Episode, EpisodeMeta
from salus_ros.data.recorder import round_points
from salus_ros.data.store import Store
from salus_ros.intervention.gate import Gate
from salus_ros.intervention.settings import GateSettings
from salus_ros.nodes import qos
from salus_ros.nodes.graph import Graph
from salus_ros.rollout import RolloutSettings, run_episode
from salus_ros.sim.simulation import CONTROL_PERIOD_S, SimSettings, Simulation
from salus_ros.types import EventKind, Floats, Mode

sys.path.insert(0, str(Path(__file__).parent / "policy_plugin"))
from salus_wave_policy import PERIOD_S, WavePolicy

SEED = 11
STAMP_TOLERANCE_S = 1e-6
SWING_TOLERANCE_RAD = 0.03
"""The wave is at most 0.16 rad/s fast, and live chunks arrive up to a policy period later than here."""
WATCHED_S = 2.0


@dataclass(frozen=True)
class Recorded:
    """An episode of the live graph, as a store gives it back."""

    episode: Episode
    first_command_s: float


@pytest.fixture
def recorded(graph: Graph, tmp_path: Path) -> Recorded:
    bag = tmp_path / "bag"
    graph.start("recorder", {"path": bag})
    graph.spin_until(bag.exists, START_S, "the bag")
    joints = start_simulator(graph)
    assert reset_simulation(graph, SEED).accepted
    already = joints.count
    graph.spin_until(lambda: joints.count > already + 80, START_S, "the arm at rest")
    outputs = start_policy(graph)
    graph.spin_until(lambda: outputs.count > 1, START_S, "policy outputs")
    states = graph.listen(qos.INTERVENTION_STATE, InterventionState)
    parameters = {"use_sim_time": True, "monitor": "absent", "latch_file": tmp_path / "latch"}
    graph.start("intervention", parameters)
    graph.bring_up("intervention_node", timeout_s=START_S)
    nominal = lambda: states.newest is not None and states.newest.mode == Mode.NOMINAL  # noqa: E731
    graph.spin_until(nominal, START_S, "the gate to follow the policy")
    swinging = joints.count
    graph.spin_until(lambda: joints.count > swinging + 100 * (1.5 + WATCHED_S), START_S, "a swing")
    recorder = graph.processes["recorder_node"]
    for node in ("intervention_node", "policy_node", "sim_node", "recorder_node"):
        graph.stop(node)
    graph.spin_until(lambda: not recorder.alive, REACT_S, "the end of the recorder", check=False)
    assert main(["bag", "to-zarr", str(bag), str(tmp_path / "store")]) == 0
    episode = list(Store.open(tmp_path / "store"))[-1]
    assert episode.meta.seed == SEED
    return Recorded(episode, float(episode.commands.stamp_s[0]))


def test_an_episode_of_the_live_graph_is_that_of_one_process(recorded: Recorded) -> None:
    episode = recorded.episode
    before = Simulation(SimSettings(time_limit_s=600.0))
    before.reset(SEED)
    assert [event.kind for event in before.step()] == [EventKind.EPISODE_START]
    assert episode.events[0].kind is EventKind.EPISODE_START and episode.events[0].seed == SEED
    assert episode.meta.instruction == before.scene.instruction
    compared = compare_at_rest(episode, before, recorded.first_command_s)
    assert min(compared.values()) > 3, f"too little was recorded before the arm moved: {compared}"
    compare_swing(episode, one_process())


def compare_at_rest(episode: Episode, simulation: Simulation, until_s: float) -> dict[str, int]:
    """Compares every message stamped before the first command; how many there were of each stream."""
    compared = dict.fromkeys(episode.streams(), 0)
    del compared["policy"], compared["commands"], compared["predictions"], compared["interventions"]
    while simulation.time_s < until_s - CONTROL_PERIOD_S:
        now_s = simulation.time_s
        for name in compared:
            stream = episode.streams()[name]
            (rows,) = np.nonzero(np.abs(stream.stamp_s - now_s) < STAMP_TOLERANCE_S)
            for i in rows:
                same(episode, name, int(i), simulation)
                compared[name] += 1
        simulation.step()
    total = sum(
        int((episode.streams()[name].stamp_s < until_s - CONTROL_PERIOD_S).sum()) for name in compared
    )
    assert sum(compared.values()) >= total - len(compared), "stamps lie on no control step"
    return compared


def same(episode: Episode, name: str, i: int, simulation: Simulation) -> None:
    """One message against what the simulation would have said at that moment."""
    if name == "robot":
        state, here = episode.robot.item(i), simulation.robot_state()
        for field in ("joint_position_rad", "joint_velocity_rad_s", "joint_effort_nm", "gripper_opening_m"):
            np.testing.assert_allclose(getattr(state, field), getattr(here, field), atol=1e-9, err_msg=field)
    elif name == "points":
        cloud = episode.points.item(i, episode.point_frame_id)
        here_points = round_points(simulation.point_cloud())
        assert cloud.frame_id == here_points.frame_id
        np.testing.assert_array_equal(cloud.points_m, here_points.points_m)
    else:
        camera = name.removeprefix("frames/")
        here_image = simulation.observe().images[camera]
        np.testing.assert_array_equal(episode.frames[camera].image(i), here_image)


def one_process() -> Episode:
    simulation = Simulation(SimSettings(time_limit_s=2 * PERIOD_S + 0.5))
    gate = Gate(GateSettings(monitor="absent"), simulation.arm_model)
    settings = RolloutSettings(record_frames=False)
    return run_episode(simulation, WavePolicy(), gate, None, EpisodeMeta(seed=SEED, task="bin"), settings)


def compare_swing(live: Episode, here: Episode) -> None:
    """Compares the arm's path, once both follow the policy, by the phase of the policy's wave."""
    moving = live.robot.stamp_s > live.robot.stamp_s[-1] - WATCHED_S
    live_s = live.robot.stamp_s[moving] - live.policy.stamp_s[0]
    here_s = here.robot.stamp_s - here.policy.stamp_s[0]
    expected = at(np.mod(live_s, PERIOD_S) + PERIOD_S, here_s, here.robot.joint_position_rad)
    apart = np.abs(live.robot.joint_position_rad[moving] - expected)
    assert apart.max() < SWING_TOLERANCE_RAD, f"up to {apart.max():.3f} rad apart"
    swung = np.ptp(live.robot.joint_position_rad[moving][:, 0])
    assert swung > 3 * SWING_TOLERANCE_RAD, "the arm hardly moved, so that nothing was compared"
    for name, period_s in (("robot", 0.01), ("commands", 0.01)):
        stamps = live.streams()[name].stamp_s
        assert np.median(np.diff(stamps[stamps > live_s[0]])) == pytest.approx(period_s, abs=0.002), name


def at(times_s: Floats, known_s: Floats, values: Floats) -> Floats:
    """(N, J) values at times, each joint by itself."""
    return np.stack([np.interp(times_s, known_s, column) for column in values.T], axis=1)
