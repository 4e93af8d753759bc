"""What the documents name is there: commands with their options, settings, files, and words of errors."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from salus_ros.cli.main import VERBS, build_parser
from salus_ros.intervention.settings import GateSettings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
SOURCE = "\n".join(
    path.read_text()
    for folder in ("salus_ros", "launch", "scripts")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".js", ".html")
)
JOINED = re.sub(r'"\s*\n?\s*(?:f|rf)?"', "", SOURCE)
"""The source with the pieces of its long strings put together."""


def commands(page: Path) -> list[str]:
    """Each ``salus <verb> ...`` in a page's code."""
    text = page.read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text)
    lines = [
        line.replace("\\\n", " ") for block in blocks for line in block.replace("\\\n", " ").splitlines()
    ]
    found = [
        re.sub(r"^.*?\bsalus (?=[a-z])", "salus ", line.split(" #")[0]) for line in lines if "salus " in line
    ]
    return [line for line in found if line.startswith("salus ") and line.split()[1] in VERBS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_of_a_command_that_is_shown_exists(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command)
        options = [word.split("=")[0] for word in words[2:] if word.startswith("--")]
        if not options:
            continue
        parser = build_parser(words[1])._subparsers._group_actions[0].choices[words[1]]  # type: ignore[union-attr]
        known = {name for action in parser._actions for name in action.option_strings}
        nested = [a for a in parser._actions if hasattr(a, "choices") and isinstance(a.choices, dict)]
        for action in nested:
            for sub in action.choices.values():
                known |= {name for inner in sub._actions for name in inner.option_strings}
        assert set(options) <= known, f"{page.name}: {command}"


def test_what_is_published_by_hand_in_the_docs_is_heard() -> None:
    """Who wants what was sent before it came hears nothing at all from a publisher that keeps nothing."""
    from salus_ros.nodes import qos

    shown = [
        (page.name, options, topic.lstrip("/"), kind)
        for page in PAGES
        for options, topic, kind in re.findall(
            r"ros2 topic pub ((?:--\S+(?: (?!/)[\w-]+)? )*)(\S+) (\S+/msg/\S+)",
            page.read_text().replace("\\\n    ", ""),
        )
    ]
    assert shown, "no page says how an instruction is given"
    for page, options, topic, kind in shown:
        assert qos.TABLE[topic].message == kind, page
        assert ("--qos-durability transient_local" in options) == qos.TABLE[topic].latched, f"{page}: {topic}"
        assert "--qos-reliability reliable" in options or not qos.TABLE[topic].reliable, f"{page}: {topic}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_and_file_that_is_linked_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http", "mailto")):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_every_page_is_in_the_index() -> None:
    listed = set(re.findall(r"^([a-z-]+)$", (ROOT / "docs" / "index.md").read_text(), re.M))
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"} == listed


MESSAGES = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_of_the_troubleshooting_page_is_said_by_the_code(message: str) -> None:
    head, _, rest = message.partition(": ")
    for piece in message.split("..."):
        piece = piece.strip(" <>")
        assert piece in JOINED or (head in JOINED and rest.strip(" .") in JOINED), f"nothing says: {piece}"


def test_the_gates_settings_that_tuning_names_exist() -> None:
    text = (ROOT / "docs" / "tuning.md").read_text()
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", text)) - {"shadow_mode", "inference_time", "period_s"}
    named -= {name for name in named if name.endswith("_node")}
    assert named <= set(GateSettings.model_fields), named - set(GateSettings.model_fields)
