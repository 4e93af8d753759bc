"""Takes the figures in the docs from the files that the commands wrote.

``runs/demo/table.txt`` goes into the README, ``models/monitor/training.json`` and the evaluation of
``docs/results/evaluation.json`` into ``docs/results.md`` and ``docs/monitor.md``, and the closed-loop study
of ``docs/results/study.json`` into ``docs/results.md`` and the README, its live arms (``live.json``) into
``docs/results.md``; what ensemble members foretell and cost goes into ``docs/ensemble.md``; the shipped
policy's figures go into its card and from there into the README, the experts' into ``docs/tasks.md``, and
how the episodes of ``models/monitor/data.manifest`` ended into ``docs/data.md``, and what the console takes
of a core into ``docs/console.md``. A section whose file is
missing stays as it is.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evaluation_tables
import policy_tables
import safety_docs
import study_tables

from salus_ros.cli import policy_evaluation
from salus_ros.data.manifest import Manifest, read_manifest

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    demo = ROOT / "runs/demo/table.txt"
    if demo.exists():
        table = "\n".join(line.rstrip() for line in demo.read_text().rstrip().splitlines())
        replace(ROOT / "README.md", "demo", f"```\n{table}\n```")
    for path, name, text in sections():
        replace(path, name, text)


def sections() -> Iterator[tuple[Path, str, str]]:
    """What comes from files of the repository: the page, the name of the section, and its text."""
    readme, page, ensemble = ROOT / "README.md", ROOT / "docs/results.md", ROOT / "docs/ensemble.md"
    policy = ROOT / "models/tinyvla-small"
    for name, file, write in (
        ("study", "study", study_tables.section),
        ("strategies", "tune-strategies", study_tables.section),
        ("no-lift", "tune-no-lift", study_tables.brief),
        ("live", "live", study_tables.live),
        ("evaluation", "evaluation", evaluation_tables.section),
    ):
        if found := _kept(file):
            yield page, name, write(found)
    evaluation = _kept("evaluation")
    if evaluation:
        yield ROOT / "docs/monitor.md", "outside", evaluation_tables.outside(evaluation)
    if found := _kept("study"):
        in_time = _kept("live")
        short = f"\n\n{study_tables.live_in_short(in_time)}" if in_time else ""
        yield readme, "headline", f"{study_tables.headline(found)}{short}"
    if found := _kept("members"):
        yield ensemble, "members", policy_tables.members(found)
    benches = sorted((ROOT / "docs").glob("bench-policy*.json"))
    yield ensemble, "latencies", policy_tables.latencies([json.loads(b.read_text()) for b in benches])
    card = section(policy / "README.md", "policy")
    if (policy / "evaluation.json").exists():
        card = policy_evaluation.summary(json.loads((policy / "evaluation.json").read_text()))
        yield policy / "README.md", "policy", card
    console = json.loads((ROOT / "docs/bench-console.json").read_text())
    yield ROOT / "docs/console.md", "bench", safety_docs.latency_table(console, "console")
    training = json.loads((policy / "training.json").read_text())
    yield policy / "README.md", "validation", policy_tables.validation(training)
    if "succeeded" in training:
        yield ROOT / "docs/tasks.md", "experts", experts_table(training)
    monitor = json.loads((ROOT / "models/monitor/training.json").read_text())
    yield page, "monitor", monitor_table(monitor)
    yield ROOT / "docs/data.md", "data", data_table(read_manifest(ROOT / "models/monitor/data.manifest"))
    if evaluation:
        yield readme, "figures", readme_figures(card, evaluation)


def _kept(name: str) -> dict[str, Any]:
    """A file of ``docs/results``; empty where it is missing."""
    path = ROOT / "docs/results" / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def readme_figures(card: str, evaluation: dict[str, Any]) -> str:
    """The policy's table without its finer print, and what the monitor did on its test episodes."""
    table = card.partition("\n\n")[0]
    test = evaluation["tests"][evaluation_tables.SEEN]
    ours = next(d for d in test["detectors"] if d["name"] == evaluation_tables.OURS)
    cells = [step["auroc"]["value"] for step in ours["steps"]]
    events = ours["events_by_type"].values()
    foreseen = sum(event["true_positives"] for event in events)
    onsets = foreseen + sum(event["misses"] for event in events)
    alarms = ours["false_alarm_rate_as_deployed"]
    said = (
        f"The monitor tells the steps before a failure from others with an AUROC of {min(cells):.2f} to "
        f"{max(cells):.2f} over types and horizons. Its alarm named the right failure 0.2 to 1 s before "
        f"{foreseen} of {onsets} onsets, with false alarms in {alarms['value']:.0%} of the successes "
        f"({test['episodes']} episodes that it never learned from). [docs/results.md](docs/results.md) says "
        "which it foresees, and what is not shown."
    )
    title = "The [shipped policy](models/tinyvla-small/README.md) without SALUS, share of episodes:"
    return f"{title}\n\n{table}\n\n{textwrap.fill(said, 120, break_on_hyphens=False)}"


def experts_table(training: dict[str, Any]) -> str:
    """How many of the demonstrations that were recorded for the policy succeeded."""
    rows = ["| task | demonstrations | succeeded |", "|---|---|---|"]
    for task, recorded in training["recorded"].items():
        succeeded = training["succeeded"][task]
        rows.append(f"| `{task}` | {recorded} | {succeeded} ({succeeded / recorded:.1%}) |")
    return "\n".join(rows)


def data_table(manifest: Manifest) -> str:
    """How the episodes of each task and disturbance ended."""
    ended: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for episode in manifest.episodes:
        ended[episode.task, episode.disturbance][episode.outcome] += 1
    rows = [
        "| task | disturbance | episodes | success | time out | stopped or lost |",
        "|---|---|---|---|---|---|",
    ]
    for (task, disturbance), counts in sorted(ended.items()):
        others = counts.total() - counts["success"] - counts["timeout"]
        cells = (counts.total(), counts["success"], counts["timeout"], others)
        rows.append(f"| `{task}` | {disturbance or 'none'} | " + " | ".join(map(str, cells)) + " |")
    said = f"{len(manifest.episodes)} episodes of the policy {manifest.header.policy_hash}, seeds from "
    said += f"{manifest.seeds[0]} on, mixture {manifest.header.mixture_hash}."
    return "\n".join([said, "", *rows])


def monitor_table(training: dict[str, Any]) -> str:
    """AUROC per type and horizon with the clock's beside it, and how many first onsets were foreseen."""
    test = training["test"]
    rows = [
        "| AUROC (clock) | 0.2 s | 0.3 s | 0.4 s | 0.5 s | first onsets with an alarm of any type before |",
        "|---|---|---|---|---|---|",
    ]
    for failure, ours in test["auroc"].items():
        cells = " | ".join(
            f"{cell['value']:.2f} ({clock['value']:.2f})"
            for cell, clock in zip(ours, test["auroc_clock"][failure], strict=True)
        )
        foreseen, onsets = test["foreseen_first_onsets"][failure]
        rows.append(f"| {failure} | {cells} | {foreseen} of {onsets} |")
    alarms, successes = test["false_alarms"]
    rows.append(
        f"\nFalse alarms: {alarms} of {successes} successful episodes (promised: 5 %). Median lead time:"
    )
    lead = test["median_lead_s"]
    said = "–" if lead is None else f"{lead:.2f} s"
    rows.append(f"{said}. Episodes of the test split: {test['episodes']}.")
    return "\n".join(rows)


def section(path: Path, name: str) -> str:
    """What stands between ``<!-- name -->`` and ``<!-- /name -->``."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", path.read_text(), re.S)
    if not found:
        raise SystemExit(f"{path} has no section <!-- {name} -->; put the two markers back.")
    return found[1].strip()


def replace(path: Path, name: str, text: str) -> None:
    """Replaces what stands between ``<!-- name -->`` and ``<!-- /name -->``."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    before = path.read_text()
    if not pattern.search(before):
        raise SystemExit(f"{path} has no section <!-- {name} -->; put the two markers back.")
    path.write_text(pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", before))


if __name__ == "__main__":
    main()
