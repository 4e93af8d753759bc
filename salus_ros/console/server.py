"""The web server: one page, a stream of what it shows, and five commands.

It runs on a thread and an event loop of its own, so that a slow browser never delays the graph. What it sends
is made once for all browsers; one that cannot keep up misses pictures, never events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple

import tornado.web
import tornado.websocket
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets

from salus_ros.console.access import Access, AccessSettings
from salus_ros.console.journal import KEPT
from salus_ros.errors import SalusError

COMMANDS: Final = ("stop", "reset", "resume", "retry", "abort")
BROWSERS_MAX: Final = 16
ANSWER_TIMEOUT_S: Final = 3.0
SESSION_DAYS: Final = 0.5
_BODY_MAX: Final = 4096
_UNSENT_MAX: Final = 500
"""Messages on their way to one browser after which it is let go."""
_PAGE: Final = Path(__file__).parent / "page"
_COOKIE: Final = "salus_operator"

_GONE: Final = (tornado.websocket.WebSocketClosedError, StreamClosedError)

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Answer(NamedTuple):
    """What became of a command."""

    accepted: bool
    message: str


Command = Callable[[str, str, str], "Future[Answer]"]
"""(command, mode that the person saw, where it came from) to its answer; called on the server's thread."""


class ConsoleServer:
    """Serves the page from construction to :meth:`close`. All methods may be called from any thread."""

    def __init__(self, settings: AccessSettings, command: Command, cameras: Sequence[str]) -> None:
        """Raises:
        SalusError: the settings are refused, or the port cannot be had.
        """
        self.access = Access(settings)
        self.command = command
        self.cameras = tuple(cameras)
        self.events: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self.browsers: set[_Live] = set()
        self._settings = settings
        tls = _tls(settings)
        try:
            sockets = bind_sockets(settings.port, settings.address)
        except OSError as error:
            raise SalusError(
                f"The console cannot listen on {settings.address} port {settings.port} ({error.strerror}); "
                "set port to a free one, or address to one of this machine."
            ) from error
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(sockets, tls, ready), name="console", daemon=True
        )
        self._thread.start()
        ready.wait()

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = f"[{self._settings.address}]" if ":" in self._settings.address else self._settings.address
        return f"{self._settings.origin_scheme}://{host}:{self._settings.port}"

    @property
    def watched(self) -> frozenset[str]:
        """Cameras that somebody looks at now; empty when nobody looks at anything."""
        return frozenset(browser.camera for browser in tuple(self.browsers))

    @property
    def looked_at(self) -> bool:
        """Whether a browser is connected."""
        return bool(self.browsers)

    def publish(
        self,
        snapshot: Mapping[str, Any] | None,
        events: Sequence[Mapping[str, Any]] = (),
        frames: Mapping[str, bytes] | None = None,
    ) -> None:
        """Send what is now the case, what has happened since, and JPEG images by camera."""
        self._loop.call_soon_threadsafe(self._send, snapshot, tuple(events), dict(frames or {}))

    def close(self) -> None:
        """Say goodbye to every browser and give the port back."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=2.0)

    def _run(self, sockets: list[Any], tls: ssl.SSLContext | None, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        http = HTTPServer(
            self._application(), ssl_options=tls, max_body_size=_BODY_MAX, max_header_size=16_384
        )
        http.add_sockets(sockets)
        self._loop.call_soon(ready.set)
        self._loop.run_forever()
        http.stop()
        for browser in tuple(self.browsers):
            browser.close(1001, "the console ends")
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def _application(self) -> tornado.web.Application:
        shared = {"server": self}
        return tornado.web.Application(
            [
                (r"/", _PageHandler, shared),
                (r"/login", _LoginHandler, shared),
                (r"/logout", _LogoutHandler, shared),
                (r"/live", _Live, shared),
                (rf"/command/({'|'.join(COMMANDS)})", _CommandHandler, shared),
                (r"/(console\.css|console\.js|icon\.svg)", _FileHandler, shared),
                (r".*", _NothingHandler, shared),
            ],
            template_path=str(_PAGE),
            cookie_secret=self.access.cookie_secret,
            xsrf_cookies=True,
            xsrf_cookie_name="salus_xsrf",
            xsrf_cookie_kwargs={
                "samesite": "Strict",
                "httponly": True,
                "secure": self._settings.origin_scheme == "https",
            },
            websocket_max_message_size=_BODY_MAX,
            websocket_ping_interval=5,
            log_function=lambda _handler: None,
        )

    def _send(
        self,
        snapshot: Mapping[str, Any] | None,
        events: tuple[Mapping[str, Any], ...],
        frames: Mapping[str, bytes],
    ) -> None:
        self.events.extend(events)
        if not self.browsers:
            return
        news = _json({"events": events}) if events else ""
        picture = _json({"now": snapshot}) if snapshot is not None else ""
        for browser in tuple(self.browsers):
            if news:
                browser.tell(news)
            browser.show(picture, frames.get(browser.camera))


class _Guarded(tornado.web.RequestHandler):
    """What every answer has in common: headers, known hosts, a login where one is asked for."""

    def initialize(self, server: ConsoleServer) -> None:
        self.server = server

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)
        self.clear_header("Server")

    def prepare(self) -> None:
        if not self.server.access.host_is_known(self.request.host):
            raise tornado.web.HTTPError(421, reason="Unknown host")
        if self.request.method not in ("GET", "HEAD") and not self.server.access.origin_is_own(
            self.request.headers.get("Origin"), self.request.host
        ):
            raise tornado.web.HTTPError(403, reason="Not from the console's own page")

    def get_current_user(self) -> str | None:
        if not self.server.access.asks_for_token:
            return "local"
        name = self.get_signed_cookie(_COOKIE, max_age_days=SESSION_DAYS)
        return name.decode() if name else None

    def write_error(self, status_code: int, **_kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")


class _NothingHandler(_Guarded):
    def prepare(self) -> None:
        super().prepare()
        raise tornado.web.HTTPError(404)


class _FileHandler(_Guarded):
    _TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

    def get(self, name: str) -> None:
        self.set_header("Content-Type", f"{self._TYPES[Path(name).suffix]}; charset=utf-8")
        self.finish((_PAGE / name).read_bytes())


class _PageHandler(_Guarded):
    def get(self) -> None:
        if not self.current_user:
            self.redirect("/login")
            return
        self.render(
            "index.html",
            xsrf=self.xsrf_token.decode(),
            cameras=self.server.cameras,
            logged_in=self.server.access.asks_for_token,
        )


class _LoginHandler(_Guarded):
    def get(self) -> None:
        if self.current_user:
            self.redirect("/")
            return
        self.render("login.html", wrong=False)

    def post(self) -> None:
        if not self.server.access.token_is(self.get_body_argument("token", ""), time.monotonic()):
            self.set_status(403)
            self.render("login.html", wrong=True)
            return
        self.set_signed_cookie(
            _COOKIE,
            "operator",
            expires_days=SESSION_DAYS,
            httponly=True,
            samesite="Strict",
            secure=self.request.protocol == "https",
        )
        self.redirect("/")


class _LogoutHandler(_Guarded):
    def post(self) -> None:
        self.clear_cookie(_COOKIE)
        self.redirect("/login")


class _CommandHandler(_Guarded):
    async def post(self, command: str) -> None:
        if not self.current_user:
            raise tornado.web.HTTPError(401, reason="Log in first")
        if self.request.headers.get("Content-Type", "").split(";")[0] != "application/json":
            raise tornado.web.HTTPError(415, reason="Send JSON")
        try:
            seen = str(json.loads(self.request.body)["seen"])
        except (ValueError, KeyError, TypeError) as error:
            raise tornado.web.HTTPError(400, reason="Say which mode was seen") from error
        future = self.server.command(command, seen, str(self.request.remote_ip))
        try:
            answer = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), ANSWER_TIMEOUT_S)
        except asyncio.TimeoutError:
            answer = Answer(False, "the gate does not answer")
        self.finish({"accepted": answer.accepted, "message": answer.message})


class _Live(tornado.websocket.WebSocketHandler):
    """One browser: it says which camera it looks at, and gets pictures as fast as it takes them."""

    def initialize(self, server: ConsoleServer) -> None:
        self.server = server
        self.camera = server.cameras[0] if server.cameras else ""
        self._sending: asyncio.Future[None] | None = None
        self._unsent = 0

    def check_origin(self, origin: str) -> bool:
        return self.server.access.origin_is_own(origin, self.request.host)

    def get_current_user(self) -> str | None:
        return _Guarded.get_current_user(self)  # type: ignore[arg-type]

    def prepare(self) -> None:
        if not self.server.access.host_is_known(self.request.host):
            raise tornado.web.HTTPError(421)
        if not self.current_user:
            raise tornado.web.HTTPError(401)
        if len(self.server.browsers) >= BROWSERS_MAX:
            raise tornado.web.HTTPError(503)

    def open(self, *_args: str, **_kwargs: str) -> None:
        self.set_nodelay(True)
        self.server.browsers.add(self)
        self.tell(_json({"events": tuple(self.server.events)}))

    def on_message(self, message: str | bytes) -> None:
        if isinstance(message, str) and message in self.server.cameras:
            self.camera = message

    def on_close(self) -> None:
        self.server.browsers.discard(self)

    def tell(self, text: str) -> None:
        """What must arrive; a browser that takes nothing for long is let go."""
        if self._unsent > _UNSENT_MAX:
            self.server.browsers.discard(self)
            self.close(1013, "too slow")
            return
        self._write(text)

    def show(self, snapshot: str, frame: bytes | None) -> None:
        """What the next one replaces: left out while the last one is still on its way."""
        if self._sending is not None and not self._sending.done():
            return
        if frame is not None:
            self._write(frame)
        if snapshot:
            self._sending = self._write(snapshot)

    def _write(self, message: str | bytes) -> asyncio.Future[None] | None:
        try:
            future = self.write_message(message, binary=isinstance(message, bytes))
        except tornado.websocket.WebSocketClosedError:
            self.server.browsers.discard(self)
            return None
        self._unsent += 1
        future.add_done_callback(self._sent)
        return future

    def _sent(self, future: asyncio.Future[None]) -> None:
        """A browser that went away while it was written to is no error."""
        self._unsent -= 1
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, _GONE):
            logging.getLogger(__name__).error("writing to a browser failed: %r", error)


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _tls(settings: AccessSettings) -> ssl.SSLContext | None:
    if not settings.certificate_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.certificate_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SalusError(
            f"certificate_file {settings.certificate_file} and key_file {settings.key_file} cannot be used "
            f"({error}); give a PEM certificate and its key."
        ) from error
    return context
