"""Options of a policy in one string: ``runs/policy?draws=8&device=cpu``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from salus_ros.errors import SalusError

_Settings = TypeVar("_Settings", bound=BaseModel)


def split_options(path: Path | None) -> tuple[str, dict[str, str]]:
    """What stands before ``?`` in a spec, and the options behind it: ``runs/policy?draws=8&device=cpu``.

    A path that exists as it stands has no options.
    """
    text = "" if path is None else str(path)
    if "?" not in text or Path(text).exists():
        return text, {}
    before, _, behind = text.partition("?")
    try:
        return before, dict(parse_qsl(behind, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        raise SalusError(
            f"The options of {text} are not of the form ?name=value&name=value; mend them."
        ) from None


def settings_of(model: type[_Settings], options: Mapping[str, str], **more: Any) -> _Settings:
    """Settings from the options of a spec; lists are separated by commas.

    Raises:
        SalusError: there is no such option, or its value cannot be.
    """
    values: dict[str, Any] = {}
    for name, text in options.items():
        field = model.model_fields.get(name)
        is_list = field is not None and get_origin(field.annotation) is tuple
        values[name] = tuple(text.split(",")) if is_list else text
    try:
        return model.model_validate({**more, **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise SalusError(
            f"The policy's option {'.'.join(map(str, first['loc']))}={first['input']!r} was refused "
            f"({first['msg']}); its options are {', '.join(model.model_fields)}."
        ) from None
