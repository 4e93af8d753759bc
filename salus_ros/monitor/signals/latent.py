"""How the policy's internal state moves, and how far it lies from those of successes.

Source: ``Uncertainty.latent`` (L,) of the newest two outputs, and the latents of successful training episodes
(``latents.py``), which only a trained monitor knows.
"""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.latents import DISTANCES
from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import View


@family(
    "latent",
    Signal("norm", "1", 0.0, 100.0, "Root mean square of the latent."),
    Signal("drift", "1", 0.0, 100.0, "Root mean square change since the output before, per 0.2 s."),
    Signal("turn", "1", 0.0, 2.0, "One minus the cosine between the newest two latents."),
    Signal("mahalanobis", "1", 0.0, 20.0, "Mahalanobis distance from successes' latents, per component."),
    Signal("nearest", "1", 0.0, 20.0, "Mean distance to the five nearest latents of successes, scaled."),
    Signal("distillation", "1", 0.0, 20.0, "Error of a network that imitates a random one on successes."),
)
def latent(view: View) -> dict[str, float]:
    """Size and change of the latent."""
    if view.plan is None:
        return {}
    now = np.asarray(view.plan.output.uncertainty.latent, float)
    if now.size == 0:
        return {}
    values = {"norm": float(np.sqrt((now**2).mean()))}
    if view.before is not None and np.shape(view.before.uncertainty.latent) == now.shape:
        then = np.asarray(view.before.uncertainty.latent, float)
        elapsed = max(view.plan.output.stamp_s - view.before.stamp_s, 0.05)
        values["drift"] = float(np.sqrt(((now - then) ** 2).mean())) * 0.2 / elapsed
        lengths = float(np.linalg.norm(now) * np.linalg.norm(then))
        values["turn"] = 1.0 - float(now @ then) / lengths if lengths > 0.0 else float("nan")
    return values | _distances(view)


def _distances(view: View) -> dict[str, float]:
    plan, reference = view.plan, view.latents
    if plan is None or reference is None:
        return {}
    if DISTANCES[0] not in plan.known:
        found = reference.measure(np.atleast_2d(plan.output.uncertainty.latent))
        plan.known.update({name: float(found[name][0]) for name in DISTANCES})
    return {name: plan.known[name] for name in DISTANCES}
