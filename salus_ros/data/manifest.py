"""What a dataset is, in a file small enough to be shipped.

It is enough to collect the dataset again and to tell whether it is the same:

    line 1     policy, mixture, versions
    others     one an episode: seed, what it was, how it ended, and a digest of all its arrays but the images

Images are left out, since renderers differ between machines by a unit of colour here and there; where they
matter, the policy's outputs differ as well.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salus_ros.data.files import replace_text
from salus_ros.data.records import DIGEST_BYTES, EpisodeRecord, events_to_json
from salus_ros.data.store import FRAMES, Store
from salus_ros.errors import SalusError

VERSION: Final = 1


class ManifestHeader(BaseModel):
    """What all episodes have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salus_manifest: int = Field(description="Version of this layout.")
    policy: str = Field(description="Name or folder of the policy, as it was given.")
    policy_hash: str
    mixture: str = Field(description="What the episodes were drawn from.")
    mixture_hash: str = Field(description="Of the tasks and disturbances in it.")
    code_version: str = Field(description="Version of salus_ros.")
    machine: str = Field(description="Processor and system; floating point differs between them.")


class ManifestEpisode(BaseModel):
    """One episode."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(ge=0)
    task: str
    disturbance: str
    outcome: str
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A dataset without its data; episodes in the order of their seeds."""

    header: ManifestHeader
    episodes: tuple[ManifestEpisode, ...]

    @property
    def seeds(self) -> list[int]:
        """In order."""
        return [episode.seed for episode in self.episodes]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a store compares to a manifest."""

    same: int
    """Episodes with the same arrays, events and outcome."""
    other_arrays: tuple[int, ...]
    """Seeds whose arrays differ while the outcome is the same."""
    other_outcome: tuple[int, ...]
    """Seeds that ended otherwise."""
    missing: tuple[int, ...]
    """Seeds that the store lacks."""

    @property
    def complete(self) -> bool:
        """Whether every episode is there and the same."""
        return not (self.other_arrays or self.other_outcome or self.missing)


def manifest_of(store: Store, policy: str, mixture_hash: str) -> Manifest:
    """The manifest of a store of simulated episodes.

    Args:
        store: is read only for its records, not its arrays.
        policy: how the policy is to be named when it is collected again.
        mixture_hash: of the mixture that the store was drawn from.
    """
    settings = store.settings
    header = ManifestHeader(
        salus_manifest=VERSION,
        policy=policy,
        policy_hash=settings.policy_hash,
        mixture=settings.mixture,
        mixture_hash=mixture_hash,
        code_version=settings.code_version,
        machine=this_machine(),
    )
    episodes = sorted((_entry(record) for record in store.records()), key=lambda episode: episode.seed)
    return Manifest(header, tuple(episodes))


def compare(manifest: Manifest, store: Store) -> Agreement:
    """How many of the manifest's episodes a store holds as they were."""
    found = {record.meta.seed: _entry(record) for record in store.records()}
    there = [episode for episode in manifest.episodes if episode.seed in found]
    differing = [e for e in there if found[e.seed].digest != e.digest]
    return Agreement(
        same=len(there) - len(differing),
        other_arrays=tuple(e.seed for e in differing if found[e.seed].outcome == e.outcome),
        other_outcome=tuple(e.seed for e in differing if found[e.seed].outcome != e.outcome),
        missing=tuple(e.seed for e in manifest.episodes if e.seed not in found),
    )


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Writes the file.

    Raises:
        SalusError: there is one already, or it cannot be written.
    """
    if path.exists():
        raise SalusError(f"{path} exists already; give another file for the manifest, or remove it first.")
    lines: Sequence[BaseModel] = (manifest.header, *manifest.episodes)
    replace_text(path, "".join(line.model_dump_json() + "\n" for line in lines))


def read_manifest(path: Path) -> Manifest:
    """Reads the file.

    Raises:
        SalusError: it is missing, no manifest, or one of another version.
    """
    try:
        first, *others = path.read_text(encoding="utf-8").splitlines()
        version = json.loads(first)["salus_manifest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SalusError(
            f"{path} is no manifest ({error}); give a file that `salus collect --save-manifest` wrote."
        ) from None
    if version != VERSION:
        raise SalusError(
            f"{path} has the manifest version {version}, and this version of SALUS reads {VERSION}; use the "
            "version that wrote it."
        )
    number = 1
    try:
        header = ManifestHeader.model_validate_json(first)
        episodes = []
        for number, line in enumerate(others, 2):  # noqa: B007 (the error names it)
            episodes.append(ManifestEpisode.model_validate_json(line))
    except ValidationError as error:
        problem = error.errors()[0]
        raise SalusError(
            f"Line {number} of {path} is damaged ({problem['msg']}); restore the file from a copy."
        ) from None
    return Manifest(header, tuple(episodes))


def this_machine() -> str:
    """Processor and system, e.g. ``x86_64 Linux``."""
    return f"{platform.machine()} {platform.system()}"


def _entry(record: EpisodeRecord) -> ManifestEpisode:
    meta = record.meta
    seen = {name: digest for name, digest in sorted(record.digests.items()) if not name.startswith(FRAMES)}
    text = json.dumps([seen, events_to_json(record.events), meta.outcome.value])
    return ManifestEpisode(
        seed=meta.seed,
        task=meta.task,
        disturbance=meta.disturbance,
        outcome=meta.outcome.value,
        digest=hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest(),
    )
