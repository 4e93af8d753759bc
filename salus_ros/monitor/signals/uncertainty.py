"""How unsure the policy is of the chunk it sent last.

Source: ``PolicyOutput.uncertainty`` and its ``samples`` (members, draws, T, D), in the policy's normalised
action units. What a policy cannot say (one member, one draw) is not available, never zero.
"""

from __future__ import annotations

import numpy as np

from salus_ros.monitor.signals.base import Signal, family
from salus_ros.monitor.view import Plan, View

UNIT = "normalised action"
ENTROPY_BIN = 0.1
"""Width of a bin in normalised action units; the published method states none."""


def _log(value: float) -> float:
    """Decades above 1e-6: variances span several, and a network sees ratios better."""
    return float(np.log10(value + 1e-6)) + 6.0 if value >= 0.0 else float("nan")


@family(
    "uncertainty",
    Signal("epistemic", "decades", 0.0, 9.0, "log10 of the variance between members' mean chunks."),
    Signal("aleatoric", "decades", 0.0, 9.0, "log10 of the variance between draws within a member."),
    Signal("std_max", UNIT, 0.0, 10.0, "Largest total standard deviation over the action dimensions."),
    Signal("std_last", UNIT, 0.0, 10.0, "Total standard deviation of the last dimension: the gripper."),
    Signal("field_disagreement", "decades", 0.0, 9.0, "log10 of the members' velocity-field disagreement."),
    Signal(
        "std_near", UNIT, 0.0, 10.0, "Standard deviation over members and draws, first half of the chunk."
    ),
    Signal(
        "std_far", UNIT, 0.0, 10.0, "Standard deviation over members and draws, second half of the chunk."
    ),
    Signal("entropy", "nats", 0.0, 10.0, "Mean over steps and dimensions of the samples' binned entropy."),
    Signal(
        "extreme_member",
        "1",
        0.0,
        10.0,
        "Largest distance of a member's mean from the mean of all, over the mean one.",
    ),
)
def uncertainty(view: View) -> dict[str, float]:
    """Spread of the newest chunk's samples."""
    if view.plan is None:
        return {}
    said = view.plan.output.uncertainty
    values = {
        "epistemic": _log(said.epistemic),
        "aleatoric": _log(said.aleatoric),
        "field_disagreement": _log(said.velocity_field_disagreement),
    }
    if np.size(said.std_per_dimension):
        values["std_max"] = float(np.max(said.std_per_dimension))
        values["std_last"] = float(said.std_per_dimension[-1])
    samples = np.asarray(view.plan.output.samples, float)
    if samples.ndim == 4 and samples.shape[0] * samples.shape[1] > 1 and samples.shape[2] > 1:
        std = samples.std(axis=(0, 1))
        half = len(std) // 2
        values["std_near"], values["std_far"] = float(std[:half].mean()), float(std[half:].mean())
        means = samples.mean(axis=1).reshape(len(samples), -1)
        distance = np.linalg.norm(means - means.mean(axis=0), axis=1)
        values["entropy"] = view.plan.once("entropy", _entropy)
        if len(samples) > 2:
            values["extreme_member"] = float(distance.max() / (distance.mean() + 1e-9))
    return values


def _entropy(plan: Plan) -> float:
    samples = np.asarray(plan.output.samples, float)
    bins = np.floor(samples.reshape(samples.shape[0] * samples.shape[1], -1) / ENTROPY_BIN)
    same = (bins[:, None, :] == bins[None, :, :]).mean(axis=0)
    return float(-np.log(same).mean())
