"""Writes what the docs say of the gate, from its code and from what its tests measured: the tables of
``docs/safety.md`` and the page ``docs/mode-machine.html``. ``--check`` only says what is stale."""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from salus_ros.intervention.exploration import PRESENT, REQUESTS, SETTINGS, TICK_S, Edge, explore
from salus_ros.intervention.modes import ModeState
from salus_ros.intervention.rules import LEARNED, REASONS, RULES, WHEN_INACTIVE, Trigger
from salus_ros.types import Cause, Mode

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "mode-machine.html"
SAFETY = DOCS / "safety.md"
TEMPLATE = Path(__file__).parent / "mode_machine.html"
FAULTS = DOCS / "faults.json"
LATENCY = DOCS / "bench-gate.json"
SOAK = DOCS / "soak.json"
MUTATION = DOCS / "mutation.json"
EQUIVALENT = Path(__file__).parents[1] / "test" / "mutation" / "equivalent.yaml"


def causes_table() -> str:
    """Every trigger: its mode, what it says, and what ends it."""
    lines = ["| mode | cause | in words | it ends | a person may | |", "|---|---|---|---|---|---|"]
    for trigger, rule in sorted(RULES.items(), key=lambda item: item[0]):
        asked = ", ".join(sorted(f"`{request.value}`" for request in rule.requests))
        if asked and rule.must_be_gone:
            asked += ", once it is gone"
        notes = ["learned"] if trigger in LEARNED else []
        notes += ["also while inactive"] if trigger in WHEN_INACTIVE else []
        lines.append(
            f"| `{trigger.mode.name}` | {trigger.cause.name.lower()} | {REASONS[trigger.cause]} | "
            f"{rule.clear.value} | {asked} | {', '.join(notes)} |"
        )
    return "\n".join(lines)


def transitions_table(edges: Iterable[Edge]) -> str:
    """Which mode can follow which, and on what; from every edge of the explored machine."""
    found: dict[tuple[Mode, Mode], set[str]] = {}
    alone = Mode.INACTIVE
    for edge in edges:
        if edge.request is None:
            alone = edge.after.mode  # what comes of the same facts without the requests that follow
        elif edge.after.mode == alone:
            continue
        if edge.before.mode != edge.after.mode:
            found.setdefault((edge.before.mode, edge.after.mode), set()).add(_event(edge))
    lines = ["| from | to | on |", "|---|---|---|"]
    for (before, after), events in sorted(found.items()):
        lines.append(f"| `{before.name}` | `{after.name}` | {'; '.join(sorted(_weakest(events)))} |")
    return "\n".join(lines)


_AT_ONCE, _STANDING, _PLAN = "its cause ends", "the arm stands", "the arm stands and a newer plan came"


def _event(edge: Edge) -> str:
    if edge.request is not None:
        return f"`{edge.request.value}`"
    for trigger in edge.facts.present - edge.before.held:
        if trigger.mode == edge.after.mode:
            return f"a cause of `{trigger.mode.name}`"
        if trigger.mode > edge.before.mode:  # it came and went within the tick
            used_up = ", attempts used up" if edge.after.mode == Mode.ASSIST else ""
            return f"a cause of `{trigger.mode.name}`{used_up}"
    if not edge.facts.standing:
        return _AT_ONCE
    return _PLAN if edge.facts.plan_ready else _STANDING


def _weakest(events: set[str]) -> set[str]:
    """What happens at once happens also when the arm stands."""
    if _AT_ONCE in events:
        return events - {_STANDING, _PLAN}
    return events - {_PLAN} if _STANDING in events else events


def faults_table(results: dict[str, dict[str, object]]) -> str:
    """What the fault tests measured."""
    rows = results["rows"]
    lines = ["| fault, injected into live nodes | reaction | repeats | to the safe state, longest |",
             "|---|---|---|---|"]  # fmt: skip
    for name, row in rows.items():
        longest = f"{row['longest_s']:.2f} s" + (f" {row['of']}" if "of" in row else "")
        again = f" ({row['made_again']} made again)" if "made_again" in row else ""
        lines.append(f"| {name} | {row['reaction']} | {row['repeats']}{again} | {longest} |")
    return "\n".join(
        [*lines, "", f"Measured on {results['date']}: {results['hardware']}; {results['conditions']}."]
    )


def latency_table(bench: dict[str, object], part: str = "gate") -> str:
    """What ``salus bench`` measured of a part."""
    lines = ["| figure | measured | reference | ratio | reference is |", "|---|---|---|---|---|"]
    for row in bench["parts"][part]:
        compared = "reference" in row
        lines.append(
            f"| {row['name']} | {row['value']:.3g} {row['unit']} | "
            + (f"{row['reference']:.3g} {row['unit']} | {row['ratio']:.2f}" if compared else " | ")
            + f" | {row.get('reference_name', '')} |"
        )
    machine = f"{bench['processor']}, {bench['cores']} cores, Python {bench['python']}"
    conditions = bench.get("conditions", "nothing else ran")
    return "\n".join([*lines, "", f"Measured on {bench['date']}: {machine}; {conditions}."])


def soak_table(result: dict[str, object]) -> str:
    """What the soak measured."""
    period, memory = result["command_period_ms"], result["memory_mb"]
    lines = [
        "| | |",
        "|---|---|",
        f"| time, without the pauses | {result['duration_s'] / 60:.0f} min |",
        f"| commands heard, states heard | {result['commands']}, {result['states']} |",
        f"| time between commands, p50 / p99 / p99.9 | "
        f"{period['p50']:.1f} / {period['p99']:.1f} / {period['p99.9']:.1f} ms |",
        f"| states missed (a gap of more than 0.2 s) | {result['missed_states']} |",
        f"| memory of the gate after the first minute, at the end | "
        f"{memory['first']:.2f}, {memory['last']:.2f} MB |",
        f"| pauses of the whole machine | {result['pauses_of_the_machine']} |",
    ]
    return "\n".join(
        [*lines, "", f"Measured on {result['date']}: {result['hardware']}; {result['conditions']}."]
    )


def mutation_table(results: dict[str, object]) -> str:
    """What the mutation run measured, and why some of what survives makes no difference."""
    lines = [
        "| file | mutants | noticed | | not noticed, and make no difference | not noticed otherwise |",
        "|---|---|---|---|---|---|",
    ]
    total = {"mutants": 0, "killed": 0, "equal": 0}
    reasons = explained(results["files"])
    for name, row in sorted(results["files"].items()):
        equal = sum(change in reasons.get(name, {}) for change in row["survivors"])
        numbers = {**row, "equal": equal}
        drawn = f", drawn at random from {row['of']}" if "of" in row else ""
        lines.append(_mutation_row(f"`{name}.py`{drawn}", numbers))
        total = {key: total[key] + numbers[key] for key in total}
    lines.append(_mutation_row("together", total))
    missing = ", ".join(f"`{name}.py`" for name in results["not_measured"])
    said = [f"Measured on {results['date']}."]
    said += [f"Not measured on this version yet: {missing}."] if missing else []
    said += [results["note"]] if "note" in results else []
    lines += ["", " ".join([*said, "What makes no difference, and why:"])]
    lines += ["", "| file | change | why it makes no difference |", "|---|---|---|"]
    for name, changes in sorted(reasons.items()):
        for change, why in changes.items():
            lines.append(f"| `{name}.py` | `{change.replace('|', chr(92) + '|')}` | {why} |")
    return "\n".join(lines)


def explained(files: dict[str, dict[str, object]]) -> dict[str, dict[str, str]]:
    """Why survivors make no difference, by file and by what the changed line has become."""
    reasons = yaml.safe_load(EQUIVALENT.read_text()) or {}
    for name, changes in reasons.items():
        survivors = files.get(name, {}).get("survivors", [])
        for change in changes:
            if change not in survivors:
                raise SystemExit(
                    f"test/mutation/equivalent.yaml explains a change to {name}.py that did not survive: "
                    f"{change!r}; take it out, or run make mutation."
                )
    return reasons


def _mutation_row(name: str, row: dict[str, int]) -> str:
    share = 100.0 * row["killed"] / max(row["mutants"], 1)
    other = row["mutants"] - row["killed"] - row["equal"]
    return f"| {name} | {row['mutants']} | {row['killed']} | {share:.0f} % | {row['equal']} | {other} |"


def page(edges: list[Edge]) -> str:
    """The interactive page: every state and every edge, packed."""
    states: dict[ModeState, int] = {}
    messages: dict[str, int] = {"": 0}
    rows: dict[int, list[tuple[int, int]]] = {}
    for edge in edges:
        number = states.setdefault(edge.before, len(states))
        after = states.setdefault(edge.after, len(states))
        text = edge.message if not edge.accepted else "accepted"
        rows.setdefault(number, []).append((after, messages.setdefault(text, len(messages))))
    flat = [value for number in range(len(states)) for pair in rows[number] for value in pair]
    packed = gzip.compress(struct.pack(f"<{len(flat)}H", *flat), mtime=0)
    data = {
        "states": [_describe(state) for state in states],
        "messages": list(messages),
        "present": [_name(trigger) for trigger in PRESENT],
        "requests": ["", *(request.value for request in REQUESTS)],
        "modes": [mode.name for mode in Mode],
        "reasons": {cause.name: REASONS[cause] for cause in Cause},
        "tick_s": TICK_S,
        "attempts": SETTINGS.replan_attempts,
        "table": base64.b64encode(packed).decode(),
    }
    return TEMPLATE.read_text().replace("/*DATA*/", json.dumps(data, separators=(",", ":")))


def unpack(table: str) -> bytes:
    """The page's table as it was before it was packed."""
    return gzip.decompress(base64.b64decode(table))


def _name(trigger: Trigger | None) -> str:
    return "" if trigger is None else f"{REASONS[trigger.cause]} ({trigger.mode.name})"


def _describe(state: ModeState) -> list[object]:
    trigger = state.trigger
    held = [f"{one.mode.name}: {REASONS[one.cause]}" for one in sorted(state.held, reverse=True)]
    return [int(trigger.mode), trigger.cause.name, held, state.replans, state.stops]


def fill(text: str, tables: dict[str, str]) -> str:
    """Put each table between its markers."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"docs/safety.md has no place for {name}: it needs the lines {begin} and {end}.")
        head, rest = text.split(begin, 1)
        text = f"{head}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"
    return text


def tables(edges: Iterable[Edge]) -> dict[str, str]:
    """All that is generated in ``docs/safety.md``, by the name of its place."""
    made = {"causes": causes_table(), "transitions": transitions_table(edges)}
    for name, path, table in (
        ("faults", FAULTS, faults_table),
        ("latency", LATENCY, latency_table),
        ("soak", SOAK, soak_table),
        ("mutation", MUTATION, mutation_table),
    ):
        if path.exists():
            made[name] = table(json.loads(path.read_text()))
    return made


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is stale")
    check = parser.parse_args().check
    edges = list(explore())
    wanted = {SAFETY: fill(SAFETY.read_text(), tables(edges)), PAGE: page(edges)}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path} is stale: run python scripts/safety_docs.py", file=sys.stderr)
        else:
            path.write_text(wanted[path])
            print(f"written: {path}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
