import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from salus_ros.intervention.exploration import Edge, explore

sys.path.insert(0, str(Path(__file__).parent))

_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}
# Without shrinking a failure is told at once; the thorough profile looks for the smallest example.
_QUICK = [phase for phase in Phase if phase is not Phase.shrink]
settings.register_profile("default", max_examples=25, phases=_QUICK, **_COMMON)
settings.register_profile("thorough", max_examples=3000, **_COMMON)
settings.register_profile(
    "mutation", max_examples=10, phases=_QUICK, derandomize=True, database=None, **_COMMON
)
if not any(argument.startswith("--hypothesis-profile") for argument in sys.argv):
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def explored() -> list[Edge]:
    """Every edge of the mode machine; the tests that use it share one worker."""
    return list(explore())
