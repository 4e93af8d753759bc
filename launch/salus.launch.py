"""Policy, monitor, gate and deadman, brought up in that order.

``ros2 launch salus_ros salus.launch.py --show-args`` lists the arguments. The gate becomes active only with
``activate_gate:=true``; otherwise a person activates it: ``ros2 lifecycle set /intervention_node activate``.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, LogInfo
from launch_ros.actions import LifecycleNode, Node
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription
from salus_ros.launch_arguments import (
    checked,
    full_name,
    given,
    is_on,
    namespace,
    node_parameters,
    of_the_files,
    parameter_file,
    switch,
    value,
)
from salus_ros.launch_enclaves import enclave, enclaves_argument, joined
from salus_ros.launching import (
    AGAIN,
    brought_up,
    change,
    configured,
    ends_if_refused,
    ends_launch,
    needed_by_deadman_s,
    on_reaching,
    once_all_are,
    stays,
)
from salus_ros.nodes.gate_rest import REST_TIMEOUT_S
from salus_ros.policy.registry import DEFAULT

SHARE = Path(get_package_share_directory("salus_ros"))
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
    of_the_files("policy", "Checkpoint folder, name, or name:path"),
    DeclareLaunchArgument(
        "device",
        default_value="",
        description="Device of a TinyVLA: auto, cpu or cuda; empty: what the policy says.",
    ),
    of_the_files("instruction", "What to do, in words, until a message on salus/instruction says"),
    of_the_files("monitor", "Checkpoint of the monitor, which a gate with monitor: absent does without"),
    switch("use_sim_time", False, "Follow /clock."),
    of_the_files(
        "shadow_mode", "Mute learned risk, but publish what it would have done", choices=["true", "false"]
    ),
    of_the_files(
        "stamp_commands",
        "Stamp each command with its time, for a controller on the gate's clock",
        choices=["true", "false"],
    ),
    switch("activate_gate", False, "Let the arm move as soon as everything is up, without a person's word."),
    switch("record", False, "Record a bag."),
    of_the_files("bag", "Folder of the bag, else runs/bag_<date and time>"),
    switch("console", False, "Offer the operator console, by default at http://127.0.0.1:8080."),
    switch("markers", False, "Publish markers for RViz and Foxglove."),
    enclaves_argument(),
]


def describe(context: LaunchContext) -> list:
    files = [path for path in (parameter_file(context, n) for n in ("config_file", "robot_file")) if path]
    where = namespace(context)
    use_sim_time = {"use_sim_time": is_on(context, "use_sim_time")}

    def settings(name: str, parameters: dict) -> dict:
        return {
            "package": "salus_ros",
            "executable": name,
            "namespace": where,
            "parameters": [{**node_parameters(files, name, where), **use_sim_time, **parameters}],
            "ros_arguments": enclave(context, name),
            "output": "screen",
        }

    def lifecycle(name: str, parameters: dict, **more: object) -> LifecycleNode:
        return LifecycleNode(name=name, **settings(name, parameters), **more)

    def other(name: str, parameters: dict | None = None, **more: object) -> Node:
        return Node(**settings(name, parameters or {}), **more)

    chosen, device = given(context, "policy"), value(context, "device")
    if device:
        checkpoint = {**node_parameters(files, "policy_node", where), **chosen}.get("policy", DEFAULT)
        chosen = {"policy": f"{checkpoint}{'&' if '?' in checkpoint else '?'}device={device}"}
    policy = lifecycle("policy_node", {**chosen, **given(context, "instruction")}, **AGAIN)
    monitor = lifecycle("monitor_node", given(context, "monitor"), **AGAIN)
    # A gate that died is silent: its deadman must live to call the driver's stop, and the driver to answer.
    deadman_s = needed_by_deadman_s(node_parameters(files, "deadman_node", where))
    gate = lifecycle(
        "intervention_node",
        {name: is_on(context, name) for name in given(context, "shadow_mode", "stamp_commands")},
        on_exit=ends_launch("the gate has ended", after_s=deadman_s),
    )
    alone = node_parameters(files, "intervention_node", where).get("monitor") == "absent"
    feeding = [policy] if alone else [policy, monitor]

    by_hand = f"ros2 lifecycle set {full_name('intervention_node', where)} activate"
    activation = change(gate, Transition.TRANSITION_ACTIVATE)
    refused = LogInfo(msg=f"the gate stays inactive, and says why above; mend that, then: {by_hand}")
    waiting = LogInfo(msg=f"the gate waits for a person: {by_hand}")

    # It is among the last to go: a gate that is asked to end has an arm to bring to rest first.
    others = [other("deadman_node", **AGAIN, **stays(REST_TIMEOUT_S + deadman_s))]
    for kind in ("console", "markers"):
        if is_on(context, kind):
            others.append(other(f"{kind}_node", **AGAIN))
    if is_on(context, "record"):
        bag = value(context, "bag")
        others.append(other("recorder_node", {"path": bag} if bag else {}))

    return [
        *joined(context),
        *(handler for node in feeding for handler in brought_up(node)),
        *configured(gate),
        *once_all_are(
            [*((node, "active") for node in feeding), (gate, "inactive")],
            [activation if is_on(context, "activate_gate") else waiting],
        ),
        on_reaching(gate, "inactive", [refused], coming_from="activating"),
        *(ends_if_refused(node) for node in others),
        *others,
        gate,
        *feeding,
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, checked(describe)])
