"""The world of either simulator, read once."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from salus_ros.assets import asset
from salus_ros.sim.gazebo import DEFAULT_SEED
from salus_ros.sim.simulation import Simulation

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def world() -> ElementTree.Element:
    world = ElementTree.fromstring(asset("worlds/salus.sdf").read_text()).find("world")
    assert world is not None
    return world


@pytest.fixture(scope="session")
def simulation() -> Simulation:
    simulation = Simulation()
    simulation.reset(DEFAULT_SEED)
    return simulation
