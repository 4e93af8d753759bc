"""``salus label``: a local page that steps through frames and marks what happened."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from salus_ros.cli.bag import add_topic_options, bag_settings
from salus_ros.cli.inspect import is_bag, is_store
from salus_ros.errors import SalusError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the verb."""
    parser = subparsers.add_parser(
        "label",
        help="mark events in a store or a bag, on a local page",
        description="Serves a page that steps through the frames of a store or a bag, and keeps what is "
        "marked beside the data, which stay untouched. Ctrl-C ends it.",
    )
    parser.add_argument("path", type=Path, metavar="DATA", help="folder of a store or a bag, or a bag's file")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve at (127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, default=8765, help="port to serve at, 0 for any (8765)")
    add_topic_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted."""
    # Imported here: --help needs none of it.
    from salus_ros.viewer.server import LabelServer
    from salus_ros.viewer.sources import BagSource, Source, StoreSource

    if not 0 <= args.port < 2**16:
        raise SalusError(f"--port {args.port} was given; expected 0 to 65535.")
    source: Source
    if is_store(args.path):
        source = StoreSource(args.path)
    elif is_bag(args.path):
        source = BagSource(args.path, bag_settings(args))
    else:
        raise SalusError(f"{args.path} is no store and no bag; give the folder of one, or a bag's file.")
    with contextlib.suppress(KeyboardInterrupt), LabelServer(source, args.host, args.port) as server:
        print(f"Open {server.url}\nCtrl-C ends it.", flush=True)
        server.serve_forever()
    return 0
