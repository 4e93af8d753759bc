"""Signal families, one file each; importing this package registers all of them."""

from salus_ros.monitor.signals import (
    execution,
    geometry,
    grasp,
    latent,
    load,
    motion,
    overlap,
    uncertainty,
)
from salus_ros.monitor.signals.base import (
    LEFT_OUT,
    Family,
    Signal,
    SignalSet,
    default_signals,
    families,
    without,
)

__all__ = [
    "LEFT_OUT",
    "Family",
    "Signal",
    "SignalSet",
    "default_signals",
    "execution",
    "families",
    "geometry",
    "grasp",
    "latent",
    "load",
    "motion",
    "overlap",
    "uncertainty",
    "without",
]
