"""The MuJoCo simulator with policy, monitor, gate and deadman, all on simulated time.

Takes the arguments of ``salus.launch.py`` as well: ``ros2 launch salus_ros sim.launch.py console:=true``.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from salus_ros.launch_arguments import (
    checked,
    fixed,
    given,
    namespace,
    node_parameters,
    of_the_files,
    parameter_file,
    real_number,
    switch,
    whole_number,
)
from salus_ros.launch_enclaves import enclave, enclaves_argument
from salus_ros.launching import ends_launch, local_by_default

SHARE = Path(get_package_share_directory("salus_ros"))
ARGUMENTS = [
    of_the_files("seed", "Seed of the first scene"),
    of_the_files("task", "Task of the first scene"),
    of_the_files("disturbance", "Disturbance of the first episode"),
    of_the_files("real_time_factor", "Simulated time per wall time, 0.0 for as fast as possible"),
    switch("activate_gate", True, "Let the simulated arm move as soon as everything is up."),
    switch("stamp_commands", True, "Keep the arm's path in place on busy cores: all share one clock."),
    enclaves_argument(),
]


def scene(context: LaunchContext) -> dict:
    numbers = {"seed": whole_number, "real_time_factor": real_number}
    return {
        **given(context, "task", "disturbance"),
        **{name: numbers[name](context, name) for name in given(context, *numbers)},
    }


def check(context: LaunchContext) -> list:
    """Before the included file starts anything."""
    fixed(context, "use_sim_time", "true", "a simulation runs on its own time")
    scene(context)
    enclave(context, "sim_node")
    return []


def simulator(context: LaunchContext) -> list:
    # The included file has declared these two by now.
    config_file, where = parameter_file(context, "config_file"), namespace(context)
    settings = node_parameters([config_file] if config_file else [], "sim_node", where)
    return [
        Node(
            package="salus_ros",
            executable="sim_node",
            namespace=where,
            parameters=[{**settings, **scene(context)}],
            ros_arguments=enclave(context, "sim_node"),
            output="screen",
            on_exit=ends_launch("the simulator has ended"),
        )
    ]


def generate_launch_description() -> LaunchDescription:
    salus = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "salus.launch.py")),
        launch_arguments={
            "use_sim_time": "true",
            **{name: LaunchConfiguration(name) for name in ("activate_gate", "stamp_commands")},
        }.items(),
    )
    return LaunchDescription([local_by_default(), *ARGUMENTS, checked(check), salus, checked(simulator)])
