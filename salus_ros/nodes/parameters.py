"""ROS parameters declared from a settings object, so that code, YAML and ``ros2 param describe`` agree.

Each field of a pydantic model becomes one parameter with its description and range; a nested model becomes
a prefix (``limits.speed_rad_s``). What the model refuses, the node refuses, at the start and at run time,
with a sentence that says why; the old value stays.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from salus_ros.errors import SalusError

Settings = TypeVar("Settings", bound=BaseModel)

_NOT_SET: Final = int(ParameterType.PARAMETER_NOT_SET)
_INTEGER_LIMIT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Leaf:
    name: str
    field: FieldInfo
    default: Any


def declare(
    node: Node,
    model: type[Settings],
    *,
    apply: Callable[[Settings], None] | None = None,
    changeable: Collection[str] | None = None,
    prefix: str = "",
    defaults: Settings | None = None,
) -> Settings:
    """Declare every field of ``model`` as a parameter of ``node`` and return the settings given.

    Args:
        node: the node that gets the parameters.
        model: the settings' class.
        apply: called with the new settings after a change at run time; without it all are read-only.
        changeable: names of the parameters that may change at run time; all if ``apply`` is given alone.
        prefix: put before each name, with a dot.
        defaults: values to start from instead of the model's own defaults.

    Raises:
        SalusError: a value is of the wrong type or refused by the model; the sentence names the parameter.
    """
    dotted = f"{prefix}." if prefix else ""
    leaves = {leaf.name: leaf for leaf in _leaves(model, dotted, defaults)}
    open_names = _changeable(leaves, dotted, changeable) if apply else frozenset()
    for leaf in leaves.values():
        _declare_leaf(node, leaf, read_only=leaf.name not in open_names)

    def values() -> dict[str, Any]:
        return {name: node.get_parameter(name).value for name in leaves}

    settings = _build(model, values(), dotted)
    if apply is None:
        return settings

    def check(parameters: list[Parameter]) -> SetParametersResult:
        changed = {parameter.name: parameter.value for parameter in parameters if parameter.name in leaves}
        try:
            _build(model, {**values(), **changed}, dotted)
        except SalusError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def changed(parameters: list[Parameter]) -> None:
        if any(parameter.name in leaves for parameter in parameters):
            apply(_build(model, values(), dotted))

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(changed)
    return settings


def refuse_unknown(node: Node) -> None:
    """Raise if a parameter was given that the node does not have: ROS itself would ignore the typo."""
    given = getattr(node, "_parameter_overrides", {})
    unknown = [
        name for name in given if not node.has_parameter(name) and not name.startswith("qos_overrides.")
    ]
    if unknown:
        known = sorted(name for name in node.get_parameters_by_prefix("") if not name.startswith("qos_"))
        raise SalusError(
            f"The node {node.get_name()} has no parameter {', '.join(sorted(unknown))}; "
            f"it has {', '.join(known)}."
        )


def _changeable(
    leaves: Mapping[str, _Leaf], dotted: str, changeable: Collection[str] | None
) -> frozenset[str]:
    if changeable is None:
        return frozenset(leaves)
    names = frozenset(dotted + name for name in changeable)
    if not names <= set(leaves):
        raise SalusError(f"No setting is called {', '.join(sorted(names - set(leaves)))}.")
    return names


def _leaves(model: type[BaseModel], dotted: str, defaults: BaseModel | None) -> Iterator[_Leaf]:
    for name, field in model.model_fields.items():
        if defaults is not None:
            default = getattr(defaults, name)
        elif field.is_required():
            default = _REQUIRED
        else:
            default = field.get_default(call_default_factory=True)
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            inner = default if isinstance(default, BaseModel) else None
            yield from _leaves(nested, f"{dotted}{name}.", inner)
        else:
            yield _Leaf(dotted + name, field, default)


_REQUIRED = object()


def plain(value: Any) -> Any:
    """A default as a ROS parameter holds it."""
    if isinstance(value, enum.Enum):
        return value.name.lower() if isinstance(value, enum.IntEnum) else value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


_PLAIN_TYPES: Final[dict[Any, int]] = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    Path: ParameterType.PARAMETER_STRING,
}
_ARRAY_TYPES: Final[dict[int, int]] = {
    ParameterType.PARAMETER_BOOL: ParameterType.PARAMETER_BOOL_ARRAY,
    ParameterType.PARAMETER_INTEGER: ParameterType.PARAMETER_INTEGER_ARRAY,
    ParameterType.PARAMETER_DOUBLE: ParameterType.PARAMETER_DOUBLE_ARRAY,
    ParameterType.PARAMETER_STRING: ParameterType.PARAMETER_STRING_ARRAY,
}


def _parameter_type(annotation: Any) -> int:
    """The ROS type of an annotation; NOT_SET where ROS has none (an optional value, a mapping)."""
    if annotation in _PLAIN_TYPES:
        return _PLAIN_TYPES[annotation]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return int(ParameterType.PARAMETER_STRING)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _parameter_type(type(arguments[0]))
    if origin in (tuple, list):
        kinds = {_parameter_type(argument) for argument in arguments if argument is not Ellipsis}
        if len(kinds) == 1:
            return _ARRAY_TYPES.get(kinds.pop(), _NOT_SET)
    return _NOT_SET


def _declare_leaf(node: Node, leaf: _Leaf, *, read_only: bool) -> None:
    kind = _parameter_type(leaf.field.annotation)
    default = None if leaf.default is _REQUIRED else plain(leaf.default)
    dynamic = kind == _NOT_SET or default is None
    if kind in (ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_DOUBLE_ARRAY) and default is not None:
        default = [float(item) for item in default] if isinstance(default, list) else float(default)
    descriptor = ParameterDescriptor(
        type=kind,
        description=leaf.field.description or "",
        read_only=read_only,
        dynamic_typing=dynamic,
        additional_constraints=_constraints(leaf.field),
    )
    _set_range(descriptor, leaf.field, kind)
    try:
        node.declare_parameter(leaf.name, default, descriptor)
    except InvalidParameterTypeException as error:
        hint = " (write 1.0, not 1)" if kind == ParameterType.PARAMETER_DOUBLE else ""
        raise SalusError(f"The parameter {leaf.name} has the wrong type{hint}: {error}.") from error
    except ParameterException as error:
        raise SalusError(f"The parameter {leaf.name} is refused: {error}.") from error


def bounds(field: FieldInfo) -> tuple[float, float]:
    """Smallest and largest value that a setting may have; infinite where it has none."""
    lower, upper = -math.inf, math.inf
    for item in field.metadata:
        if isinstance(item, annotated_types.Ge | annotated_types.Gt):
            lower = float(getattr(item, "ge", getattr(item, "gt", lower)))  # type: ignore[arg-type]
        elif isinstance(item, annotated_types.Le | annotated_types.Lt):
            upper = float(getattr(item, "le", getattr(item, "lt", upper)))  # type: ignore[arg-type]
    return lower, upper


def _set_range(descriptor: ParameterDescriptor, field: FieldInfo, kind: int) -> None:
    lower, upper = bounds(field)
    if math.isinf(lower) and math.isinf(upper):
        return
    if kind == ParameterType.PARAMETER_DOUBLE:
        descriptor.floating_point_range = [FloatingPointRange(from_value=lower, to_value=upper)]
    elif kind == ParameterType.PARAMETER_INTEGER:
        first = -_INTEGER_LIMIT if math.isinf(lower) else math.ceil(lower)
        last = _INTEGER_LIMIT if math.isinf(upper) else math.floor(upper)
        descriptor.integer_range = [IntegerRange(from_value=first, to_value=last, step=1)]


def _constraints(field: FieldInfo) -> str:
    words = []
    for item in field.metadata:
        if isinstance(item, annotated_types.Gt):
            words.append(f"greater than {item.gt}")
        elif isinstance(item, annotated_types.Lt):
            words.append(f"less than {item.lt}")
    if get_origin(field.annotation) is Literal:
        words.append("one of " + ", ".join(str(choice) for choice in get_args(field.annotation)))
    return "; ".join(words)


def _build(model: type[Settings], values: Mapping[str, Any], dotted: str) -> Settings:
    """The model from flat dotted values; its complaint becomes one sentence."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *parents, leaf = name.removeprefix(dotted).split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    _restore(model, tree)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = dotted + ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        given = f" (given: {first['input']!r})" if first["loc"] else ""
        raise SalusError(f"The parameter {where or model.__name__} is refused{given}: {message}.") from error


def _restore(model: type[BaseModel], tree: dict[str, Any]) -> None:
    """Turn what ROS cannot hold back into what the model expects."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if name not in tree:
            continue
        value = tree[name]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            _restore(annotation, value)
        elif isinstance(annotation, type) and issubclass(annotation, enum.IntEnum) and isinstance(value, str):
            tree[name] = annotation.__members__.get(value.upper(), value)
        elif value is None and field.is_required():
            del tree[name]
        elif value is not None and not isinstance(value, str | bool | int | float):
            tree[name] = list(value)
