"""What episodes are drawn from: tasks, disturbances, shares. A seed alone decides what its episode is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from salus_ros.data.episode import EpisodeMeta
from salus_ros.errors import SalusError
from salus_ros.settings_file import read_settings

_STREAM = 0xC0113C7
"""Keeps the draws made here apart from those that the simulator makes of the same seed."""


class FamilyShare(BaseModel):
    """How often a disturbance family is drawn, and how strong it then is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(default=1.0, gt=0, description="Relative to the other families.")
    strength: tuple[float, float] = Field(
        default=(0.0, 1.0), description="Range from 0, hardly to be noticed, to 1, the worst."
    )

    @model_validator(mode="after")
    def _in_range(self) -> FamilyShare:
        if not 0.0 <= self.strength[0] <= self.strength[1] <= 1.0:
            raise ValueError("strength must be a range from 0 to 1, the lower end first")
        return self


class Mixture(BaseModel):
    """Tasks and disturbances with their weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: dict[str, float] = Field(default={"bin": 1.0}, description="Name of each task, and its weight.")
    disturbed_share: float = Field(
        default=0.7, ge=0, le=1, description="Share of episodes that are disturbed."
    )
    families: dict[str, FamilyShare] = Field(
        default={"mixed": FamilyShare()},
        description="Disturbances to draw from: names of families, or 'mixed' for all that are not held out.",
    )
    intervention_share: float = Field(
        default=0.2, ge=0, le=1, description="Share of episodes in which the gate intervenes at random."
    )

    @model_validator(mode="after")
    def _something_to_draw(self) -> Mixture:
        if not self.tasks or min(self.tasks.values()) <= 0:
            raise ValueError("tasks must name one task or more, each with a weight above 0")
        if self.disturbed_share > 0 and not self.families:
            raise ValueError("families must name one family or more, or disturbed_share be 0")
        return self

    @classmethod
    def of(
        cls,
        task: str = "bin",
        disturbance: str = "mixed",
        disturbed_share: float = 0.7,
        intervention_share: float = 0.2,
    ) -> Mixture:
        """One task and one disturbance: a family, ``mixed``, or empty for none.

        A strength may stand behind it (``slippery:0.8``); it is drawn anew in each episode where none does.

        Raises:
            SalusError: the strength is no number from 0 to 1.
        """
        family, _, given = disturbance.partition(":")
        try:
            share = FamilyShare(strength=(float(given), float(given))) if given else FamilyShare()
        except ValueError:  # pydantic's is one as well
            raise SalusError(
                f"The disturbance {disturbance!r} has no strength from 0 to 1; write, for example, "
                "slippery:0.8."
            ) from None
        return cls(
            tasks={task: 1.0},
            disturbed_share=disturbed_share if family else 0.0,
            families={family: share} if family else {},
            intervention_share=intervention_share,
        )

    @classmethod
    def read(cls, path: Path) -> Mixture:
        """Read a mixture's YAML file, e.g. ``config/mixtures/seen.yaml``.

        Raises:
            SalusError: the file is missing, is no YAML, or holds something that no mixture has.
        """
        return read_settings(path, cls, "config/mixtures/seen.yaml")

    def describe(self) -> str:
        """One line, the same for the same mixture; stores are told apart by it."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of what episodes are drawn from.

        The share of interventions, which is about the gate and not about the scenes, is left out.
        """
        drawn = self.model_dump(mode="json", exclude={"intervention_share"})
        return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()[:16]

    def draw(self, seed: int) -> EpisodeMeta:
        """What the episode of a seed is, as far as it is known before it runs."""
        rng = np.random.default_rng([seed, _STREAM])
        disturbed, intervened = rng.random(2)
        task = _weighted(rng, self.tasks)
        disturbance = ""
        if disturbed < self.disturbed_share:
            family = _weighted(rng, {name: share.weight for name, share in self.families.items()})
            disturbance = f"{family}:{rng.uniform(*self.families[family].strength):.3f}"
        return EpisodeMeta(
            seed=seed,
            task=task,
            disturbance=disturbance,
            random_interventions=bool(intervened < self.intervention_share),
        )


def _weighted(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """A name, drawn by its weight; in sorted order, so that the order in a file does not matter."""
    names = sorted(weights)
    total = sum(weights.values())
    return str(rng.choice(names, p=[weights[name] / total for name in names]))
