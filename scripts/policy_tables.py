"""Tables about the policy: in its card how far off it is, in ``docs/ensemble.md`` what members of each kind
foretell, and how long an inference takes."""

from __future__ import annotations

from typing import Any


def validation(training: dict[str, Any]) -> str:
    """Errors on the demonstrations set aside, by the task of the instruction."""
    found, tasks = training["validation"], training["instructions"]
    rows = ["| first frame, cm | named cube | its goal |", "|---|---|---|"]
    for task in dict.fromkeys(sorted(tasks.values())):
        texts = [text for text, its_task in tasks.items() if its_task == task]
        cube, goal = (
            sum(found[f"{what}_cm/{text}"] for text in texts) / len(texts)
            for what in ("first_frame", "first_goal")
        )
        rows.append(f"| `{task}` | {cube:.1f} | {goal:.1f} |")
    return "\n".join(rows) + (
        "\n\nOver all frames, those of the corrections that were set aside included: named cube "
        f"{found['target_cm']:.1f} cm, the tool's planned\nposition {found['action_cm']:.1f} cm, "
        f"{found['action_near_end_cm']:.1f} cm at the end of the chunk."
    )


def members(found: dict[str, Any]) -> str:
    """Each kind of member: how its policy did, and AUROC of its disagreement beside that of the clock."""
    rows = [
        "| its own | episodes | success | with a failure | disagreement | clock | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, figures in found["kinds"].items():
        task, ended = figures["bin"], figures["ended"]
        cells = [
            kind.replace("_", " "),
            str(task["episodes"]),
            f"{ended['success'] / task['episodes']:.0%}",
            str(task["with a failure"]),
            *(_interval(task[name]) for name in ("disagreement", "clock", "difference")),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return f"`{found['command']}`, {found['date']}, {found['hardware']}.\n\n" + "\n".join(rows)


def latencies(measured: list[dict[str, Any]]) -> str:
    """The policy part of each bench, figure by figure, with ratios to what was timed in the same run."""
    parts = []
    for bench in measured:
        on = bench.get("gpu") or f"{bench['processor']}, {bench['cores']} cores"
        rows = ["| figure | measured | reference | ratio |", "|---|---|---|---|"]
        for figure in bench["parts"]["policy"]:
            reference = ratio = ""
            if "ratio" in figure:
                reference = f"{_amount(figure['reference'], figure['unit'])}, {figure['reference_name']}"
                ratio = f"{figure['ratio']:.2f}"
            value = _amount(figure["value"], figure["unit"])
            rows.append(f"| {figure['name']} | {value} | {reference} | {ratio} |")
        note = f"\n\n{bench['note']}" if "note" in bench else ""
        parts.append(f"**{on}**, {bench['date']}, torch {bench['torch']}:{note}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _amount(value: float, unit: str) -> str:
    if unit == "ms" and value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"
