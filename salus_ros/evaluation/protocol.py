"""The monitor, its rivals and the sanity checks on the same held-out episodes, scored the same way.

How a detector learns and chooses is in ``detectors``, what is computed from its scores in ``figures``; here
all of them are gone through, in parallel, and set side by side.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from salus_ros.errors import SalusError
from salus_ros.evaluation.detectors import (
    OURS,
    Compared,
    Contender,
    Data,
    ProtocolSettings,
    Rival,
    Scored,
    Watch,
    cells,
    traces,
)
from salus_ros.evaluation.episode_metrics import begun_within, common_length_s
from salus_ros.evaluation.events import foreseeable
from salus_ros.evaluation.figures import Figures, figures
from salus_ros.evaluation.kept import Kept
from salus_ros.evaluation.metrics import Reliability, Steps, reliability
from salus_ros.evaluation.records import Record
from salus_ros.evaluation.shared import Shared
from salus_ros.evaluation.statistics import Estimate
from salus_ros.monitor.splits import Split
from salus_ros.types import HORIZONS_S, FailureType, Floats

__all__ = ["OURS", "SEEN", "UNSEEN", "Findings", "ProtocolSettings", "Rival", "TestSet", "Watch", "evaluate"]

SEEN, UNSEEN = "test-seen", "test-unseen"
MIN_ONSETS = 100
"""Onsets of each type that a test set should hold; fewer are said."""
SCORES_KEPT = ("ours", "rival", "sanity check")
"""Kinds of detectors whose scores are kept for curves."""


@dataclass(frozen=True, slots=True, eq=False)
class TestSet:
    """Everything that one look at some test episodes gave."""

    __test__ = False  # the name is the field's, not a test's

    records: tuple[Record, ...]
    figures: tuple[Figures, ...]
    """Ours first."""
    behind: Mapping[str, Mapping[Compared, Estimate]]
    """Ours minus each, by name."""
    scores: Mapping[str, Scored]
    """By detector, for curves: those of the variant that is compared in AUROC."""
    threshold: Floats
    """(types,), of ours."""
    reliability: Mapping[FailureType, Reliability]
    """Of ours at the longest horizon; types without a step that counts are left out."""
    onsets: Mapping[FailureType, int]
    onsets_asked_for: Mapping[FailureType, int]
    """Those of them that somebody could be asked to foresee (``events.foreseeable``)."""
    common_length_s: float
    begun_within_common_length: int
    """Failed episodes whose first onset lies within it."""
    outside: tuple[int, int]
    """Episodes said to lie outside the training data at some moment, of how many."""

    def cells(self, name: str) -> dict[tuple[FailureType, float], Steps]:
        """Scores and labels of a detector."""
        return cells(self.records, self.scores[name])


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All test sets of one run."""

    tests: Mapping[str, TestSet]
    unavailable: Mapping[str, str]
    """Detectors that this data gives nothing to work with, and why."""
    episodes: Mapping[str, int]
    """Episodes in each split."""

    @property
    def seen(self) -> TestSet:
        """The episodes drawn as the training ones were."""
        return self.tests[SEEN]


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """One detector on all test sets."""

    figures: Mapping[str, Figures]
    scores: Mapping[str, Scored]


def evaluate(
    records: Sequence[Record],
    ours: Watch,
    others: Sequence[Contender],
    settings: ProtocolSettings,
    *,
    unseen: Sequence[Record] = (),
    kept: Kept | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Findings:
    """Fits and tunes everything, then scores it on the test episodes.

    Args:
        records: episodes of all splits; the split is by seed.
        ours: the monitor under test.
        others: what it is compared with; those that take longest first.
        settings: of the numbers.
        unseen: episodes of other disturbances or tasks; nothing is fitted or tuned on them.
        kept: what was computed before; default: nothing, and nothing is kept.
        jobs: processes.
        progress: show a bar.

    Raises:
        SalusError: a split without episodes.
    """
    tests = {SEEN: [r for r in records if r.sample.split is Split.TEST]}
    if unseen:
        tests[UNSEEN] = list(unseen)
    data = Data.split(records, tests)
    contenders = [ours, *others]
    judged: dict[str, _Judged] = {}
    unavailable: dict[str, str] = {}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # A worker that has grown is replaced by one that reads the episodes again; no task is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor")
        shared = Shared(data, Path(folder) / "episodes.pickle" if jobs > 1 else None)
        parts: Iterator[tuple[str, _Judged | str]] = Parallel(n_jobs=jobs, return_as="generator_unordered")(
            delayed(_judge)(contender, shared, settings, kept or Kept(None, "")) for contender in contenders
        )
        bar = tqdm(parts, total=len(contenders), desc="evaluate", unit="detector", disable=not progress)
        for name, found in bar:
            bar.set_postfix_str(name)
            if isinstance(found, str):
                unavailable[name] = found
            else:
                judged[name] = found
    if ours.name in unavailable:
        raise SalusError(unavailable[ours.name])
    in_order = {c.name: judged[c.name] for c in contenders if c.name in judged}
    counts = {split.value: sum(r.sample.split is split for r in records) for split in Split}
    return Findings(
        {name: _test_set(name, test, ours, in_order) for name, test in tests.items()},
        {c.name: unavailable[c.name] for c in contenders if c.name in unavailable},
        counts | {name: len(test) for name, test in tests.items()},
    )


def _judge(
    contender: Contender, shared: Shared[Data], settings: ProtocolSettings, kept: Kept
) -> tuple[str, _Judged | str]:
    """The detector's name, and its numbers or why there are none."""
    import torch

    torch.set_num_threads(1)  # matrices this small gain nothing from more
    data = shared.value
    try:
        answer = contender.answer(data, settings, kept)
    except SalusError as error:
        return contender.name, str(error)
    return contender.name, _Judged(
        {name: figures(contender, answer, name, test, settings) for name, test in data.tests.items()},
        answer.takes[Compared.AUROC].tests if contender.kind in SCORES_KEPT else {},
    )


def _test_set(name: str, test: Sequence[Record], ours: Watch, judged: Mapping[str, _Judged]) -> TestSet:
    found = {other: part.figures[name] for other, part in judged.items()}
    scored = judged[ours.name].scores[name]
    our_cells = cells(test, scored)
    longest = {f: our_cells[f, HORIZONS_S[-1]] for f in FailureType}
    heard = traces(test, scored)
    length_s = common_length_s(heard)
    outside = sum(bool(out[r.sample.judged].any()) for r, out in zip(test, scored.outside, strict=True))
    return TestSet(
        records=tuple(test),
        figures=tuple(found.values()),
        behind={other: found[ours.name].less(theirs) for other, theirs in found.items()},
        scores={other: part.scores[name] for other, part in judged.items() if part.scores},
        threshold=ours.checkpoint.threshold,
        reliability={f: reliability(steps) for f, steps in longest.items() if steps.score.size},
        onsets={f: sum(len(r.onsets_s(f)) for r in test) for f in FailureType},
        onsets_asked_for={f: sum(_asked_for(r, f) for r in test) for f in FailureType},
        common_length_s=length_s,
        begun_within_common_length=begun_within(heard, length_s, [r.first_onset_s for r in test]),
        outside=(outside, len(test)),
    )


def _asked_for(record: Record, failure: FailureType) -> int:
    times = np.array([time_s for time_s, _ in record.sample.onsets])
    own = np.array([kind is failure for _, kind in record.sample.onsets], dtype=bool)
    return len(np.unique(times[own & foreseeable(times)]))
