"""SALUS on a UR5e with a Robotiq gripper, whose drivers run already: robot.launch.py with the driver's names.

Copy ``config/robots/ur5e.yaml``, set your robot description and workspace in it, and start in shadow mode:
``ros2 launch salus_ros ur5e.launch.py robot_file:=ur5e.yaml shadow_mode:=true``. See ``docs/own-robot.md``.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetRemap

from launch import LaunchDescription
from salus_ros.launching import ends_launch

SHARE = Path(get_package_share_directory("salus_ros"))

# gripper_node adds the gripper's opening to the joint states of the driver.
JOINT_STATES = "salus/joint_states"
REMAPPINGS = {
    "joint_states": JOINT_STATES,
    "arm_controller/joint_trajectory": "scaled_joint_trajectory_controller/joint_trajectory",
}
GRIPPER_REMAPPINGS = {
    "joint_states": JOINT_STATES,
    "arm/joint_states": "joint_states",
    "gripper/joint_states": "joint_states",
}


def generate_launch_description() -> LaunchDescription:
    robot_file = DeclareLaunchArgument(
        "robot_file",
        default_value=str(SHARE / "config" / "robots" / "ur5e.yaml"),
        description="Parameters of the robot: your own copy of the default.",
    )
    gripper_states = DeclareLaunchArgument(
        "gripper_joint_states",
        default_value=GRIPPER_REMAPPINGS["gripper/joint_states"],
        description="Joint states of the gripper: the arm's, where both are under one controller manager.",
    )
    remappings = {**GRIPPER_REMAPPINGS, "gripper/joint_states": LaunchConfiguration("gripper_joint_states")}
    gripper = Node(
        package="salus_ros",
        executable="gripper_node",
        parameters=[LaunchConfiguration("robot_file")],
        remappings=list(remappings.items()),
        output="screen",
        on_exit=ends_launch("the gripper's node has ended, and the joint states with it"),
    )
    stop = Node(
        package="salus_ros",
        executable="controller_stop_node",
        parameters=[LaunchConfiguration("robot_file")],
        output="screen",
        respawn=True,
    )
    salus = GroupAction(
        [
            *(SetRemap(src=source, dst=target) for source, target in REMAPPINGS.items()),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "robot.launch.py")),
                launch_arguments={"robot_file": LaunchConfiguration("robot_file")}.items(),
            ),
        ]
    )
    # SALUS first: it checks the arguments, and a wrong one must start nothing.
    return LaunchDescription([robot_file, gripper_states, salus, gripper, stop])
