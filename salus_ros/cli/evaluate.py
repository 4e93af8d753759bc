"""``salus evaluate``: the monitor and its rivals on episodes that no fit has seen."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from salus_ros import __version__
from salus_ros.cli.datasets import check_robot, foreign_policies
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.evaluation.ledger import Look, enter

if TYPE_CHECKING:
    from salus_ros.evaluation.protocol import ProtocolSettings

METRICS_FILE: Final = "metrics.json"
REPORT_FILE: Final = "report.html"
PARTS: Final = "parts"
"""Folder of what took long, for a run that goes on or is made again."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = subparsers.add_parser(
        "evaluate",
        help="the monitor and its baselines on held-out episodes",
        description="Fits the rivals on the training episodes, then scores them and the monitor on the "
        "test episodes (the split is by seed), and writes metrics.json and a report. Each run is a look at "
        "the test set and is entered in the ledger.",
    )
    parser.add_argument(
        "data", metavar="DATA", nargs="+", type=Path, help="stores written by `salus collect`"
    )
    parser.add_argument(
        "--unseen",
        metavar="DATA",
        nargs="+",
        type=Path,
        default=[],
        help="stores of other disturbances or another task: all of their episodes are test episodes",
    )
    parser.add_argument(
        "--monitor", type=Path, default=Path("models/monitor"), help="checkpoint (%(default)s)"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="training seeds: so many less one are trained here, for the spread (%(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/evaluate"),
        help="folder; monitors and scores are kept in it, so that a run that was interrupted goes on "
        "(%(default)s)",
    )
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="false alarms at which rivals are set (%(default)s)"
    )
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap resamples (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of rivals and bootstrap (%(default)s)")
    parser.add_argument(
        "--ablations", action="store_true", help="also train without each signal family and the like"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="processes that replay, train and score (all cores)",
    )
    parser.add_argument("--fresh", action="store_true", help="replay also what is in the cache")
    parser.add_argument("--ledger", type=Path, default=Path("docs/test-ledger.md"), help="(%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluates; returns 0, or raises ``SalusError``."""
    from rich.console import Console

    from salus_ros.evaluation.baselines import rivals, sanity_checks
    from salus_ros.evaluation.evaluation_json import as_json
    from salus_ros.evaluation.evaluation_report import (
        caveats,
        terminal_table,
        timeouts_said,
        write_evaluation_report,
    )
    from salus_ros.evaluation.kept import Kept
    from salus_ros.evaluation.protocol import OURS, Rival, Watch, evaluate
    from salus_ros.evaluation.records import load_records
    from salus_ros.evaluation.report import RunFacts, replace_file
    from salus_ros.evaluation.retraining import variants
    from salus_ros.evaluation.study import monitor_digest
    from salus_ros.monitor.checkpoint import Checkpoint
    from salus_ros.monitor.dataset import data_hash

    started = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    settings = _settings(args)
    console = Console(quiet=args.quiet, width=None if sys.stdout.isatty() else 140)
    checkpoint = Checkpoint.load(args.monitor)
    check_robot([*args.data, *args.unseen], checkpoint.settings.urdf)
    for policy in foreign_policies([*args.data, *args.unseen], checkpoint.policy_hashes):
        console.print(f"the monitor was not trained on the policy {policy}, which acted in these episodes")
    hashes = {"data": data_hash(args.data), "monitor trained on": checkpoint.data_hash}
    if args.unseen:
        hashes["unseen data"] = data_hash(args.unseen)
    records, unseen = (
        load_records(stores, checkpoint.settings, jobs=args.jobs, progress=not args.quiet, fresh=args.fresh)
        if stores
        else []
        for stores in (args.data, args.unseen)
    )
    digest = monitor_digest(args.monitor)
    findings = evaluate(
        records,
        Watch(OURS, "ours", checkpoint, digest),
        [
            *variants(checkpoint, args.seeds, ablations=args.ablations),
            *(Rival(name, "rival", tried) for name, tried in rivals(args.seed).items()),
            *(Rival(name, "sanity check", tried) for name, tried in sanity_checks(args.seed).items()),
        ],
        settings,
        unseen=unseen,
        kept=Kept(args.output / PARTS, hashes["data"], hashes.get("unseen data", "")),
        jobs=args.jobs,
        progress=not args.quiet,
    )
    command = shlex.join(["salus", *sys.argv[1:]])
    metrics = {
        "command": command,
        "started": started,
        "manifest": {
            "monitor": digest,
            "policy": ", ".join(checkpoint.policy_hashes),
        },
        "hashes": hashes,
        "mixture": [Store.open(path).settings.mixture for path in [*args.data, *args.unseen]],
        "settings": settings.model_dump(),
        "alpha_of_ours": checkpoint.alpha,
        "calibration_successes_of_ours": checkpoint.report.get("calibration_successes"),
        **as_json(findings),
    }
    replace_file(args.output / METRICS_FILE, json.dumps(metrics, indent=1) + "\n")
    facts = RunFacts(
        title="Foreseeing failures on held-out episodes",
        command=command,
        started=started,
        hardware=f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, no GPU used",
        versions={"salus_ros": __version__}
        | hashes
        | {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scikit-learn")},
    )
    losses = [member["curve"] for member in checkpoint.report.get("members", []) if member["curve"]]
    write_evaluation_report(args.output / REPORT_FILE, findings, facts, losses)
    for name, test in findings.tests.items():
        ours = test.figures[0]
        look = Look(
            when=started,
            data=f"{hashes['data']}, {name}",
            episodes=len(test.records),
            monitor=f"trained on {checkpoint.data_hash}",
            command=command,
            auroc=ours.mean_auroc.value,
            event_f1=ours.events.f1,
        )
        enter(args.ledger, look)
        console.print(terminal_table(name, test))
        if said := timeouts_said(name, test):
            console.print(said)
    for sentence in caveats(findings):
        console.print(sentence)
    console.print(
        f"numbers  {args.output / METRICS_FILE}\nreport   {args.output / REPORT_FILE}\nledger   {args.ledger}"
    )
    return 0


def _settings(args: argparse.Namespace) -> ProtocolSettings:
    from pydantic import ValidationError

    from salus_ros.evaluation.protocol import ProtocolSettings

    for option, value in (("seeds", args.seeds), ("jobs", args.jobs)):
        if value < 1:
            raise SalusError(f"--{option} {value} was given; expected 1 or more.")
    try:
        return ProtocolSettings(alpha=args.alpha, draws=args.draws, seed=args.seed)
    except ValidationError as error:
        first = error.errors()[0]
        raise SalusError(
            f"--{first['loc'][0]} {first['input']} was given: {first['msg'].lower()}."
        ) from error
