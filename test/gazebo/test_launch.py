"""What a launch file names is there. That it launches can only be seen where launch is installed."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
import yaml

from salus_ros.assets import asset
from salus_ros.nodes.gazebo_events_node import GazeboEventsSettings

LAUNCH = asset("launch")
FILES = ("gazebo", "fr3", "ur5e")
# Where ROS keeps them (Jazzy and Kilted).
FOREIGN = {
    ("robot_state_publisher", "robot_state_publisher"),
    ("ros_gz_sim", "create"),
    ("ros_gz_bridge", "parameter_bridge"),
    ("controller_manager", "spawner"),
}


def calls(name: str, kind: str) -> list[dict[str, str]]:
    """Literal keyword arguments of each call of ``kind`` in a launch file."""
    tree = ast.parse((LAUNCH / f"{name}.launch.py").read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == kind:
            literal = {k.arg: k.value for k in node.keywords if k.arg}
            found.append({k: v.value for k, v in literal.items() if isinstance(v, ast.Constant)})
    return found


def strings(name: str) -> list[str]:
    tree = ast.parse((LAUNCH / f"{name}.launch.py").read_text())
    return [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


@pytest.mark.parametrize("name", FILES)
def test_every_node_that_is_launched_exists(name: str) -> None:
    nodes = calls(name, "Node")
    assert nodes
    for node in nodes:
        if node["package"] != "salus_ros":
            assert (node["package"], node["executable"]) in FOREIGN
            continue
        module = f"salus_ros.nodes.{node['executable']}"
        assert importlib.util.find_spec(module) is not None, f"{name}.launch.py starts {module}"


@pytest.mark.parametrize("name", FILES)
def test_every_shipped_file_that_is_named_exists(name: str) -> None:
    shipped = {path.name for folder in ("launch", "config", "config/robots", "urdf", "worlds")
               for path in Path(asset(folder)).iterdir()}  # fmt: skip
    named = {text for text in strings(name) if text.endswith((".yaml", ".sdf", ".urdf", ".launch.py"))}
    assert named - {"gz_sim.launch.py"} <= shipped
    assert named


def test_gazebo_spawns_the_controllers_of_the_file() -> None:
    controllers = yaml.safe_load(asset("config/controllers.yaml").read_text())
    spawned = {text for text in strings("gazebo") if text.endswith(("_controller", "_broadcaster"))}
    manager = controllers["controller_manager"]["ros__parameters"]
    assert spawned == {key for key, value in manager.items() if isinstance(value, dict)}


def test_the_ground_truth_gets_parameters_that_it_has() -> None:
    assert {"seed", "time_limit_s"} <= set(GazeboEventsSettings.model_fields)
    assert {"seed", "time_limit_s"} <= set(strings("gazebo"))


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_described(name: str) -> None:
    for argument in calls(name, "DeclareLaunchArgument"):
        assert argument.get("description", "").endswith("."), (
            f"an argument of {name}.launch.py has no sentence"
        )
