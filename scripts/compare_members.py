"""What should each ensemble member have for itself: the last block, the head alone, or an adapter?

Trains one policy of each kind for the same time on the same demonstrations, lets each do the same disturbed
scenes without a gate, and asks how well its members' disagreement foretells the first failure, against the
clock. Everything that is finished is kept, so the same command goes on after an interruption:

    python scripts/compare_members.py --minutes 20 --episodes 200

``--kinds`` names some of them, so that several can be trained side by side where there are cores for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np

from salus_ros.cli.main import main as salus
from salus_ros.data.episode import Episode
from salus_ros.data.store import Store
from salus_ros.evaluation.metrics import Steps, auroc
from salus_ros.evaluation.statistics import Estimate, interval, whole_and_resamples
from salus_ros.policy.tinyvla.configuration import MemberPart
from salus_ros.types import EventKind

HORIZON_S = 0.5
DRAWS = 2000
"""Bootstrap resamples of whole episodes."""
FIRST_SEED = 4_000_000
"""Scenes that nothing else is trained or chosen on."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="training time of each (%(default)s)")
    parser.add_argument("--demos", default="700", help="demonstrations (%(default)s)")
    parser.add_argument("--demo-dir", default="runs/demos", help="where they are kept (%(default)s)")
    parser.add_argument("--episodes", type=int, default=200, help="scenes of each (%(default)s)")
    parser.add_argument("--jobs", default="2", help="processes (%(default)s)")
    parser.add_argument(
        "--kinds", nargs="+", choices=get_args(MemberPart), default=get_args(MemberPart), help="(all)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/members"), help="(%(default)s)")
    parser.add_argument("--store", type=Path, help="only this store, recorded before, whatever its policy is")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.store:
        text = json.dumps(figures(args.store), indent=2)
        (args.output / "comparison.json").write_text(text + "\n")
        print(text)
        return 0
    for part in args.kinds:
        policy, store = args.output / part / "policy", args.output / part / "episodes"
        training = {
            "--members-own": part,
            "--minutes": str(args.minutes),
            "--demos": args.demos,
            "--tasks": "bin",
            "--demo-dir": args.demo_dir,
            "--jobs": args.jobs,
            "--output": str(policy),
            "--evaluate": "0",
        }
        scenes = {
            # On any machine as on one without a GPU, where most simulation runs.
            "--policy": f"{policy}?device=cpu",
            "--episodes": str(args.episodes),
            "--seed": str(FIRST_SEED),
            "--disturbance": "mixed",
            "--intervention-share": "0",
            "--workers": args.jobs,
            "--output": str(store),
        }
        code = run("train-policy", training) or run("collect", scenes)
        if code:
            return code
        trained = json.loads((policy / "training.json").read_text())
        about = {name: trained[name] for name in ("demonstrations", "steps", "minutes")}
        text = json.dumps({**about, **figures(store)}, indent=2)
        (args.output / part / "figures.json").write_text(text + "\n")
    ready = {part: args.output / part / "figures.json" for part in get_args(MemberPart)}
    found = {part: json.loads(path.read_text()) for part, path in ready.items() if path.exists()}
    text = json.dumps(found, indent=2)
    (args.output / "comparison.json").write_text(text + "\n")
    print(text)
    return 0


def run(verb: str, options: dict[str, str]) -> int:
    return salus([verb, *(word for pair in options.items() for word in pair)])


def figures(store: Path) -> dict[str, Any]:
    """How episodes ended; by task, AUROC of disagreement and of the clock, and their difference.

    Intervals are of 95 %, by episode.

    Episodes with random interventions are left out: there a failure may come of the intervention.
    """
    with Store.open(store) as opened:
        metas = [(index, meta) for index, meta in enumerate(opened.metas()) if not meta.random_interventions]
        ended = Counter(meta.outcome.value for _, meta in metas)
        found: dict[str, Any] = {"policy": metas[0][1].policy_hash, "ended": dict(ended)}
        for task in sorted({meta.task for _, meta in metas}):
            episodes = [opened.episode(index, ("policy",)) for index, meta in metas if meta.task == task]
            weights = whole_and_resamples(len(episodes), DRAWS)
            ours = auroc(steps([episode.policy.epistemic for episode in episodes], episodes), weights)
            clock = auroc(steps([episode.policy.stamp_s for episode in episodes], episodes), weights)
            found[task] = {
                "episodes": len(episodes),
                "with a failure": sum(first_onset_s(episode) < np.inf for episode in episodes),
                "disagreement": vars_of(interval(ours)),
                "clock": vars_of(interval(clock)),
                "difference": vars_of(interval(ours - clock)),
            }
    return found


def vars_of(estimate: Estimate) -> dict[str, float]:
    return {name: round(float(getattr(estimate, name)), 3) for name in ("value", "low", "high")}


def first_onset_s(episode: Episode) -> float:
    onsets = [event.stamp_s for event in episode.events if event.kind is EventKind.FAILURE_ONSET]
    return min(onsets, default=np.inf)


def steps(scores: list[Any], episodes: list[Episode]) -> Steps:
    """Outputs before the first onset of each episode; positive within the horizon of it."""
    score, label, of = [], [], []
    for number, (values, episode) in enumerate(zip(scores, episodes, strict=True)):
        ahead_s = first_onset_s(episode) - episode.policy.stamp_s
        kept = (ahead_s > 0) & np.isfinite(values)
        score.append(np.asarray(values)[kept])
        label.append(ahead_s[kept] <= HORIZON_S)
        of.append(np.full(int(kept.sum()), number))
    return Steps(score=np.concatenate(score), label=np.concatenate(label), episode=np.concatenate(of))


if __name__ == "__main__":
    sys.exit(main())
