"""What a policy would have seen in an episode: images and joint state of one moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from salus_ros.data.episode import Episode
from salus_ros.data.images import decode_image
from salus_ros.errors import SalusError
from salus_ros.types import Floats, Observation

SKEW_MAX_S: Final = 0.05
"""Largest distance of the stamps in one observation, as the policy node allows by default."""


def observations(
    episode: Episode, cameras: Sequence[str] = (), skew_max_s: float = SKEW_MAX_S
) -> Iterator[Observation]:
    """Synchronised observations, one for each image of the first camera that has company.

    Each holds the images of the other cameras and the joint state whose stamps are nearest. Where one of
    them is farther than ``skew_max_s`` there is no observation: nothing is resampled or filled in.

    Args:
        episode: with frames and joint states.
        cameras: names, in the order of the observation's images; by default all that show colours.
        skew_max_s: largest distance to the first camera's stamp.

    Raises:
        SalusError: the episode lacks a camera that was named, or has none.
    """
    names = tuple(cameras) or tuple(camera for camera in episode.frames if _shows_colours(episode, camera))
    missing = [camera for camera in names if camera not in episode.frames]
    if missing or not names:
        raise SalusError(
            f"The episode has images of {', '.join(episode.frames) or 'no camera'}, and "
            f"{', '.join(missing) or 'some'} were asked for; name cameras that it has."
        )
    first, *others = names
    for i, stamp_s in enumerate(episode.frames[first].stamp_s):
        rows = {first: i} | {name: _nearest(episode.frames[name].stamp_s, stamp_s) for name in others}
        state = _nearest(episode.robot.stamp_s, stamp_s)
        stamps = [episode.frames[name].stamp_s[row] for name, row in rows.items() if row >= 0]
        if state < 0 or len(stamps) < len(names):
            continue
        skew_s = np.abs(np.array([*stamps, episode.robot.stamp_s[state]]) - stamp_s).max()
        if skew_s <= skew_max_s:
            yield Observation(
                stamp_s=float(stamp_s),
                robot=episode.robot.item(state),
                images={name: episode.frames[name].image(row) for name, row in rows.items()},
                instruction=episode.meta.instruction,
            )


def _nearest(stamps_s: Floats, at_s: float) -> int:
    """Index of the nearest of sorted stamps, -1 when there is none."""
    if not len(stamps_s):
        return -1
    right = int(np.searchsorted(stamps_s, at_s))
    near = [i for i in (right - 1, right) if 0 <= i < len(stamps_s)]
    return min(near, key=lambda i: abs(stamps_s[i] - at_s))


def _shows_colours(episode: Episode, camera: str) -> bool:
    stream = episode.frames[camera]
    try:
        decode_image(stream.file(0))
    except SalusError:
        return False
    return True
