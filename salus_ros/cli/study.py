"""``salus study``: the closed loop on paired seeds, arm against arm."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from salus_ros import __version__
from salus_ros.errors import SalusError

if TYPE_CHECKING:
    from salus_ros.data.store import Store
    from salus_ros.evaluation.arms import Setup
    from salus_ros.evaluation.comparison import Arm
    from salus_ros.judges import ControlSettings
    from salus_ros.mixture import Mixture
    from salus_ros.placebo import PlaceboSettings

PLACEBO_FILE: Final = "placebo.json"
CONTROLS_FILE: Final = "controls.json"
RESULTS_FILE: Final = "study.json"
REPORT_FILE: Final = "report.html"
URDF: Final = "urdf/salus_arm.urdf"
ARMS_SIDE_BY_SIDE: Final = 4
DEFAULT_ARMS: Final = "none,none2,random,salus"

M = TypeVar("M", bound=BaseModel)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    from salus_ros.evaluation.arms import ARMS

    parser = subparsers.add_parser(
        "study",
        help="closed loop on paired seeds",
        description="Runs the same seeds in every arm, in one process a worker, and compares the arms "
        "pair by pair. Run the same command again after an interruption: it continues where it was.",
        epilog="Arms: " + "; ".join(f"{name}: {meaning}" for name, meaning in ARMS.items()) + ".",
    )
    parser.add_argument("--arms", default=DEFAULT_ARMS, help="separated by commas (%(default)s)")
    parser.add_argument("--seeds", default="700000:700100", help="FIRST:END, END not included (%(default)s)")
    parser.add_argument("--policy", default="models/tinyvla-small", help="checkpoint folder (%(default)s)")
    parser.add_argument("--monitor", default="models/monitor", help="checkpoint folder (%(default)s)")
    parser.add_argument(
        "--shuffled-monitor", default="", help="for the arm shuffled: salus train-monitor --shuffle-labels"
    )
    parser.add_argument(
        "--control-data", type=Path, help="for the arms effort and noise: a store of episodes on tune seeds"
    )
    parser.add_argument(
        "--mixture",
        type=Path,
        help="tasks and disturbances, e.g. config/mixtures/seen.yaml; or the next three",
    )
    parser.add_argument("--task", default="bin", help="name of the task (%(default)s)")
    parser.add_argument("--disturbance", default="mixed", help="a family, mixed, or none (%(default)s)")
    parser.add_argument("--disturbed-share", type=float, default=0.7, help="of the seeds (%(default)s)")
    parser.add_argument(
        "--gate", action="append", default=[], metavar="NAME=VALUE", help="a setting of the gate in all arms"
    )
    parser.add_argument(
        "--live", action="store_true", help="run none and salus on the ROS graph in real time as well"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    parser.add_argument(
        "--no-frames", action="store_true", help="keep no pictures: smaller, but none to show"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/study"), help="folder (%(default)s)")
    parser.add_argument(
        "--ledger",
        type=Path,
        default=Path("docs/test-ledger.md"),
        help="where a look at seeds kept for results is entered (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs what is missing, then writes numbers and report; returns 1 when episodes failed to run."""
    from rich.console import Console

    from salus_ros.evaluation.arms import ARMS
    from salus_ros.evaluation.study import parse_arms, parse_seeds

    started = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    names, seeds = parse_arms(args.arms), parse_seeds(args.seeds)
    if args.workers < 1:
        raise SalusError(f"--workers {args.workers} was given; expected 1 or more.")
    setup = _setup(args, names)
    console = Console(width=None if sys.stdout.isatty() else 120)
    failed = 0
    # random is matched to salus, and an oracle with nothing to foresee lives through the episode of none.
    for name in sorted(names, key=lambda name: (name not in ("none", "salus"), list(ARMS).index(name))):
        console.print(f"arm {name}: {ARMS[name]}")
        if name == "random":
            setup = setup.model_copy(update={"placebo": _placebo(args.output, seeds)})
        failed += _run_arm(args, setup, name, seeds)
    if args.live:
        from salus_ros.cli.study_live import run_live

        live = run_live(args.output, setup, [name for name in ("none", "salus") if name in names], seeds)
        names = tuple(name for name in ARMS if name in (*names, *live))
    _report(args, setup, names, seeds, started, console)
    return 1 if failed else 0


def _setup(args: argparse.Namespace, names: tuple[str, ...]) -> Setup:
    """What the arguments ask for; nothing is written before all of it is known to be there."""
    from salus_ros.evaluation.arms import CONTROLS, Setup
    from salus_ros.evaluation.study import require_file
    from salus_ros.intervention.settings import GateSettings
    from salus_ros.judges import ControlSettings
    from salus_ros.rollout import RolloutSettings

    require_file(Path(args.policy), "policy", "train one with salus train-policy, or give --policy")
    require_file(Path(args.monitor), "monitor", "train one with salus train-monitor, or give --monitor")
    if "shuffled" in names:
        require_file(
            Path(args.shuffled_monitor or "(none given)"),
            "monitor trained on shuffled labels",
            "train one with salus train-monitor --shuffle-labels --output FOLDER and give --shuffled-monitor",
        )
    controls = ControlSettings()
    if any(name in CONTROLS for name in names):
        controls = _controls(args.output, args.control_data)
    return Setup(
        policy=args.policy,
        monitor=args.monitor,
        shuffled=args.shuffled_monitor,
        mixture=_mixture(args),
        rollout=RolloutSettings(record_frames=not args.no_frames),
        gate=_checked(GateSettings, **dict(_named(text) for text in args.gate)),
        controls=controls,
    )


def _mixture(args: argparse.Namespace) -> Mixture:
    from salus_ros.mixture import Mixture

    if args.mixture is not None:
        return Mixture.read(args.mixture).model_copy(update={"intervention_share": 0.0})
    return _checked(
        Mixture.of,
        task=args.task,
        disturbance="" if args.disturbance == "none" else args.disturbance,
        disturbed_share=args.disturbed_share,
        intervention_share=0.0,
    )


def _named(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SalusError(f"--gate {text} was given; expected NAME=VALUE, e.g. retrace_path_s=0.6.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _checked(model: Callable[..., M], **values: Any) -> M:
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SalusError(f"{name or error.title} is {first['input']!r}: {first['msg']}.") from error


def _controls(output: Path, data: Path | None) -> ControlSettings:
    """Thresholds set once on tune seeds, and then kept, so that a resumed run has the same."""
    from salus_ros.assets import asset
    from salus_ros.data.episode import Outcome
    from salus_ros.data.store import Store
    from salus_ros.judges import ControlSettings, fit_controls
    from salus_ros.robot.model import ArmModel

    path = output / CONTROLS_FILE
    if path.exists():
        return ControlSettings.model_validate_json(path.read_text())
    if data is None:
        raise SalusError(
            "The arms effort and noise need thresholds set on tune seeds; give --control-data STORE, "
            "made with salus collect --intervention-share 0."
        )
    store = Store.open(data)
    successes = [
        store.episode(i, ["robot"])
        for i, meta in enumerate(store.metas())
        if meta.outcome is Outcome.SUCCESS and not meta.random_interventions
    ]
    fitted = fit_controls(successes, ArmModel.from_urdf(asset(URDF)).effort_limit_nm)
    _write_json(path, fitted.model_dump())
    return fitted


def _run_arm(args: argparse.Namespace, setup: Setup, name: str, seeds: range) -> int:
    """Runs the seeds that the arm's store lacks; returns how many failed to run."""
    from salus_ros.cli.collect import collect_missing
    from salus_ros.collection import run_in_parallel
    from salus_ros.data.store import Store, StoreSettings
    from salus_ros.evaluation import arms
    from salus_ros.evaluation.study import describe

    path = args.output / name
    described = describe(setup, name)
    fresh = not (path / "zarr.json").exists()
    store = Store.create(path, StoreSettings(mixture=described)) if fresh else Store.open(path, write=True)
    with store:
        if store.settings.mixture != described:
            raise SalusError(
                f"{path} holds {store.settings.mixture}, and {described} was asked for; "
                "give another --output."
            )
        if name in arms.REMEDIES and (args.output / "none" / "zarr.json").exists():
            _take_over(Store.open(args.output / "none"), store, name, seeds)
        workers = partial(run_in_parallel, workers=args.workers)
        failed = collect_missing(store, partial(arms.run_arm, name, setup), seeds, workers)
    for episode in failed[:3]:
        print(f"seed {episode.seed} failed to run: {episode.error}", file=sys.stderr)
    return len(failed)


def _take_over(none: Store, oracle: Store, name: str, seeds: range) -> None:
    """Copies the episodes in which nothing fails: there the oracle says nothing, and the same happens."""
    from salus_ros.data.episode import Outcome
    from salus_ros.evaluation.arms import as_oracle
    from salus_ros.types import EventKind

    done = {meta.seed for meta in oracle.metas()}
    for i, meta in enumerate(none.metas()):
        if meta.seed in seeds and meta.seed not in done:
            episode = none.episode(i)
            failed = any(event.kind is EventKind.FAILURE_ONSET for event in episode.events)
            if not failed and meta.outcome is not Outcome.TIMEOUT:
                oracle.append(as_oracle(episode, name))


def _placebo(output: Path, seeds: range) -> PlaceboSettings:
    """Matched to the salus arm once, and then kept, so that a resumed run has the same placebo."""
    from salus_ros.evaluation.comparison import summarise_arm
    from salus_ros.evaluation.study import matched_placebo
    from salus_ros.placebo import PlaceboSettings

    path = output / PLACEBO_FILE
    if path.exists():
        return PlaceboSettings.model_validate_json(path.read_text())
    placebo = matched_placebo(summarise_arm(_arm(output, "salus", seeds)))
    _write_json(path, placebo.model_dump())
    return placebo


def _report(
    args: argparse.Namespace,
    setup: Setup,
    names: tuple[str, ...],
    seeds: range,
    started: str,
    console: Any,
) -> None:
    from salus_ros.evaluation.arms import ARMS
    from salus_ros.evaluation.comparison import summarise_arm
    from salus_ros.evaluation.ledger import STUDY_SEEDS, Look, enter
    from salus_ros.evaluation.report import RunFacts, arms_in_detail, seeds_in_detail, write_report
    from salus_ros.evaluation.study import identity, results
    from salus_ros.evaluation.table import arms_table, caveats, terminal_table

    output: Path = args.output
    light = [_arm(output, name, seeds) for name in names]
    summaries = {arm.name: summarise_arm(arm) for arm in light}
    manifest = identity(setup) | {"seeds": args.seeds, "command": _command(), "started": started}
    _write_json(output / RESULTS_FILE, {"manifest": manifest, **results(summaries)})
    if seeds.start in STUDY_SEEDS or seeds[-1] in STUDY_SEEDS:
        tested = f"closed loop {args.seeds}, mixture {manifest['mixture_hash']}"
        look = Look(started, tested, len(names) * len(seeds), str(manifest["monitor"]), _command())
        enter(args.ledger, look)
    facts = RunFacts(
        title=f"Closed loop on {len(seeds)} paired seeds",
        command=_command(),
        started=started,
        hardware=f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, no GPU used",
        versions={"salus_ros": __version__, "mixture": setup.mixture.describe()}
        | {name: manifest[name] for name in ("policy", "monitor")}
        | {name: importlib.metadata.version(name) for name in ("mujoco", "torch", "numpy")},
        notes=tuple(f"{name}: {ARMS[name]}." for name in names),
    )
    detailed, drawn = seeds_in_detail(list(summaries.values())), arms_in_detail(names)
    pictured = [_arm(output, name, seeds, detailed if name in drawn else ()) for name in names]
    write_report(output / REPORT_FILE, pictured, facts)
    title = f"{len(seeds)} paired seeds"
    few = len(light) <= ARMS_SIDE_BY_SIDE
    console.print(terminal_table(light, title) if few else arms_table(list(summaries.values()), title))
    for sentence in caveats(list(summaries.values())):
        console.print(sentence)
    if args.live:
        from salus_ros.cli.study_live import apart

        for sentence in apart(summaries):
            console.print(sentence)
    console.print(f"numbers  {output / RESULTS_FILE}\nreport   {output / REPORT_FILE}")


def _arm(output: Path, name: str, seeds: range, detailed: tuple[int, ...] = ()) -> Arm:
    """The arm's episodes, with pictures for the seeds that are drawn."""
    from salus_ros.data.store import Store
    from salus_ros.evaluation.comparison import Arm
    from salus_ros.evaluation.study import STREAMS

    store = Store.open(output / name)
    return Arm(
        name,
        tuple(
            store.episode(i, [*STREAMS, "frames"] if meta.seed in detailed else STREAMS)
            for i, meta in enumerate(store.metas())
            if meta.seed in seeds
        ),
    )


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".partial")
    partial_path.write_text(json.dumps(content, indent=1) + "\n")
    partial_path.replace(path)


def _command() -> str:
    return shlex.join(["salus", *sys.argv[1:]])
