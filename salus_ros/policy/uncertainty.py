"""How unsure an ensemble of sampling policies is, from the chunks that it drew."""

from __future__ import annotations

import hashlib

import numpy as np

from salus_ros.types import NOT_AVAILABLE, ActionChunk, Floats32, Uncertainty


def overlap_divergence(before: ActionChunk | None, now: ActionChunk) -> float:
    """Mean squared joint difference, in rad squared, over the time that both chunks cover.

    The earlier chunk is interpolated linearly at the later one's points. nan where there is
    no chunk before, or none of its time is shared.
    """
    if before is None:
        return NOT_AVAILABLE
    old = before.stamp_s + before.time_from_start_s
    new = now.stamp_s + now.time_from_start_s
    shared = (new >= old[0] - 1e-9) & (new <= old[-1] + 1e-9)
    if not shared.any():
        return NOT_AVAILABLE
    joints = range(before.joint_position_rad.shape[1])
    earlier = np.stack([np.interp(new[shared], old, before.joint_position_rad[:, j]) for j in joints], axis=1)
    return float(np.mean((now.joint_position_rad[shared] - earlier) ** 2))


def of_samples(
    samples: Floats32,
    *,
    velocity_field_disagreement: float = NOT_AVAILABLE,
    overlap: float = NOT_AVAILABLE,
    latent: Floats32 | None = None,
) -> Uncertainty:
    """Split the spread of samples (K, S, T, D) into what members and what draws disagree on.

    Draws with the same index start from the same noise in every member, so that members'
    means differ by what the members know, not by luck.
    """
    members, draws = samples.shape[:2]
    epistemic = aleatoric = NOT_AVAILABLE
    if members > 1:
        epistemic = float(samples.mean(axis=1).var(axis=0, ddof=1).mean())
    if draws > 1:
        aleatoric = float(samples.var(axis=1, ddof=1).mean())
    deviation = np.full(samples.shape[-1], NOT_AVAILABLE, np.float32)
    if members * draws > 1:
        every = samples.reshape(-1, *samples.shape[2:])
        deviation = every.std(axis=0, ddof=1).mean(axis=0).astype(np.float32)
    return Uncertainty(
        ensemble_size=members,
        epistemic=epistemic,
        aleatoric=aleatoric,
        std_per_dimension=deviation,
        overlap_divergence=overlap,
        velocity_field_disagreement=velocity_field_disagreement,
        latent=np.empty(0, np.float32) if latent is None else latent.astype(np.float32),
    )


def hash_of(*parts: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 over texts that say what a policy without weights is."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
