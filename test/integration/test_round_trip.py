"""What the live graph recorded becomes, through a bag and a store, what one process would have collected.

Up to the gate's first command everything agrees message for message. From then on the processes' delays
move the arm a little earlier or later than in one process, so the two agree as far as those delays allow. The
recording itself tells how far: by how much the gate was ahead of the policy's path or behind it, and how long
it kept silent between two commands.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from graph_helpers import REACT_S, START_S, reset_simulation, start_simulator
from lifecycle_msgs.msg import Transition
from scenarios import PLUGIN_FOLDER

from salus_msgs.msg import EpisodeEvent as EpisodeEventMessage
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
from salus_ros.types import EventKind, FailureType, Floats, Mode

sys.path.insert(0, str(PLUGIN_FOLDER))
from salus_wave_policy import AMPLITUDE_RAD, SPEED_RAD_S, GraspPolicy

SEED, DISTURBANCE = 11, "light"
TIME_LIMIT_S = 4.5
REAL_TIME_FACTOR = 0.2
"""Time enough for every process to keep up with simulated time, on a machine that has other things to do."""
RESTING_STEPS = 50
STAMP_TOLERANCE_S = 1e-6
CHUNK_TOLERANCE_RAD = 1e-3
"""Between two of its points, 0.05 s apart, a chunk is taken to be straight."""
PATIENT = {
    "period_s": 0.03,
    "lead_s": 0.1,
    "joint_state_deadline_s": 2.0,
    "joint_state_age_max_s": 1.0,
    "policy_deadline_s": 4.0,
    "plan_age_max_s": 1.5,
    "clock_stall_s": 2.0,
    "clock_jump_s": 1.0,
    "overruns_to_hold": 100,
}
"""A gate whose processes may be kept waiting; what it does on time is tested elsewhere. At a fifth of the
speed, 0.1 s of lead are half a second in which no command need come."""


@dataclass(frozen=True)
class Pair:
    """The same episode of the live graph and of one process, each as its store gives it back."""

    live: Episode
    here: Episode

    @property
    def first_command_s(self) -> float:
        return float(self.live.commands.stamp_s[0])

    @property
    def late_s(self) -> float:
        """How much earlier or later than in one process a motion may have been commanded on the graph."""
        silent_s = pause_s(self.live, self.live.commands.stamp_s)
        return lag_s(self.live) + silent_s + CONTROL_PERIOD_S + STAMP_TOLERANCE_S


def begin_s(episode: Episode) -> float:
    """When the policy's path began."""
    return float(episode.policy.stamp_s[0] - episode.policy.latent[0, 0])


def pause_s(episode: Episode, stamps_s: Floats) -> float:
    """The longest between two of these stamps while the policy's path moved."""
    return float(np.diff(stamps_s[stamps_s > begin_s(episode) + GraspPolicy.rest_s]).max())


def lag_s(episode: Episode) -> float:
    """How far the gate was, while the path moved, from where on the path the policy is by then; at most."""
    states, chunks = episode.interventions, episode.policy
    moving = states.stamp_s > begin_s(episode) + GraspPolicy.rest_s
    following = moving & (states.mode == Mode.NOMINAL) & np.isin(states.sequence, chunks.sequence)
    row = np.searchsorted(chunks.sequence, states.sequence[following])
    path_s = chunks.stamp_s[row] + states.path_time_s[following]
    # From one state to the next it can fall behind by no more than the time between them.
    return float(np.abs(states.stamp_s[following] - path_s).max()) + pause_s(episode, states.stamp_s)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation(SimSettings(time_limit_s=TIME_LIMIT_S))


@pytest.fixture(scope="module")
def pair(simulation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("round_trip")
    environment = {"PYTHONPATH": os.pathsep.join([str(PLUGIN_FOLDER), os.environ.get("PYTHONPATH", "")])}
    with Graph(domain_id=57, log_dir=folder / "logs", environment=environment) as graph:
        record(graph, folder)
    assert main(["bag", "to-zarr", str(folder / "bag"), str(folder / "live")]) == 0
    live = list(Store.open(folder / "live"))[-1]
    with Store.create(folder / "here") as store:
        store.append(collect(live, simulation))
        return Pair(live, store.episode(0))


def record(graph: Graph, folder: Path) -> None:
    """Record an episode in which the arm rests, swings, and closes its hand on nothing."""
    graph.start("recorder", {"path": folder / "bag"})
    graph.spin_until((folder / "bag").exists, START_S, "the bag")
    limit = {"sim.time_limit_s": TIME_LIMIT_S}
    # From the first scene on the arm stands where this seed puts it.
    joints = start_simulator(graph, seed=SEED, real_time_factor=REAL_TIME_FACTOR, **limit)
    graph.start("policy", {"policy": "grasp", "use_sim_time": True})
    latch = {"latch_file": folder / "latch", "activation_timeout_s": START_S}
    graph.start("intervention", {"use_sim_time": True, "monitor": "absent", **latch, **PATIENT})
    graph.bring_up("policy_node", timeout_s=START_S)
    graph.transition("intervention_node", Transition.TRANSITION_CONFIGURE, timeout_s=START_S)
    events = graph.listen(qos.EPISODE_EVENT, EpisodeEventMessage)
    assert reset_simulation(graph, SEED, DISTURBANCE).accepted
    already = joints.count
    # Some may have been under way since before the reset.
    graph.spin_until(lambda: joints.count > already + RESTING_STEPS + 20, START_S, "the arm at rest")
    graph.transition("intervention_node", Transition.TRANSITION_ACTIVATE, timeout_s=START_S)

    def over() -> bool:
        kinds = [event.kind for event in events.messages if event.disturbance == DISTURBANCE]
        return EventKind.EPISODE_END in kinds

    graph.spin_until(over, START_S + TIME_LIMIT_S / REAL_TIME_FACTOR, "the end of the episode")
    recorder = graph.processes["recorder_node"]
    for node in ("intervention_node", "policy_node", "sim_node", "recorder_node"):
        graph.stop(node)
    graph.spin_until(lambda: not recorder.alive, REACT_S, "the end of the recorder", check=False)


def collect(live: Episode, simulation: Simulation) -> Episode:
    """The same episode in one process: the policy begins when the live one did, and infers for as long."""
    inference_s = float(np.median(live.policy.arrival_s - live.policy.stamp_s))
    return run_episode(
        simulation,
        GraspPolicy(begin_s(live)),
        Gate(GateSettings(monitor="absent"), simulation.arm_model),
        None,
        EpisodeMeta(seed=SEED, task="bin", disturbance=DISTURBANCE),
        RolloutSettings(record_frames=False, depth_clouds=False, inference_delay_s=inference_s),
    )


def test_the_episode_is_the_same_and_ends_the_same(pair: Pair) -> None:
    live, here = pair.live, pair.here
    for name in ("seed", "task", "instruction", "disturbance", "outcome", "policy_hash", "joint_names"):
        assert getattr(live.meta, name) == getattr(here.meta, name), name
    assert live.meta.end_s == pytest.approx(here.meta.end_s, abs=STAMP_TOLERANCE_S)
    assert [(e.kind, e.failure, e.seed, e.task, e.disturbance) for e in live.events] == [
        (e.kind, e.failure, e.seed, e.task, e.disturbance) for e in here.events
    ]
    assert [e.failure for e in live.events if e.failure is not None] == [FailureType.MISS]
    for topic in (qos.JOINT_STATES, qos.FRONT_IMAGE):
        assert f"/{topic} (order)" not in live.meta.notes, "recorded in another order than it came"
    step_s = GraspPolicy.action_period_s  # between two points of a chunk the hand closes bit by bit
    for there, event in zip(live.events, here.events, strict=True):
        onset = event.kind is EventKind.FAILURE_ONSET
        tolerance_s = pair.late_s + step_s if onset else STAMP_TOLERANCE_S
        assert there.stamp_s == pytest.approx(event.stamp_s, abs=tolerance_s), event


def test_before_the_first_command_every_message_is_the_same(pair: Pair, simulation: Simulation) -> None:
    """However late each was: the arm rests, so that nothing depends on when."""
    simulation.reset(SEED, disturbance=DISTURBANCE)
    live, until_s = pair.live, pair.first_command_s - CONTROL_PERIOD_S
    streams = {
        name: s for name, s in live.streams().items() if name.startswith(("robot", "points", "frames"))
    }
    compared = dict.fromkeys(streams, 0)
    while simulation.time_s < until_s - CONTROL_PERIOD_S:
        simulation.step()
        for name, stream in streams.items():
            (rows,) = np.nonzero(np.abs(stream.stamp_s - simulation.time_s) < STAMP_TOLERANCE_S)
            for i in rows:
                same(live, name, int(i), simulation)
                compared[name] += 1
    for name, stream in streams.items():
        # What carries the stamp of the reset itself is older than the first step.
        given = int((stream.stamp_s < until_s).sum())
        assert compared[name] >= given - 1, f"stamps of {name} lie on no control step"
    assert compared["robot"] >= RESTING_STEPS and min(compared.values()) > 2, compared


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


def test_the_arm_moves_as_in_one_process_within_the_delays_of_the_processes(pair: Pair) -> None:
    live, here, late_s = pair.live, pair.here, pair.late_s
    tolerance_rad = SPEED_RAD_S * late_s
    assert 4.0 * tolerance_rad < AMPLITUDE_RAD, f"the gate was up to {late_s:.2f} s late: too busy a machine"
    expected = at(live.robot.stamp_s, here.robot.stamp_s, here.robot.joint_position_rad)
    apart = np.abs(live.robot.joint_position_rad - expected).max()
    assert apart < tolerance_rad, (
        f"{apart:.4f} rad apart, and {late_s:.3f} s late explains {tolerance_rad:.4f}"
    )
    assert np.ptp(live.robot.joint_position_rad[:, 0]) > 0.9 * AMPLITUDE_RAD
    expected_m = np.interp(live.robot.stamp_s, here.robot.stamp_s, here.robot.gripper_opening_m)
    tolerance_m = SimSettings().gripper_speed_m_s * (late_s + GraspPolicy.action_period_s)
    assert np.abs(live.robot.gripper_opening_m - expected_m).max() < tolerance_m
    assert live.robot.gripper_opening_m.min() < 0.01


def test_what_the_policy_said_is_the_same_path(pair: Pair) -> None:
    times, positions = said(pair.here)
    live_times, live_positions = said(pair.live)
    inside = live_times <= times[-1]
    expected = at(live_times[inside], times, positions)
    np.testing.assert_allclose(live_positions[inside], expected, rtol=0, atol=CHUNK_TOLERANCE_RAD)
    assert np.count_nonzero(inside) > 500 and np.ptp(expected[:, 0]) > 0.9 * AMPLITUDE_RAD


def said(episode: Episode) -> tuple[Floats, Floats]:
    """When all points of all chunks are due, in order, and (N, J) where."""
    due_s = (episode.policy.stamp_s[:, None] + episode.policy.time_from_start_s).ravel()
    order = np.argsort(due_s, kind="stable")
    positions = episode.policy.joint_position_rad
    return due_s[order], positions.reshape(-1, positions.shape[-1])[order]


def at(times_s: Floats, known_s: Floats, values: Floats) -> Floats:
    """(N, J) values at these times, each joint by itself."""
    return np.stack([np.interp(times_s, known_s, column) for column in values.T], axis=1)
