"""``salus evaluate-policy``: a policy in closed loop without a gate, task by task."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from salus_ros.data.files import replace_text
from salus_ros.errors import SalusError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser(
        "evaluate-policy",
        help="success of a policy without a gate, and whether it reads",
        description="Runs held-out scenes of each task: undisturbed, disturbed, with another colour named.",
    )
    parser.add_argument("policy", nargs="?", default="models/tinyvla-small", help="checkpoint (%(default)s)")
    parser.add_argument("--episodes", type=int, default=50, help="scenes of each task and kind (%(default)s)")
    parser.add_argument("--tasks", nargs="+", help="names of tasks (default: all)")
    parser.add_argument(
        "--conditions", nargs="+", help="undisturbed, mixed, swapped, a family (default: three)"
    )
    parser.add_argument("--first-seed", type=int, help="seed of the first scene (default: 2000000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    parser.add_argument("--output", type=Path, help="also write the figures into this JSON file")
    parser.add_argument("--trials", action="store_true", help="write every trial into it as well")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print a table."""
    from salus_ros.cli import policy_evaluation
    from salus_ros.policy.registry import load_policy
    from salus_ros.sim.tasks import TASKS, task_named

    if args.episodes < 1 or args.jobs < 1:
        raise SalusError(f"Got {args.episodes} episodes and {args.jobs} jobs; give 1 or more of each.")
    tasks = args.tasks or list(TASKS)
    for task in tasks:
        task_named(task)
    load_policy(args.policy)
    first = policy_evaluation.FIRST_EVALUATION_SEED if args.first_seed is None else args.first_seed
    report = policy_evaluation.evaluate(
        args.policy, args.episodes, args.jobs, tasks, args.conditions or policy_evaluation.CONDITIONS, first
    )
    if not args.trials:
        report = {
            task: {
                name: {key: value for key, value in figures.items() if key != "trials"}
                for name, figures in conditions.items()
            }
            for task, conditions in report.items()
        }
    if args.output is not None:
        replace_text(args.output, json.dumps(report, indent=2) + "\n")
    print(policy_evaluation.summary(report))
    return 0
