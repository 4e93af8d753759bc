"""Policy, monitor, gate and deadman on a real arm, whose drivers run already.

The gate stays inactive until a person activates it. Start with ``shadow_mode:=true``. Takes the arguments of
``salus.launch.py`` as well. The topics of the cameras are arguments, since each driver has names of its own.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import SetRemap

from launch import LaunchContext, LaunchDescription
from salus_ros.launch_arguments import checked, fixed

SHARE = Path(get_package_share_directory("salus_ros"))
CAMERA_TOPICS = {
    "front_image": ("camera/front/image_raw", "Images of the front camera."),
    "front_info": ("camera/front/camera_info", "Calibration of the front camera."),
    "wrist_image": ("camera/wrist/image_raw", "Images of the wrist camera."),
    "front_points": ("camera/front/points", "Depth points of the front camera."),
}


def check(context: LaunchContext) -> list:
    fixed(context, "activate_gate", "false", "the gate of a real arm is activated by a person")
    fixed(context, "use_sim_time", "false", "a real arm has no simulated time")
    return []


def generate_launch_description() -> LaunchDescription:
    robot = DeclareLaunchArgument(
        "robot_file", description="Parameters of the robot: one of config/robots/, or your own copy of one."
    )
    salus = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "salus.launch.py")),
        launch_arguments={
            "robot_file": LaunchConfiguration("robot_file"),
            "use_sim_time": "false",
            "activate_gate": "false",
        }.items(),
    )
    cameras = [
        DeclareLaunchArgument(name, default_value=topic, description=f"{what} Topic of your driver.")
        for name, (topic, what) in CAMERA_TOPICS.items()
    ]
    renamed = [
        SetRemap(src=topic, dst=LaunchConfiguration(name)) for name, (topic, _) in CAMERA_TOPICS.items()
    ]
    return LaunchDescription([robot, *cameras, checked(check), GroupAction([*renamed, salus])])
