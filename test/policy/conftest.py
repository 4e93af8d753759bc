from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Inputs and outputs of every stage of the published code on the golden checkpoint, fp32 on a CPU."""
    with np.load(GOLDEN / "clip_diffusion_fp32.npz") as stored:
        return {name: stored[name] for name in stored.files}
