"""Marks are kept beside the data, by whom the printed address was given to and by nobody else."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser

from salus_ros.cli.main import main
from salus_ros.data.bags import read_bag
from salus_ros.data.episode import Outcome
from salus_ros.data.marks import read_marks, write_marks
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.types import EpisodeEvent, EventKind, FailureType
from salus_ros.viewer.server import COOKIE, LabelServer
from salus_ros.viewer.sources import BagSource, StoreSource

DROP = {"stamp_s": 0.4, "kind": "FAILURE_ONSET", "failure": "DROP"}


class Client:
    """Asks a server, with the cookie and the token of its page unless told otherwise."""

    def __init__(self, server: LabelServer) -> None:
        self._server = server

    def ask(
        self, method: str, path: str, body: Any = None, cookie: str | None = None, csrf: str | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        server = self._server
        headers = {"Cookie": f"{COOKIE}={server.token if cookie is None else cookie}"}
        headers["X-Salus-Token"] = server.csrf_token if csrf is None else csrf
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
        text = body if isinstance(body, str | None) else json.dumps(body)
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        told = json.loads(content) if answer.headers["Content-Type"] == "application/json" else content
        return answer.status, told, dict(answer.headers)

    def mark(self, index: int, *marks: Any, version: str | None = None) -> tuple[int, Any]:
        if version is None:
            version = self.ask("GET", f"/episode/{index}")[1]["version"]
        body = {"version": version, "marks": marks}
        return self.ask("POST", f"/episode/{index}/marks", body)[:2]


def test_a_mark_becomes_an_event_of_the_store_and_can_be_taken_back(store: Path, serve: Any) -> None:
    arrays = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    with serve(StoreSource(store)) as server:
        client = Client(server)
        status, told = client.mark(1, DROP)
        assert status == 200, told
        assert [event["mine"] for event in told["events"]] == [False, True, False, False]
        (mark,) = (
            event for event in Store.open(store).episode(1).events if event.failure is FailureType.DROP
        )
        assert (mark.stamp_s, mark.detail) == (0.4, "marked by an operator")
        assert Store.open(store).episode(0).events == StoreSource(store).episode(0).events
        assert all(path.read_bytes() == content for path, content in arrays.items()), (
            "the data stay untouched"
        )
        status, told = client.mark(1)
        assert status == 200 and len(told["events"]) == 3
    assert read_marks(store) == {}


def test_marks_split_a_bag_into_episodes_with_outcomes(bag: Path, serve: Any, tmp_path: Path) -> None:
    assert read_bag(bag)[0].meta.outcome is Outcome.UNKNOWN
    with serve(BagSource(bag)) as server:
        client = Client(server)
        starts = [{"stamp_s": stamp_s, "kind": "EPISODE_START", "failure": None} for stamp_s in (0.2, 1.2)]
        success = {"stamp_s": 0.9, "kind": "SUCCESS", "failure": None}
        status, told = client.mark(0, *starts, success, {**DROP, "stamp_s": 1.5})
        assert status == 200, told
        assert told["outcome"] == "success"
        assert len(client.ask("GET", "/episode/0")[1]["signals"]) > 0
    assert main(["bag", "to-zarr", str(bag), str(tmp_path / "s")]) == 0
    first, second = Store.open(tmp_path / "s")
    assert (first.meta.outcome, second.meta.outcome) == (Outcome.SUCCESS, Outcome.FAILURE)
    assert first.robot.joint_position_rad[[0, -1], 0].tolist() == [20.0, 90.0]
    (drop,) = (event for event in second.events if event.failure is FailureType.DROP)
    assert drop.stamp_s == pytest.approx(0.3, abs=1e-6)


def test_marks_give_an_episode_of_unknown_outcome_one(bag: Path, tmp_path: Path) -> None:
    assert main(["bag", "to-zarr", str(bag), str(tmp_path / "s")]) == 0
    source = StoreSource(tmp_path / "s")
    assert source.titles() == [{"title": "episode 0", "outcome": "unknown"}]
    source.save(0, (EpisodeEvent(1.0, EventKind.TIMEOUT),))
    assert source.titles()[0]["outcome"] == "timeout"
    assert Store.open(tmp_path / "s").episode(0).meta.outcome is Outcome.TIMEOUT


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/episode/0"), ("GET", "/frame/0/front/0"), ("POST", "/episode/0/marks")],
)
def test_without_the_printed_address_nothing_is_shown_or_written(
    store: Path, serve: Any, method: str, path: str
) -> None:
    with serve(StoreSource(store)) as server:
        for cookie in ("", "guess", server.csrf_token):
            status, told, _ = Client(server).ask(
                method, path, {"version": "", "marks": [DROP]}, cookie=cookie
            )
            assert status == 403 and "open the address that salus label printed" in told["error"]
    assert not (store / "marks.json").exists()


def test_another_page_cannot_write_with_the_operators_cookie(store: Path, serve: Any) -> None:
    with serve(StoreSource(store)) as server:
        body = {"version": "", "marks": [DROP]}
        for csrf in ("", "guess", server.token):
            assert Client(server).ask("POST", "/episode/0/marks", body, csrf=csrf)[0] == 403
        _, _, headers = Client(server).ask("GET", f"/?token={server.token}", cookie="")
        assert headers["Location"] == "/"
        assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
        _, page, headers = Client(server).ask("GET", "/")
        assert server.csrf_token.encode() in page and server.token.encode() not in page
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert not (store / "marks.json").exists()


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"version": "", "marks": [{**DROP, "failure": "FIRE"}]}, 422, "marks are not understood"),
        ({"version": "", "marks": [{**DROP, "stamp_s": "nan"}]}, 422, "marks are not understood"),
        ({"version": "", "marks": 3}, 422, "marks are not understood"),
        ({"version": "old", "marks": []}, 409, "changed elsewhere"),
        ([], 409, "changed elsewhere"),
        ("{", 400, "no JSON"),
        ("x" * (2**20 + 1), 413, "too long"),
    ],
)
def test_a_wrong_message_is_refused_and_leaves_the_marks(
    store: Path, serve: Any, body: Any, status: int, sentence: str
) -> None:
    with serve(StoreSource(store)) as server:
        answer = Client(server).ask("POST", "/episode/0/marks", body)
    assert answer[0] == status and sentence in answer[1]["error"]
    assert not (store / "marks.json").exists()


@pytest.mark.parametrize(
    "path", ["/episode/2", "/episode/x", "/frame/0/rear/0", "/frame/0/front/99", "/etc/passwd"]
)
def test_what_is_not_there_is_said(store: Path, serve: Any, path: str) -> None:
    with serve(StoreSource(store)) as server:
        assert Client(server).ask("GET", path)[0] == 404


def test_two_pages_do_not_overwrite_each_other(store: Path, serve: Any) -> None:
    with serve(StoreSource(store)) as server:
        client = Client(server)
        before = client.ask("GET", "/episode/0")[1]["version"]
        assert client.mark(0, DROP)[0] == 200
        assert client.mark(0, version=before)[0] == 409
        assert client.mark(1, {**DROP, "failure": "MISS"})[0] == 200
    assert {index: len(marks) for index, marks in read_marks(store).items()} == {0: 1, 1: 1}


def test_damaged_marks_are_named_and_never_overwritten(store: Path) -> None:
    for content, sentence in (
        ("{", "cannot be read"),
        ('{"salus_marks": 9}', "version 9"),
        ('{"salus_marks": 1, "episodes": {"0": [3]}}', "is damaged"),
    ):
        (store / "marks.json").write_text(content)
        with pytest.raises(SalusError, match=sentence):
            Store.open(store)
        with pytest.raises(SalusError, match=sentence):
            StoreSource(store)
        assert (store / "marks.json").read_text() == content


def test_a_mark_without_a_time_is_refused(store: Path) -> None:
    with pytest.raises(SalusError, match="without a time"):
        write_marks(store, {0: (EpisodeEvent(float("inf"), EventKind.SUCCESS),)})
    assert not (store / "marks.json").exists()


def test_the_verb_says_where_the_page_is_and_ends_with_ctrl_c(store: Path, capsys: Any) -> None:
    command = [sys.executable, "-m", "salus_ros.cli.main", "label", str(store), "--port", "0"]
    # Whoever runs the tests in the background may have switched Ctrl-C off for them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Open http://127.0.0.1:") and "/?token=" in line
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
        process.stdout.close()
    finally:
        process.kill()
    assert main(["label", str(store / "robot"), "--port", "0"]) == 2
    assert main(["label", str(store.parent), "--port", "0"]) == 2
    assert "is no store and no bag" in capsys.readouterr().err
    with LabelServer(StoreSource(store), "127.0.0.1", 0) as server:
        assert main(["label", str(store), "--port", str(server.server_address[1])]) == 2
    assert "Address already in use" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page with")
def test_an_operator_marks_a_drop_in_a_browser(store: Path, serve: Any, tmp_path: Path) -> None:
    with serve(StoreSource(store)) as server, Browser(tmp_path / "profile") as browser:
        browser.open(server.url)
        assert browser.run("location.search") == "", "the token leaves the address"
        browser.wait("document.querySelector('#camera-front')?.naturalWidth === 32")
        assert browser.run("document.querySelectorAll('.curve').length") > 5
        browser.press("ArrowRight")
        assert browser.run("document.querySelector('#time').textContent") == "0.20 s"
        browser.press("2")
        browser.wait("document.querySelector('#status').textContent.startsWith('Saved')")
        (mark,) = read_marks(store)[0]
        assert (mark.stamp_s, mark.failure) == (pytest.approx(0.2), FailureType.DROP)
        if "SALUS_SCREENSHOT" in os.environ:
            browser.screenshot(Path(os.environ["SALUS_SCREENSHOT"]))
        browser.run("document.querySelector('#events button').click()")
        browser.wait("document.querySelectorAll('#events button').length === 0")
        assert read_marks(store) == {}
