"""Records a bag (rosbag2, MCAP) that ``salus bag to-zarr`` turns into episodes.

By default SALUS's own recorder writes it; ``with:=ros2_bag`` has ``ros2 bag record`` do it, on a machine
where that and its MCAP plug-in are installed.
"""

import time

from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from salus_ros.launch_arguments import checked, namespace, value
from salus_ros.launch_enclaves import enclave, enclaves_argument
from salus_ros.launching import ends_launch
from salus_ros.nodes.recorder_node import DEFAULT_TOPICS

ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the topics recorded."),
    DeclareLaunchArgument(
        "path", default_value="", description="Folder of the bag; empty: runs/bag_<date and time>."
    ),
    DeclareLaunchArgument(
        "with",
        default_value="recorder_node",
        choices=["recorder_node", "ros2_bag"],
        description="Who writes the bag.",
    ),
    enclaves_argument(),
]
ENDS = ends_launch("the recorder has ended")


def _ros2_bag(path: str, where: str) -> ExecuteProcess:
    prefix = "/" + where.strip("/") if where.strip("/") else ""
    topics = [topic if topic.startswith("/") else f"{prefix}/{topic}" for topic in DEFAULT_TOPICS]
    return ExecuteProcess(
        cmd=["ros2", "bag", "record", "--storage", "mcap", "--output", path, "--topics", *topics],
        output="screen",
        on_exit=ENDS,
    )


def recorder(context: LaunchContext) -> list:
    path, where = value(context, "path"), namespace(context)
    if value(context, "with") == "ros2_bag":
        return [_ros2_bag(path or time.strftime("runs/bag_%Y%m%d_%H%M%S"), where)]
    return [
        Node(
            package="salus_ros",
            executable="recorder_node",
            namespace=where,
            parameters=[{"path": path}],
            ros_arguments=enclave(context, "recorder_node"),
            output="screen",
            on_exit=ENDS,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, checked(recorder)])
