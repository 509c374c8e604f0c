"""The root of `carnet`: what stands before any command, `--config` and `--version`."""

from pathlib import Path
from typing import Annotated

import typer

from agent.commands.terminal import set_config


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
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, allow_from_autoenv=False, callback=_version)
    ] = False,
) -> None:
    """Remember what stands before the command."""
    del version
    set_config(config)
