"""``salus calibrate``: the alarm's thresholds from one's own successful episodes, without training."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from salus_ros.errors import SalusError

if TYPE_CHECKING:
    from salus_ros.data.episode import Episode
    from salus_ros.monitor.checkpoint import Checkpoint
    from salus_ros.monitor.dataset import Sample


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = subparsers.add_parser(
        "calibrate",
        help="thresholds of the monitor from your own successful episodes",
        description="Replays successful episodes of your robot through the monitor and sets its thresholds, "
        "so that a further success is alarmed in with the chance that you state. Nothing is trained. "
        "Episodes that the monitor was trained on must not be among them.",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="+",
        type=Path,
        help="stores written by `salus collect` or `salus bag to-zarr`, or bags",
    )
    parser.add_argument(
        "--monitor", type=Path, default=Path("models/monitor"), help="checkpoint (%(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the calibrated monitor")
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="false alarms per successful episode (%(default)s)"
    )
    parser.add_argument(
        "--all-successful",
        action="store_true",
        help="take episodes for successes that nobody marked as anything",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes that replay episodes (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Calibrates; returns 0, or raises ``SalusError``."""
    from salus_ros.data.episode import Outcome
    from salus_ros.monitor.checkpoint import FILE_NAME, Checkpoint
    from salus_ros.monitor.recalibration import recalibrate

    if not 0.0 < args.alpha < 1.0:
        raise SalusError(f"--alpha {args.alpha} was given; expected a share between 0 and 1.")
    checkpoint = Checkpoint.load(args.monitor)
    samples = _samples(args, checkpoint)
    if args.all_successful:
        samples = [
            replace(s, outcome=Outcome.SUCCESS) if s.outcome is Outcome.UNKNOWN else s for s in samples
        ]
    kept = [s for s in samples if s.success]
    if len(kept) < len(samples):
        print(f"{len(samples) - len(kept)} of {len(samples)} episodes are no successes and were left out")
    foreign = sorted({s.policy_hash for s in kept} - {"", *checkpoint.policy_hashes})
    found = recalibrate(checkpoint, kept, args.alpha)
    found.checkpoint.save(args.output / FILE_NAME)
    names = ", ".join(
        f"{name} {new:.4f} (was {old:.4f})"
        for name, new, old in zip(
            ("collision", "drop", "miss"), found.checkpoint.threshold, checkpoint.threshold, strict=True
        )
    )
    print(f"thresholds from {found.episodes} successes: {names}")
    print(f"the thresholds before would have alarmed in {found.alarmed_before} of them")
    if foreign:
        print(
            f"the monitor was not trained on the policy {', '.join(foreign)}: its false alarms are as "
            "promised, what it foresees is not known"
        )
    print(f"wrote {args.output / FILE_NAME}")
    return 0


def _samples(args: argparse.Namespace, checkpoint: Checkpoint) -> list[Sample]:
    """Of stores through the cache, of bags one by one."""
    from salus_ros.cli.datasets import check_robot
    from salus_ros.data.bags import read_bag
    from salus_ros.monitor.dataset import data_hash, load_samples
    from salus_ros.monitor.splits import Split

    stores = [path for path in args.data if (path / "zarr.json").exists()]
    found: list[Sample] = []
    if stores:
        check_robot(stores, checkpoint.settings.urdf)
        found = load_samples(stores, checkpoint.settings, jobs=args.jobs, progress=not args.quiet)
        if data_hash(stores) == checkpoint.data_hash:
            print("the monitor was trained on these episodes; those kept for its calibration are used")
            found = [s for s in found if s.split is Split.CALIBRATE]
    for path in args.data:
        if path not in stores:
            found += _replayed(read_bag(path), checkpoint)
    return found


def _replayed(episodes: list[Episode], checkpoint: Checkpoint) -> list[Sample]:
    from salus_ros.monitor.dataset import sample
    from salus_ros.monitor.perception import Perception

    perception = Perception(checkpoint.settings)
    samples = (sample(episode, perception) for episode in episodes)
    return [s for s in samples if s is not None]
