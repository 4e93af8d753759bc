"""Policy, monitor, gate and deadman on a real arm, whose drivers run already.

The gate stays inactive until a person activates it. Start with ``shadow_mode:=true``. Takes the arguments of
``salus.launch.py`` as well.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

SHARE = Path(get_package_share_directory("salus_ros"))


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
    return LaunchDescription([robot, salus])
