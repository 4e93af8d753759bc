"""Which frames a step learns from, and which of them each member.

Each episode belongs to a few members, so that every member learns from its own resample of the
demonstrations. Episodes of the same members are a group; a batch takes equally many frames of each, group
after group.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salus_ros.errors import SalusError
from salus_ros.policy.training.demonstrations import Demonstrations
from salus_ros.policy.training.settings import TrainingSettings


class Batches:
    """Frames of demonstrations, dealt out to members and drawn by task."""

    def __init__(self, data: Demonstrations, settings: TrainingSettings, prompt_length: Tensor) -> None:
        """``prompt_length`` (I,): ids in the prompt of each instruction.

        Raises:
            SalusError: some group would have no episode of some task.
        """
        self._data, self._settings, self._prompt_length = data, settings, prompt_length
        self._tasks = tuple(sorted(set(data.tasks)))
        self.groups = self._resample()
        """For each set of members, the frames of the episodes that belong to it, one array per task."""

    def _resample(self) -> list[tuple[tuple[int, ...], list[NDArray[np.int64]]]]:
        settings, data = self._settings, self._data
        sets = list(
            itertools.combinations(
                range(settings.members), min(settings.members_per_episode, settings.members)
            )
        )
        episodes, first = np.unique(data.episode, return_index=True)
        task = np.array(data.tasks)[data.instruction]
        # Dealt out task by task, so that every set has as many of each.
        order = np.random.default_rng(settings.seed).permutation(len(episodes))
        order = order[np.argsort(task[first[order]], kind="stable")]
        owner = dict(zip(episodes[order].tolist(), itertools.cycle(range(len(sets))), strict=False))
        owners = np.array([owner[int(episode)] for episode in data.episode])
        # While the hand is still far from the named object, which one it is decides; later it shows.
        named = data.objects_m[np.arange(len(data)), data.instruction]
        deciding = (np.linalg.norm(named[:, :2], axis=1) > settings.deciding_m) & (data.held == 0)
        groups = []
        for index, members in enumerate(sets):
            strata = []
            for name in self._tasks:
                frames = np.flatnonzero((owners == index) & (task == name))
                again = np.repeat(frames[deciding[frames]], settings.deciding_repeats)
                strata.append(np.concatenate([frames, again]))
            groups.append((members, strata))
        if any(len(frames) == 0 for _, strata in groups for frames in strata):
            raise SalusError(
                f"{len(episodes)} demonstrations of {', '.join(self._tasks)} are too few for "
                f"{settings.members} members; give at least {len(sets)} of each task."
            )
        return groups

    def after(self, step_count: int) -> Iterator[NDArray[np.int64]]:
        """Batches of frame indices without end, as they come after so many steps.

        Slot s of every group is of the same task, which changes from batch to batch: so the prompts that one
        member reads line up with those that the others read.
        """
        rng = np.random.default_rng([self._settings.seed, 1, step_count])

        def shuffled(frames: NDArray[np.int64]) -> Iterator[int]:
            while True:
                yield from rng.permutation(frames)

        streams = [[shuffled(frames) for frames in strata] for _, strata in self.groups]
        slots = self._slots()
        while True:
            order = rng.permutation(slots)
            yield np.array([next(strata[task]) for strata in streams for task in order])

    def _slots(self) -> NDArray[np.int64]:
        """The task of each of the frames that one batch takes from one group, as its number in ``_tasks``."""
        each = max(len(self._tasks), self._settings.batch // len(self.groups))
        weights = np.array([self._settings.task_weights.get(name, 1.0) for name in self._tasks])
        counts = np.maximum(1, np.floor(each * weights / weights.sum())).astype(int)
        while counts.sum() < each:
            counts[np.argmax(each * weights / weights.sum() - counts)] += 1
        return np.repeat(np.arange(len(self._tasks)), counts)

    def rows(self, batch: int) -> Tensor:
        """(rows, K): which rows of a batch each member learns from."""
        each = batch // len(self.groups)
        rows: list[list[int]] = [[] for _ in range(self._settings.members)]
        for group, (members, _) in enumerate(self.groups):
            for member in members:
                rows[member] += range(group * each, (group + 1) * each)
        return torch.tensor(rows).T

    def half(self, batch: int) -> Tensor:
        """The first half of each group's rows of a batch."""
        each = batch // len(self.groups)
        return torch.arange(batch).view(-1, each)[:, : max(1, each // 2)].flatten()

    def other_instructions(self, present: Tensor) -> Tensor:
        """Another instruction for each row of ``half``, one that ``present`` (N, I) says could be given.

        In one slot all are of one length, for the same reason as in ``after``.
        """
        slots = len(present) // len(self.groups)
        lengths = self._prompt_length
        drawn = lengths[torch.randint(len(lengths), (slots,))].repeat(len(self.groups))
        fitting = (lengths == drawn[:, None]).float()
        return torch.multinomial(fitting * (present + 1e-6), 1)[:, 0]
