"""A wrong argument, or a node that refuses what it was given, ends the launch with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

REASON = "a part of a ROS installation, or of its sources (docs/verification/launch.md)"
launch = pytest.importorskip("launch", reason=f"launch is not installed: {REASON}")
pytest.importorskip("launch_ros", reason=f"launch_ros is not installed: {REASON}")

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessStart, OnShutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription, LaunchService

SHARE = Path(get_package_share_directory("salus_ros"))
FILES = sorted(path.name for path in (SHARE / "launch").glob("*.launch.py"))


def run(name: str, arguments: dict[str, str]) -> tuple[str, dict[str, list[str]]]:
    """Run a launch file until it fails by itself; returns why, and the command of each process by name."""
    reasons: list[str] = []
    started: dict[str, list[str]] = {}
    service = LaunchService(noninteractive=True)
    service.include_launch_description(
        LaunchDescription(
            [
                RegisterEventHandler(OnShutdown(on_shutdown=lambda event, _: reasons.append(event.reason))),
                RegisterEventHandler(
                    OnProcessStart(
                        on_start=lambda event, _: started.update(
                            {event.process_name.rpartition("-")[0]: event.cmd}
                        )
                    )
                ),
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(str(SHARE / "launch" / name)),
                    launch_arguments=arguments.items(),
                ),
            ]
        )
    )
    assert service.run() == 1, "the exit code does not tell of the failure"
    assert len(reasons) == 1, f"one reason, not {reasons}"
    return reasons[0], started


def declared(name: str) -> list[DeclareLaunchArgument]:
    description = PythonLaunchDescriptionSource(str(SHARE / "launch" / name)).get_launch_description(
        launch.LaunchContext()
    )
    return [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]


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
    ],
)
def test_a_wrong_argument_ends_the_launch_with_a_sentence(
    name: str, arguments: dict[str, str], sentence: str
) -> None:
    reason, started = run(name, arguments)
    assert sentence in reason
    assert not started, "a node had started"


@pytest.mark.parametrize("argument", ["use_sim_time", "shadow_mode", "activate_gate", "record", "console"])
def test_a_switch_is_true_or_false(argument: str) -> None:
    service = LaunchService(noninteractive=True)
    service.include_launch_description(
        LaunchDescription(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(str(SHARE / "launch" / "salus.launch.py")),
                    launch_arguments={argument: "maybe"}.items(),
                )
            ]
        )
    )
    assert service.run() != 0


def test_a_robot_must_be_named() -> None:
    (argument,) = (a for a in declared("robot.launch.py") if a.name == "robot_file")
    assert argument.default_value is None


@pytest.mark.graph
@pytest.mark.parametrize("robot", ["fr3", "ur5e"])
def test_the_topics_of_a_robots_drivers_reach_the_nodes(robot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The description of the robot is not there, so that the launch ends as soon as it has started."""
    monkeypatch.setenv("ROS_DOMAIN_ID", "56")
    image = "/camera/front/color/image_raw"
    _, started = run(f"{robot}.launch.py", {"front_image": image, "record": "true", "bag": "/proc/none"})
    assert {"policy_node", "intervention_node", "deadman_node", "recorder_node"} <= set(started)
    for node, command in started.items():
        renamed = {part for part in command if ":=" in part}
        if node in ("controller_stop_node", "gripper_node"):
            assert f"camera/front/image_raw:={image}" not in renamed, "they are of the drivers' side"
            continue
        assert f"camera/front/image_raw:={image}" in renamed, node
        assert "joint_states:=salus/joint_states" in renamed, node
    assert "monitor_node" not in started, "the shipped one knows the simulated arm only"


@pytest.mark.graph
def test_a_policy_that_is_refused_ends_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "56")
    reason, _ = run("salus.launch.py", {"policy": "no-such-policy"})
    assert reason.endswith("policy_node could not be configured; its own sentence stands above")


@pytest.mark.graph
def test_a_recorder_that_is_refused_ends_the_launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "56")
    (tmp_path / "precious").write_text("data")
    reason, _ = run("record.launch.py", {"path": str(tmp_path)})
    assert reason.endswith("the recorder has ended")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_no_exception_is_left(capsys: Any) -> None:
    run("sim.launch.py", {"seed": "-1"})
    assert "Traceback" not in capsys.readouterr().err
