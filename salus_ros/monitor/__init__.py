"""Foresees failures: signals over a one-second window, a temporal network, calibrated probabilities.

Nothing here reads a clock, a simulator's privileged state, or the time since an episode began.
"""

from salus_ros.monitor.monitor import Monitor
from salus_ros.monitor.settings import MonitorSettings

__all__ = ["Monitor", "MonitorSettings"]
