"""``salus collect``: episodes to a Zarr store, in parallel, to be continued after any interruption."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError
from tqdm import tqdm

from salus_ros import __version__
from salus_ros.assets import asset
from salus_ros.collection import FailedEpisode, RunAll, RunSeed, run_in_parallel, run_seed
from salus_ros.data.files import append_line, writing
from salus_ros.data.manifest import (
    Manifest,
    compare,
    manifest_of,
    read_manifest,
    this_machine,
    write_manifest,
)
from salus_ros.data.store import Store, StoreSettings
from salus_ros.data.summary import ranges
from salus_ros.errors import SalusError
from salus_ros.mixture import Mixture
from salus_ros.monitor.splits import Split, split_of
from salus_ros.robot.model import ArmModel

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
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--episodes", type=int, help="how many, seeds counted upwards")
    what.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="collect a dataset again, and say whether it is the same",
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed (0)")
    parser.add_argument(
        "--split",
        choices=[split.value for split in Split],
        help="with --episodes: pass over the seeds of other splits, so that a test set can grow by itself",
    )
    parser.add_argument(
        "--mixture",
        type=Path,
        metavar="FILE",
        help="tasks and disturbances to draw from, in place of the next four",
    )
    parser.add_argument("--task", help="name of the task (bin)")
    parser.add_argument(
        "--disturbance",
        help="name of a family, alone or with a strength (slippery:0.8), mixed for any that is not held out, "
        "or none (mixed)",
    )
    parser.add_argument(
        "--disturbed-share", type=float, help="share of episodes that are disturbed (0.7 for mixed, else 1)"
    )
    parser.add_argument("--intervention-share", type=float, help="share with random interventions (0.2)")
    parser.add_argument(
        "--policy", default="models/tinyvla-small", help="checkpoint folder or name of the policy"
    )
    parser.add_argument(
        "--workers", type=int, help="worker processes (all cores, of the cluster if there is one)"
    )
    parser.add_argument(
        "--backend",
        choices=("local", "ray"),
        default="local",
        help="where workers run: on this machine, or on a Ray cluster (local)",
    )
    parser.add_argument(
        "--address", help="of the Ray cluster, e.g. auto or ray://host:10001; without it one is started here"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the store")
    parser.add_argument(
        "--save-manifest", type=Path, metavar="FILE", help="write seeds, mixture and digests to a new file"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Collects; returns 1 when episodes failed, or are not those of the manifest."""
    _check(args)
    manifest = read_manifest(args.manifest) if args.manifest else None
    if manifest is None:
        policy, mixture = args.policy, _mixture(args)
        wanted = _seeds(args.seed, args.episodes, args.split)
    else:
        policy, mixture, wanted = manifest.header.policy, _mixture_of(manifest), manifest.seeds
    _check_names(mixture)
    run_all = _workers(args)
    policy_hash = _policy_hash(policy)
    if manifest is not None and policy_hash != manifest.header.policy_hash:
        raise SalusError(
            f"{args.manifest} was made with the policy {manifest.header.policy_hash}, and {policy} is "
            f"{policy_hash}; check out the version {manifest.header.code_version} that it belongs to."
        )
    with open_store(args.output, mixture, policy_hash) as store:
        failed = collect_missing(store, partial(run_seed, policy, mixture), wanted, run_all)
        print(_summary(store, args.output))
        if args.save_manifest is not None and not failed:
            write_manifest(manifest_of(store, policy, mixture.hash), args.save_manifest)
        same = manifest is None or _agrees(manifest, store)
    for episode in failed[:3]:
        print(f"seed {episode.seed} failed: {episode.error}", file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} episodes failed, see {args.output / FAILURES}; run the same command again to try "
            "them once more.",
            file=sys.stderr,
        )
    return 0 if same and not failed else 1


def _seeds(first: int, episodes: int, split: str | None) -> list[int]:
    """So many seeds from the first on, of one split where one is wanted."""
    every = itertools.count(first)
    of_split = every if split is None else (seed for seed in every if split_of(seed) is Split(split))
    return list(itertools.islice(of_split, episodes))


def _check(args: argparse.Namespace) -> None:
    """Refuses what can be known to be wrong before anything is loaded or written."""
    for option, value, least in (
        ("episodes", args.episodes, 1),
        ("seed", args.seed, 0),
        ("workers", args.workers, 1),
    ):
        if value is not None and value < least:
            raise SalusError(f"--{option} {value} was given; expected {least} or more.")
    if args.split is not None and args.manifest is not None:
        raise SalusError(f"--split {args.split} was given with --manifest, which names its seeds; give one.")
    if args.address is not None and args.backend != "ray":
        raise SalusError(f"--address {args.address} was given without --backend ray; give both, or neither.")
    if args.save_manifest is not None and args.save_manifest.exists():
        raise SalusError(f"{args.save_manifest} exists already; give another file for the manifest.")


def _check_names(mixture: Mixture) -> None:
    """Refuses tasks and disturbances that do not exist, before a store is named after them."""
    from salus_ros.sim.disturbances import draw_disturbance
    from salus_ros.sim.tasks import task_named

    for task in mixture.tasks:
        task_named(task)
    for family in mixture.families:
        draw_disturbance(family, np.random.default_rng(0))


def _workers(args: argparse.Namespace) -> RunAll:
    """What runs the seeds: processes of this machine, or of a cluster."""
    if args.backend == "ray":
        from salus_ros.cluster import import_ray, run_on_ray

        import_ray()
        return partial(run_on_ray, workers=args.workers or -1, address=args.address)
    return partial(run_in_parallel, workers=args.workers or os.cpu_count() or 1)


def _mixture_of(manifest: Manifest) -> Mixture:
    try:
        return Mixture.model_validate_json(manifest.header.mixture)
    except ValidationError as error:
        raise SalusError(
            f"This version of SALUS knows no such mixture as the manifest's ({error.errors()[0]['msg']}); "
            f"use the version {manifest.header.code_version}, which wrote it."
        ) from None


def _agrees(manifest: Manifest, store: Store) -> bool:
    """Says how the store compares to the manifest."""
    agreement = compare(manifest, store)
    print(f"{agreement.same} of {len(manifest.episodes)} episodes are those of the manifest.")
    for what, seeds in (
        ("have other arrays and the same outcome", agreement.other_arrays),
        ("have another outcome", agreement.other_outcome),
        ("are missing", agreement.missing),
    ):
        if seeds:
            print(f"{len(seeds)} {what}: seeds {ranges(seeds)}.")
    if agreement.other_arrays or agreement.other_outcome:
        print(
            f"It was made on {manifest.header.machine} with version {manifest.header.code_version}; this is "
            f"{this_machine()}, {__version__}. On other processors arrays differ in their last digits."
        )
    return agreement.complete


def _mixture(args: argparse.Namespace) -> Mixture:
    options = ("task", "disturbance", "disturbed_share", "intervention_share")
    if args.mixture is not None:
        given = [f"--{option.replace('_', '-')}" for option in options if getattr(args, option) is not None]
        if given:
            raise SalusError(
                f"--mixture and {', '.join(given)} were given; the file says that already: give one."
            )
        return Mixture.read(args.mixture)
    for option in options[2:]:
        share = getattr(args, option)
        if share is not None and not 0 <= share <= 1:
            raise SalusError(f"--{option.replace('_', '-')} {share} was given; expected a share from 0 to 1.")
    disturbance = {"none": "", None: "mixed"}.get(args.disturbance, args.disturbance)
    disturbed = args.disturbed_share
    if disturbed is None:
        disturbed = 0.7 if disturbance == "mixed" else float(disturbance != "")
    intervened = 0.2 if args.intervention_share is None else args.intervention_share
    return Mixture.of(args.task or "bin", disturbance, disturbed, intervened)


def _policy_hash(policy: str) -> str:
    from salus_ros.policy.registry import load_policy

    return load_policy(policy).hash


def open_store(path: Path, mixture: Mixture, policy_hash: str) -> Store:
    """A new store, or the one to be continued; refuses one of another policy, robot or mixture."""
    arm = ArmModel.from_urdf(asset("urdf/salus_arm.urdf"))
    if not (path / "zarr.json").exists():
        settings = StoreSettings(
            policy_hash=policy_hash,
            robot=arm.name,
            joint_names=arm.joint_names,
            mixture=mixture.describe(),
            code_version=__version__,
        )
        return Store.create(path, settings)
    store = Store.open(path, write=True)
    for what, given, expected in (
        ("policy", policy_hash, store.settings.policy_hash),
        ("robot", arm.name, store.settings.robot or arm.name),
        ("mixture", mixture.describe(), store.settings.mixture),
    ):
        if given != expected:
            store.close()
            given, expected = _what_differs(given, expected)
            raise SalusError(
                f"{path} was collected with the {what} {expected}, and {given} was given; give the same, or "
                "another --output."
            )
    return store


def _what_differs(given: str, expected: str) -> tuple[str, str]:
    """Of two mixtures only the parts that differ; anything else as it is."""
    try:
        mixtures = json.loads(given), json.loads(expected)
        parts = [part for part in mixtures[0] | mixtures[1] if mixtures[0][part] != mixtures[1][part]]
    except (ValueError, KeyError, TypeError):
        return given, expected
    only = [json.dumps({part: mixture[part] for part in parts}) for mixture in mixtures]
    return only[0], only[1]


def collect_missing(
    store: Store, run: RunSeed, wanted: Sequence[int], run_all: RunAll
) -> list[FailedEpisode]:
    """Runs the seeds that the store lacks and appends their episodes; returns those that failed."""
    done = {meta.seed for meta in store.metas()}
    seeds = [seed for seed in wanted if seed not in done]
    failed = []
    outcomes: Counter[str] = Counter()
    progress = tqdm(total=len(wanted), initial=len(wanted) - len(seeds), unit="episode", dynamic_ncols=True)
    with progress:
        for result in run_all(run, seeds):
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
