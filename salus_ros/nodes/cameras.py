"""Camera images and depth clouds: from numpy arrays to messages and back."""

from __future__ import annotations

import array
import math
from typing import Any, Final

import numpy as np
from cv_bridge import CvBridge
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo as CameraInfoMessage
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import PointCloud2 as PointCloudMessage
from sensor_msgs.msg import PointField

from salus_ros.errors import SalusError
from salus_ros.nodes.driver_messages import stamp_from_message, stamp_to_message
from salus_ros.types import Image, PointCloud

_bridge = CvBridge()


def image_to_message(image: Image, stamp_s: float, frame_id: str) -> ImageMessage:
    """An RGB image (H, W, 3) as ``rgb8``.

    Not by cv_bridge: it hands over ``bytes``, which the message then checks byte by byte.
    """
    height, width, _ = image.shape
    message = ImageMessage()
    message.header.stamp = stamp_to_message(stamp_s)
    message.header.frame_id = frame_id
    message.height, message.width = height, width
    message.encoding = "rgb8"
    message.is_bigendian = 0
    message.step = width * 3
    message.data = array.array("B", np.ascontiguousarray(image, dtype=np.uint8).tobytes())
    return message


def image_from_message(message: ImageMessage) -> Image:
    """An image of any colour encoding that cv_bridge converts, as RGB (H, W, 3)."""
    try:
        image = _bridge.imgmsg_to_cv2(message, desired_encoding="rgb8")
    except Exception as error:  # cv_bridge raises several kinds for a malformed message
        raise SalusError(
            f"The image of {message.width} x {message.height} with encoding '{message.encoding}' and "
            f"{len(message.data)} bytes cannot be read as rgb8 ({error}); send a colour image whose size "
            "and encoding match its data."
        ) from error
    return np.ascontiguousarray(image, dtype=np.uint8)


def camera_info(
    stamp_s: float, frame_id: str, width: int, height: int, vertical_field_of_view_rad: float
) -> CameraInfoMessage:
    """Intrinsics of a pinhole camera with square pixels and no distortion."""
    focal = 0.5 * height / math.tan(0.5 * vertical_field_of_view_rad)
    centre_x, centre_y = 0.5 * width, 0.5 * height
    message = CameraInfoMessage()
    message.header.stamp = stamp_to_message(stamp_s)
    message.header.frame_id = frame_id
    message.width, message.height = width, height
    message.distortion_model = "plumb_bob"
    message.d = array.array("d", [0.0] * 5)
    message.k = np.array([focal, 0, centre_x, 0, focal, centre_y, 0, 0, 1], dtype=np.float64)
    message.r = np.eye(3).reshape(-1)
    message.p = np.array([focal, 0, centre_x, 0, 0, focal, centre_y, 0, 0, 0, 1, 0], dtype=np.float64)
    return message


def points_to_message(cloud: PointCloud) -> PointCloudMessage:
    """An unordered cloud with the fields x, y, z as float32."""
    points = np.ascontiguousarray(cloud.points_m, dtype="<f4")
    message = PointCloudMessage()
    message.header.stamp = stamp_to_message(cloud.stamp_s)
    message.header.frame_id = cloud.frame_id
    message.height, message.width = 1, len(points)
    message.fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate("xyz")
    ]
    message.is_bigendian = False
    message.point_step = 12
    message.row_step = 12 * len(points)
    message.data = array.array("B", points.tobytes())
    message.is_dense = True
    return message


_FIELD_TYPES: Final = {PointField.FLOAT32: "f4", PointField.FLOAT64: "f8"}


def points_from_message(message: PointCloudMessage) -> PointCloud:
    """The finite points of a cloud, whatever other fields, padding or byte order it has."""
    fields = {field.name: field for field in message.fields}
    formats = [_FIELD_TYPES.get(fields[name].datatype) if name in fields else None for name in "xyz"]
    if None in formats:
        raise SalusError(
            f"The point cloud has the fields {', '.join(fields) or 'none'}; "
            "expected x, y and z as float32 or float64."
        )
    rows, columns, step = message.height, message.width, message.point_step
    row_step = message.row_step or columns * step
    needed = 0 if rows * columns == 0 else (rows - 1) * row_step + columns * step
    if len(message.data) < needed:
        raise SalusError(
            f"The point cloud holds {len(message.data)} bytes; its {rows} x {columns} points need {needed}."
        )
    order = ">" if message.is_bigendian else "<"
    try:
        dtype = np.dtype(
            {
                "names": ["x", "y", "z"],
                "formats": [order + str(code) for code in formats],
                "offsets": [fields[name].offset for name in "xyz"],
                "itemsize": step,
            }
        )
    except ValueError as error:
        raise SalusError(
            f"A field of the point cloud reaches beyond its point of {step} bytes ({error})."
        ) from error
    stamp_s = stamp_from_message(message.header.stamp)
    if needed == 0:
        return PointCloud(stamp_s, message.header.frame_id, np.empty((0, 3), np.float32))
    grid: NDArray[Any] = np.ndarray(
        (rows, columns), dtype, buffer=message.data, strides=(row_step, step)
    ).reshape(-1)
    points = np.stack([grid["x"], grid["y"], grid["z"]], axis=1).astype(np.float32)
    return PointCloud(stamp_s, message.header.frame_id, points[np.isfinite(points).all(axis=1)])
