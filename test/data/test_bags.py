"""Bags of any robot become episodes: by message stamps, with what is missing or broken named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from numpy.typing import NDArray

from salus_ros.data import bag_writer
from salus_ros.data.bag_writer import BagWriter
from salus_ros.data.bags import BagSettings, camera_name, read_bag
from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.images import decode_depth
from salus_ros.data.ros_types import typestore
from salus_ros.errors import SalusError
from salus_ros.types import EventKind, FailureType

Make = Callable[..., Episode]
ARM = [f"panda_joint{i}" for i in range(1, 8)]
NAMES = [*ARM, "panda_finger_joint1", "panda_finger_joint2"]
EPOCH_S = 1_700_000_000.0


class Recording:
    """Writes messages by their fields; received 10 ms after their stamp unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.writer = BagWriter(path)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def put(
        self, topic: str, message_type: str, stamp_s: float, log_s: float | None = None, **values: Any
    ) -> None:
        types = typestore().types
        if message_type != "std_msgs/msg/String":
            values["header"] = header(stamp_s, values.pop("frame_id", ""))
        message = types[message_type](**values)
        log_ns = round((stamp_s + 0.01 if log_s is None else log_s) * 1e9)
        self.writer.write(topic, message_type, log_ns, typestore().serialize_cdr(message, message_type))

    def joints(
        self, stamp_s: float, log_s: float | None = None, names: list[str] = NAMES, **values: Any
    ) -> None:
        position = np.arange(len(names), dtype=np.float64)
        self.put(
            values.pop("topic", "/joint_states"),
            "sensor_msgs/msg/JointState",
            stamp_s,
            log_s,
            name=names,
            position=values.get("position", position),
            velocity=np.empty(0),
            effort=np.empty(0),
        )

    def event(
        self, stamp_s: float, kind: EventKind, failure: int = 255, seed: int = -1, detail: str = ""
    ) -> None:
        self.put(
            "/salus/episode_event",
            "salus_msgs/msg/EpisodeEvent",
            stamp_s,
            kind=int(kind),
            failure_type=failure,
            seed=seed,
            task="bin",
            instruction="put the red cube in the bin",
            disturbance="",
            detail=detail,
        )

    def image(
        self, stamp_s: float, encoding: str, pixels: NDArray[Any], topic: str = "/camera/front/image_raw"
    ) -> None:
        rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
        padded = np.pad(rows, ((0, 0), (0, 5)))
        self.put(
            topic,
            "sensor_msgs/msg/Image",
            stamp_s,
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=padded.shape[1],
            data=padded.reshape(-1),
        )


def header(stamp_s: float, frame_id: str) -> Any:
    types, total = typestore().types, round(stamp_s * 1e9)
    time = types["builtin_interfaces/msg/Time"](sec=total // 10**9, nanosec=total % 10**9)
    return types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return tmp_path / "bag"


def test_an_independent_reader_opens_what_was_written(bag: Path) -> None:
    with Recording(bag) as recording:
        for i in range(50):
            recording.joints(EPOCH_S + i / 100)
    with (bag / "bag.mcap").open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.message_count == 50
        assert {c.topic for c in summary.channels.values()} == {"/joint_states"}
        assert sum(1 for _ in reader.iter_messages()) == 50
    assert "storage_identifier: mcap" in (bag / "metadata.yaml").read_text()


def test_a_bag_without_events_is_one_episode_of_unknown_outcome(bag: Path) -> None:
    with Recording(bag) as recording:
        for i in range(50):
            recording.joints(EPOCH_S + i / 100)
    (episode,) = read_bag(bag)
    assert episode.meta.outcome is Outcome.UNKNOWN
    assert "no event" in episode.meta.notes["episodes"]
    assert episode.meta.notes["/camera/front/points"] == "not in the bag"
    assert episode.meta.time_origin_s == EPOCH_S
    assert episode.robot.stamp_s == pytest.approx(np.arange(50) / 100, abs=1e-6)
    assert episode.robot.arrival_s == pytest.approx(np.arange(50) / 100 + 0.01, abs=1e-6)
    assert episode.robot.joint_position_rad[0].tolist() == list(range(7))
    assert episode.robot.gripper_opening_m[0] == 15.0, "the sum of both finger joints"
    assert np.isnan(episode.robot.joint_velocity_rad_s).all(), "what no driver reported is nan"


def test_events_split_a_bag_into_episodes(bag: Path) -> None:
    with Recording(bag) as recording:
        recording.event(1.0, EventKind.EPISODE_START, seed=4)
        recording.event(1.4, EventKind.FAILURE_ONSET, failure=FailureType.DROP, detail="red cube")
        recording.event(2.0, EventKind.SUCCESS)
        recording.event(2.01, EventKind.EPISODE_END, detail="success")
        recording.event(3.0, EventKind.EPISODE_START, seed=5)
        recording.event(4.0, EventKind.EPISODE_END, detail="assist")
        recording.event(5.0, EventKind.EPISODE_START, seed=6)
        for i in range(600):
            recording.joints(i / 100)
    first, second, cut = read_bag(bag)
    assert [e.meta.seed for e in (first, second, cut)] == [4, 5, 6]
    assert [e.meta.outcome.value for e in (first, second, cut)] == ["success", "assist", "unknown"]
    assert first.meta.instruction == "put the red cube in the bin"
    assert first.robot.stamp_s[[0, -1]] == pytest.approx([0.0, 1.01]), (
        "the pause between episodes is left out"
    )
    assert first.events[1].failure is FailureType.DROP and first.events[1].stamp_s == pytest.approx(0.4)
    assert cut.meta.end_s == pytest.approx(0.99)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_colour_images_of_any_encoding_come_back_as_rgb(bag: Path, encoding: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    if encoding == "mono8":
        rgb[:] = rgb[:, :, :1]
    order = [2, 1, 0] if encoding.startswith("b") else [0, 1, 2]
    pixels = rgb[:, :, 0] if encoding == "mono8" else rgb[:, :, order]
    if encoding.endswith("a8"):
        pixels = np.concatenate([pixels, np.zeros((6, 5, 1), np.uint8)], axis=2)
    with Recording(bag) as recording:
        recording.image(0.5, encoding, pixels)
    (episode,) = read_bag(bag)
    np.testing.assert_array_equal(episode.frames["front"].image(0), rgb)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_images_keep_millimetres(bag: Path, encoding: str) -> None:
    depth_mm = np.array([[0, 500], [1234, 65535]], np.uint16)
    metres = np.where(depth_mm == 0, np.nan, depth_mm * 1e-3).astype(np.float32)
    with Recording(bag) as recording:
        recording.image(
            0.5, encoding, depth_mm if encoding == "16UC1" else metres, "/camera/front/depth/image_raw"
        )
    (episode,) = read_bag(bag)
    stream = episode.frames["front_depth"]
    np.testing.assert_allclose(decode_depth(stream.encoded.tobytes()), metres, atol=1e-6)
    with pytest.raises(SalusError, match="depth image"):
        stream.image(0)


def test_compressed_images_are_kept_as_they_came(bag: Path) -> None:
    image = np.full((8, 8, 3), 90, np.uint8)
    files = {suffix: cv2.imencode(suffix, image)[1].reshape(-1) for suffix in (".jpg", ".png")}
    with Recording(bag) as recording:
        for i, (suffix, data) in enumerate(files.items()):
            recording.put(
                "/camera/wrist/image_raw/compressed",
                "sensor_msgs/msg/CompressedImage",
                i * 0.1,
                format=suffix[1:],
                data=data,
            )
    stream = read_bag(bag)[0].frames["wrist"]
    assert stream.encoded.tobytes() == b"".join(d.tobytes() for d in files.values())
    assert stream.image(0)[0, 0].tolist() == pytest.approx([90, 90, 90], abs=2)


def test_what_is_broken_is_left_out_and_named(bag: Path) -> None:
    with Recording(bag) as recording:
        recording.joints(0.0)
        recording.joints(0.1, position=np.zeros(3))
        recording.image(0.2, "yuv422", np.zeros((2, 2), np.uint16))
        recording.put(
            "/camera/wrist/image_raw/compressed",
            "sensor_msgs/msg/CompressedImage",
            0.3,
            format="jpg",
            data=np.zeros(9, np.uint8),
        )
        recording.writer.write("/salus/policy_output", "salus_msgs/msg/PolicyOutput", 10**8, b"\0\1\0\0\7")
        recording.event(0.0, EventKind.EPISODE_START)
        recording.event(0.05, EventKind.FAILURE_ONSET, failure=77)
    (episode,) = read_bag(bag)
    notes = episode.meta.notes
    assert len(episode.robot) == 1 and not episode.frames
    assert (
        notes["/joint_states"] == "1 messages left out, the first because it holds 3 positions for 9 joints"
    )
    assert "'yuv422'" in notes["/camera/front/image_raw"]
    assert "no PNG, WebP or JPEG" in notes["/camera/wrist/image_raw/compressed"]
    assert "1 messages left out" in notes["/salus/policy_output"]
    assert "unknown failure type 77" in notes["/salus/episode_event"]


def test_stamps_out_of_order_are_sorted_and_named(bag: Path) -> None:
    with Recording(bag) as recording:
        for stamp_s, log_s in ((1.0, 1.01), (1.2, 1.21), (1.1, 1.22)):
            recording.joints(stamp_s, log_s)
    (episode,) = read_bag(bag)
    assert episode.robot.stamp_s == pytest.approx([0.0, 0.1, 0.2])
    assert episode.robot.arrival_s == pytest.approx([0.01, 0.22, 0.21])
    assert episode.meta.notes["/joint_states (order)"].startswith("1 messages came out of order")


def test_dropped_messages_are_named_and_not_filled_in(bag: Path) -> None:
    with Recording(bag) as recording:
        for i in [*range(50), *range(60, 80), *range(90, 100)]:
            recording.joints(1.0 + i / 100)
        for i in range(10):
            recording.image(1.0 + i / 10, "mono8", np.zeros((2, 2), np.uint8))
    (episode,) = read_bag(bag)
    assert len(episode.robot) == 80
    assert episode.meta.notes["/joint_states (pauses)"].startswith("2 pauses, the longest of 0.110 s")
    assert "/camera/front/image_raw (pauses)" not in episode.meta.notes


def test_a_simulation_recorded_on_wall_time_has_arrivals_on_simulated_time(bag: Path) -> None:
    with Recording(bag) as recording:
        for i in range(101):
            recording.joints(i / 100, EPOCH_S + 2 * i / 100)  # at half the speed of the wall clock
        recording.image(0.5, "rgb8", np.zeros((2, 2, 3), np.uint8))
    (episode,) = read_bag(bag)
    assert episode.robot.arrival_s == pytest.approx(episode.robot.stamp_s, abs=1e-6)
    assert "converted" in episode.meta.notes["clock"]


def test_commands_without_a_stamp_have_the_time_of_their_reception(bag: Path) -> None:
    types = typestore().types
    point = types["trajectory_msgs/msg/JointTrajectoryPoint"](
        positions=np.arange(6.0, -1.0, -1.0),
        velocities=np.zeros(7),
        accelerations=np.empty(0),
        effort=np.empty(0),
        time_from_start=types["builtin_interfaces/msg/Duration"](sec=0, nanosec=30_000_000),
    )
    with Recording(bag) as recording:
        recording.joints(2.0)
        recording.put(
            "/arm_controller/joint_trajectory",
            "trajectory_msgs/msg/JointTrajectory",
            0.0,
            2.5,
            joint_names=ARM[::-1],
            points=[point],
        )
        recording.joints(3.0)
    (episode,) = read_bag(bag)
    assert episode.commands.stamp_s == pytest.approx([0.5])
    assert episode.commands.position_rad[0].tolist() == [6, 5, 4, 3, 2, 1, 0], (
        "in the commands' own joint order"
    )


def test_messages_without_a_stamp_have_the_time_of_their_reception_and_are_named(bag: Path) -> None:
    """As a gate's are until it has heard of a simulated clock."""
    state = dict.fromkeys(
        (
            "mode",
            "cause",
            "sequence",
            "replan_count",
            "assist_count",
            "protective_stop_count",
            "emergency_stop_count",
            "refused_message_count",
            "overrun_count",
        ),
        0,
    ) | {"reason": "", "speed_scale": 0.0, "path_time": 0.0, "time_in_mode": 0.0}
    with Recording(bag) as recording:
        recording.joints(EPOCH_S)
        for stamp_s, log_s in ((0.0, 0.5), (EPOCH_S + 0.6, 0.61)):
            recording.put(
                "/salus/intervention_state",
                "salus_msgs/msg/InterventionState",
                stamp_s,
                EPOCH_S + log_s,
                **state,
            )
        recording.joints(EPOCH_S + 1.0)
    (episode,) = read_bag(bag)
    assert episode.interventions.stamp_s == pytest.approx([0.5, 0.6], abs=1e-6)
    assert episode.interventions.arrival_s == pytest.approx([0.5, 0.61], abs=1e-6)
    note = episode.meta.notes["/salus/intervention_state (stamps)"]
    assert note.startswith("1 messages without a stamp")


def test_topics_under_a_namespace_or_another_name_are_found(bag: Path, tmp_path: Path) -> None:
    with Recording(bag) as recording:
        recording.joints(0.0, topic="/left/joint_states")
    assert len(read_bag(bag)[0].robot) == 1
    with Recording(tmp_path / "other") as recording:
        recording.joints(0.0, topic="/state")
    with pytest.raises(SalusError, match=r"holds the topics /state, and none that SALUS reads.*--topic"):
        read_bag(tmp_path / "other")
    assert len(read_bag(tmp_path / "other", BagSettings(joint_states="/state"))[0].robot) == 1


def test_a_gripper_that_reports_apart_is_joined_by_its_latest_opening(bag: Path) -> None:
    with Recording(bag) as recording:
        recording.joints(0.0, names=ARM)
        recording.joints(0.1, names=["robotiq_finger"], position=np.array([0.05]))
        recording.joints(0.2, names=ARM)
    (episode,) = read_bag(bag)
    assert episode.robot.gripper_opening_m.tolist() == pytest.approx([np.nan, 0.05], nan_ok=True)
    assert episode.meta.joint_names == tuple(ARM)


def test_a_bag_without_metadata_is_read_from_its_file(bag: Path) -> None:
    with Recording(bag) as recording:
        recording.joints(0.0)
    (bag / "metadata.yaml").unlink()
    assert len(read_bag(bag)[0].robot) == 1


def test_a_bag_that_was_not_closed_and_what_is_none_are_named(bag: Path, tmp_path: Path) -> None:
    with Recording(bag) as recording:
        for i in range(300):
            recording.joints(i / 100)
    content = (bag / "bag.mcap").read_bytes()
    (bag / "bag.mcap").write_bytes(content[: len(content) // 2])
    with pytest.raises(SalusError, match=r"cannot be opened.*mcap recover"):
        read_bag(bag)
    shutil.rmtree(bag)
    bag.mkdir()
    with pytest.raises(SalusError, match=r"no metadata.yaml and 0 bag files"):
        read_bag(bag)
    with pytest.raises(SalusError, match="There is no"):
        read_bag(tmp_path / "nothing")


def test_recording_never_overwrites_and_refuses_unknown_types(bag: Path) -> None:
    with BagWriter(bag) as writer, pytest.raises(SalusError, match="type foo_msgs/msg/Bar of /x is unknown"):
        writer.write("/x", "foo_msgs/msg/Bar", 0, b"")
    with pytest.raises(SalusError, match="exists already"):
        BagWriter(bag)
    with pytest.raises(SalusError, match="is closed"):
        writer.write("/x", "std_msgs/msg/String", 0, b"")


def test_recording_ends_before_the_disk_is_full_and_leaves_a_readable_bag(
    bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Recording(bag) as recording:
        recording.joints(0.0)
        usage = shutil.disk_usage(bag)
        monkeypatch.setattr(bag_writer.shutil, "disk_usage", lambda _: usage._replace(free=2**20))
        monkeypatch.setattr(bag_writer, "CHECK_EVERY_BYTES", 1)
        with pytest.raises(SalusError, match="Only 1 MiB are free"):
            recording.joints(0.1)
    assert len(read_bag(bag)[0].robot) == 1


@pytest.mark.parametrize(
    ("topic", "camera"),
    [
        ("/camera/front/image_raw", "front"),
        ("/camera/wrist/image_raw/compressed", "wrist"),
        ("/camera/color/image_raw", "camera"),
        ("/realsense/depth/image_rect", "realsense_depth"),
    ],
)
def test_cameras_are_named_by_their_topics(topic: str, camera: str) -> None:
    assert camera_name(topic) == camera


def test_a_live_graphs_messages_come_back_as_the_episode_they_were(bag: Path, make_episode: Make) -> None:
    conversions = pytest.importorskip("salus_ros.nodes.conversions", reason="needs rclpy")
    driver_messages = pytest.importorskip("salus_ros.nodes.driver_messages", reason="needs rclpy")
    from rclpy.serialization import serialize_message

    from salus_ros.nodes.cameras import image_to_message, points_to_message
    from salus_ros.types import FailurePrediction, InterventionState, PolicyOutput, RobotState

    fingers = NAMES[-2:]
    episode = make_episode(time_origin_s=EPOCH_S)
    topics = {
        RobotState: ("/joint_states", lambda m: driver_messages.robot_state_to_message(m, ARM, fingers)),
        PolicyOutput: (
            "/salus/policy_output",
            lambda m: conversions.policy_output_to_message(m, ARM, "base"),
        ),
        FailurePrediction: ("/salus/failure_prediction", conversions.prediction_to_message),
        InterventionState: ("/salus/intervention_state", conversions.intervention_state_to_message),
    }
    with BagWriter(bag) as writer:

        def write(topic: str, message: Any, log_s: float) -> None:
            message.header.stamp = driver_messages.stamp_to_message(
                driver_messages.stamp_from_message(message.header.stamp) + EPOCH_S
            )
            name = f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"
            writer.write(topic, name, round((log_s + EPOCH_S) * 1e9), serialize_message(message))

        for event in episode.events:
            write("/salus/episode_event", conversions.episode_event_to_message(event), event.stamp_s)
        for arrival_s, message in episode.inputs():
            if type(message) in topics:
                topic, convert = topics[type(message)]
                write(topic, convert(message), arrival_s)
            else:
                write("/camera/front/points", points_to_message(message), arrival_s)
        for i in range(len(episode.frames["front"])):
            frames = episode.frames["front"]
            image = image_to_message(frames.image(i), float(frames.stamp_s[i]), "front_optical_frame")
            write("/camera/front/image_raw", image, float(frames.stamp_s[i]))

    (back,) = read_bag(bag)
    assert set(back.meta.notes) == {
        "/arm_controller/joint_trajectory",
        "/gripper_controller/joint_trajectory",
    }
    assert back.meta.outcome is Outcome.SUCCESS and back.meta.seed == episode.meta.seed
    assert back.meta.policy_hash == episode.meta.policy_hash
    assert [e.kind for e in back.events] == [e.kind for e in episode.events]
    for name, written in episode.streams().items():
        if name == "commands":
            continue
        read = back.streams()[name]
        for field, values in written.arrays().items():
            if field == "reason":
                continue
            np.testing.assert_allclose(
                read.arrays()[field].astype(float),
                values.astype(float),
                rtol=1e-6,
                atol=1e-6,
                err_msg=f"{name}/{field}",
            )
