"""Real-time priority is taken by every thread, or refused with the reason."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from salus_ros.errors import SalusError
from salus_ros.nodes.priority import take_priority


def test_no_priority_changes_nothing() -> None:
    before = os.sched_getscheduler(0)
    take_priority(0)
    assert os.sched_getscheduler(0) == before


def test_a_priority_that_is_not_granted_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", denied)
    with pytest.raises(SalusError, match=r"realtime_priority 50 is not granted .*rtprio"):
        take_priority(50)


PROGRAM = """
import os, threading, time
from salus_ros.errors import SalusError
from salus_ros.nodes.priority import take_priority
threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
try:
    take_priority(10)
except SalusError:
    print("not granted")
else:
    print({os.sched_getscheduler(int(t)) == os.SCHED_FIFO for t in os.listdir("/proc/self/task")})
"""


def test_every_thread_takes_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    if done.stdout.strip() == "not granted":
        pytest.skip("this user may not take a real-time priority")
    assert done.stdout.strip() == "{True}"
