"""``salus collect``: episodes to a Zarr store, in parallel, to be continued after any interruption."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

from tqdm import tqdm

from salus_ros import __version__
from salus_ros.collection import FailedEpisode, RunSeed, run_in_parallel, run_seed
from salus_ros.data.files import append_line, writing
from salus_ros.data.store import Store, StoreSettings
from salus_ros.errors import SalusError
from salus_ros.mixture import Mixture

FAILURES: Final = "failed_episodes.jsonl"
"""Beside the episodes: those that raised, with their errors."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the verb."""
    parser = subparsers.add_parser(
        "collect",
        help="write episodes to a Zarr store, in parallel",
        description="Runs the policy in the simulator and stores what was seen. Run the same command again "
        "after an interruption: it continues where it was.",
    )
    parser.add_argument("--episodes", type=int, required=True, help="how many, seeds counted upwards")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--task", default="bin", help="name of the task (bin)")
    parser.add_argument(
        "--disturbance", default="mixed", help="name of a family, mixed for any of them, or none (mixed)"
    )
    parser.add_argument(
        "--disturbed-share", type=float, help="share of episodes that are disturbed (0.7 for mixed, else 1)"
    )
    parser.add_argument(
        "--intervention-share", type=float, default=0.2, help="share with random interventions (0.2)"
    )
    parser.add_argument(
        "--policy", default="models/tinyvla-small", help="checkpoint folder or name of the policy"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="worker processes (all cores)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the store")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Collects; returns 1 when episodes failed."""
    mixture = _mixture(args)
    wanted = range(args.seed, args.seed + args.episodes)
    with open_store(args.output, mixture, _policy_hash(args.policy)) as store:
        failed = collect_missing(store, partial(run_seed, args.policy, mixture), wanted, args.workers)
        print(_summary(store, args.output))
    for episode in failed[:3]:
        print(f"seed {episode.seed} failed: {episode.error}", file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} episodes failed, see {args.output / FAILURES}; run the same command again to try "
            "them once more.",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _mixture(args: argparse.Namespace) -> Mixture:
    for option, value, least in (
        ("episodes", args.episodes, 1),
        ("seed", args.seed, 0),
        ("workers", args.workers, 1),
    ):
        if value < least:
            raise SalusError(f"--{option} {value} was given; expected {least} or more.")
    disturbance = "" if args.disturbance == "none" else args.disturbance
    share = args.disturbed_share
    if share is None:
        share = 0.7 if disturbance == "mixed" else float(disturbance != "")
    for option, value in (("disturbed-share", share), ("intervention-share", args.intervention_share)):
        if not 0 <= value <= 1:
            raise SalusError(f"--{option} {value} was given; expected a share from 0 to 1.")
    return Mixture.of(args.task, disturbance, share, args.intervention_share)


def _policy_hash(policy: str) -> str:
    from salus_ros.policy.registry import load_policy

    return load_policy(policy).hash


def open_store(path: Path, mixture: Mixture, policy_hash: str) -> Store:
    """A new store, or the one to be continued; refuses one of another policy or mixture."""
    if not (path / "zarr.json").exists():
        settings = StoreSettings(
            policy_hash=policy_hash, mixture=mixture.describe(), code_version=__version__
        )
        return Store.create(path, settings)
    store = Store.open(path, write=True)
    for what, given, expected in (
        ("policy", policy_hash, store.settings.policy_hash),
        ("mixture", mixture.describe(), store.settings.mixture),
    ):
        if given != expected:
            store.close()
            raise SalusError(
                f"{path} was collected with the {what} {expected}, and {given} was given; give the same, or "
                "another --output."
            )
    return store


def collect_missing(store: Store, run: RunSeed, wanted: range, workers: int) -> list[FailedEpisode]:
    """Runs the seeds that the store lacks and appends their episodes; returns those that failed."""
    done = {meta.seed for meta in store.metas()}
    seeds = [seed for seed in wanted if seed not in done]
    failed = []
    outcomes: Counter[str] = Counter()
    progress = tqdm(total=len(wanted), initial=len(wanted) - len(seeds), unit="episode", dynamic_ncols=True)
    with progress:
        for result in run_in_parallel(run, seeds, workers):
            if isinstance(result, FailedEpisode):
                failed.append(result)
                outcomes["failed"] += 1
                record = {"seed": result.seed, "time": time.strftime("%FT%T%z"), "trace": result.trace}
                with writing(store.path):
                    (store.path / FAILURES).touch()
                    append_line(store.path / FAILURES, json.dumps(record))
            else:
                store.append(result)
                outcomes[result.meta.outcome.value] += 1
            progress.set_postfix(outcomes, refresh=False)
            progress.update()
    return failed


def _summary(store: Store, path: Path) -> str:
    outcomes = Counter(meta.outcome.value for meta in store.metas())
    size_mb = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6
    counts = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common())
    return f"{path}: {len(store)} episodes ({counts}), {size_mb:.1f} MB."
