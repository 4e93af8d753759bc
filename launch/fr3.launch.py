"""SALUS on a Franka FR3, whose drivers run already: robot.launch.py with the driver's names.

Copy ``config/robots/fr3.yaml``, set your robot description and workspace in it, and start in shadow mode:
``ros2 launch salus_ros fr3.launch.py robot_file:=fr3.yaml shadow_mode:=true``. See ``docs/own-robot.md``.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import SetRemap

from launch import LaunchContext, LaunchDescription
from salus_ros.launch_arguments import checked, namespace, robot_parameters
from salus_ros.launch_enclaves import enclave, enclaves_argument
from salus_ros.launching import driver_stop, gripper

SHARE = Path(get_package_share_directory("salus_ros"))

# The driver's own /joint_states is repeated at a fixed rate with new stamps, which would hide a silent arm.
JOINT_STATES = "salus/joint_states"
REMAPPINGS = {
    "joint_states": JOINT_STATES,
    "arm_controller/joint_trajectory": "fr3_arm_controller/joint_trajectory",
}
GRIPPER_REMAPPINGS = {
    "joint_states": JOINT_STATES,
    "arm/joint_states": "franka/joint_states",
    "gripper/joint_states": "franka_gripper/joint_states",
}


def driver_side(context: LaunchContext) -> list:
    where = namespace(context)
    return [
        gripper(
            robot_parameters(context, "gripper_node"),
            GRIPPER_REMAPPINGS,
            where,
            enclave(context, "gripper_node"),
        ),
        *driver_stop(
            robot_parameters(context, "controller_stop_node"), where, enclave(context, "controller_stop_node")
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    robot_file = DeclareLaunchArgument(
        "robot_file",
        default_value=str(SHARE / "config" / "robots" / "fr3.yaml"),
        description="Parameters of the robot: your own copy of the default.",
    )
    where = DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of every node, and of the arm's drivers."
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
    return LaunchDescription([robot_file, where, enclaves_argument(), salus, checked(driver_side)])
