"""Signal families, one file each; importing this package registers all of them."""

from salus_ros.monitor.signals import execution, geometry, latent, motion, overlap, uncertainty
from salus_ros.monitor.signals.base import Family, Signal, SignalSet, families

__all__ = [
    "Family",
    "Signal",
    "SignalSet",
    "execution",
    "families",
    "geometry",
    "latent",
    "motion",
    "overlap",
    "uncertainty",
]
