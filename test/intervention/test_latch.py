import os
from pathlib import Path

import pytest

from salus_ros.intervention.latch import LatchFile, LatchRecord
from salus_ros.types import Cause

RECORD = LatchRecord(Cause.CONTACT_FORCE, "about 320 N at the tool")


def test_no_file_is_not_latched(tmp_path: Path) -> None:
    assert LatchFile(tmp_path / "latch").read() is None


def test_a_latch_is_read_back_by_another_process(tmp_path: Path) -> None:
    LatchFile(tmp_path / "deep" / "latch").write(RECORD)
    assert LatchFile(tmp_path / "deep" / "latch").read() == RECORD


def test_a_cleared_latch_is_gone(tmp_path: Path) -> None:
    latch = LatchFile(tmp_path / "latch")
    latch.write(RECORD)
    latch.clear()
    latch.clear()
    assert latch.read() is None


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff\xfe", b"\xe9", b"[]", b"null", b"[" * 100_000),
        *(b'{"cause": 7}', b'{"cause": 9999, "reason": ""}', b'{"cause": Infinity, "reason": ""}'),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_an_unreadable_latch_counts_as_latched(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "latch").write_bytes(content)
    record = LatchFile(tmp_path / "latch").read()
    assert record is not None
    assert record.cause == Cause.LATCH_RESTORED


def test_a_folder_in_its_place_counts_as_latched(tmp_path: Path) -> None:
    (tmp_path / "latch").mkdir()
    assert LatchFile(tmp_path / "latch").read() is not None


def test_a_crash_while_writing_leaves_the_old_latch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latch = LatchFile(tmp_path / "latch")
    latch.write(RECORD)

    def crash(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        latch.write(LatchRecord(Cause.PERSON, "other"))
    assert latch.read() == RECORD
    monkeypatch.undo()
    latch.write(LatchRecord(Cause.PERSON, "later"))
    assert latch.read() == LatchRecord(Cause.PERSON, "later")
    assert [one.name for one in tmp_path.iterdir()] == ["latch"], "what the crash left behind is still there"


def test_a_full_disk_still_latches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latch = LatchFile(tmp_path / "latch")
    real = os.fsync
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    latch.write(RECORD)
    assert latch.read() is not None


def test_a_latch_makes_the_folders_that_it_needs_and_leaves_nothing_beside_itself(tmp_path: Path) -> None:
    path = tmp_path / "home" / "salus" / "gate.latch"
    LatchFile(path).write(LatchRecord(Cause.PERSON, "stopped"))
    assert [one.name for one in path.parent.iterdir()] == ["gate.latch"]
    assert LatchFile(path).read() == LatchRecord(Cause.PERSON, "stopped")


def test_a_latch_that_cannot_be_read_says_which_file_and_why(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.latch"
    damaged.write_text("{")
    folder = tmp_path / "folder.latch"
    folder.mkdir()
    for path, why in ((damaged, "is damaged"), (folder, "cannot be read: ")):
        record = LatchFile(path).read()
        assert record is not None
        assert record.cause == Cause.LATCH_RESTORED
        assert str(path) in record.reason and why in record.reason
