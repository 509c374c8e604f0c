"""How both programs read their settings: a TOML file under the environment, and one line about what is wrong in it.

The models are each program's own; this is the order of the sources and the words of a refusal.

Rules:      1. environment before file; no `.env`, and no secrets, for there are none among the settings
            2. an unknown key is refused by its name
Spec:       docs/operations.md section "Settings"
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from carnet.errors import CallerError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ENVIRONMENT_REMEDY: Final = "correct or unset the environment variable named above; it comes before the file"
_UNREAD: Final = re.compile(r'field "(\w+)" from source "EnvSettingsSource"')
"""How pydantic-settings names a variable whose value is no JSON."""
SettingsT = TypeVar("SettingsT", bound="FileSettings")


class FileSettings(BaseSettings):
    """The base of both programs' settings."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in their order (rule 1)."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_settings(kind: type[SettingsT], path: Path | None, *, without_file: CallerError | None = None) -> SettingsT:
    """Return the settings in `path`, if there is one, under the environment.

    Raises:
        CallerError: E-CONFIG naming file and key for what is unknown, missing or wrong; `without_file` instead, if there is no
            file and the environment does not say enough.
    """

    class _FromFile(kind):  # type: ignore[valid-type, misc]  # the file is part of the class: pydantic-settings wants it so
        model_config = SettingsConfigDict(toml_file=path)

    try:
        found = _FromFile.model_validate({})
    except ValidationError as error:
        if path is None and without_file is not None:
            raise without_file from None
        unread = _UNREAD.search(str(error))
        if unread is not None:
            raise _told(kind, path, (unread[1],), "not a list or a table, as JSON writes them") from None
        raise _told(kind, path, _problem(error)["loc"], first_problem(error)) from None
    except (SettingsError, ValueError) as error:
        raise CallerError("E-CONFIG", f"{path}: {str(error).splitlines()[0].lstrip(': ')}") from None
    return kind.model_validate(found.model_dump())


def _told(kind: type[FileSettings], path: Path | None, key: Sequence[int | str], said: str) -> CallerError:
    """Return the error for a setting, naming where it was set: the environment comes before the file."""
    names = EnvSettingsSource(kind).env_vars
    for length in range(len(key), 0, -1):
        name = f"{kind.model_config.get('env_prefix', '')}{'__'.join(str(piece) for piece in key[:length])}"
        if name.lower() in {known.lower() for known in names}:
            return CallerError("E-CONFIG", f"environment variable {name.upper()}: {said}", remedy=_ENVIRONMENT_REMEDY)
    return CallerError("E-CONFIG", f"{path}: {said}")


def _problem(error: ValidationError) -> "ErrorDetails":
    problems = error.errors(include_url=False, include_input=False)
    # A misspelt key shows twice, as unknown and as missing; only the first helps.
    return next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])


def first_problem(error: ValidationError) -> str:
    """Return one line about the first problem pydantic found: the key, and what is wrong with it."""
    first = _problem(error)
    key = ".".join(str(piece) for piece in first["loc"])
    words = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(first["type"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{words} {key}" if words else f"{key}: {said}" if key else said
