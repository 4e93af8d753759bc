"""Events that an operator marked afterwards, in a file beside a store's or a bag's own, which stay untouched.

    DATA/marks.json           of a store or of a bag's folder
    FILE.mcap.marks.json      of a bag that is a single file

Stamps are seconds of the episode for a store, and of the bag's own stamps for a bag, whose only entry is 0.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from salus_ros.data.episode import Outcome
from salus_ros.data.files import replace_text
from salus_ros.data.records import event_from_json
from salus_ros.errors import SalusError
from salus_ros.types import EpisodeEvent, EventKind, FailureType

VERSION: Final = 1
OPERATOR: Final = "marked by an operator"

Marks = Mapping[int, tuple[EpisodeEvent, ...]]
"""Index of an episode to its marks."""


def marks_file(data: Path) -> Path:
    """Where the marks of a store or a bag lie."""
    return data / "marks.json" if data.is_dir() else data.with_name(data.name + ".marks.json")


def read_marks(data: Path) -> dict[int, tuple[EpisodeEvent, ...]]:
    """The marks of a store or a bag; none when there is no file.

    Raises:
        SalusError: the file is damaged or of another version.
    """
    path = marks_file(data)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SalusError(f"{path} cannot be read ({error}); restore it from a copy, or remove it.") from None
    try:
        if raw["salus_marks"] != VERSION:
            raise SalusError(
                f"{path} has the version {raw['salus_marks']}, and this version of SALUS reads {VERSION}; "
                "use the version that wrote it."
            )
        return {
            int(index): tuple(event_from_json(event) for event in events)
            for index, events in raw["episodes"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SalusError(f"{path} is damaged ({error!r}); restore it from a copy, or remove it.") from None


def write_marks(data: Path, marks: Marks) -> None:
    """Replaces the marks of a store or a bag; after any failure they are as they were.

    Raises:
        SalusError: they hold stamps that are no numbers, or the file cannot be written.
    """
    if not all(math.isfinite(event.stamp_s) for events in marks.values() for event in events):
        raise SalusError("A mark without a time was given; give finite stamps in seconds.")
    episodes = {str(index): [asdict(event) for event in events] for index, events in marks.items() if events}
    replace_text(marks_file(data), json.dumps({"salus_marks": VERSION, "episodes": episodes}, indent=1))


def marks_version(data: Path) -> str:
    """Changes whenever the file does; empty when there is none."""
    path = marks_file(data)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def outcome_of(events: Sequence[EpisodeEvent]) -> Outcome:
    """How an episode with these events ended."""
    kinds = [event.kind for event in events]
    if EventKind.SUCCESS in kinds:
        return Outcome.SUCCESS
    if EventKind.TIMEOUT in kinds:
        return Outcome.TIMEOUT
    details = [event.detail for event in events if event.kind == EventKind.EPISODE_END]
    if details and details[-1] in [outcome.value for outcome in Outcome]:
        return Outcome(details[-1])
    return Outcome.FAILURE if EventKind.FAILURE_ONSET in kinds else Outcome.UNKNOWN


def parse_marks(given: Any) -> tuple[EpisodeEvent, ...]:
    """Marks as a page sends them: ``[{"stamp_s": 1.2, "kind": "FAILURE_ONSET", "failure": "DROP"}]``.

    Raises:
        SalusError: anything else.
    """
    events = []
    try:
        for mark in given:
            kind = EventKind[mark["kind"]]
            failure = FailureType[mark["failure"]] if kind is EventKind.FAILURE_ONSET else None
            stamp_s = float(mark["stamp_s"])
            if not math.isfinite(stamp_s):
                raise ValueError(f"the stamp {stamp_s} is no time")
            events.append(EpisodeEvent(stamp_s, kind, failure, detail=OPERATOR))
    except (KeyError, TypeError, ValueError) as error:
        raise SalusError(
            f"The marks are not understood ({error!r}); expected a list of stamp_s, kind and, for a failure "
            "onset, failure."
        ) from None
    return tuple(sorted(events, key=lambda event: event.stamp_s))
