"""Records a bag (rosbag2, MCAP) that ``salus bag to-zarr`` turns into episodes."""

from launch.actions import DeclareLaunchArgument, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the recorder."),
            DeclareLaunchArgument(
                "path", default_value="", description="Folder of the bag; empty: runs/bag_<date and time>."
            ),
            Node(
                package="salus_ros",
                executable="recorder_node",
                namespace=LaunchConfiguration("namespace"),
                parameters=[{"path": LaunchConfiguration("path")}],
                output="screen",
                on_exit=Shutdown(reason="the recorder has ended"),
            ),
        ]
    )
