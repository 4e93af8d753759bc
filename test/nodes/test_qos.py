from __future__ import annotations

import re
from pathlib import Path

import pytest
from rclpy.qos import QoSCompatibility, qos_check_compatible

from salus_ros.errors import SalusError
from salus_ros.nodes import qos

DOCUMENT = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| `(\S+)` \| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", DOCUMENT, re.M)
}
SERVICES = (
    *(qos.EMERGENCY_STOP, qos.RESET, qos.REQUEST_REPLAN, qos.RESOLVE_ASSISTANCE),
    *(qos.SIM_RESET, qos.DRIVER_STOP, qos.DRIVER_RESUME),
)


def test_the_document_lists_exactly_the_topics_of_the_table() -> None:
    assert set(ROWS) == set(qos.TABLE)


@pytest.mark.parametrize("topic", qos.TABLE)
def test_each_topic_is_documented_as_it_is(topic: str) -> None:
    row = qos.TABLE[topic]
    message, _, _, quality, why = ROWS[topic]
    assert (message, quality, why) == (row.message, qos.describe(row), row.why)


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_documented(service: str) -> None:
    assert f"| `{service}` |" in DOCUMENT


@pytest.mark.parametrize("topic", qos.TABLE)
def test_each_topics_type_is_installed(topic: str) -> None:
    assert qos.message_class(qos.TABLE[topic].message).__name__ == qos.TABLE[topic].message.rsplit("/", 1)[1]


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(SalusError, match="No message type nothing_msgs/msg/Nothing"):
        qos.message_class("nothing_msgs/msg/Nothing")


@pytest.mark.parametrize("topic", qos.TABLE)
def test_owners_and_bystanders_can_hear_each_topic(topic: str) -> None:
    for subscriber in (qos.profile(topic), qos.profile(topic, depth=50), qos.listening_profile(topic)):
        compatible, reason = qos_check_compatible(qos.profile(topic), subscriber)
        assert compatible != QoSCompatibility.ERROR, reason
