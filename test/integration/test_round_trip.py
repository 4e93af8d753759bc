"""What the live graph recorded becomes, through a bag and a store, what one process would have collected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from graph_helpers import REACT_S, START_S, reset_simulation, start_simulator

from salus_ros.cli.main import main
from salus_ros.data.episode import Episode
from salus_ros.data.recorder import round_points
from salus_ros.data.store import Store
from salus_ros.nodes.graph import Graph
from salus_ros.sim.simulation import SimSettings, Simulation
from salus_ros.types import EventKind

SEED = 11
STAMP_TOLERANCE_S = 1e-6
WATCHED_STEPS = 80


def test_an_episode_of_the_live_graph_is_that_of_one_process(graph: Graph, tmp_path: Path) -> None:
    """Message for message, however late each was: the arm rests, so that nothing depends on when."""
    bag = tmp_path / "bag"
    graph.start("recorder", {"path": bag})
    graph.spin_until(bag.exists, START_S, "the bag")
    joints = start_simulator(graph)
    assert reset_simulation(graph, SEED, disturbance="light").accepted
    already = joints.count
    graph.spin_until(lambda: joints.count > already + WATCHED_STEPS, START_S, "joint states")
    recorder = graph.processes["recorder_node"]
    for node in ("sim_node", "recorder_node"):
        graph.stop(node)
    graph.spin_until(lambda: not recorder.alive, REACT_S, "the end of the recorder", check=False)
    assert main(["bag", "to-zarr", str(bag), str(tmp_path / "store")]) == 0

    episode = list(Store.open(tmp_path / "store"))[-1]
    simulation = Simulation(SimSettings(time_limit_s=600.0))
    scene = simulation.reset(SEED, disturbance="light")
    (start,) = simulation.step()
    assert (episode.meta.seed, episode.meta.task) == (SEED, "bin")
    assert episode.meta.instruction == scene.instruction
    assert [event.kind for event in episode.events] == [EventKind.EPISODE_START]
    assert episode.events[0].disturbance == start.disturbance
    compared = compare(episode, simulation)
    assert compared["robot"] >= WATCHED_STEPS and min(compared.values()) > 3, compared


def compare(episode: Episode, simulation: Simulation) -> dict[str, int]:
    """Compares every message with the simulation at its stamp; how many there were of each stream."""
    streams = {name: stream for name, stream in episode.streams().items() if len(stream)}
    compared = dict.fromkeys(streams, 0)
    while simulation.time_s <= episode.meta.end_s + STAMP_TOLERANCE_S:
        for name, stream in streams.items():
            (rows,) = np.nonzero(np.abs(stream.stamp_s - simulation.time_s) < STAMP_TOLERANCE_S)
            for i in rows:
                same(episode, name, int(i), simulation)
                compared[name] += 1
        simulation.step()
    for name, stream in streams.items():
        # What carries the stamp of the reset itself is older than the first step.
        assert compared[name] >= len(stream) - 1, f"stamps of {name} lie on no control step"
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
