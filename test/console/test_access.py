"""The console is never open to others by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from salus_ros.console.access import Access, AccessSettings
from salus_ros.errors import SalusError

TOKEN = "0123456789abcdef"


def test_without_a_word_it_is_offered_to_this_machine_alone() -> None:
    assert AccessSettings().local
    assert not Access(AccessSettings()).asks_for_token


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "robot.example"])
def test_any_other_address_demands_a_token(address: str) -> None:
    with pytest.raises(SalusError, match=f"address is {address}.*set token_file"):
        Access(AccessSettings(address=address))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machines_own_addresses_do_not(address: str) -> None:
    Access(AccessSettings(address=address))


def test_a_token_opens_another_address(token_file: str) -> None:
    assert Access(AccessSettings(address="0.0.0.0", token_file=token_file)).asks_for_token


def test_a_token_that_others_can_read_is_refused_with_the_command_that_mends_it(token_file: str) -> None:
    Path(token_file).chmod(0o640)
    with pytest.raises(SalusError, match="chmod 600"):
        Access(AccessSettings(token_file=token_file))


@pytest.mark.parametrize("text", ["", "short", "0123456789 abcdef", "0123456789abcdef\nfedcba9876543210"])
def test_a_weak_token_is_refused(token_file: str, text: str) -> None:
    Path(token_file).write_text(text)
    with pytest.raises(SalusError, match="characters or holds a space"):
        Access(AccessSettings(token_file=token_file))


def test_a_token_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SalusError, match="cannot be read"):
        Access(AccessSettings(token_file=str(tmp_path / "nowhere")))


def test_certificate_and_key_go_together() -> None:
    with pytest.raises(SalusError, match="go together"):
        Access(AccessSettings(certificate_file="cert.pem"))


def test_the_token_itself_is_no_parameter() -> None:
    with pytest.raises(ValidationError):
        AccessSettings.model_validate({"token": TOKEN})


def test_one_token_a_second_is_looked_at(token_file: str) -> None:
    access = Access(AccessSettings(token_file=token_file))
    assert not access.token_is("guess", 100.0)
    assert not access.token_is(TOKEN, 100.9), "the right one, but too soon after a guess"
    assert access.token_is(TOKEN, 101.1)


def test_no_token_opens_a_console_that_asks_for_none() -> None:
    assert not Access(AccessSettings()).token_is("", 100.0)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("[::1]:8080", True),
        ("robot.local:8080", True),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_another_name_that_points_here_is_refused(host: str, known: bool) -> None:
    assert Access(AccessSettings(host_names=("robot.local",))).host_is_known(host) is known


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        ("http://localhost:8080", True),
        ("http://localhost:9999", False),
        ("https://localhost:8080", False),
        ("http://evil.example", False),
        ("null", False),
        (None, False),
    ],
)
def test_only_the_consoles_own_page_may_command(origin: str | None, own: bool) -> None:
    assert Access(AccessSettings()).origin_is_own(origin, "localhost:8080") is own
