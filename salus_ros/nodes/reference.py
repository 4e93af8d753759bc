"""Writes the reference and the security policy from the code: ``python -m salus_ros.nodes.reference``.

A test holds that what is committed is what would be written now.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin
from xml.sax.saxutils import quoteattr

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from salus_ros.nodes import qos
from salus_ros.nodes.interfaces import NODES, SERVICES, NodeInterface, changeable_of, settings_of, who
from salus_ros.nodes.parameters import bounds, plain

ROOT: Final = Path(__file__).resolve().parents[2]
TOPICS_PAGE: Final = ROOT / "docs" / "topics.md"
PARAMETERS_PAGE: Final = ROOT / "docs" / "parameters.md"
POLICY: Final = ROOT / "config" / "sros2" / "policy.xml"

_OUTSIDE: Final = "driver"
"""Who speaks where none of SALUS does on a real robot."""
_PEOPLE: Final = {qos.EMERGENCY_STOP, qos.RESET, qos.RESOLVE_ASSISTANCE, qos.DRIVER_RESUME, qos.SIM_RESET}

_PARAMETERS_HEAD: Final = """# Parameters

Written from the settings' classes by `python -m salus_ros.nodes.reference`; a test fails when this page is
not what the code says. `ros2 param describe NODE PARAMETER` says the same on a running node. Values that are
refused at the start end the node with one sentence and exit code 2; refused at run time, they leave the old
value. A parameter is read-only but where the last column says otherwise."""

_PARAMETER_SERVICES: Final = (
    *("describe_parameters", "get_parameter_types", "get_parameters", "list_parameters"),
    *("set_parameters", "set_parameters_atomically", "get_type_description"),
)
_LIFECYCLE_SERVICES: Final = (
    *("change_state", "get_state", "get_available_states", "get_available_transitions"),
    "get_transition_graph",
)


def main() -> int:
    """Write every file."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))
    return 0


def files() -> dict[Path, str]:
    """Each generated file with its content; of the topics' page only the tables are generated."""
    topics = TOPICS_PAGE.read_text()
    for name, table in (("topics", _topics()), ("services", _services()), ("nodes", _nodes())):
        topics = _between(topics, name, table)
    return {TOPICS_PAGE: topics, PARAMETERS_PAGE: _parameters(), POLICY: _policy()}


def _between(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}{table}\n{end}{tail}"


# Tables


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', ',') for cell in line)} |" for line in lines)


def _topics() -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for topic, row in qos.TABLE.items():
            if topic == qos.DIAGNOSTICS:
                source, sink = "all", "console, people"
            else:
                source = who(topic, "publishes") or (
                    "hardware" if topic == qos.EMERGENCY_STOP_BUTTON else _OUTSIDE
                )
                sink = who(topic, "subscribes") or "people"
            if topic == qos.CLOCK:
                sink = "all with use_sim_time, recorder"
            yield f"`{topic}`", row.message, source, sink, qos.describe(row), row.why

    return _table(("topic", "type", "from", "to", "quality of service", "why"), rows())


def _services() -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for service, (kind, meaning) in SERVICES.items():
            people = "a person" if service in _PEOPLE else ""
            asked = ", ".join(filter(None, (who(service, "calls"), people)))
            yield f"`{service}`", kind, who(service, "serves"), asked, meaning

    return _table(("service", "type", "offered by", "asked by", "what it does"), rows())


def _nodes() -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for name, node in NODES.items():
            kind = "yes" if node.lifecycle else ""
            yield f"`{name}`", kind, node.summary

    return _table(("node", "lifecycle", "what it does"), rows())


# Parameters


def _parameters() -> str:
    parts = [_PARAMETERS_HEAD]
    for name, node in NODES.items():
        changeable = changeable_of(name)
        rows = (
            _parameter(leaf, field, default, changeable)
            for leaf, field, default in _leaves(settings_of(name))
        )
        header = ("parameter", "type", "default", "allowed", "what it is", "may change")
        parts.append(f"## {name}\n{node.summary[0].upper()}{node.summary[1:]}.\n\n{_table(header, rows)}")
    return "\n\n".join(parts) + "\n"


def _leaves(
    model: type[BaseModel], prefix: str = "", instance: Any = None
) -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, field in model.model_fields.items():
        default = (
            getattr(instance, name) if instance is not None else field.get_default(call_default_factory=True)
        )
        if isinstance(default, BaseModel):
            yield from _leaves(type(default), f"{prefix}{name}.", default)
        else:
            yield prefix + name, field, default


def _parameter(name: str, field: FieldInfo, default: Any, changeable: Any) -> tuple[str, ...]:
    value = plain(default)
    shown = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    if name == "topics":
        shown = "every topic but `/clock` and `salus/markers`"
    return (
        f"`{name}`",
        _type(field.annotation),
        shown if shown != "" else "(empty)",
        _allowed(field),
        " ".join((field.description or "").split()),
        "at the next activation"
        if name in changeable and name != "seed"
        else "yes"
        if name in changeable
        else "",
    )


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _type(type(arguments[0]))
    if origin in (tuple, list):
        return f"{_type(arguments[0])}[]"
    return {bool: "bool", int: "integer", float: "double", str: "string"}.get(annotation, "string")


def _allowed(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(str(choice) for choice in get_args(field.annotation))
    lower, upper = bounds(field)
    if math.isinf(lower) and math.isinf(upper):
        return ""
    if math.isinf(upper):
        return f"from {lower:g}"
    return f"to {upper:g}" if math.isinf(lower) else f"{lower:g} to {upper:g}"


# Security


def _policy() -> str:
    enclaves = "".join(_enclave(name, node) for name, node in NODES.items()) + _launch()
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!-- The least that each node needs, by salus_ros.nodes.reference; see docs/security.md. -->\n"
        f'<policy version="0.2.0">\n  <enclaves>\n{enclaves}{_operator()}  </enclaves>\n</policy>\n'
    )


def _enclave(name: str, node: NodeInterface) -> str:
    own = [f"~/{service}" for service in _PARAMETER_SERVICES]
    published = {*node.all_publishes, "rosout", "/parameter_events"}
    if node.lifecycle:
        own += [f"~/{service}" for service in _LIFECYCLE_SERVICES]
        published.add("~/transition_event")
    rules = [
        _rule("topics", "topic", "publish", published),
        _rule("topics", "topic", "subscribe", {*node.subscribes, qos.CLOCK, "/parameter_events"}),
        _rule("services", "service", "reply", {*own, *node.serves}),
        _rule("services", "service", "request", node.calls),
        _rule("actions", "action", "call", node.actions),
    ]
    return _profile(name, rules)


def _launch() -> str:
    """The node of ``ros2 launch``, which configures and activates, under a name that ends in a process id."""
    managed = [name for name, node in NODES.items() if node.lifecycle]
    asked = [f"{name}/{service}" for name in managed for service in ("change_state", "get_state")]
    heard = [f"{name}/transition_event" for name in managed]
    rules = [
        _rule("topics", "topic", "publish", {"rosout", "/parameter_events"}),
        _rule("topics", "topic", "subscribe", {*heard, "/parameter_events"}),
        _rule("services", "service", "reply", [f"~/{service}" for service in _PARAMETER_SERVICES]),
        _rule("services", "service", "request", asked),
    ]
    return _profile("launch", rules, node="launch_ros_*")


def _operator() -> str:
    """A person's tools on the command line: the stops, the lifecycle, parameters, and looking."""
    lifecycle = [
        f"{name}/{service}"
        for name, node in NODES.items()
        if node.lifecycle
        for service in _LIFECYCLE_SERVICES
    ]
    parameters = [f"{name}/{service}" for name in NODES for service in _PARAMETER_SERVICES]
    rules = [
        _rule(
            "topics", "topic", "publish", {"rosout", "/parameter_events", qos.INSTRUCTION, qos.EPISODE_EVENT}
        ),
        _rule("topics", "topic", "subscribe", {*qos.TABLE, "/parameter_events"}),
        _rule("services", "service", "request", {*_PEOPLE, qos.DRIVER_STOP, *lifecycle, *parameters}),
    ]
    return _profile("operator", rules)


def _profile(name: str, rules: list[str], *, node: str = "") -> str:
    """The enclave ``/salus/<name>`` of one node, which bears that name or another, to which ``~`` refers."""
    return (
        f"    <enclave path={quoteattr(f'/salus/{name}')}>\n      <profiles>\n"
        f'        <profile ns="/" node={quoteattr(node or name)}>\n{"".join(rules)}        </profile>\n'
        "      </profiles>\n    </enclave>\n"
    )


def _rule(group: str, item: str, what: str, names: Any) -> str:
    if not names:
        return ""
    lines = "".join(f"            <{item}>{name}</{item}>\n" for name in sorted(names))
    return f'          <{group} {what}="ALLOW">\n{lines}          </{group}>\n'


if __name__ == "__main__":
    sys.exit(main())
