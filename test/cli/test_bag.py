"""``salus bag to-zarr`` converts all it is given, or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salus_ros.cli import bag
from salus_ros.cli.main import main
from salus_ros.data.bag_writer import BagWriter
from salus_ros.data.ros_types import typestore
from salus_ros.data.store import Store


def write_bag(path: Path, topic: str = "/joint_states", joints: int = 7) -> None:
    types = typestore()
    with BagWriter(path) as writer:
        for i in range(20):
            stamp = types.types["builtin_interfaces/msg/Time"](sec=100, nanosec=i * 10_000_000)
            message = types.types["sensor_msgs/msg/JointState"](
                header=types.types["std_msgs/msg/Header"](stamp=stamp, frame_id=""),
                name=[f"joint{n}" for n in range(joints)],
                position=np.full(joints, float(i)),
                velocity=np.zeros(joints),
                effort=np.zeros(joints),
            )
            cdr = types.serialize_cdr(message, "sensor_msgs/msg/JointState")
            writer.write(topic, "sensor_msgs/msg/JointState", 100 * 10**9 + i * 10_000_000, cdr)


def test_bags_become_one_store_and_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_bag(tmp_path / name)
    assert main(["bag", "to-zarr", str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "s")]) == 0
    printed = capsys.readouterr().out
    assert "2 episodes (2 unknown)" in printed
    assert "/salus/policy_output: not in the bag" in printed
    store = Store.open(tmp_path / "s")
    assert [meta.source for meta in store.metas()] == ["a", "b"]
    assert store.episode(1).robot.joint_position_rad[:, 0].tolist() == list(range(20))


def test_topics_and_joints_of_another_robot_can_be_named(tmp_path: Path) -> None:
    write_bag(tmp_path / "a", "/robot/state", joints=3)
    words = [
        "--topic",
        "joint_states=/robot/state",
        "--arm-joints",
        "joint2,joint0",
        "--finger-joints",
        "joint1",
    ]
    assert main(["bag", "to-zarr", str(tmp_path / "a"), str(tmp_path / "s"), *words]) == 0
    episode = Store.open(tmp_path / "s").episode(0)
    assert episode.meta.joint_names == ("joint2", "joint0")
    assert episode.robot.gripper_opening_m[3] == 3.0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--topic", "joints=/x"], "--topic joints=/x was given; expected ROLE=/topic"),
        (["--arm-joints", "elbow"], None),
    ],
)
def test_a_wrong_option_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str | None
) -> None:
    write_bag(tmp_path / "a")
    code = main(["bag", "to-zarr", str(tmp_path / "a"), str(tmp_path / "s"), *words])
    captured = capsys.readouterr()
    if sentence is not None:
        assert code == 2 and sentence in captured.err
        assert not (tmp_path / "s").exists()
    else:
        assert "lacks elbow" in captured.out, "messages that do not name the joint are named"


def test_one_bad_bag_leaves_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bag(tmp_path / "a")
    write_bag(tmp_path / "b", joints=3)
    assert main(["bag", "to-zarr", str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "s")]) == 2
    assert "write it to a store of its own" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_recording_without_ros_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bag.importlib.util, "find_spec", lambda name: None)
    assert main(["bag", "record", str(tmp_path / "b")]) == 2
    assert "Recording needs ROS 2" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_an_existing_output_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bag(tmp_path / "a")
    (tmp_path / "s").mkdir()
    assert main(["bag", "to-zarr", str(tmp_path / "a"), str(tmp_path / "s")]) == 2
    assert main(["bag", "record", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err.count("exists already") == 2
