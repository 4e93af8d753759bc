"""The emergency stop's latch on disk: it outlives the gate, however the gate ends."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from salus_ros.types import Cause


@dataclass(frozen=True, slots=True)
class LatchRecord:
    """Why the gate was latched."""

    cause: Cause
    reason: str


class LatchFile:
    """A file that exists while the stop is latched. One that cannot be read counts as latched."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> LatchRecord | None:
        """The record, or ``None`` when not latched."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return LatchRecord(Cause.LATCH_RESTORED, f"the latch file {self._path} cannot be read: {error}")
        try:
            data = json.loads(content)
            return LatchRecord(Cause(int(data["cause"])), str(data["reason"]))
        except Exception:  # whatever is wrong with it
            return LatchRecord(Cause.LATCH_RESTORED, f"the latch file {self._path} is damaged")

    def write(self, record: LatchRecord) -> None:
        """Latch. A crash leaves the old state or the new one, never half a file.

        Raises:
            OSError: the disk takes neither a new file nor an empty one.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"cause": int(record.cause), "reason": record.reason}).encode()
        new = self._path.with_name(self._path.name + ".new")
        try:
            with new.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError:
            # A full disk may still take an empty file, and one that cannot be read counts as latched.
            self._path.touch()
        self._sync_folder()

    def clear(self) -> None:
        """Unlatch.

        Raises:
            OSError: the file cannot be removed: the gate will be latched again after a restart.
        """
        self._path.unlink(missing_ok=True)
        self._sync_folder()

    def _sync_folder(self) -> None:
        descriptor = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
