import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

sys.path.insert(0, str(Path(__file__).parent))

_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}
# Without shrinking a failure is told at once; the thorough profile looks for the smallest example.
_QUICK = [phase for phase in Phase if phase is not Phase.shrink]
settings.register_profile("default", max_examples=25, phases=_QUICK, **_COMMON)
settings.register_profile("thorough", max_examples=3000, **_COMMON)
if not any(argument.startswith("--hypothesis-profile") for argument in sys.argv):
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
