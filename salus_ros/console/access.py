"""Who may use the console: settings that leave it open to others are refused, and requests are checked."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import stat
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError

TOKEN_LENGTH_MIN: Final = 16
GUESS_PERIOD_S: Final = 1.0
"""Between two tokens that are looked at, whoever gives them: 16 random characters are out of reach then."""
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class AccessSettings(BaseModel):
    """Where the page is offered, and what it asks of who opens it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = Field(
        "127.0.0.1", description="Address to listen on; any but this machine's own demands token_file."
    )
    port: int = Field(8080, ge=1, le=65535, description="Port to listen on.")
    token_file: str = Field(
        "",
        description="File whose only line is the token that a person gives to log in; only its owner may be "
        "able to read it. The token itself is never a parameter: those are public on the graph.",
    )
    certificate_file: str = Field("", description="TLS certificate (PEM); empty: http, not https.")
    key_file: str = Field("", description="Private key of the certificate (PEM).")
    host_names: tuple[str, ...] = Field(
        (), description="Names besides localhost by which a browser may ask without a token."
    )

    @property
    def local(self) -> bool:
        """Whether it is offered to this machine alone."""
        try:
            return self.address == "localhost" or ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False

    @property
    def origin_scheme(self) -> str:
        """``https`` with a certificate."""
        return "https" if self.certificate_file else "http"


class Access:
    """The token, if one is asked for, and where requests may come from."""

    def __init__(self, settings: AccessSettings) -> None:
        """Raises:
        SalusError: the console would be open to others without a token, or the token's file is no secret.
        """
        self._settings = settings
        if not settings.local and not settings.token_file:
            raise SalusError(
                f"The console's address is {settings.address}, which others can reach; "
                "set token_file to a file with a token, or leave address at 127.0.0.1."
            )
        if bool(settings.certificate_file) != bool(settings.key_file):
            raise SalusError("certificate_file and key_file go together; set both, or none.")
        self._token = _read_token(Path(settings.token_file).expanduser()) if settings.token_file else ""
        self._next_guess_s = 0.0

    @property
    def asks_for_token(self) -> bool:
        """Whether a person must log in."""
        return bool(self._token)

    @property
    def cookie_secret(self) -> str:
        """Signs the cookie of who has logged in: another token logs everybody out, a restart does not."""
        return hashlib.sha256(f"salus console {self._token}".encode()).hexdigest()

    def token_is(self, given: str, now_s: float) -> bool:
        """Whether it is the token. At most one a second is looked at; ``now_s`` is steady time."""
        if now_s < self._next_guess_s:
            return False
        self._next_guess_s = now_s + GUESS_PERIOD_S
        return bool(self._token) and hmac.compare_digest(given.strip().encode(), self._token.encode())

    def host_is_known(self, host: str) -> bool:
        """Whether a browser may ask under this ``Host``.

        Without a token another site could let its own name point here (DNS rebinding) and read along. With
        one it lacks the cookie, which belongs to the name that was logged in under.
        """
        if self.asks_for_token:
            return True
        name = (urlsplit(f"//{host}").hostname or "").lower()
        return name in LOCAL_NAMES or name in self._settings.host_names

    def origin_is_own(self, origin: str | None, host: str) -> bool:
        """Whether a request comes from our own page; every browser says so with each command."""
        return origin == f"{self._settings.origin_scheme}://{host}"


def _read_token(path: Path) -> str:
    try:
        mode, token = path.stat().st_mode, path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SalusError(
            f"token_file {path} cannot be read ({error}); give a text file with one line."
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SalusError(f"token_file {path} can be read by others; run: chmod 600 {path}")
    if len(token) < TOKEN_LENGTH_MIN or any(character.isspace() for character in token):
        raise SalusError(
            f"The token in {path} has {len(token)} characters or holds a space; give one line of "
            f"{TOKEN_LENGTH_MIN} or more, for example from: openssl rand -hex 16"
        )
    return token
