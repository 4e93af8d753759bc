"""A self-contained page with episodes of a store or a bag: it opens offline, with nothing to fetch."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from salus_ros.data.episode import Episode, FrameStream
from salus_ros.data.files import replace_text
from salus_ros.data.images import decode_depth, decode_image
from salus_ros.errors import SalusError
from salus_ros.viewer.view import MARKABLE, episode_view

QUALITY: Final = 80
"""Of the pictures; those of the store stay as they are."""
DEPTH_RANGE_M: Final = 3.0
"""Depth that is shown white."""


def write_page(path: Path, title: str, facts: Mapping[str, str], episodes: Iterable[Episode]) -> None:
    """Writes a page that shows frames, signals and events of episodes.

    Args:
        path: of the new file.
        title: what the episodes are of.
        facts: names and values for the head of the page.
        episodes: to be shown; each is kept in the page with all its frames.

    Raises:
        SalusError: there is a file already, or it cannot be written.
    """
    if path.exists():
        raise SalusError(f"{path} exists already; give another file for the page, or remove it first.")
    views = [_with_pictures(episode, i) for i, episode in enumerate(episodes)]
    replace_text(path, render(title, facts, {"episodes": views, "label": None}))


def render(title: str, facts: Mapping[str, str], data: Mapping[str, Any]) -> str:
    """The page's text; ``data`` is what its script starts with."""
    return (
        _environment()
        .get_template("viewer.html.j2")
        .render(
            title=title,
            facts=facts,
            css=_source("viewer.css"),
            script=_source("viewer.js"),
            # A "</script>" in a note would end the script otherwise.
            data=json.dumps({**data, "markable": MARKABLE}, allow_nan=False).replace("<", "\\u003c"),
        )
    )


def _with_pictures(episode: Episode, index: int) -> dict[str, Any]:
    view = episode_view(episode, index)
    view["pictures"] = {
        camera: [_data_uri(s, i) for i in range(len(s))] for camera, s in episode.frames.items()
    }
    return view


def picture(stream: FrameStream, i: int) -> bytes:
    """The i-th image as JPEG; of depth images, near things are dark and what is unknown is black."""
    file = stream.file(i)
    try:
        image = decode_image(file)[:, :, ::-1]
    except SalusError:
        depth_m = np.nan_to_num(decode_depth(file))
        image = (255 * np.clip(depth_m / DEPTH_RANGE_M, 0, 1)).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return encoded.tobytes()


def _data_uri(stream: FrameStream, i: int) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture(stream, i)).decode()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("salus_ros.viewer"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
