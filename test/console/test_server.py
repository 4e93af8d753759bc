"""The web server over real connections: what it gives, to whom, and what it takes for a command."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tornado.websocket
from tornado.httpclient import HTTPClientError, HTTPRequest

from salus_ros.console import server as server_module
from salus_ros.console.access import AccessSettings
from salus_ros.console.server import Answer, ConsoleServer
from salus_ros.errors import SalusError

from .conftest import TOKEN, Gate

Serve = Callable[..., ConsoleServer]


class Browser:
    """Keeps cookies and knows the page's secret, as a browser does."""

    def __init__(self, server: ConsoleServer) -> None:
        self.host = server.url.removeprefix("http://")
        self.cookies: dict[str, str] = {}
        self.xsrf = ""

    def ask(
        self, method: str, path: str, body: str = "", **headers: str
    ) -> tuple[int, str, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        given = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {}
        connection.request(
            method, path, body or None, given | {k.replace("_", "-"): v for k, v in headers.items()}
        )
        response = connection.getresponse()
        text = response.read().decode()
        for cookie in response.headers.get_all("Set-Cookie") or []:
            name, _, value = cookie.split(";")[0].partition("=")
            self.cookies[name] = value
        connection.close()
        return response.status, text, response

    def open(self, path: str = "/") -> str:
        status, text, _ = self.ask("GET", path)
        assert status == 200, f"{path} gave {status}"
        found = re.search(r'name="(?:xsrf" content|_xsrf" value)="([^"]+)"', text)
        self.xsrf = found.group(1) if found else ""
        return text

    def command(self, name: str, seen: str = "NOMINAL", **changed: str) -> tuple[int, str]:
        headers = {
            "Content_Type": "application/json",
            "X_XSRFToken": self.xsrf,
            "Origin": f"http://{self.host}",
        }
        status, text, _ = self.ask(
            "POST", f"/command/{name}", json.dumps({"seen": seen}), **(headers | changed)
        )
        return status, text

    def log_in(self, token: str) -> int:
        self.open("/login")
        status, _, _ = self.ask(
            "POST",
            "/login",
            f"token={token}&_xsrf={self.xsrf}",
            Content_Type="application/x-www-form-urlencoded",
            Origin=f"http://{self.host}",
        )
        return status


def test_a_command_of_the_page_reaches_the_gate_with_the_mode_that_was_seen(serve: Serve, gate: Gate) -> None:
    browser = Browser(serve())
    browser.open()
    status, text = browser.command("reset", "EMERGENCY_STOP")
    assert (status, json.loads(text)) == (200, {"accepted": True, "message": ""})
    assert gate.heard == [("reset", "EMERGENCY_STOP", "127.0.0.1")]


def test_a_refusal_comes_back_in_the_gates_words(serve: Serve, gate: Gate) -> None:
    gate.answer = Answer(False, "the cause still stands: button")
    browser = Browser(serve())
    browser.open()
    assert json.loads(browser.command("reset")[1])["message"] == "the cause still stands: button"


def test_a_gate_that_does_not_answer_is_said_so(
    serve: Serve, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "ANSWER_TIMEOUT_S", 0.05)
    gate.answer = None
    browser = Browser(serve())
    browser.open()
    assert json.loads(browser.command("stop")[1]) == {
        "accepted": False,
        "message": "the gate does not answer",
    }
    assert gate.heard[0][0] == "stop"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"Origin": "http://evil.example"}, "another site"),
        ({"Origin": "http://127.0.0.1:1"}, "another program on this machine"),
        ({"Origin": "null"}, "a sandboxed frame"),
        ({"X_XSRFToken": ""}, "no secret of the page"),
        ({"X_XSRFToken": "2|00000000|00|1"}, "a made-up secret"),
        ({"Content_Type": "text/plain"}, "what a plain form can send"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, "a form"),
    ],
)
def test_a_command_from_elsewhere_is_refused(
    serve: Serve, gate: Gate, changed: dict[str, str], why: str
) -> None:
    browser = Browser(serve())
    browser.open()
    status, _ = browser.command("stop", **changed)
    assert status in (403, 415), why
    assert gate.heard == []


def test_a_command_needs_the_cookie_too(serve: Serve, gate: Gate) -> None:
    browser = Browser(serve())
    browser.open()
    browser.cookies.clear()
    assert browser.command("stop")[0] == 403
    assert gate.heard == []


@pytest.mark.parametrize("body", ["", "stop", "[]", "{}", '{"seen'])
def test_a_body_that_makes_no_sense_is_refused(serve: Serve, gate: Gate, body: str) -> None:
    browser = Browser(serve())
    browser.open()
    status, _, _ = browser.ask(
        "POST", "/command/stop", body, Content_Type="application/json", X_XSRFToken=browser.xsrf,
        Origin=f"http://{browser.host}",
    )  # fmt: skip
    assert status == 400
    assert gate.heard == []


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/command/stop", 405),
        ("GET", "/command/launch", 404),
        ("GET", "/../access.py", 404),
        ("GET", "/index.html", 404),
        ("GET", "/console.js/../../access.py", 404),
    ],
)
def test_nothing_else_is_offered(serve: Serve, method: str, path: str, expected: int) -> None:
    assert Browser(serve()).ask(method, path)[0] == expected


def test_another_name_for_this_machine_is_refused(serve: Serve) -> None:
    assert Browser(serve()).ask("GET", "/", Host="evil.example")[0] == 421


def test_the_page_can_run_nothing_that_is_not_its_own(serve: Serve) -> None:
    _, _, response = Browser(serve()).ask("GET", "/")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in response.headers


def test_with_a_token_nothing_is_shown_or_done_before_the_login(
    serve: Serve, gate: Gate, token_file: str
) -> None:
    server = serve(token_file=token_file)
    browser = Browser(server)
    assert browser.ask("GET", "/")[2].headers["Location"] == "/login"
    browser.open("/login")
    assert browser.command("stop")[0] == 401
    assert gate.heard == []
    with pytest.raises(HTTPClientError, match="401"):
        asyncio.run(listen(server))


def test_the_token_logs_in_and_the_cookie_is_kept_from_scripts_and_other_sites(
    serve: Serve, gate: Gate, token_file: str
) -> None:
    browser = Browser(serve(token_file=token_file))
    assert browser.log_in(TOKEN) == 302
    browser.open()
    assert browser.command("stop")[0] == 200
    assert gate.heard[0][0] == "stop"
    again = Browser(serve(token_file=token_file))
    again.cookies = browser.cookies
    assert "canvas" in again.open(), "a console that was started again knows who had logged in"


def test_the_login_cookie_has_every_protection(serve: Serve, token_file: str) -> None:
    browser = Browser(serve(token_file=token_file))
    browser.open("/login")
    _, _, response = browser.ask(
        "POST", "/login", f"token={TOKEN}&_xsrf={browser.xsrf}",
        Content_Type="application/x-www-form-urlencoded", Origin=f"http://{browser.host}",
    )  # fmt: skip
    cookie = next(c for c in response.headers.get_all("Set-Cookie") if c.startswith("salus_operator"))
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert TOKEN not in cookie


def test_a_wrong_token_does_not_log_in(serve: Serve, token_file: str) -> None:
    browser = Browser(serve(token_file=token_file))
    assert browser.log_in("fedcba9876543210") == 403
    assert "salus_operator" not in browser.cookies


def test_a_made_up_login_cookie_is_none(serve: Serve, token_file: str) -> None:
    browser = Browser(serve(token_file=token_file))
    browser.cookies["salus_operator"] = "2|1:0|10:1700000000|14:salus_operator|12:b3BlcmF0b3I=|" + "0" * 64
    assert browser.ask("GET", "/")[0] == 302


async def listen(server: ConsoleServer, origin: str | None = None) -> Any:
    headers = {"Origin": origin} if origin else {}
    return await tornado.websocket.websocket_connect(
        HTTPRequest(f"ws{server.url.removeprefix('http')}/live", headers=headers)
    )


async def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end_s, f"waited 10 s in vain for {what}"
        await asyncio.sleep(0.01)


def test_another_site_cannot_listen(serve: Serve) -> None:
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(listen(serve(), "http://evil.example"))


def test_a_browser_gets_what_is_published_and_the_image_of_the_camera_it_looks_at(serve: Serve) -> None:
    server = serve()

    async def look() -> None:
        socket_ = await listen(server, server.url)
        assert json.loads(await socket_.read_message()) == {"events": []}
        assert server.watched == {"front"}
        await socket_.write_message("wrist")
        await until(lambda: server.watched == {"wrist"}, "the other camera")
        server.publish({"gate": None}, [{"number": 1}], {"front": b"F", "wrist": b"W"})
        got = [await socket_.read_message() for _ in range(3)]
        assert [json.loads(got[0]), got[1], json.loads(got[2])] == [
            {"events": [{"number": 1}]},
            b"W",
            {"now": {"gate": None}},
        ]
        socket_.close()
        await until(lambda: not server.looked_at, "the end of the connection")

    asyncio.run(look())


def test_who_comes_later_is_told_what_has_happened(serve: Serve) -> None:
    server = serve()

    async def look() -> None:
        server.publish(None, [{"number": 1}, {"number": 2}])
        socket_ = await listen(server)
        assert json.loads(await socket_.read_message()) == {"events": [{"number": 1}, {"number": 2}]}

    asyncio.run(look())


def test_a_browser_that_reads_nothing_costs_bounded_memory_and_delays_nobody(serve: Serve) -> None:
    server = serve()
    picture = {"filler": "x" * 1_000_000}

    async def look() -> None:
        host, port = server.url.removeprefix("http://").split(":")
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(
            f"GET /live HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await until(lambda: len(server.browsers) == 1, "the deaf browser")
        (silent,) = server.browsers
        quick = await listen(server)
        pictures, numbers = 0, []

        async def read() -> None:
            nonlocal pictures
            while (message := await quick.read_message()) is not None:
                pictures += "now" in json.loads(message)
                numbers.extend(event["number"] for event in json.loads(message).get("events", []))

        reading = asyncio.ensure_future(read())
        while pictures < 15 or silent._unsent == 0:
            server.publish(picture)
            await asyncio.sleep(0.005)
        assert silent._unsent < 40, "pictures pile up for a browser that does not read"
        for number in range(700):
            server.publish(None, [{"number": number}])
            await asyncio.sleep(0.001)
        await until(lambda: len(numbers) == 700, "all events")
        assert numbers == list(range(700))
        await until(lambda: silent not in server.browsers, "the deaf browser to be let go")
        quick.close()
        await reading
        deaf.close()

    asyncio.run(look())


def test_a_port_that_is_taken_is_said_so(serve: Serve, gate: Gate) -> None:
    taken = serve()
    port = int(taken.url.rsplit(":", 1)[1])
    with pytest.raises(SalusError, match=f"port {port} .*set port to a free one"):
        ConsoleServer(AccessSettings(port=port), gate, ())


def test_a_certificate_that_is_none_is_refused(gate: Gate, tmp_path: Path) -> None:
    with pytest.raises(SalusError, match="cannot be used"):
        ConsoleServer(
            AccessSettings(certificate_file=str(tmp_path / "c"), key_file=str(tmp_path / "k")), gate, ()
        )


def test_closing_gives_the_port_back(serve: Serve, gate: Gate) -> None:
    server = serve()
    port = int(server.url.rsplit(":", 1)[1])
    server.close()
    ConsoleServer(AccessSettings(port=port), gate, ()).close()


def test_no_word_on_the_page_is_set_as_markup() -> None:
    script = (Path(server_module.__file__).parent / "page" / "console.js").read_text()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        'setAttribute("on',
    ):
        assert way not in script
