"""Real-time priority, where the machine grants it."""

from __future__ import annotations

import os
from pathlib import Path

from salus_ros.errors import SalusError


def take_priority(priority: int) -> None:
    """Run every thread of this process, the middleware's too, under ``SCHED_FIFO``; 0 changes nothing.

    Raises:
        SalusError: it is not granted.
    """
    if priority == 0:
        return
    parameter = os.sched_param(priority)
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, parameter)
    except (OSError, AttributeError) as error:
        raise SalusError(
            f"The realtime_priority {priority} is not granted ({error}): give the user a limit 'rtprio' of "
            "that much in /etc/security/limits.d, or set it to 0."
        ) from error
