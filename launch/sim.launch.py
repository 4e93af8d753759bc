"""The MuJoCo simulator with policy, monitor, gate and deadman, all on simulated time."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = Path(get_package_share_directory("salus_ros"))


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument("seed", default_value="0", description="Seed of the first scene."),
        DeclareLaunchArgument(
            "disturbance", default_value="", description="Disturbance of the first episode."
        ),
        DeclareLaunchArgument(
            "real_time_factor",
            default_value="1.0",
            description="Simulated time per wall time; 0.0 runs as fast as possible.",
        ),
        DeclareLaunchArgument(
            "activate_gate",
            default_value="true",
            choices=["true", "false"],
            description="Let the simulated arm move as soon as everything is up.",
        ),
    ]
    simulator = Node(
        package="salus_ros",
        executable="sim_node",
        namespace=LaunchConfiguration("namespace", default=""),
        parameters=[
            str(SHARE / "config" / "salus.yaml"),
            {
                "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int),
                "disturbance": ParameterValue(LaunchConfiguration("disturbance"), value_type=str),
                "real_time_factor": ParameterValue(LaunchConfiguration("real_time_factor"), value_type=float),
            },
        ],
        output="screen",
        on_exit=Shutdown(reason="the simulator has ended"),
    )
    salus = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "salus.launch.py")),
        launch_arguments={
            "use_sim_time": "true",
            "activate_gate": LaunchConfiguration("activate_gate"),
        }.items(),
    )
    return LaunchDescription([*arguments, simulator, salus])
