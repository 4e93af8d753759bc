"""What can be labelled: the episodes of a store, or a bag as a whole."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from salus_ros.data.bags import BagSettings, read_bag
from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.marks import marks_version, outcome_of, read_marks, write_marks
from salus_ros.data.store import Store
from salus_ros.types import EpisodeEvent
from salus_ros.viewer.view import title

Events = tuple[EpisodeEvent, ...]


class Source(Protocol):
    """Episodes with events that were recorded and events that an operator marks."""

    path: Path
    has_starts: bool
    """Whether an operator may mark where an episode starts."""

    def titles(self) -> list[dict[str, Any]]:
        """Title and outcome of each episode."""

    def episode(self, index: int) -> Episode:
        """An episode without what an operator marked.

        Raises:
            SalusError: there is none.
        """

    def marks(self, index: int) -> Events:
        """What an operator marked in it, on the episode's time."""

    def save(self, index: int, marks: Events) -> None:
        """Replaces what an operator marked in it.

        Raises:
            SalusError: it cannot be written.
        """

    def outcome(self, index: int) -> Outcome:
        """How the episode ended, by all that is known now."""


class StoreSource:
    """The episodes of a store."""

    has_starts = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store = Store.open(path)
        self._read = lru_cache(maxsize=4)(self._store.episode)

    def titles(self) -> list[dict[str, Any]]:
        """See ``Source``."""
        metas = self._store.metas()
        return [{"title": title(meta, i), "outcome": self.outcome(i).value} for i, meta in enumerate(metas)]

    def episode(self, index: int) -> Episode:
        """See ``Source``."""
        episode, known = self._read(index), set(self.marks(index))
        return replace(episode, events=tuple(e for e in episode.events if e not in known))

    def marks(self, index: int) -> Events:
        """See ``Source``."""
        return read_marks(self.path).get(index, ())

    def save(self, index: int, marks: Events) -> None:
        """See ``Source``."""
        write_marks(self.path, read_marks(self.path) | {index: marks})
        self._store = Store.open(self.path)
        self._read = lru_cache(maxsize=4)(self._store.episode)

    def outcome(self, index: int) -> Outcome:
        """See ``Source``."""
        return self._store.metas()[index].outcome


class BagSource:
    """A bag, as one episode from its first message to its last."""

    has_starts = True

    def __init__(self, path: Path, settings: BagSettings | None = None) -> None:
        self.path = path
        (episode,) = read_bag(path, settings, whole=True)
        self._origin_s = episode.meta.time_origin_s
        known = set(self.marks(0))
        self._episode = replace(episode, events=tuple(e for e in episode.events if e not in known))

    def titles(self) -> list[dict[str, Any]]:
        """See ``Source``."""
        return [{"title": self.path.name, "outcome": self.outcome(0).value}]

    def episode(self, index: int) -> Episode:
        """See ``Source``."""
        return self._episode

    def marks(self, index: int) -> Events:
        """See ``Source``."""
        marks = read_marks(self.path).get(0, ())
        return tuple(replace(mark, stamp_s=mark.stamp_s - self._origin_s) for mark in marks)

    def save(self, index: int, marks: Events) -> None:
        """See ``Source``."""
        stamped = tuple(replace(mark, stamp_s=mark.stamp_s + self._origin_s) for mark in marks)
        write_marks(self.path, {0: stamped})

    def outcome(self, index: int) -> Outcome:
        """See ``Source``."""
        return outcome_of((*self._episode.events, *self.marks(0)))


def version(source: Source) -> str:
    """Changes whenever any mark of the source does."""
    return marks_version(source.path)
