"""Finding a policy by the path of its checkpoint or by its name.

Other packages add policies through the entry-point group ``salus_ros.policies``: each entry
is a callable ``(path: Path | None, seed: int) -> Policy``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.policy.base import Policy

GROUP = "salus_ros.policies"
DEFAULT = "models/tinyvla-small"
"""The shipped policy."""

_Settings = TypeVar("_Settings", bound=BaseModel)

Factory = Callable[[Path | None, int], Policy]


def _tinyvla(path: Path | None, seed: int) -> Policy:
    # Imported here: a policy of another kind must not need torch.
    from salus_ros.policy.tinyvla.policy import TinyVlaPolicy, TinyVlaPolicySettings

    given, options = split_options(path)
    folder = _checkpoint_folder(given) if given else asset(DEFAULT)
    return TinyVlaPolicy.load(folder, settings_of(TinyVlaPolicySettings, options, seed=seed))


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


def _checkpoint_folder(spec: str) -> Path:
    path = Path(spec)
    if path.is_dir() or path.is_absolute():
        return path
    try:
        return asset(spec)
    except SalusError:
        return path


_BUILT_IN: dict[str, Factory] = {"tinyvla": _tinyvla}


def policy_names() -> tuple[str, ...]:
    """Names that ``load_policy`` knows."""
    return tuple(sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))}))


def load_policy(spec: str | Path = DEFAULT, *, seed: int = 0) -> Policy:
    """Load a policy.

    Args:
        spec: a checkpoint directory, a shipped one relative to the package
            (``models/tinyvla-small``), a name (``tinyvla``), or ``name:path``; each with options
            behind a question mark where the policy has any (``runs/policy?draws=8``).
        seed: seeds what the policy samples.

    Raises:
        SalusError: no such policy, or its checkpoint is broken or holds no trained head.
    """
    name, _, rest = str(spec).partition(":")
    name, mark, options = name.partition("?")
    rest += mark + options
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            factory: Factory = entry.load()
            return factory(Path(rest) if rest else None, seed)
    if name in _BUILT_IN:
        return _BUILT_IN[name](Path(rest) if rest else None, seed)
    folder, _ = split_options(Path(spec))
    if _checkpoint_folder(folder).is_dir():
        return _tinyvla(Path(spec), seed)
    raise SalusError(
        f"{spec} is neither a directory nor a known policy; give a checkpoint directory, or one of: "
        f"{', '.join(policy_names())}."
    )
