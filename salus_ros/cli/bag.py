"""``salus bag``: recordings of the live graph, and their conversion to a store."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from salus_ros import __version__
from salus_ros.data.bags import BagSettings, read_bag
from salus_ros.data.episode import Episode
from salus_ros.data.files import writing
from salus_ros.data.store import Store, StoreSettings
from salus_ros.errors import SalusError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the verb."""
    parser = subparsers.add_parser("bag", help="record the live graph, or convert recordings to a store")
    verbs = parser.add_subparsers(dest="bag_verb", metavar="VERB", required=True)

    record = verbs.add_parser("record", help="record all topics that matter until Ctrl-C")
    record.add_argument("output", type=Path, metavar="OUT", help="folder of the new bag")
    record.add_argument("--namespace", default="", metavar="NS", help="of the graph, e.g. /left")
    record.set_defaults(run=run_record)

    convert = verbs.add_parser("to-zarr", help="convert bags to a new store")
    convert.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="folder of a bag, or its file")
    convert.add_argument("output", type=Path, metavar="OUT", help="folder of the new store")
    add_topic_options(convert)
    convert.set_defaults(run=run_convert)


def add_topic_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what a bag's topics and joints are called."""
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="ROLE=TOPIC",
        help=f"where the bag's topics have other names; roles: {', '.join(_roles())}",
    )
    parser.add_argument(
        "--arm-joints", default="", metavar="A,B,...", help="names of the arm's joints, in order"
    )
    parser.add_argument(
        "--finger-joints", default="", metavar="A,B", help="joints that add up to the opening"
    )


def run_record(args: argparse.Namespace) -> int:
    """Becomes the recorder node, so that a signal to this process is one to the node."""
    if args.output.exists():
        raise SalusError(f"{args.output} exists already; give another folder for the bag.")
    if importlib.util.find_spec("rclpy") is None:
        raise SalusError(
            "Recording needs ROS 2, and there is no rclpy here; source its setup.bash, or run `make setup`."
        )
    node = [sys.executable, "-m", "salus_ros.nodes.recorder_node"]
    sys.stdout.flush()
    namespace = ["-r", f"__ns:=/{args.namespace.strip('/')}"] if args.namespace.strip("/") else []
    os.execv(node[0], [*node, "--ros-args", "-p", f"path:={args.output}", *namespace])


def run_convert(args: argparse.Namespace) -> int:
    """Converts all bags, or none: the store appears once it is whole."""
    settings = bag_settings(args)
    if args.output.exists():
        raise SalusError(f"{args.output} exists already; give another folder for the store.")
    partial = args.output.with_name(args.output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    outcomes: Counter[str] = Counter()
    store: Store | None = None
    try:
        for bag in args.bags:
            episodes = read_bag(bag, settings)
            for episode in episodes:
                if store is None:
                    store = Store.create(partial, _store_settings(episode))
                store.append(episode)
                outcomes[episode.meta.outcome.value] += 1
            print(f"{bag}: {len(episodes)} episodes", flush=True)
            _print_notes(episodes)
        if store is None:
            raise SalusError(
                f"{', '.join(map(str, args.bags))} hold no message; there is nothing to convert."
            )
        store.close()
        with writing(args.output):
            partial.rename(args.output)
    finally:
        if store is not None:
            store.close()
        shutil.rmtree(partial, ignore_errors=True)
    counts = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common())
    print(f"{args.output}: {sum(outcomes.values())} episodes ({counts})")
    return 0


def _roles() -> list[str]:
    return [name for name in BagSettings.model_fields if not name.endswith("_joints")]


def bag_settings(args: argparse.Namespace) -> BagSettings:
    """The settings that ``add_topic_options`` declares.

    Raises:
        SalusError: a topic has no known role.
    """
    given: dict[str, object] = {}
    for assignment in args.topic:
        role, equals, topic = assignment.partition("=")
        if not equals or role not in _roles() or not topic.startswith("/"):
            raise SalusError(
                f"--topic {assignment} was given; expected ROLE=/topic with one of the roles "
                f"{', '.join(_roles())}."
            )
        given[role] = topic
    for option in ("arm_joints", "finger_joints"):
        names = tuple(name for name in getattr(args, option).split(",") if name)
        if names:
            given[option] = names
    return BagSettings.model_validate(given)


def _store_settings(first: Episode) -> StoreSettings:
    return StoreSettings(
        policy_hash=first.meta.policy_hash,
        robot=first.meta.robot,
        joint_names=first.meta.joint_names,
        mixture="bags",
        code_version=__version__,
    )


def _print_notes(episodes: list[Episode]) -> None:
    """What was amiss, once for all episodes of a bag."""
    notes = dict(note for episode in episodes for note in episode.meta.notes.items())
    for what, note in sorted(notes.items()):
        print(f"  {what}: {note}")
