"""What the recorder leaves can be read by others, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from graph_helpers import REACT_S, START_S, stamps, start_policy, start_simulator
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from sensor_msgs.msg import JointState

from salus_ros.data.bags import read_bag
from salus_ros.nodes import qos
from salus_ros.nodes.graph import Graph


def read(bag: Path) -> dict[str, list[Any]]:
    """Decoded messages of each topic, with the time at which they were recorded in s."""
    topics: dict[str, list[Any]] = {}
    (path,) = bag.glob("*.mcap")
    with path.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        for _, channel, message, decoded in reader.iter_decoded_messages():
            topics.setdefault(channel.topic.lstrip("/"), []).append((message.log_time * 1e-9, decoded))
    return topics


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bag_opens_with_an_independent_reader_and_holds_what_was_said(
    graph: Graph, tmp_path: Path, number: int
) -> None:
    bag = tmp_path / "bag"
    graph.start("recorder", {"path": bag})
    graph.spin_until(bag.exists, START_S, "the bag")
    joints = start_simulator(graph)
    outputs = start_policy(graph)
    graph.spin_until(lambda: outputs.count > 20, REACT_S, "policy outputs")
    recorder = graph.processes["recorder_node"]
    graph.stop("policy_node")
    graph.stop("sim_node")
    recorder.signal(number)
    graph.spin_until(lambda: not recorder.alive, REACT_S, "the end of the recorder", check=False)
    assert recorder.process.returncode == 0
    topics = read(bag)
    assert (bag / "metadata.yaml").is_file()
    # The first may be missed while the processes find each other; from then on nothing is lost.
    for topic, heard in ((qos.POLICY_OUTPUT, outputs), (qos.JOINT_STATES, joints)):
        recorded = stamps(message for _, message in topics[topic])
        expected = [stamp for stamp in stamps(heard.messages) if stamp >= recorded[0]]
        assert len(expected) > 5, f"recording of {topic} began too late"
        assert set(expected) <= set(recorded), f"messages on {topic} were lost"
    for topic in (qos.FRONT_IMAGE, qos.WRIST_IMAGE, qos.FRONT_POINTS, qos.INSTRUCTION, qos.EPISODE_EVENT):
        assert topics.get(topic), f"nothing recorded on {topic}"
    image = topics[qos.FRONT_IMAGE][0][1]
    assert len(image.data) == image.height * image.width * 3
    for log_s, state in topics[qos.JOINT_STATES]:
        stamp_s = state.header.stamp.sec + state.header.stamp.nanosec * 1e-9
        assert -0.05 < log_s - stamp_s < 1.0, "recorded on another clock than the stamps"


def test_the_verb_records_under_a_namespace_until_ctrl_c(graph: Graph, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    words = ["bag", "record", str(bag), "--namespace", "left"]
    environment = os.environ | {"ROS_DOMAIN_ID": str(graph.domain_id)}
    recorder = subprocess.Popen([sys.executable, "-m", "salus_ros.cli.main", *words], env=environment)
    publisher = graph.node.create_publisher(JointState, "/left/joint_states", qos.profile(qos.JOINT_STATES))
    try:
        graph.spin_until(lambda: publisher.get_subscription_count() > 0, START_S, "the recorder")
        for i in range(20):
            message = JointState(name=["joint"], position=[float(i)])
            message.header.stamp.sec = 100 + i
            publisher.publish(message)
            graph.spin_for(0.02)  # as a driver would: a burst of twenty outruns the queue of ten
        graph.spin_for(1.0)
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(REACT_S) == 0
    finally:
        recorder.kill()
    (episode,) = read_bag(bag)
    assert episode.robot.joint_position_rad[:, 0].tolist() == [float(i) for i in range(20)]


def test_a_bag_that_exists_is_refused_and_left_as_it_is(graph: Graph, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    (bag / "precious").write_text("data")
    recorder = graph.start("recorder", {"path": bag})
    graph.spin_until(lambda: not recorder.alive, START_S, "the refusal", check=False)
    assert recorder.process.returncode == 2
    assert "exists already" in recorder.log_tail()
    assert [path.name for path in bag.iterdir()] == ["precious"]


def test_an_unknown_topic_is_refused_with_the_known_ones(graph: Graph) -> None:
    recorder = graph.start("recorder", {"topics": ["joint_sates"]})
    graph.spin_until(lambda: not recorder.alive, START_S, "the refusal", check=False)
    assert recorder.process.returncode == 2
    assert "no topic joint_sates; choose from" in recorder.log_tail()
