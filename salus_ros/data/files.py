"""What keeps a store whole on disk: one writer, lines that stand or do not, errors that say what to do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from salus_ros.errors import SalusError

PARTIAL: Final = ".partial"
"""Ending of a file or folder that is not whole yet."""


def lock_for_writing(folder: Path) -> int:
    """A file descriptor that holds the right to write to a folder until it is closed.

    Raises:
        SalusError: another process holds it, or the folder cannot be written.
    """
    with writing(folder):
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SalusError(
            f"Another process is writing to {folder}; wait for it, or stop it, and try again."
        ) from None
    return descriptor


def replace_file(path: Path, content: bytes) -> None:
    """Puts a file in the place of another, or leaves that one as it was."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def append_line(path: Path, line: str) -> None:
    """Adds a line, or leaves the file as it was."""
    size = path.stat().st_size
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, size)
        raise


def replace_text(path: Path, text: str) -> None:
    """Writes a whole file, making its folder; whoever reads it sees the old text or the new, never a part.

    Raises:
        SalusError: the disk is full or the folder cannot be written; the file is as it was.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())


def drop_half_line(path: Path) -> None:
    """Removes what an interrupted ``append_line`` left behind the last whole line."""
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        os.truncate(path, len(whole))


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a full disk or an unwritable folder into one sentence."""
    try:
        yield
    except OSError as error:
        free = ""
        with contextlib.suppress(OSError):
            free = f" ({shutil.disk_usage(_nearest(folder)).free // 2**20} MiB free)"
        raise SalusError(
            f"{folder} could not be written: {error.strerror or error}{free}; what was there is as it was, "
            "so make room or give another folder, and run the same command again."
        ) from error


@contextlib.contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Turns whatever Zarr and its codecs raise on damaged files into one sentence."""
    try:
        yield
    except SalusError:
        raise
    except Exception as error:
        raise SalusError(
            f"{what} in {folder} cannot be read ({type(error).__name__}: {error}); files are damaged or "
            "missing: restore them from a copy, or collect the store again."
        ) from error


def _nearest(folder: Path) -> Path:
    return next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
