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
from salus_ros.monitor.signals.base import Family, Signal, SignalSet, families, without

__all__ = [
    "Family",
    "Signal",
    "SignalSet",
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
