"""What the launch files share: lifecycle nodes brought up in order, and nodes whose failure ends the launch.

Imported by launch files only; needs ``launch`` and ``launch_ros``, which a ROS installation has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from launch.actions import (
    EmitEvent,
    LogInfo,
    OpaqueCoroutine,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.events import matches_action
from launch.substitutions import EnvironmentVariable
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.ros_adapters import get_ros_node
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState

from launch import LaunchContext
from salus_ros.errors import SalusError
from salus_ros.nodes.controller_stop_node import STAY_S
from salus_ros.nodes.deadman_node import ANSWER_S, DeadmanSettings

REFUSED: Final = 2
"""Exit code of a node that was given something wrong: starting it again gives the same."""

AGAIN: Final = {"respawn": True, "respawn_delay": 1.0}
"""Of a node that is started again when it ends. What is started again moves nothing: the gate holds until a
person resets it."""

DISCOVERY_RANGE: Final = "ROS_AUTOMATIC_DISCOVERY_RANGE"

ASK_AGAIN_S: Final = 1.0

_ON_THE_WAY_TO: Final = {"inactive": "configuring", "active": "activating"}


def change(node: LifecycleNode, transition: int) -> EmitEvent:
    """Ask a lifecycle node for a transition (``lifecycle_msgs/Transition``)."""
    return EmitEvent(event=_change(node, transition))


def _change(node: LifecycleNode, transition: int) -> ChangeState:
    return ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)


def on_reaching(
    node: LifecycleNode, state: str, actions: Sequence[Any], *, coming_from: str
) -> RegisterEventHandler:
    """Do something whenever a lifecycle node comes to a state from another."""
    return RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node, goal_state=state, start_state=coming_from, entities=list(actions)
        )
    )


def once_all_are(
    awaited: Sequence[tuple[LifecycleNode, str]], actions: Sequence[Any]
) -> list[RegisterEventHandler]:
    """Do something when the last of these nodes has become ``inactive`` or ``active``, and never again.

    Never again, so that a node that was started anew does not activate what a person has deactivated.
    """
    waiting = set(range(len(awaited)))

    def arrived(number: int) -> OpaqueFunction:
        def act(_context: LaunchContext) -> list[Any]:
            if number not in waiting:
                return []
            waiting.remove(number)
            return [] if waiting else list(actions)

        return OpaqueFunction(function=act)

    return [
        on_reaching(node, state, [arrived(number)], coming_from=_ON_THE_WAY_TO[state])
        for number, (node, state) in enumerate(awaited)
    ]


def configured(node: LifecycleNode) -> list[RegisterEventHandler]:
    """Configure a lifecycle node at each start.

    When it refuses that, or says at its start that it was given something wrong, the launch ends: what it
    needs will not come by waiting.
    """
    name = node.node_executable

    async def configure(context: LaunchContext) -> None:
        if not context.is_shutdown:  # else launch's own ROS node is gone
            await _until_it_answers(node, context)
        if not context.is_shutdown:
            await context.emit_event(_change(node, Transition.TRANSITION_CONFIGURE))

    return [
        RegisterEventHandler(
            OnProcessStart(target_action=node, on_start=[OpaqueCoroutine(coroutine=configure)])
        ),
        on_reaching(node, "unconfigured", [_fails(name, "be configured")], coming_from="configuring"),
        ends_if_refused(node),
    ]


def brought_up(node: LifecycleNode) -> list[RegisterEventHandler]:
    """Configure and activate a lifecycle node at each start; the launch ends when it refuses."""
    active = change(node, Transition.TRANSITION_ACTIVATE)
    return [
        *configured(node),
        on_reaching(node, "inactive", [active], coming_from="configuring"),
        on_reaching(
            node, "inactive", [_fails(node.node_executable, "become active")], coming_from="activating"
        ),
    ]


async def _until_it_answers(node: LifecycleNode, context: LaunchContext) -> None:
    """Wait for a process that has just started.

    A killed node's services stay on the graph for many seconds. What is asked of the new one before it was
    discovered is never answered, and launch_ros, which asks once, would wait for ever.
    """
    talker = get_ros_node(context)
    client = talker.create_client(GetState, f"{node.node_name}/get_state")
    clock = context.asyncio_loop.time
    answered = False
    while not (answered or context.is_shutdown):
        question = client.call_async(GetState.Request())
        end_s = clock() + ASK_AGAIN_S
        while not (question.done() or context.is_shutdown) and clock() < end_s:
            await asyncio.sleep(0.05)
        answered = question.done()
        if not answered:
            client.remove_pending_request(question)
    if not context.is_shutdown:
        talker.destroy_client(client)


def ends_launch(reason: str, *, after_s: float = 0.0) -> Callable[[Any, LaunchContext], list[Any]]:
    """For ``on_exit`` of a node that nothing can go on without.

    The launch's exit code is 1 when that node failed, so that whoever started the launch can start it again.
    ``after_s``: how long all else goes on after such a failure.
    """

    def fail(_context: LaunchContext) -> NoReturn:
        raise SalusError(reason)

    def ended(event: Any, context: LaunchContext) -> list[Any]:
        if context.is_shutdown:
            return []
        if event.returncode == 0:
            return [Shutdown(reason=reason)]
        if not after_s:
            fail(context)
        return [
            LogInfo(msg=f"{reason}; all else ends in {after_s:g} s"),
            TimerAction(period=after_s, actions=[OpaqueFunction(function=fail)]),
        ]

    return ended


def needed_by_deadman_s(parameters: Mapping[str, Any]) -> float:
    """Time from the gate's death until ``deadman_node`` with these parameters has stopped the driver."""
    given = parameters.get("timeout_s")
    # Anything but a number is refused by the node itself.
    timeout_s = float(given) if isinstance(given, int | float) else DeadmanSettings().timeout_s
    return timeout_s + ANSWER_S


def stays(stay_s: float) -> dict[str, Any]:
    """Of a node that stays for so long at most when it is asked to end: launch asks again only afterwards.

    A second signal ends a node at once, and launch sends it after 5 s if it is not told otherwise.
    """
    return {"sigterm_timeout": f"{stay_s + 1.0:g}"}


def once_done(node: Node, actions: Sequence[Any]) -> RegisterEventHandler:
    """Do something when a process that sets something up has succeeded; the launch ends when it failed."""

    def ended(event: Any, context: LaunchContext) -> Sequence[Any]:
        if context.is_shutdown:
            return []
        if event.returncode != 0:
            _fail(node.node_executable, "do its work")
        return actions

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))


def ends_if_refused(node: Any) -> RegisterEventHandler:
    """End the launch when a node that is else started again refuses what it was given."""

    def ended(event: Any, context: LaunchContext) -> None:
        if event.returncode == REFUSED and not context.is_shutdown:
            _fail(node.node_executable, "start")

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))


def driver_stop(parameters: dict[str, Any], where: str = "", enclave: Sequence[str] = ()) -> list[Any]:
    """``controller_stop_node``, which offers the driver's stop: started again when it ends."""
    node = Node(
        package="salus_ros",
        executable="controller_stop_node",
        namespace=where,
        parameters=[parameters],
        ros_arguments=list(enclave),
        output="screen",
        **AGAIN,
        **stays(STAY_S),
    )
    return [ends_if_refused(node), node]


def gripper(
    parameters: dict[str, Any], remappings: Mapping[str, Any], where: str = "", enclave: Sequence[str] = ()
) -> Node:
    """``gripper_node``, without which there are no joint states: its end is the launch's."""
    return Node(
        package="salus_ros",
        executable="gripper_node",
        namespace=where,
        parameters=[parameters],
        remappings=list(remappings.items()),
        ros_arguments=list(enclave),
        output="screen",
        on_exit=ends_launch("the gripper's node has ended, and the joint states with it"),
    )


def local_by_default() -> SetEnvironmentVariable:
    """Keep a graph that needs no other machine on this one, but where the user says otherwise."""
    given = EnvironmentVariable(DISCOVERY_RANGE, default_value="LOCALHOST")
    return SetEnvironmentVariable(DISCOVERY_RANGE, given)


def _fails(name: str, what: str) -> OpaqueFunction:
    return OpaqueFunction(function=lambda _context: _fail(name, what))


def _fail(name: str, what: str) -> NoReturn:
    """launch itself makes an exception its last words and exit code 1; a ``Shutdown`` would give 0."""
    raise SalusError(f"{name} could not {what}; its own sentence stands above")
