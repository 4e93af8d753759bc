"""A large value that worker processes read once, instead of being sent it with every task."""

from __future__ import annotations

import pickle
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Holds the value in the process that made it; a copy in another one reads the file.

    The file must stay as long as there is a copy that has not read it.
    """

    def __init__(self, value: T, file: Path | None = None) -> None:
        """``file``: where to write the value for other processes; ``None`` where there are none."""
        self._value: T | None = value
        self._file = file
        if file is not None:
            file.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))

    def __getstate__(self) -> dict[str, Path | None]:
        return {"_file": self._file}

    @property
    def value(self) -> T:
        """The value."""
        own: T | None = getattr(self, "_value", None)
        if own is None:
            assert self._file is not None, "a value without a file was sent to another process"
            own = _read(self._file)
        return own


@lru_cache(maxsize=1)
def _read(file: Path) -> T:  # type: ignore[type-var]
    value: T = pickle.loads(file.read_bytes())
    return value
