"""The robot description as Gazebo needs it, composed from the one URDF when it is launched.

What Gazebo wants besides links and joints is no property of the robot: where its base stands, the
``ros2_control`` block, and the wrist camera's sensor.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError


class GazeboSettings(BaseModel):
    """What is added to the URDF."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_link: str = Field("panda_link0", description="Link that stands on the world's origin.")
    arm_joints: tuple[str, ...] = Field(
        tuple(f"panda_joint{i}" for i in range(1, 8)), description="Arm joints, from base to tool."
    )
    start_rad: tuple[float, ...] = Field(
        (0.0, -0.228928, 0.0, -2.40064, 0.0, 2.171672, 0.78539),
        description="Where the arm joints start: the tool over the table's middle, pointing down.",
    )
    finger_joints: tuple[str, ...] = Field(
        ("panda_finger_joint1", "panda_finger_joint2"), description="Finger joints; each starts open."
    )
    finger_start_m: float = Field(0.04, ge=0, description="Where each finger joint starts.")
    finger_force_n: float = Field(20.0, gt=0, description="Force of each finger.")
    finger_speed_m_s: float = Field(0.05, gt=0, description="Speed of each finger, as the maker has it.")
    finger_links: tuple[str, ...] = Field(
        ("panda_leftfinger", "panda_rightfinger"), description="Links with the pads' friction."
    )
    finger_friction: float = Field(1.5, gt=0, description="Sliding friction of the finger pads.")
    untouchable_links: tuple[str, ...] = Field(
        ("panda_link0", "panda_link1"),
        description="Links that lose their collision shapes: they reach nothing, but stand in the table.",
    )
    camera_link: str = Field("wrist_optical_frame", description="Optical frame of the wrist camera.")
    camera_topic: str = Field("/camera/wrist/image_raw", description="Gazebo's topic of its images.")
    camera_fov_rad: float = Field(1.308996939, gt=0, description="Field of view of its square image.")
    camera_size_px: int = Field(128, ge=16, description="Width and height of its images.")
    camera_rate_hz: float = Field(10.0, gt=0, description="Images in a second.")
    position_gain: float = Field(
        0.5, gt=0, le=1, description="Share of the position error that is corrected in a control period."
    )


# A Gazebo camera looks along x with z up, an optical frame along z with y down.
_OPTICAL_TO_GAZEBO_RPY: Final = "0 -1.570796327 1.570796327"


def gazebo_description(urdf: str, controllers: str, settings: GazeboSettings | None = None) -> str:
    """The URDF with all that Gazebo needs.

    Args:
        urdf: text of the robot description.
        controllers: path of the parameter file of the controller manager.
        settings: what is added.

    Raises:
        SalusError: the text is no URDF, or lacks a link or joint that the settings name.
    """
    settings = settings or GazeboSettings()
    try:
        robot = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        raise SalusError(f"The robot description is no valid XML ({error}); give a URDF.") from error
    links = {link.get("name", ""): link for link in robot.iterfind("link")}
    joints = {joint.get("name", ""): joint for joint in robot.iterfind("joint")}
    _require("link", links, [settings.base_link, settings.camera_link, *settings.finger_links])
    _require("link", links, settings.untouchable_links)
    _require("joint", joints, [*settings.arm_joints, *settings.finger_joints])
    if len(settings.start_rad) != len(settings.arm_joints):
        raise SalusError(
            f"start_rad has {len(settings.start_rad)} values for {len(settings.arm_joints)} arm joints; "
            "give one for each."
        )
    for name in settings.untouchable_links:
        for shape in links[name].findall("collision"):
            links[name].remove(shape)
    for name in settings.finger_joints:
        limit = joints[name].find("limit")
        if limit is None:
            raise SalusError(f"The joint {name} of the robot description has no limit; give it one.")
        limit.set("effort", f"{settings.finger_force_n:g}")
        limit.set("velocity", f"{settings.finger_speed_m_s:g}")
    robot.extend(ElementTree.fromstring(f"<robot>{_additions(controllers, settings)}</robot>"))
    return ElementTree.tostring(robot, encoding="unicode")


def _require(kind: str, known: dict[str, ElementTree.Element], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in known]
    if missing:
        raise SalusError(
            f"The robot description has no {kind} {', '.join(missing)}; it has {', '.join(known) or 'none'}."
        )


def _additions(controllers: str, settings: GazeboSettings) -> str:
    starts = dict(zip(settings.arm_joints, settings.start_rad, strict=True))
    starts.update(dict.fromkeys(settings.finger_joints, settings.finger_start_m))
    # No effort: Gazebo moves these joints by velocity and measures no torque, and a made-up 0 would be read
    # as one.
    interfaces = "".join(
        f"""
    <joint name="{name}">
      <command_interface name="position"/>
      <state_interface name="position"><param name="initial_value">{start:g}</param></state_interface>
      <state_interface name="velocity"/>
    </joint>"""
        for name, start in starts.items()
    )
    mu = f"{settings.finger_friction:g}"
    friction = "".join(
        f"""
  <gazebo reference="{link}"><mu1>{mu}</mu1><mu2>{mu}</mu2></gazebo>"""
        for link in settings.finger_links
    )
    size = settings.camera_size_px
    return f"""
  <link name="world"/>
  <joint name="world_joint" type="fixed"><parent link="world"/><child link="{settings.base_link}"/></joint>
  <ros2_control name="gazebo" type="system">
    <hardware><plugin>gz_ros2_control/GazeboSimSystem</plugin></hardware>{interfaces}
  </ros2_control>{friction}
  <gazebo reference="{settings.camera_link}">
    <sensor name="wrist" type="camera">
      <pose>0 0 0 {_OPTICAL_TO_GAZEBO_RPY}</pose>
      <always_on>true</always_on>
      <update_rate>{settings.camera_rate_hz:g}</update_rate>
      <topic>{settings.camera_topic}</topic>
      <gz_frame_id>{settings.camera_link}</gz_frame_id>
      <camera>
        <horizontal_fov>{settings.camera_fov_rad:.9g}</horizontal_fov>
        <image><width>{size}</width><height>{size}</height><format>R8G8B8</format></image>
        <clip><near>0.01</near><far>3</far></clip>
      </camera>
    </sensor>
  </gazebo>
  <gazebo>
    <plugin filename="gz_ros2_control-system" name="gz_ros2_control::GazeboSimROS2ControlPlugin">
      <parameters>{controllers}</parameters>
      <position_proportional_gain>{settings.position_gain:g}</position_proportional_gain>
    </plugin>
  </gazebo>"""
