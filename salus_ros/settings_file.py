"""Settings from a YAML file: read, checked against their model, refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from salus_ros.errors import SalusError

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(path: Path, model: type[Settings], like: str) -> Settings:
    """The file's content as ``model``; ``like`` names a file that shows how one looks.

    Raises:
        SalusError: the file is missing, is no YAML, or holds something that the model does not know.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SalusError(f"{path} cannot be read ({error.strerror}); give a YAML file like {like}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SalusError(f"{path} is no YAML ({reason}); see {like}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SalusError(f"{path}{': ' + where if where else ''}: {first['msg']}; see {like}.") from None
