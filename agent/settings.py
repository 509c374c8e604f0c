"""The agent's settings: `carnet.toml`, found in a fixed order, overridden by the environment; the only reader of either.

Order of the file: `--config`, `CARNET_CONFIG`, `$XDG_CONFIG_HOME/carnet/` (or below `~/.config`), `/etc/carnet/`.
Order of a value: flag, environment (`CARNET_<KEY>`), file, default.

Rules:      1. an unknown key is refused by its name  2. paths in the file are relative to the file
            3. no setting is a secret: keys are in the identity directory
Spec:       docs/operations.md section "Settings of the agent"
"""

import os
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from agent.amounts import parse_rate
from carnet.errors import CallerError
from carnet.flow.configuration import FileSettings, read_settings
from carnet.identifiers import Digest, SiteName

FILE_NAME: Final = "carnet.toml"
ENVIRONMENT_PREFIX: Final = "CARNET_"
SYSTEM_FILE: Final = Path("/etc/carnet") / FILE_NAME


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.username:
        raise ValueError("a gateway's url is https://host:port")
    return text.rstrip("/")


def _check_rate(value: object) -> object:
    try:
        return parse_rate(value) if isinstance(value, str) else value
    except CallerError as error:
        raise ValueError(f"{error.problem}; {error.remedy}") from None


class AgentSettings(FileSettings):
    """Where the home site is, and where this agent's identity lies."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    url: Annotated[str, Field(max_length=512), AfterValidator(_check_url)]
    """The home site's gateway, `https://host:port`."""
    site: SiteName
    """The home site's name."""
    identity_dir: Path = Path("identity")
    """The identity directory that `carnet enroll` wrote."""
    root_fingerprint: Digest | None = None
    """The trust bundle's roots, asserted when set; sealed lanes need it from here, not from an invite."""
    person_key: Path | None = None
    """The signing key of the person who works here, for `carnet approve` and `carnet reject`."""
    parallel: Annotated[int, Field(ge=1, le=64)] | None = None
    """Segments on their way at once; if not set, 6 to a gateway that is near, and up to 16 the farther it is."""
    limit_rate: Annotated[int, Field(ge=1), BeforeValidator(_check_rate)] | None = None
    """Most bytes sent each second, as a number or as in 50M."""
    cache_dir: Path | None = None
    """Where sealed pages of indexes are kept for the next push; `carnet` in `$XDG_CACHE_HOME` (or `~/.cache`) if not set."""
    cache_mib: Annotated[int, Field(ge=0, le=1 << 20)] = 256
    """Most that is kept there, in MiB; 0 keeps nothing."""
    pull_grace_hours: Annotated[int, Field(ge=0, le=168)] = 24
    """Hours for which pulls go on after the trust bundle expired; controlled content has none."""


def find_settings_file(given: Path | None = None) -> Path | None:
    """Return the first settings file of the fixed order, or None if there is none.

    Raises:
        CallerError: E-CONFIG if `--config` or `CARNET_CONFIG` names a file that is not there.
    """
    named = given or (Path(os.environ["CARNET_CONFIG"]) if os.environ.get("CARNET_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise CallerError("E-CONFIG", f"no configuration file {named}", remedy="name one that exists with --config")
        return named
    return next((path for path in (user_settings_file(), SYSTEM_FILE) if path.is_file()), None)


def user_settings_file() -> Path:
    """Return where a person's own settings file is, whether it exists or not; `carnet enroll` writes it there."""
    return _of_person("XDG_CONFIG_HOME", ".config") / "carnet" / FILE_NAME


def user_cache_dir() -> Path:
    """Return where a person's own cache is, whether it exists or not."""
    return _of_person("XDG_CACHE_HOME", ".cache") / "carnet"


def _of_person(variable: str, otherwise: str) -> Path:
    """Return a base directory as the XDG specification has it: one that is not absolute is as good as none."""
    base = os.environ.get(variable, "")
    if base.startswith("/"):
        return Path(base)
    try:
        return Path.home() / otherwise
    except RuntimeError:  # a container's user that no file of the system knows
        return Path("/nonexistent") / otherwise


def load_settings(given: Path | None = None) -> AgentSettings:
    """Return the settings from the file found and the environment.

    Raises:
        CallerError: E-CONFIG naming file and key for what is unknown, missing or wrong; E-NOT-ENROLLED if there is no file and
            the environment does not say enough.
    """
    path = find_settings_file(given)

    missing = CallerError("E-NOT-ENROLLED", f"no {FILE_NAME} was found and CARNET_URL and CARNET_SITE are not set")
    found = read_settings(AgentSettings, path, without_file=missing)
    base = path.parent.resolve() if path else user_settings_file().parent
    person_key = None if found.person_key is None else base / found.person_key.expanduser()
    cache_dir = None if found.cache_dir is None else base / found.cache_dir.expanduser()
    placed = {"identity_dir": base / found.identity_dir.expanduser(), "person_key": person_key, "cache_dir": cache_dir}
    return AgentSettings.model_validate({**found.model_dump(), **placed})


def encode_settings(url: str, site: SiteName, identity_dir: Path, root_fingerprint: Digest | None = None) -> str:
    """Return the text of a new `carnet.toml`."""
    lines = [f'url = "{url}"', f'site = "{site}"', f"identity_dir = {_toml_string(str(identity_dir))}"]
    if root_fingerprint is not None:
        lines.append(f'root_fingerprint = "{root_fingerprint}"')
    return "\n".join(lines) + "\n"


def _toml_string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
