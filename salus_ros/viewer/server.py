"""The page on which an operator marks events: a local web server from the standard library.

Whoever opens the page must know the token in the printed address; a cookie keeps it. Writing needs a second
token, which stands in the page alone, so that no other page can write with the operator's cookie.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

from salus_ros.data.episode import Episode
from salus_ros.data.marks import marks_file, parse_marks
from salus_ros.errors import SalusError
from salus_ros.viewer.page import picture, render
from salus_ros.viewer.sources import Source, version
from salus_ros.viewer.view import episode_view, event_view

COOKIE: Final = "salus_label"
LARGEST_BODY_BYTES: Final = 2**20
SLOW_CLIENT_S: Final = 30
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LabelServer(ThreadingHTTPServer):
    """Serves one source; ``serve_forever`` runs it."""

    daemon_threads = True

    def __init__(self, source: Source, host: str, port: int) -> None:
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise SalusError(
                f"The page cannot be served at {host}:{port} ({error.strerror or error}); give another "
                "--host or --port, or --port 0 for any."
            ) from None
        self.source = source
        self.token = secrets.token_urlsafe(24)
        self.csrf_token = secrets.token_urlsafe(24)
        # Reading a store and replacing the marks are not made for many threads.
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address to open, with its token."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/?token={self.token}"


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server_version = "salus"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = SLOW_CLIENT_S

    @property
    def _label(self) -> LabelServer:
        return cast(LabelServer, self.server)

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address holds the token."""

    def _guarded(self, answer: Any) -> None:
        try:
            with self._label.lock:
                answer()
        except _RefusedError as error:
            self.close_connection = True
            self._send_json({"error": str(error)}, error.status)
        except SalusError as error:
            self._send_json({"error": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)

    def _get(self) -> None:
        address = urlsplit(self.path)
        given = parse_qs(address.query).get("token", [""])[0]
        if given:
            self._check(given, self._label.token)
            cookie = f"{COOKIE}={given}; HttpOnly; SameSite=Strict; Path=/"
            self._send(b"", "text/plain", HTTPStatus.SEE_OTHER, {"Location": "/", "Set-Cookie": cookie})
            return
        self._check_cookie()
        match [unquote(part) for part in address.path.split("/")[1:]]:
            case [""]:
                self._send(self._page().encode(), "text/html; charset=utf-8")
            case ["episode", index]:
                self._send_json(self._view(self._number(index)))
            case ["frame", index, camera, i]:
                self._send(self._picture(self._number(index), camera, i), "image/jpeg")
            case _:
                raise _RefusedError(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _post(self) -> None:
        self._check_cookie()
        self._check(self.headers.get("X-Salus-Token", ""), self._label.csrf_token)
        match self.path.split("/")[1:]:
            case ["episode", index, "marks"]:
                self._send_json(self._keep(self._number(index), self._body()))
            case _:
                raise _RefusedError(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _check_cookie(self) -> None:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        self._check(cookie.value if cookie else "", self._label.token)

    def _check(self, given: str, expected: str) -> None:
        if not hmac.compare_digest(given.encode(), expected.encode()):
            reason = "The token is missing or another; open the address that salus label printed."
            raise _RefusedError(HTTPStatus.FORBIDDEN, reason)

    def _number(self, text: str) -> int:
        count = len(self._label.source.titles())
        if not text.isdecimal() or int(text) >= count:
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"There is no episode {text}; there are {count}.")
        return int(text)

    def _page(self) -> str:
        source = self._label.source
        label = {"csrf": self._label.csrf_token, "starts": source.has_starts}
        data = {"episodes": source.titles(), "label": label}
        return render(f"Label {source.path}", {}, data)

    def _view(self, index: int) -> dict[str, Any]:
        return episode_view(self._label.source.episode(index), index) | self._events(index)

    def _events(self, index: int) -> dict[str, Any]:
        source = self._label.source
        recorded = [event_view(event) | {"mine": False} for event in source.episode(index).events]
        marked = [event_view(event) | {"mine": True} for event in source.marks(index)]
        return {
            "events": sorted(recorded + marked, key=lambda event: event["stamp_s"]),
            "outcome": source.outcome(index).value,
            "version": version(source),
        }

    def _picture(self, index: int, camera: str, i: str) -> bytes:
        episode: Episode = self._label.source.episode(index)
        stream = episode.frames.get(camera)
        if stream is None or not i.isdecimal() or int(i) >= len(stream):
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"There is no picture {i} of the camera {camera}.")
        return picture(stream, int(i))

    def _keep(self, index: int, body: Any) -> dict[str, Any]:
        source = self._label.source
        if not isinstance(body, dict) or body.get("version") != version(source):
            reason = "The marks were changed elsewhere in the meantime; reload the page and mark again."
            raise _RefusedError(HTTPStatus.CONFLICT, reason)
        source.save(index, parse_marks(body.get("marks")))
        return self._events(index) | {"file": str(marks_file(source.path))}

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY_BYTES:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The message has no length, or is too long."
            )
        try:
            return json.loads(self.rfile.read(int(length)))
        except ValueError:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "The message is no JSON.") from None

    def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(
        self,
        content: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        more: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {
            **_HEADERS,
            **(more or {}),
            "Content-Type": kind,
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
