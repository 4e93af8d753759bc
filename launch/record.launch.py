"""Records a bag (rosbag2, MCAP) that ``salus bag to-zarr`` turns into episodes.

By default SALUS's own recorder writes it; ``with:=ros2_bag`` has ``ros2 bag record`` do it, on a machine
where that and its MCAP plug-in are installed.
"""

import time

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from salus_ros.nodes.recorder_node import DEFAULT_TOPICS


def _ros2_bag(path: str, namespace: str) -> ExecuteProcess:
    prefix = "/" + namespace.strip("/") if namespace.strip("/") else ""
    topics = [topic if topic.startswith("/") else f"{prefix}/{topic}" for topic in DEFAULT_TOPICS]
    return ExecuteProcess(
        cmd=["ros2", "bag", "record", "--storage", "mcap", "--output", path, "--topics", *topics],
        output="screen",
        on_exit=Shutdown(reason="the recorder has ended"),
    )


def _recorder(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    path, namespace, recorder = (
        LaunchConfiguration(name).perform(context) for name in ("path", "namespace", "with")
    )
    if recorder == "ros2_bag":
        return [_ros2_bag(path or time.strftime("runs/bag_%Y%m%d_%H%M%S"), namespace)]
    return [
        Node(
            package="salus_ros",
            executable="recorder_node",
            namespace=namespace,
            parameters=[{"path": path}],
            output="screen",
            on_exit=Shutdown(reason="the recorder has ended"),
        )
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the recorder."),
            DeclareLaunchArgument(
                "path", default_value="", description="Folder of the bag; empty: runs/bag_<date and time>."
            ),
            DeclareLaunchArgument(
                "with",
                default_value="recorder_node",
                choices=["recorder_node", "ros2_bag"],
                description="What records: SALUS's recorder, or rosbag2's own.",
            ),
            OpaqueFunction(function=_recorder),
        ]
    )
