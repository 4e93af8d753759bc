"""``salus train-monitor``: a monitor from recorded episodes."""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from salus_ros.errors import SalusError
from salus_ros.evaluation.ledger import Look, enter

OUTPUT: Final = Path("models/monitor")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = subparsers.add_parser(
        "train-monitor",
        help="train and calibrate the monitor on a store",
        description="Replays recorded episodes through the monitor's own signals, trains the network, "
        "calibrates its probabilities, sets the alarm's thresholds, and says how it does on held-out ones.",
    )
    parser.add_argument(
        "data", metavar="DATA", nargs="+", type=Path, help="stores written by `salus collect`"
    )
    parser.add_argument("--output", type=Path, help=f"folder (default: {OUTPUT})")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="false alarms per successful episode (default: %(default)s)"
    )
    parser.add_argument("--members", type=int, default=3, help="networks averaged (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=80, help="passes at most (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=2, help="processes that replay episodes (default: %(default)s)"
    )
    parser.add_argument(
        "--predictor",
        choices=("temporal", "seed"),
        default="temporal",
        help="the temporal network, or the first SALUS's perceptron to compare with (default: %(default)s)",
    )
    parser.add_argument(
        "--successes-only",
        action="store_true",
        help="for a robot without failures on record: alarm at a distance from successes",
    )
    parser.add_argument(
        "--with",
        dest="added",
        metavar="FAMILY",
        nargs="+",
        default=[],
        help="use signal families that are left out otherwise: latent, the policy's own features",
    )
    parser.add_argument(
        "--without", metavar="FAMILY", nargs="+", default=[], help="leave signal families out"
    )
    parser.add_argument("--fresh", action="store_true", help="replay also what is in the cache")
    parser.add_argument(
        "--shuffle-labels",
        action="store_true",
        help="sanity check: train on labels of other steps, which must come out at chance; writes nothing "
        "but into an --output, for the arm 'shuffled' of salus study",
    )
    parser.add_argument(
        "--ledger",
        type=Path,
        default=Path("docs/test-ledger.md"),
        help="where looks at test episodes are entered",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0, or raises ``SalusError``."""
    import torch

    from salus_ros.cli.datasets import check_robot
    from salus_ros.monitor.checkpoint import FILE_NAME
    from salus_ros.monitor.dataset import data_hash, load_samples
    from salus_ros.monitor.examination import as_text, examine
    from salus_ros.monitor.preparation import shuffle_labels
    from salus_ros.monitor.settings import MonitorSettings
    from salus_ros.monitor.signals import default_signals
    from salus_ros.monitor.splits import Split
    from salus_ros.monitor.training import train
    from salus_ros.monitor.training_settings import TrainingSettings

    try:
        settings = TrainingSettings(
            predictor="successes" if args.successes_only else args.predictor,
            seed=args.seed,
            alpha=args.alpha,
            members=args.members,
            epochs=args.epochs,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise SalusError(
            f"--{first['loc'][0]} is {first['input']}: {first['msg'].lower()}; give another one."
        ) from error
    torch.set_num_threads(1)  # matrices this small gain nothing from more, and lose much on a busy machine
    began = time.monotonic()
    monitor = MonitorSettings()
    names = default_signals(args.added, args.without)
    check_robot(args.data, monitor.urdf)
    hashed = data_hash(args.data)
    samples = load_samples(args.data, monitor, jobs=args.jobs, progress=not args.quiet, fresh=args.fresh)
    replayed = time.monotonic()
    if args.shuffle_labels:
        samples = shuffle_labels(samples, args.seed)
    state = (args.output or OUTPUT) / f"state-{hashed}"
    checkpoint = train(
        samples,
        settings,
        monitor,
        signals=names,
        data_hash=hashed,
        progress=not args.quiet,
        state=None if args.shuffle_labels else state,
    )
    trained = time.monotonic()
    figures = examine(checkpoint, [s for s in samples if s.split is Split.TEST])
    print(
        f"{len(samples)} episodes replayed in {replayed - began:.0f} s, trained in {trained - replayed:.0f} s"
    )
    print(as_text(figures))
    output: Path | None = args.output
    if args.shuffle_labels:
        checkpoint = replace(checkpoint, report={**checkpoint.report, "shuffled_labels": True})
        if output is not None:
            checkpoint.save(output / FILE_NAME)
            print(f"wrote {output / FILE_NAME}, a monitor that must not work")
        return 0
    output = output or OUTPUT
    checkpoint.save(output / FILE_NAME)
    report = {**checkpoint.report, "data_hash": checkpoint.data_hash, "test": figures}
    (output / "training.json").write_text(json.dumps(report, indent=1) + "\n")
    shutil.rmtree(state, ignore_errors=True)
    _enter(args, checkpoint.data_hash, figures)
    print(f"wrote {output / FILE_NAME}; the look at the test episodes is entered in {args.ledger}")
    return 0


def _enter(args: argparse.Namespace, data: str, figures: Mapping[str, Any]) -> None:
    """Enters the look at the test episodes."""
    found = [c["value"] for row in figures["auroc"].values() for c in row if c["value"] is not None]
    look = Look(
        when=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M"),
        data=data,
        episodes=figures["episodes"],
        monitor=f"trained on {data}",
        command=shlex.join(["salus", *sys.argv[1:]]),
        auroc=sum(found) / len(found) if found else None,
    )
    enter(args.ledger, look)
