import pytest

from salus_ros.sim.simulation import Simulation


@pytest.fixture(scope="session")
def shared_simulation():
    return Simulation()


@pytest.fixture
def simulation(shared_simulation):
    """One compiled world for all tests, since a reset undoes everything."""
    shared_simulation.reset(0)
    return shared_simulation
