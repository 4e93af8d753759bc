"""The arguments of the launch files, checked before any node starts, and the parameter files that they name.

Imported by launch files only; needs ``launch``, which a ROS installation has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from launch import LaunchContext
from salus_ros.errors import SalusError

_NAMESPACE: Final = re.compile(r"/?([A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*)?")


def switch(name: str, default: bool, description: str) -> DeclareLaunchArgument:
    """An argument that is ``true`` or ``false``."""
    return DeclareLaunchArgument(
        name, default_value=str(default).lower(), choices=["true", "false"], description=description
    )


def of_the_files(name: str, description: str, *, choices: Sequence[str] = ()) -> DeclareLaunchArgument:
    """An argument that overrides a parameter of the parameter files where it is given."""
    return DeclareLaunchArgument(
        name,
        default_value="",
        choices=["", *choices] if choices else None,
        description=f"{description}; empty: as the parameter files say.",
    )


def checked(describe: Callable[[LaunchContext], Sequence[Any]]) -> OpaqueFunction:
    """What ``describe`` returns; its :class:`SalusError` ends the launch with that sentence and exit code 1.

    Raised, so that nothing that stands after it in the launch file is started; a ``Shutdown`` would let all
    of it start first.
    """
    return OpaqueFunction(function=describe)


def value(context: LaunchContext, name: str) -> str:
    """An argument's value."""
    return str(LaunchConfiguration(name).perform(context))


def fixed(context: LaunchContext, name: str, only: str, why: str) -> None:
    """Refuse another value than the only one, which would be passed over without a word.

    Raises:
        SalusError: it was given.
    """
    found = context.launch_configurations.get(name, only)
    if found != only:
        raise SalusError(f"{name} is '{found}', but {why}; leave it out here.")


def given(context: LaunchContext, *names: str) -> dict[str, str]:
    """Those of these arguments that are not empty."""
    values = {name: value(context, name) for name in names}
    return {name: one for name, one in values.items() if one}


def is_on(context: LaunchContext, name: str) -> bool:
    """Whether a :func:`switch` is ``true``."""
    return value(context, name) == "true"


def whole_number(context: LaunchContext, name: str, *, least: int = 0) -> int:
    """An argument that must be a whole number.

    Raises:
        SalusError: it is none, or below ``least``.
    """
    text = value(context, name)
    if not text.isdecimal() or int(text) < least:
        raise SalusError(f"{name} is '{text}'; give a whole number of {least} or more.")
    return int(text)


def real_number(context: LaunchContext, name: str, *, least: float = 0.0) -> float:
    """An argument that must be a finite number.

    Raises:
        SalusError: it is none, or below ``least``.
    """
    text = value(context, name)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < least:
        raise SalusError(f"{name} is '{text}'; give a number of {least:g} or more.")
    return number


def namespace(context: LaunchContext) -> str:
    """The argument ``namespace``.

    Raises:
        SalusError: ROS would refuse the name.
    """
    given = value(context, "namespace")
    if not _NAMESPACE.fullmatch(given):
        raise SalusError(
            f"namespace is '{given}'; give names of letters, digits and underscores, none beginning with "
            "a digit, joined by slashes."
        )
    return given


def parameter_file(context: LaunchContext, name: str) -> Path | None:
    """An argument that names a parameter file; None when it is empty.

    Raises:
        SalusError: there is no such file, or it is no YAML of nodes and their parameters.
    """
    given = value(context, name)
    if not given:
        return None
    path = Path(given).expanduser()
    if not path.is_file():
        raise SalusError(f"{name} is '{given}', which is no file; give the path of a parameter file.")
    read_parameters(path)
    return path


def read_parameters(path: Path) -> dict[str, dict[str, Any]]:
    """The parameters of each node in a parameter file, by dotted name.

    Raises:
        SalusError: it is no YAML of nodes and their ``ros__parameters``, or a value is none for ROS.
    """
    try:
        content = yaml.safe_load(path.read_text())
        sections = {str(node): dict(_dotted(part["ros__parameters"])) for node, part in content.items()}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise SalusError(
            f"{path} is no parameter file ({type(error).__name__}); give nodes, each with ros__parameters."
        ) from error
    for node, parameters in sections.items():
        for name, given in parameters.items():
            if not _is_parameter(given):
                raise SalusError(
                    f"{path} gives {node} the {name} {given!r}; give a number, a text, true or false, a list "
                    "of one of them that is not empty, or leave the line out."
                )
    return sections


def full_name(node: str, where: str) -> str:
    """A node's name with its namespace, as ``ros2`` commands take it."""
    return "/" + "/".join(part for part in (*where.split("/"), node) if part)


def node_parameters(files: Iterable[Path], node: str, where: str = "") -> dict[str, Any]:
    """A node's parameters by dotted name from parameter files, of which a later one overrides an earlier.

    A section that bears the node's bare name is the node's in every namespace: to ROS itself it would be that
    of the root alone. ``/**`` and the full name mean what they mean to ROS.
    """
    found: dict[str, Any] = {}
    for path in files:
        sections = read_parameters(path)
        for key in ("/**", node, full_name(node, where)):
            found |= sections.get(key, {})
    return found


def robot_parameters(context: LaunchContext, node: str) -> dict[str, Any]:
    """A node's parameters from the argument ``robot_file``."""
    path = parameter_file(context, "robot_file")
    return node_parameters([path] if path else [], node, namespace(context))


def _dotted(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that is no mapping, by its place."""
    for name, given in parameters.items():
        if isinstance(given, Mapping):
            yield from _dotted(given, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", given


def _is_parameter(given: Any) -> bool:
    """Whether ROS has a type for it: it has none for an empty list."""
    listed = given if isinstance(given, list) else [given]
    return bool(listed) and all(isinstance(item, bool | int | float | str) for item in listed)
