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
SHARED = Path(__file__).parents[2] / "salus_ros" / "launching.py"
"""Not imported: it needs launch."""
# Where ROS keeps them (Jazzy and Kilted).
FOREIGN = {
    ("robot_state_publisher", "robot_state_publisher"),
    ("ros_gz_sim", "create"),
    ("ros_gz_bridge", "parameter_bridge"),
    ("controller_manager", "spawner"),
}


def launch_file(name: str) -> Path:
    return LAUNCH / f"{name}.launch.py"


def calls(path: Path, kind: str) -> list[dict[str, str]]:
    """Literal keyword arguments of each call of ``kind`` in a launch file."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == kind:
            literal = {k.arg: k.value for k in node.keywords if k.arg}
            found.append({k: v.value for k, v in literal.items() if isinstance(v, ast.Constant)})
    return found


def strings(name: str) -> list[str]:
    tree = ast.parse((LAUNCH / f"{name}.launch.py").read_text())
    return [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


@pytest.mark.parametrize("path", [launch_file("gazebo"), SHARED], ids=lambda path: path.name)
def test_every_node_that_is_launched_exists(path: Path) -> None:
    nodes = calls(path, "Node")
    assert nodes
    for node in nodes:
        if node["package"] != "salus_ros":
            assert (node["package"], node["executable"]) in FOREIGN
            continue
        module = f"salus_ros.nodes.{node['executable']}"
        assert importlib.util.find_spec(module) is not None, f"{path} starts {module}"


def test_whatever_ends_is_missed_but_the_steps_of_the_set_up() -> None:
    """Those end well when they are done; of every other node somebody must notice."""
    tree = ast.parse(launch_file("gazebo").read_text())
    noticed = {
        ast.unparse(found.targets[0]): "on_exit" in {keyword.arg for keyword in found.value.keywords}
        for found in ast.walk(tree)
        if isinstance(found, ast.Assign) and isinstance(found.value, ast.Call)
        if ast.unparse(found.value.func) == "Node"
    }
    steps = {
        ast.unparse(found.args[0])
        for found in ast.walk(tree)
        if isinstance(found, ast.Call) and ast.unparse(found.func) == "once_done"
    }
    assert steps == {"spawn", "controllers"}
    assert {name for name, by_itself in noticed.items() if not by_itself} == steps


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
    for argument in calls(launch_file(name), "DeclareLaunchArgument"):
        assert argument.get("description", "").endswith("."), (
            f"an argument of {name}.launch.py has no sentence"
        )
