"""Gazebo with the table scene, the simulated arm under ros2_control, and SALUS on simulated time.

``ros2 launch salus_ros gazebo.launch.py seed:=5`` shows the scene that ``sim.launch.py seed:=5`` simulates in
MuJoCo. One launch is one episode: ground truth comes out as ``salus/episode_event``.
"""

import tempfile
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from salus_ros.errors import SalusError
from salus_ros.launch_arguments import (
    checked,
    fixed,
    is_on,
    namespace,
    parameter_file,
    real_number,
    switch,
    whole_number,
)
from salus_ros.launch_enclaves import enclave
from salus_ros.launching import driver_stop, ends_launch, local_by_default, once_done
from salus_ros.robot.gazebo import gazebo_description
from salus_ros.sim.gazebo import DEFAULT_SEED, ROBOT, place, scene

SHARE = Path(get_package_share_directory("salus_ros"))
CONTROLLERS = SHARE / "config" / "controllers.yaml"
ARGUMENTS = [
    DeclareLaunchArgument(
        "seed",
        default_value=str(DEFAULT_SEED),
        description="Seed of the scene: where cubes, bin and post are.",
    ),
    switch("headless", False, "Run Gazebo without a window."),
    switch("activate_gate", True, "Let the simulated arm move as soon as everything is up."),
    DeclareLaunchArgument(
        "time_limit_s",
        default_value="60.0",
        description="Simulated time from the arm's first command until the episode has timed out [s].",
    ),
]
SIMULATED = {"use_sim_time": True}


def check(context: LaunchContext) -> list:
    """What is included later, before anything starts."""
    for name in ("config_file", "robot_file"):
        parameter_file(context, name)
    fixed(context, "use_sim_time", "true", "a simulation runs on its own time")
    where = namespace(context)
    if where.strip("/"):
        raise SalusError(
            f"namespace is '{where}', but Gazebo's bridge and controllers have none; leave it out here."
        )
    return []


def include(package: str, name: str, arguments: dict) -> IncludeLaunchDescription:
    path = Path(get_package_share_directory(package)) / "launch" / name
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(path)), launch_arguments=arguments.items()
    )


def describe(context: LaunchContext) -> list:
    seed, time_limit_s = whole_number(context, "seed"), real_number(context, "time_limit_s")
    world = place((SHARE / "worlds" / "salus.sdf").read_text(), scene(seed).layout)
    robot = gazebo_description((SHARE / "urdf" / "salus_arm.urdf").read_text(), str(CONTROLLERS))
    world_file = Path(tempfile.mkdtemp(prefix="salus_gazebo_")) / "salus.sdf"
    world_file.write_text(world)
    headless = is_on(context, "headless")

    gazebo = include(
        "ros_gz_sim",
        "gz_sim.launch.py",
        {
            "gz_args": f"-r {'-s --headless-rendering ' if headless else ''}{world_file}",
            "on_exit_shutdown": "true",
        },
    )
    description = Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        parameters=[{"robot_description": ParameterValue(robot, value_type=str)}, SIMULATED],
        on_exit=ends_launch("robot_state_publisher has ended"),
    )
    spawn = Node(
        package="ros_gz_sim",
        executable="create",
        arguments=["-topic", "robot_description", "-name", ROBOT],
        output="screen",
    )
    bridge = Node(
        package="ros_gz_bridge",
        executable="parameter_bridge",
        parameters=[{"config_file": str(SHARE / "config" / "gazebo_bridge.yaml")}, SIMULATED],
        on_exit=ends_launch("the bridge to Gazebo has ended"),
    )
    controllers = Node(
        package="controller_manager",
        executable="spawner",
        arguments=[
            *("joint_state_broadcaster", "arm_controller", "gripper_controller"),
            *("--param-file", str(CONTROLLERS)),
        ],
        output="screen",
    )
    points = Node(
        package="salus_ros",
        executable="gazebo_points_node",
        parameters=[SIMULATED],
        ros_arguments=enclave(context, "gazebo_points_node"),
        output="screen",
        on_exit=ends_launch("the node of the depth points has ended"),
    )
    events = Node(
        package="salus_ros",
        executable="gazebo_events_node",
        parameters=[SIMULATED, {"seed": seed, "time_limit_s": time_limit_s}],
        ros_arguments=enclave(context, "gazebo_events_node"),
        output="screen",
        on_exit=ends_launch("the node of the ground truth has ended"),
    )
    salus = include(
        "salus_ros",
        "salus.launch.py",
        {"use_sim_time": "true", "activate_gate": LaunchConfiguration("activate_gate")},
    )
    return [
        gazebo,
        description,
        bridge,
        spawn,
        # The controllers live in the arm's own plugin, so the arm must be there first.
        once_done(spawn, [controllers]),
        once_done(controllers, [salus]),
        points,
        events,
        *driver_stop(SIMULATED, enclave=enclave(context, "controller_stop_node")),
    ]


def generate_launch_description() -> LaunchDescription:
    # SALUS is included when the controllers run; its arguments are known from the start.
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "salus.launch.py"))
    own = {"use_sim_time", *(argument.name for argument in ARGUMENTS)}
    of_salus = [
        argument
        for argument in source.get_launch_description(LaunchContext()).get_launch_arguments()
        if argument.name not in own
    ]
    return LaunchDescription([local_by_default(), *ARGUMENTS, *of_salus, checked(check), checked(describe)])
