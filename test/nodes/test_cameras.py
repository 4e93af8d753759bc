from __future__ import annotations

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField

from salus_ros.errors import SalusError
from salus_ros.nodes import cameras
from salus_ros.types import PointCloud

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (48, 64, 3), dtype=np.uint8)
CLOUD = PointCloud(1.5, "front_optical_frame", RANDOM.normal(size=(100, 3)).astype(np.float32))


def test_an_image_survives_the_way_over_the_wire() -> None:
    message = cameras.image_to_message(IMAGE, 2.5, "front_optical_frame")
    message = deserialize_message(serialize_message(message), type(message))
    assert message.header.frame_id == "front_optical_frame"
    assert np.array_equal(cameras.image_from_message(message), IMAGE)


def test_an_image_in_another_colour_order_arrives_as_rgb() -> None:
    message = cameras.image_to_message(np.ascontiguousarray(IMAGE[..., ::-1]), 2.5, "front_optical_frame")
    message.encoding = "bgr8"
    assert np.array_equal(cameras.image_from_message(message), IMAGE)


@pytest.mark.parametrize(("field", "value"), [("encoding", "plaid8"), ("data", b"123"), ("height", 4000)])
def test_a_malformed_image_is_refused_in_one_sentence(field: str, value: object) -> None:
    message = cameras.image_to_message(IMAGE, 2.5, "front_optical_frame")
    setattr(message, field, value)
    with pytest.raises(SalusError, match="cannot be read as rgb8"):
        cameras.image_from_message(message)


def test_intrinsics_put_the_image_centre_on_the_axis_and_the_edge_at_half_the_angle() -> None:
    info = cameras.camera_info(0.0, "front_optical_frame", 64, 48, np.deg2rad(60.0))
    K = np.array(info.k).reshape(3, 3)
    ray = np.linalg.solve(K, [32.0, 0.0, 1.0])
    assert ray[0] == pytest.approx(0.0)
    assert np.rad2deg(np.arctan(-ray[1])) == pytest.approx(30.0)


def test_a_cloud_survives_the_way_over_the_wire() -> None:
    message = cameras.points_to_message(CLOUD)
    message = deserialize_message(serialize_message(message), type(message))
    back = cameras.points_from_message(message)
    assert back.frame_id == CLOUD.frame_id
    assert np.array_equal(back.points_m, CLOUD.points_m)


def test_an_organised_big_endian_cloud_with_colours_and_padding_is_read() -> None:
    points = CLOUD.points_m.reshape(10, 10, 3).copy()
    points[3, 4] = np.nan
    dtype = np.dtype(
        {"names": list("xyz"), "formats": [">f8", ">f8", ">f8"], "offsets": [8, 16, 24], "itemsize": 40}
    )
    rows = np.zeros((10, 10), dtype)
    for axis, name in enumerate("xyz"):
        rows[name] = points[..., axis]
    message = PointCloud2(
        height=10,
        width=10,
        is_bigendian=True,
        point_step=40,
        row_step=416,
        data=b"".join(r.tobytes() + bytes(16) for r in rows),
    )
    message.fields = [PointField(name="rgb", offset=0, datatype=PointField.UINT32, count=1)] + [
        PointField(name=name, offset=8 * (axis + 1), datatype=PointField.FLOAT64, count=1)
        for axis, name in enumerate("xyz")
    ]
    assert np.array_equal(
        cameras.points_from_message(message).points_m, np.delete(points.reshape(-1, 3), 34, axis=0)
    )


def test_an_empty_cloud_is_no_error() -> None:
    empty = PointCloud(1.5, "front_optical_frame", np.empty((0, 3), np.float32))
    assert cameras.points_from_message(cameras.points_to_message(empty)).points_m.shape == (0, 3)


def test_malformed_clouds_are_refused() -> None:
    without_z = cameras.points_to_message(CLOUD)
    without_z.fields = without_z.fields[:2]
    with pytest.raises(SalusError, match="fields x, y; expected x, y and z"):
        cameras.points_from_message(without_z)
    cut = cameras.points_to_message(CLOUD)
    cut.data = cut.data[:-1]
    with pytest.raises(SalusError, match="1199 bytes"):
        cameras.points_from_message(cut)
    beyond = cameras.points_to_message(CLOUD)
    beyond.fields[2].offset = 10
    with pytest.raises(SalusError, match="reaches beyond"):
        cameras.points_from_message(beyond)
