"""``salus <verb>``: one file a verb, imported only when that verb is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

from salus_ros import __version__
from salus_ros.errors import SalusError

VERBS: Final = {
    "demo": "run the live nodes on the simulator, without and with SALUS",
    "collect": "write episodes to a Zarr store, in parallel",
    "train-policy": "behaviour cloning of the policy, from nothing",
    "evaluate-policy": "success of a policy without a gate, and whether it reads",
    "train-monitor": "train and calibrate the monitor on a store",
    "calibrate": "thresholds of the monitor from your own successful episodes",
    "evaluate": "the monitor and its baselines on held-out episodes",
    "study": "closed loop on paired seeds",
    "bag": "record the live graph, or convert recordings to a store",
    "label": "mark events in a store or a bag, on a local page",
    "bench": "latency, throughput and size against references of the same run",
    "inspect": "say what a checkpoint, a store or a bag holds",
}


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or only what ``verb`` needs (the others stay unimported)."""
    parser = argparse.ArgumentParser(
        prog="salus", description="Foresees failures of a robot that follows a learned policy."
    )
    parser.add_argument("--version", action="version", version=f"salus {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        if verb == name:
            module = importlib.import_module(f"salus_ros.cli.{name.replace('-', '_')}")
            module.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary, add_help=False)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one verb. Returns 2 with one sentence on standard error for anything a user can mend."""
    arguments = sys.argv[1:] if argv is None else argv
    verb = next((argument for argument in arguments if argument in VERBS), None)
    try:
        args = build_parser(verb).parse_args(arguments)
        return int(args.run(args))
    except SalusError as error:
        print(f"salus: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("salus: interrupted; whatever was finished is kept.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
