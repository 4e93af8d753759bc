"""The page to keep holds everything it shows."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from conftest import make_episode

from salus_ros.cli.main import main
from salus_ros.viewer.page import write_page
from salus_ros.viewer.view import episode_view, thinned


def data_of(page: str) -> Any:
    (line,) = re.findall(r"^const DATA = (.*);$", page, re.MULTILINE)
    return json.loads(line)


def test_inspect_writes_a_page_with_frames_signals_and_events(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["inspect", str(store), "--html", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:|//)""", page), "nothing is fetched"
    first = data_of(page)["episodes"][0]
    assert first["title"] == "seed 0, bin, nudge"
    assert len(first["frames"]["front"]) == len(first["pictures"]["front"]) == 5
    assert first["pictures"]["front"][0].startswith("data:image/jpeg;base64,")
    names = [signal["name"] for signal in first["signals"]]
    assert {"gripper opening", "epistemic uncertainty", "risk", "speed scale"} <= set(names)
    assert "largest effort" not in names, "what was not available is not shown as a line"
    assert [event["failure"] for event in first["events"]] == [None, "COLLISION", None]
    main(["inspect", str(store), "--html", str(tmp_path / "page.html")])
    assert "page.html exists already" in capsys.readouterr().err


def test_a_bag_has_a_page_as_well(bag: Path, tmp_path: Path) -> None:
    main(["inspect", str(bag), "--html", str(tmp_path / "page.html")])
    (only,) = data_of((tmp_path / "page.html").read_text())["episodes"]
    assert only["frames"] == {} and only["notes"]


def test_what_cannot_be_read_is_left_out_and_the_rest_shown(store: Path, tmp_path: Path) -> None:
    (store / "robot" / "stamp_s" / "c" / "0").unlink()
    assert main(["inspect", str(store), "--html", str(tmp_path / "page.html")]) == 2
    data = data_of((tmp_path / "page.html").read_text())
    assert data["episodes"] == [] and "damaged or missing" in (tmp_path / "page.html").read_text()


def test_text_from_the_data_cannot_become_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    episode = make_episode()
    episode = replace(episode, meta=replace(episode.meta, task=evil, notes={evil: evil}))
    write_page(tmp_path / "page.html", evil, {evil: evil}, [episode])
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert data_of(page)["episodes"][0]["notes"] == {evil: evil}


def test_a_thinned_curve_keeps_its_extremes() -> None:
    times = np.arange(10_000) / 100
    values = np.sin(times)
    values[[1234, 7000]] = 9.0, -9.0
    t, y = thinned(times, values, 100)
    assert len(t) <= 100 and (np.diff(t) >= 0).all()
    assert y.max() == 9.0 and y.min() == -9.0
    short = thinned(times[:50], values[:50], 100)
    np.testing.assert_array_equal(short[1], values[:50])


def test_nan_is_a_gap_and_not_a_number() -> None:
    curve = next(s for s in episode_view(make_episode(), 0)["signals"] if s["name"] == "overlap divergence")
    assert curve["y"][0] is None and None not in curve["y"][1:]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page with")
def test_the_page_works_from_a_file(store: Path, tmp_path: Path) -> None:
    main(["inspect", str(store), "--html", str(tmp_path / "page.html")])
    with Browser(tmp_path / "profile") as browser:
        browser.open((tmp_path / "page.html").as_uri())
        browser.wait("document.querySelector('#camera-front')?.naturalWidth === 32")
        before = browser.run("document.querySelector('#camera-front').src")
        browser.press("ArrowRight")
        assert browser.run("document.querySelector('#camera-front').src") != before
        assert browser.run("document.querySelector('#marking').hidden")
        browser.run(
            "document.querySelector('#episodes').value = 1; document.querySelector('#episodes').onchange()"
        )
        browser.wait("document.querySelector('#outcome').textContent === 'success'")
