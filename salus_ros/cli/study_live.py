"""``salus study --live``: arms of the study on the ROS graph, in real time."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tqdm import tqdm

from salus_ros.data.bags import read_bag
from salus_ros.data.episode import Episode
from salus_ros.data.store import Store, StoreSettings
from salus_ros.errors import SalusError
from salus_ros.evaluation.comparison import ArmSummary, compare
from salus_ros.evaluation.study import describe
from salus_ros.evaluation.table import percent, points

if TYPE_CHECKING:
    from salus_ros.evaluation.arms import Setup
    from salus_ros.types import Mode

SESSION_SEEDS: Final = 5
"""Seeds between two starts of the graph: what an interruption loses at most."""
SHADOW: Final = {"none-live": True, "salus-live": False}
"""Arm to whether learned risk is muted."""


def run_live(output: Path, setup: Setup, names: Sequence[str], seeds: range) -> tuple[str, ...]:
    """Runs the seeds that the stores of the live arms lack; returns the names of these arms.

    Args:
        names: of the arms of which a live twin is wanted, among ``none`` and ``salus``.
    """
    arms = tuple(f"{name}-live" for name in names)
    stores = {arm: _open(output / arm, setup, arm) for arm in arms}
    try:
        missing = [
            (seed, arm)
            for seed in seeds
            for arm in (arms if seed % 2 == 0 else arms[::-1])  # neither arm is always first
            if all(meta.seed != seed for meta in stores[arm].metas())
        ]
        total = len(seeds) * len(arms)
        with tqdm(total=total, initial=total - len(missing), unit="episode", desc="live") as progress:
            while missing:
                now, missing = _split(missing)
                for episode in _session(output / "live", setup, now, progress):
                    stores[episode.meta.arm].append(episode)
    finally:
        for store in stores.values():
            store.close()
    return arms


def apart(summaries: Mapping[str, ArmSummary]) -> list[str]:
    """How far success on the ROS graph lies from that in one process, a sentence an arm."""
    said = []
    for name in ("none", "salus"):
        if {name, f"{name}-live"} <= set(summaries):
            inside, live = summaries[name], summaries[f"{name}-live"]
            compared = compare(inside, live)
            said.append(
                f"{name}: success {percent(live.success_rate)} on the ROS graph, "
                f"{percent(inside.success_rate)} in one process, "
                f"{points(compared.success_difference)} on {compared.pairs} seeds."
            )
    return said


def _open(path: Path, setup: Setup, arm: str) -> Store:
    described = describe(setup, arm)
    fresh = not (path / "zarr.json").exists()
    store = Store.create(path, StoreSettings(mixture=described)) if fresh else Store.open(path, write=True)
    if store.settings.mixture != described:
        store.close()
        raise SalusError(
            f"{path} holds {store.settings.mixture}, and {described} was asked for; give another --output."
        )
    return store


def _split(missing: list[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """The trials of the next session, and those after it; a seed's arms stay together."""
    first = sorted({seed for seed, _ in missing})[:SESSION_SEEDS]
    return [t for t in missing if t[0] in first], [t for t in missing if t[0] not in first]


def _session(
    folder: Path, setup: Setup, trials: Sequence[tuple[int, str]], progress: tqdm[object]
) -> list[Episode]:
    """Runs trials on one graph, and reads them back from its bag, which is then deleted."""
    from salus_ros.nodes.session import LiveSession  # rclpy re-executes the interpreter when imported

    def show(mode: Mode, risk: float, elapsed_s: float) -> None:
        progress.set_postfix_str(f"seed {seed} {arm} {mode.name} risk {risk:.2f}", refresh=False)

    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    outcomes = []
    with LiveSession(folder, policy=setup.policy, monitor=setup.monitor, gate=setup.gate) as session:
        for seed, arm in trials:
            meta = setup.mixture.draw(seed)
            session.set_shadow_mode(SHADOW[arm])
            outcomes.append(session.run_episode(seed, meta.task, meta.disturbance, show))
            progress.update()
    recorded = _of_trials(read_bag(folder / "bag"), trials, folder / "logs")
    episodes = [
        replace(episode, meta=replace(episode.meta, arm=arm, outcome=outcome))
        for episode, (_, arm), outcome in zip(recorded, trials, outcomes, strict=True)
    ]
    shutil.rmtree(folder)
    return episodes


def _of_trials(
    recorded: Sequence[Episode], trials: Sequence[tuple[int, str]], logs: Path
) -> Sequence[Episode]:
    """The episodes of the trials; before them a bag may hold the scene that the simulator began with."""
    found = recorded[-len(trials) :]
    if [e.meta.seed for e in found] != [seed for seed, _ in trials]:
        raise SalusError(
            f"The bag holds the seeds {[e.meta.seed for e in recorded]}, not {[s for s, _ in trials]}; "
            f"see {logs}."
        )
    return found
