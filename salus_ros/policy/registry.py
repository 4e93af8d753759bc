"""Finding a policy by the path of its checkpoint or by its name.

Other packages add policies through the entry-point group ``salus_ros.policies``: each entry
is a callable ``(path: Path | None, seed: int) -> Policy``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.policy.base import Policy
from salus_ros.policy.options import settings_of, split_options

GROUP = "salus_ros.policies"
DEFAULT = "models/tinyvla-small"
"""The shipped policy."""

Factory = Callable[[Path | None, int], Policy]


def _tinyvla(path: Path | None, seed: int) -> Policy:
    # Imported here: a policy of another kind must not need torch.
    from salus_ros.policy.tinyvla.policy import TinyVlaPolicy, TinyVlaPolicySettings

    given, options = split_options(path)
    folder = _checkpoint_folder(given) if given else asset(DEFAULT)
    return TinyVlaPolicy.load(folder, settings_of(TinyVlaPolicySettings, options, seed=seed))


def _checkpoint_folder(spec: str) -> Path:
    path = Path(spec)
    if path.is_dir() or path.is_absolute():
        return path
    try:
        return asset(spec)
    except SalusError:
        return path


def _random(path: Path | None, seed: int) -> Policy:
    from salus_ros.policy.random_policy import load

    return load(path, seed)


def _openpi(path: Path | None, seed: int) -> Policy:
    from salus_ros.policy.openpi import load

    return load(path, seed)


_BUILT_IN: dict[str, Factory] = {"tinyvla": _tinyvla, "random": _random, "openpi": _openpi}
"""The scripted ``expert`` comes through an entry point: it knows the simulator, which policies must not."""


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
