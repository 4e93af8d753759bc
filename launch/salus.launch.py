"""Policy, monitor, gate and deadman, brought up in that order.

``ros2 launch salus_ros salus.launch.py --show-args`` lists the arguments. The gate becomes active only with
``activate_gate:=true``; otherwise a person activates it: ``ros2 lifecycle set /intervention_node activate``.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("salus_ros"))
BOOLEANS = ["true", "false"]
ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of every node."),
    DeclareLaunchArgument(
        "config_file",
        default_value=str(SHARE / "config" / "salus.yaml"),
        description="Parameters of the nodes.",
    ),
    DeclareLaunchArgument(
        "robot_file", default_value="", description="Parameters of another robot (config/robots/), read last."
    ),
    DeclareLaunchArgument(
        "policy", default_value="models/tinyvla-small", description="Checkpoint folder, name, or name:path."
    ),
    DeclareLaunchArgument(
        "monitor", default_value="models/monitor", description="Checkpoint of the monitor."
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=BOOLEANS, description="Follow /clock."
    ),
    DeclareLaunchArgument(
        "shadow_mode",
        default_value="false",
        choices=BOOLEANS,
        description="Mute learned risk, but publish what it would have done.",
    ),
    DeclareLaunchArgument(
        "activate_gate",
        default_value="false",
        choices=BOOLEANS,
        description="Let the arm move as soon as everything is up, without a person's word.",
    ),
    DeclareLaunchArgument("record", default_value="false", choices=BOOLEANS, description="Record a bag."),
]


def transition(node: LifecycleNode, number: int) -> EmitEvent:
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=number))


def reached(node: LifecycleNode, state: str, actions: list, start: str = "") -> RegisterEventHandler:
    handler = OnStateTransition(
        target_lifecycle_node=node,
        goal_state=state,
        entities=actions,
        **({"start_state": start} if start else {}),
    )
    return RegisterEventHandler(handler)


def describe(context: LaunchContext) -> list:
    value = {name: LaunchConfiguration(name).perform(context) for name in ("config_file", "robot_file")}
    files = [path for path in value.values() if path]
    for path in files:
        if not Path(path).is_file():
            return [
                Shutdown(reason=f"{path} is no file; give the path of a parameter file, or leave it out.")
            ]
    shared = {"use_sim_time": LaunchConfiguration("use_sim_time")}
    namespace = LaunchConfiguration("namespace")

    def lifecycle(kind: str, parameters: dict, **more: object) -> LifecycleNode:
        return LifecycleNode(
            package="salus_ros",
            executable=f"{kind}_node",
            name=f"{kind}_node",
            namespace=namespace,
            parameters=[*files, shared, parameters],
            output="screen",
            **more,
        )

    # A policy or monitor that starts again only feeds the gate, which holds until a person resets it.
    policy = lifecycle("policy", {"policy": LaunchConfiguration("policy")}, respawn=True, respawn_delay=1.0)
    monitor = lifecycle(
        "monitor", {"monitor": LaunchConfiguration("monitor")}, respawn=True, respawn_delay=1.0
    )
    gate = lifecycle(
        "intervention",
        {"shadow_mode": LaunchConfiguration("shadow_mode")},
        on_exit=Shutdown(reason="the gate has ended"),
    )
    deadman = Node(
        package="salus_ros",
        executable="deadman_node",
        namespace=namespace,
        parameters=[*files, shared],
        output="screen",
        respawn=True,
    )
    recorder = Node(
        package="salus_ros",
        executable="recorder_node",
        namespace=namespace,
        parameters=[*files],
        output="screen",
        condition=IfCondition(LaunchConfiguration("record")),
    )
    configure, activate = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
    allowed = IfCondition(LaunchConfiguration("activate_gate")).evaluate(context)
    word = "the gate waits: ros2 lifecycle set /intervention_node activate"
    return [
        *(
            RegisterEventHandler(OnProcessStart(target_action=node, on_start=[transition(node, configure)]))
            for node in (policy, monitor, gate)
        ),
        reached(policy, "inactive", [transition(policy, activate)], start="configuring"),
        reached(monitor, "inactive", [transition(monitor, activate)], start="configuring"),
        reached(monitor, "active", [transition(gate, activate)] if allowed else [LogInfo(msg=word)]),
        recorder,
        deadman,
        gate,
        policy,
        monitor,
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=describe)])
