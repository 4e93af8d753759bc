"""SALUS on a UR5e with a Robotiq gripper, whose drivers run already: robot.launch.py with the driver's names.

Copy ``config/robots/ur5e.yaml``, set your robot description and workspace in it, and start in shadow mode:
``ros2 launch salus_ros ur5e.launch.py robot_file:=ur5e.yaml shadow_mode:=true``. See ``docs/own-robot.md``.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import SetRemap

from launch import LaunchContext, LaunchDescription
from salus_ros.launch_arguments import checked, namespace, robot_parameters, value
from salus_ros.launch_enclaves import enclave, enclaves_argument
from salus_ros.launching import driver_stop, gripper

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


def driver_side(context: LaunchContext) -> list:
    where = namespace(context)
    remappings = {**GRIPPER_REMAPPINGS, "gripper/joint_states": value(context, "gripper_joint_states")}
    return [
        gripper(
            robot_parameters(context, "gripper_node"), remappings, where, enclave(context, "gripper_node")
        ),
        *driver_stop(
            robot_parameters(context, "controller_stop_node"), where, enclave(context, "controller_stop_node")
        ),
    ]


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
    return LaunchDescription(
        [robot_file, where, enclaves_argument(), gripper_states, salus, checked(driver_side)]
    )
