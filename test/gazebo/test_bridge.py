"""What the bridge carries is what Gazebo publishes and what the nodes listen to."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from typing import Any

import pytest
import yaml

from salus_ros.assets import asset
from salus_ros.nodes import qos
from salus_ros.robot.gazebo import gazebo_description
from salus_ros.sim.world import CUBES

# From the bridge's own table of conversions (ros_gz_bridge, Jazzy and Kilted).
CONVERSIONS = {
    ("rosgraph_msgs/msg/Clock", "gz.msgs.Clock"),
    ("sensor_msgs/msg/Image", "gz.msgs.Image"),
    ("sensor_msgs/msg/CameraInfo", "gz.msgs.CameraInfo"),
    ("geometry_msgs/msg/TransformStamped", "gz.msgs.Pose"),
    ("ros_gz_interfaces/msg/Contacts", "gz.msgs.Contacts"),
}
KEYS = {"ros_topic_name", "gz_topic_name", "ros_type_name", "gz_type_name", "direction"}
TRUTH = {
    "gazebo/front/depth": "sensor_msgs/msg/Image",
    "gazebo/poses": "geometry_msgs/msg/TransformStamped",
    "gazebo/contacts": "ros_gz_interfaces/msg/Contacts",
}
"""Read by the nodes that stand between Gazebo and SALUS; everything else is a topic of SALUS."""


@pytest.fixture(scope="module")
def entries() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(asset("config/gazebo_bridge.yaml").read_text())
    return loaded


def published_by_gazebo(world: ElementTree.Element) -> Counter[str]:
    robot = ElementTree.fromstring(gazebo_description(asset("urdf/salus_arm.urdf").read_text(), "file"))
    topics = ["/clock"]
    for sensor in [*world.iter("sensor"), *robot.iter("sensor")]:
        topic = sensor.findtext("topic") or sensor.findtext("contact/topic")
        assert topic, f"the sensor {sensor.get('name')} has no topic"
        if sensor.get("type") == "camera":
            topics += [topic, topic.rpartition("/")[0] + "/camera_info"]
        else:
            topics.append(topic)
    for model in world.iterfind("model"):
        for plugin in model.iterfind("plugin"):
            assert plugin.get("name") == "gz::sim::systems::PosePublisher"
            # Older releases know no topic of its own and publish under this very name.
            assert plugin.findtext("topic") == f"/model/{model.get('name')}/pose"
            topics.append(f"/model/{model.get('name')}/pose")
    return Counter(topics)


def test_it_carries_all_that_gazebo_publishes_and_nothing_else(
    world: ElementTree.Element, entries: list[dict[str, Any]]
) -> None:
    assert Counter(entry["gz_topic_name"] for entry in entries) == published_by_gazebo(world)


def test_every_entry_has_the_keys_that_the_bridge_reads(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        assert set(entry) == KEYS, entry
        assert entry["direction"] == "GZ_TO_ROS", entry
        assert (entry["ros_type_name"], entry["gz_type_name"]) in CONVERSIONS, entry


def test_topics_of_salus_have_the_names_and_types_that_the_nodes_use(entries: list[dict[str, Any]]) -> None:
    own = {entry["ros_topic_name"]: entry["ros_type_name"] for entry in entries}
    for topic, message in TRUTH.items():
        assert own.pop(topic) == message
    assert own == {topic: qos.TABLE[topic].message for topic in own}
    wanted = {qos.CLOCK, qos.FRONT_IMAGE, qos.WRIST_IMAGE, qos.FRONT_INFO, qos.WRIST_INFO}
    assert set(own) == wanted


def test_a_bridge_publishes_reliably_which_every_profile_of_these_topics_accepts(
    entries: list[dict[str, Any]],
) -> None:
    """The bridge's publishers are reliable and volatile, and offer neither a deadline nor a lease."""
    for entry in entries:
        row = qos.TABLE.get(entry["ros_topic_name"])
        if row is not None:
            assert not row.latched and row.deadline_s is None and row.lease_s is None, entry


def test_each_cube_and_each_thing_that_can_be_touched_is_reported(entries: list[dict[str, Any]]) -> None:
    poses = [entry["gz_topic_name"] for entry in entries if entry["ros_topic_name"] == "gazebo/poses"]
    assert poses == [f"/model/cube_{i}/pose" for i in range(CUBES)]
    contacts = {entry["gz_topic_name"] for entry in entries if entry["ros_topic_name"] == "gazebo/contacts"}
    things = ["table", "bin", "obstacle", *(f"cube_{i}" for i in range(CUBES))]
    assert contacts == {f"/salus/contacts/{thing}" for thing in things}


def test_contact_sensors_name_every_shape_of_their_link(world: ElementTree.Element) -> None:
    for link in world.iter("link"):
        sensor = link.find("sensor[@type='contact']")
        if sensor is None:
            continue
        named = [element.text for element in sensor.iterfind("contact/collision")]
        assert named == [shape.get("name") for shape in link.iterfind("collision")]
