"""A wrong argument, or a node that refuses what it was given, ends the launch with a sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml

REASON = "a part of a ROS installation, or of its sources (docs/verification/launch.md)"
launch = pytest.importorskip("launch", reason=f"launch is not installed: {REASON}")
pytest.importorskip("launch_ros", reason=f"launch_ros is not installed: {REASON}")

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node as NodeAction
from launched import SHARE, include, run
from rclpy.context import Context
from rclpy.node import Node

from launch import LaunchDescription, LaunchService
from salus_ros.errors import SalusError
from salus_ros.launch_arguments import node_parameters, read_parameters
from salus_ros.launching import DISCOVERY_RANGE, driver_stop, needed_by_deadman_s, once_done
from salus_ros.nodes.deadman_node import DeadmanSettings
from salus_ros.nodes.interfaces import NODES

FILES = sorted(path.name for path in (SHARE / "launch").glob("*.launch.py"))
ROOT = Path(__file__).parents[2]
FR3 = str(SHARE / "config" / "robots" / "fr3.yaml")
DOMAIN = "56"


def failed(*entities: Any) -> tuple[str, dict[str, list[str]]]:
    """Run these until they fail by themselves; returns why, and the command of each process by name."""
    launched = run(entities)
    assert launched.code == 1, "the exit code does not tell of the failure"
    (reason,) = launched.reasons
    return reason, launched.commands


def as_ros_reads(command: list[str]) -> tuple[str, dict[str, Any]]:
    """The full name that a command line gives its node, and its parameters."""
    context = Context()
    rclpy.init(context=context, domain_id=int(DOMAIN))
    arguments = command[command.index("--ros-args") :]
    node = Node(
        Path(command[0]).name,
        context=context,
        cli_args=arguments,
        use_global_arguments=False,
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        parameters = {name: given.value for name, given in node.get_parameters_by_prefix("").items()}
        return node.get_fully_qualified_name(), parameters
    finally:
        node.destroy_node()
        context.try_shutdown()


def described(name: str) -> list[Any]:
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / name))
    return list(source.get_launch_description(launch.LaunchContext()).entities)


def declared(name: str) -> list[DeclareLaunchArgument]:
    return [entity for entity in described(name) if isinstance(entity, DeclareLaunchArgument)]


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_described_in_a_sentence(name: str) -> None:
    arguments = declared(name)
    assert arguments
    for argument in arguments:
        sentence, _, _ = argument.description.partition(" Valid choices")
        assert sentence.endswith("."), f"{argument.name} of {name}"


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        (
            "salus.launch.py",
            {"config_file": "/nowhere.yaml"},
            "config_file is '/nowhere.yaml', which is no file",
        ),
        ("salus.launch.py", {"robot_file": __file__}, "is no parameter file"),
        ("salus.launch.py", {"namespace": "9 lives"}, "namespace is '9 lives'; give names of letters"),
        ("sim.launch.py", {"seed": "-1"}, "seed is '-1'; give a whole number of 0 or more"),
        ("sim.launch.py", {"seed": "seven"}, "seed is 'seven'"),
        ("sim.launch.py", {"real_time_factor": "fast"}, "real_time_factor is 'fast'; give a number of 0"),
        ("sim.launch.py", {"real_time_factor": "nan"}, "real_time_factor is 'nan'"),
        ("record.launch.py", {"namespace": "a//b"}, "namespace is 'a//b'"),
        ("robot.launch.py", {"robot_file": "/nowhere.yaml"}, "robot_file is '/nowhere.yaml'"),
        ("fr3.launch.py", {"robot_file": "/nowhere.yaml"}, "robot_file is '/nowhere.yaml'"),
        ("ur5e.launch.py", {"namespace": "a//b"}, "namespace is 'a//b'"),
        ("gazebo.launch.py", {"config_file": "/nowhere.yaml"}, "config_file is '/nowhere.yaml'"),
        ("gazebo.launch.py", {"robot_file": __file__}, "is no parameter file"),
        ("gazebo.launch.py", {"namespace": "cell"}, "namespace is 'cell', but Gazebo's"),
        ("gazebo.launch.py", {"seed": "-1"}, "seed is '-1'"),
        (
            "robot.launch.py",
            {"robot_file": FR3, "activate_gate": "true"},
            "activated by a person; leave it out",
        ),
        ("ur5e.launch.py", {"use_sim_time": "true"}, "a real arm has no simulated time; leave it out"),
        *(
            (name, {"use_sim_time": "false"}, "on its own time")
            for name in ("sim.launch.py", "gazebo.launch.py")
        ),
    ],
)
def test_a_wrong_argument_ends_the_launch_with_a_sentence(
    name: str, arguments: dict[str, str], sentence: str
) -> None:
    reason, started = failed(include(name, arguments))
    assert sentence in reason
    assert not started, "a node had started"


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        *(("salus.launch.py", name) for name in ("use_sim_time", "shadow_mode", "activate_gate")),
        *(("salus.launch.py", name) for name in ("record", "console")),
        ("gazebo.launch.py", "record"),
    ],
)
def test_a_switch_is_true_or_false(name: str, argument: str) -> None:
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription([include(name, {argument: "maybe"})]))
    assert service.run() != 0


@pytest.mark.parametrize(
    ("name", "arguments", "missing"),
    [
        ("salus.launch.py", {}, "policy_node"),
        ("sim.launch.py", {}, "sim_node"),
        ("record.launch.py", {}, "recorder_node"),
        ("robot.launch.py", {"robot_file": FR3}, "policy_node"),
    ],
)
def test_with_security_on_a_node_whose_enclave_is_not_in_the_keystore_ends_the_launch(
    name: str, arguments: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for node in (*NODES, "launch"):
        if node != missing:
            (tmp_path / "enclaves" / "salus" / node).mkdir(parents=True)
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_KEYSTORE", str(tmp_path))
    reason, started = failed(include(name, arguments))
    assert f"there is no enclave /salus/{missing}" in reason
    assert not started, "a node had started"


def test_an_enclave_that_every_node_would_inherit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_SECURITY_ENCLAVE_OVERRIDE", "/salus/operator")
    reason, started = failed(include("salus.launch.py", {"enclaves": "true"}))
    assert "every node would be in that enclave" in reason
    assert not started


@pytest.mark.parametrize(("security", "expected"), [(None, "false"), ("true", "true"), ("false", "false")])
def test_nodes_are_put_into_enclaves_where_security_is_on(
    security: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROS_SECURITY_ENABLE", raising=False)
    if security:
        monkeypatch.setenv("ROS_SECURITY_ENABLE", security)
    for name in ("salus.launch.py", "sim.launch.py", "record.launch.py", "fr3.launch.py", "ur5e.launch.py"):
        (argument,) = (a for a in declared(name) if a.name == "enclaves")
        assert "".join(part.perform(launch.LaunchContext()) for part in argument.default_value) == expected


@pytest.mark.graph
def test_the_nodes_beside_an_arms_drivers_are_in_their_enclaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    _, started = failed(include("fr3.launch.py", {"enclaves": "true"}))
    assert {"controller_stop_node", "gripper_node"} <= set(started)
    for node, command in started.items():
        assert command[command.index("--enclave") + 1] == f"/salus/{node}"


def shown_launches() -> list[tuple[str, str, list[str]]]:
    """Page, launch file and arguments of each ``ros2 launch salus_ros`` in the docs and in the files."""
    found = []
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "launch").glob("*.py")]):
        text = path.read_text().replace("\\\n", " ")
        for name, rest in re.findall(r"ros2 launch salus_ros (\w+\.launch\.py)([^\n`#]*)", text):
            found.append((path.name, name, re.findall(r"(\w+):=", rest)))
    return found


def test_every_argument_of_a_launch_that_is_shown_is_one_of_its_file() -> None:
    shown = shown_launches()
    assert len(shown) > 10, "the search finds nothing any more"
    for page, name, arguments in shown:
        source = PythonLaunchDescriptionSource(str(SHARE / "launch" / name))
        known = source.get_launch_description(launch.LaunchContext()).get_launch_arguments()
        assert set(arguments) <= {argument.name for argument in known}, f"{page}: {name}"


def test_a_robot_must_be_named() -> None:
    (argument,) = (a for a in declared("robot.launch.py") if a.name == "robot_file")
    assert argument.default_value is None


@pytest.mark.graph
@pytest.mark.parametrize("robot", ["fr3", "ur5e"])
def test_the_topics_of_a_robots_drivers_reach_the_nodes(robot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The description of the robot is not there, so that the launch ends as soon as it has started."""
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    image = "/camera/front/color/image_raw"
    arguments = {"front_image": image, "record": "true", "bag": "/proc/none"}
    _, started = failed(include(f"{robot}.launch.py", arguments))
    assert set(started) == {
        *("policy_node", "intervention_node", "deadman_node", "recorder_node"),
        *("controller_stop_node", "gripper_node"),
    }
    for node, command in started.items():
        renamed = {part for part in command if ":=" in part}
        if node in ("controller_stop_node", "gripper_node"):
            assert f"camera/front/image_raw:={image}" not in renamed, "they are of the drivers' side"
            continue
        assert f"camera/front/image_raw:={image}" in renamed, node
        assert "joint_states:=salus/joint_states" in renamed, node
    # There is no monitor_node: the shipped one knows the simulated arm only.


@pytest.mark.graph
@pytest.mark.parametrize("where", ["", "cell/left", "/cell"])
def test_a_nodes_parameters_reach_it_in_every_namespace(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    _, started = failed(include("fr3.launch.py", {"namespace": where, "shadow_mode": "true"}))
    files = [SHARE / "config" / "salus.yaml", SHARE / "config" / "robots" / "fr3.yaml"]
    for node, command in started.items():
        name, parameters = as_ros_reads(command)
        assert name == f"/{where}/{node}".replace("//", "/")
        given = node_parameters(files, node)
        assert given, f"{node} has no section in {files}"
        found = {name: list(v) if isinstance(v, (tuple, list)) else v for name, v in parameters.items()}
        assert found.items() >= {**given, **({"shadow_mode": True} if "shadow_mode" in given else {})}.items()
    parameters = as_ros_reads(started["intervention_node"])[1]
    assert parameters["velocity_fraction"] == 0.5
    assert "stamp_commands" not in parameters, "an arm's controller may have a clock of its own"


@pytest.mark.graph
def test_what_no_argument_says_is_as_the_parameter_files_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    said = {
        "policy_node": {"policy": "no-such-policy"},
        "monitor_node": {"monitor": "no-such-monitor"},
        "intervention_node": {"shadow_mode": True},
        "recorder_node": {"path": "/proc/none"},
        "sim_node": {"seed": 7, "task": "push", "disturbance": "lag", "real_time_factor": 0.5},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({node: {"ros__parameters": given} for node, given in said.items()}))
    _, started = failed(include("sim.launch.py", {"config_file": str(path), "record": "true"}))
    for node, given in said.items():
        assert as_ros_reads(started[node])[1].items() >= given.items(), node
    assert as_ros_reads(started["intervention_node"])[1]["stamp_commands"] is True, "all share one clock"

    others = {"policy": "another", "device": "cpu", "monitor": "another", "shadow_mode": "false", "seed": "3"}
    others["stamp_commands"] = "false"
    _, started = failed(include("sim.launch.py", {"config_file": str(path), **others}))
    parameters = {node: as_ros_reads(command)[1] for node, command in started.items()}
    assert parameters["policy_node"]["policy"] == "another?device=cpu"
    assert parameters["monitor_node"]["monitor"] == "another"
    assert parameters["intervention_node"]["shadow_mode"] is False
    assert parameters["intervention_node"]["stamp_commands"] is False
    assert (parameters["sim_node"]["seed"], parameters["sim_node"]["task"]) == (3, "push")


def test_a_later_file_and_the_nearer_section_win(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(
        "/**: {ros__parameters: {a: 1, b: 1, c: 1, d: {e: 1, f: 1}}}\n"
        "some_node: {ros__parameters: {b: 2, c: 2}}\n"
        "/cell/some_node: {ros__parameters: {c: 3}}\n"
        "/other/some_node: {ros__parameters: {c: 4}}\n"
    )
    second.write_text("some_node: {ros__parameters: {d: {e: 5}}}\n")
    expected = {"a": 1, "b": 2, "c": 3, "d.e": 5, "d.f": 1}
    assert node_parameters([first, second], "some_node", "cell") == expected


@pytest.mark.parametrize("given", ["", "[]", "[1, [2]]", "2026-11-26"])
def test_what_ros_has_no_type_for_is_refused(given: str, tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(f"some_node: {{ros__parameters: {{some: {{name: {given}}}}}}}")
    with pytest.raises(SalusError, match=r"gives some_node the some\.name .*; give a number"):
        read_parameters(path)


def test_the_launch_outlives_its_gate_by_more_than_the_deadman_waits() -> None:
    assert needed_by_deadman_s({}) > DeadmanSettings().timeout_s + 2 * DeadmanSettings().repeat_s
    assert needed_by_deadman_s({"timeout_s": 3.0}) - needed_by_deadman_s({"timeout_s": 1}) == 2.0
    assert needed_by_deadman_s({"timeout_s": "soon"}) == needed_by_deadman_s({}), "the node itself refuses it"


@pytest.mark.graph
def test_a_stop_of_the_driver_that_is_refused_ends_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by its parameters; where controller_manager_msgs is not installed, also without them."""
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    reason, _ = failed(*driver_stop({"controllers": 5}))
    assert reason.endswith("controller_stop_node could not start; its own sentence stands above")


@pytest.mark.graph
def test_a_step_of_the_set_up_that_fails_ends_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two nodes that follow each other the first is refused, as Gazebo's spawner may be."""
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    first = NodeAction(package="salus_ros", executable="deadman_node", parameters=[{"timeout_s": -1.0}])
    second = NodeAction(package="salus_ros", executable="markers_node")
    reason, started = failed(first, once_done(first, [second]))
    assert reason.endswith("deadman_node could not do its work; its own sentence stands above")
    assert set(started) == {"deadman_node"}


@pytest.mark.parametrize("name", ["sim.launch.py", "gazebo.launch.py"])
@pytest.mark.parametrize(("given", "expected"), [(None, "LOCALHOST"), ("SUBNET", "SUBNET")])
def test_a_simulation_stays_on_this_machine_but_on_demand(
    name: str, given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DISCOVERY_RANGE, raising=False)
    if given:
        monkeypatch.setenv(DISCOVERY_RANGE, given)
    first = described(name)[0]
    assert isinstance(first, SetEnvironmentVariable), "before any node is started"
    context = launch.LaunchContext()
    first.visit(context)
    assert context.environment[DISCOVERY_RANGE] == expected


@pytest.mark.graph
def test_a_policy_that_is_refused_ends_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    reason, _ = failed(include("salus.launch.py", {"policy": "no-such-policy"}))
    assert reason.endswith("policy_node could not be configured; its own sentence stands above")


@pytest.mark.graph
def test_a_recorder_that_is_refused_ends_the_launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    (tmp_path / "precious").write_text("data")
    reason, _ = failed(include("record.launch.py", {"path": str(tmp_path)}))
    assert reason.endswith("the recorder has ended")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_no_exception_is_left(capsys: Any) -> None:
    failed(include("sim.launch.py", {"seed": "-1"}))
    assert "Traceback" not in capsys.readouterr().err
