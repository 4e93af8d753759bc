"""SALUS: foresees the failures of a robot that follows a learned policy, and acts before them."""

__version__ = "0.1.0"
