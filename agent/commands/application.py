"""The root of `carnet`: groups made alike, `--config` and `--version` before any command."""

from pathlib import Path
from typing import Annotated

import typer

from agent.commands.terminal import set_config
from carnet.flow.commandline import new_app

_PREFIX = "CARNET"


def new_group(text: str) -> typer.Typer:
    """Return a group of commands with the settings that all of `carnet` has."""
    return new_app(text, _PREFIX)


def _version(wanted: bool) -> None:  # noqa: FBT001 - a callback of the parser
    if wanted:
        from importlib.metadata import version

        print(version("carnet"))  # noqa: T201 - the result
        raise typer.Exit


def root(
    *,
    config: Annotated[
        Path | None, typer.Option(envvar="CARNET_CONFIG", help="Settings file; without it XDG and /etc/carnet are looked at.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)] = False,
) -> None:
    """Remember what stands before the command."""
    del version
    set_config(config)
